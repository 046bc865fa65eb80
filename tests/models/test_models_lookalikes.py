"""Lookalikes are told by what they do, never by having bought."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bidder.crm import activity
from bidder.crm.activity import DTYPE, Kind
from models import customers, lookalikes

NOW, DAY = 1_795_000_000, 86400


def _person(random: np.random.Generator, keen: bool, buys: bool) -> bytes:
    """Who is keen looks at products; others open pages."""
    count = 3 + int(random.integers(0, 3))
    kind = Kind.PRODUCT if keen else Kind.VISIT
    records = [
        activity.record(NOW - int(random.integers(20, 90)) * DAY, kind, 1) for _ in range(count)
    ]
    if buys:
        records += [activity.record(NOW - 10 * DAY, Kind.PURCHASE, 1, value_micros=10)]
    return b"".join(sorted(records, key=lambda each: int.from_bytes(each[:4], "little")))


def _world(random: np.random.Generator) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Buyers are keen nine times of ten, others once of ten: records, who bought, who is keen."""
    buys = random.random(3000) < 0.4
    keen = random.random(3000) < np.where(buys, 0.9, 0.1)
    return [_person(random, *each) for each in zip(keen, buys, strict=True)], buys, keen


def test_the_nearest_prospects_are_those_who_behave_like_the_seed() -> None:
    raws, buys, keen = _world(np.random.default_rng(5))
    table, labels = lookalikes.examples(raws, buys, [], NOW, 1)
    trained = lookalikes.train(table.names, table.values, labels, 1)
    assert 0.8 < trained.quality.auc < 1.0, "told well, and not by a leak"
    assert trained.quality.lift[0] > 1.5 > 0.5 > trained.quality.lift[-1]
    places = lookalikes.nearest(trained, raws, buys, [], NOW, 100)
    assert len(places) == 100
    assert not buys[places].any(), "prospects only"
    assert keen[places].mean() > 0.9 > 0.2 > keen[~buys].mean()


def test_who_differs_in_nothing_but_buying_cannot_be_told() -> None:
    random = np.random.default_rng(7)
    buys = random.random(3000) < 0.5
    raws = [_person(random, False, bought) for bought in buys]
    table, labels = lookalikes.examples(raws, buys, [], NOW, 1)
    judged = lookalikes.train(table.names, table.values, labels, 1).quality
    assert abs(judged.auc - 0.5) < 4 * judged.error


def test_only_the_time_before_the_first_purchase_counts() -> None:
    raw = b"".join(
        activity.record(NOW - ago * DAY, kind, 1)
        for ago, kind in ((9, Kind.VISIT), (5, Kind.PURCHASE), (1, Kind.PRODUCT))
    )
    bought = lookalikes.first_purchases([raw, b""])
    assert bought.tolist() == [NOW - 5 * DAY, 0]
    (cut, _) = customers.before([raw, b""], bought)
    assert np.frombuffer(cut, DTYPE)["kind"].tolist() == [Kind.VISIT]


def test_a_small_seed_is_refused() -> None:
    raws, buys, _ = _world(np.random.default_rng(5))
    buys = buys & (np.arange(len(buys)) < 50)
    with pytest.raises(ValueError, match="at least 100"):
        lookalikes.examples(raws, buys, [], NOW, 1)


def test_auc_is_that_of_the_reference_with_ties() -> None:
    random = np.random.default_rng(2)
    scores, labels = random.integers(0, 9, 500) / 9, random.integers(0, 2, 500)
    judged = lookalikes.quality(scores, labels)
    assert judged.auc == pytest.approx(roc_auc_score(labels, scores))
    assert len(judged.lift) == 10
