"""Is a row encoded from what came before it, smoothed, and never from itself?"""

import numpy as np
import pytest

from bidder.scoring import features
from models import encode
from models.table import Floats

COLUMN = features.NAMES.index("domain")


def rows_of(buckets: list[float]) -> Floats:
    rows = np.zeros((len(buckets), len(features.NAMES)))
    rows[:, COLUMN] = buckets
    return rows


def test_the_tables_are_smoothed_rates() -> None:
    labels = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    rows = rows_of([1, 1, 2, 2, np.nan, 3])
    table = encode.tables(rows, labels, np.ones(6), ["domain"])["domain"]
    assert table.average == pytest.approx(1 / 5), "unknown is nobody's"
    prior = encode.PRIOR_POSITIVES
    assert table.rates == pytest.approx({
        1: (1 + prior) / (2 + prior * 5), 2: prior / (2 + prior * 5), 3: prior / (1 + prior * 5),
    })  # fmt: skip


def test_weights_count() -> None:
    table = encode.tables(rows_of([1, 1]), np.array([1.0, 0.0]), np.array([1.0, 9.0]), ["domain"])
    assert table["domain"].average == pytest.approx(0.1)


def test_a_row_knows_only_what_came_before() -> None:
    random = np.random.default_rng(2)
    rows = rows_of(random.integers(0, 3, 400).tolist())
    labels = (random.random(400) < 0.3).astype(float)
    before = encode.in_order(rows, labels, np.ones(400), ["domain"])
    changed = labels.copy()
    changed[300:] = 1 - changed[300:]
    after = encode.in_order(rows, changed, np.ones(400), ["domain"])
    np.testing.assert_array_equal(before[:300], after[:300])
    assert not np.array_equal(before[340:], after[340:])
    block = 400 // encode.BLOCKS
    assert (before[:block, COLUMN] == 0).all(), "nothing is known at first"
    alone = encode.tables(rows[: 10 * block], labels[: 10 * block], np.ones(10 * block), ["domain"])
    tenth = slice(10 * block, 11 * block)
    np.testing.assert_allclose(before[tenth], encode.apply(rows[tenth], alone))
