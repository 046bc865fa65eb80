"""Is the calibration that training makes the isotonic one, and safe to bid on?"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.scoring.calibration import Calibration
from models.calibrate import apply, calibrate, factors, isotonic

samples = st.lists(
    st.tuples(st.integers(1, 99), st.booleans(), st.sampled_from((0.5, 1.0, 4.0))),
    min_size=1,
    max_size=40,
).filter(lambda rows: any(label for _, label, _ in rows))


def columns(rows: list[tuple[int, bool, float]]) -> tuple[Any, Any, Any]:
    scores, labels, weights = zip(*rows, strict=True)
    return np.array(scores) / 100, np.array(labels), np.array(weights)


def pooled(rows: list[tuple[int, bool, float]]) -> list[tuple[float, float]]:
    """Pool adjacent violators, the slow way: (mean score, rate) of each block, in order."""
    blocks: list[list[float]] = []  # weight, weighted score, weighted positives
    for score in sorted({score for score, _, _ in rows}):
        same = [(label, weight) for s, label, weight in rows if s == score]
        total = sum(weight for _, weight in same)
        blocks.append([total, total * score / 100, sum(weight * label for label, weight in same)])
    merged = True
    while merged:
        merged = False
        for i in range(len(blocks) - 1):
            here, after = blocks[i], blocks[i + 1]
            if here[2] / here[0] >= after[2] / after[0] - 1e-12:
                blocks[i : i + 2] = [[a + b for a, b in zip(here, after, strict=True)]]
                merged = True
                break
    return [(score / total, positive / total) for total, score, positive in blocks]


@given(samples)
def test_knots_are_the_pooled_blocks(rows: list[tuple[int, bool, float]]) -> None:
    knots = isotonic(*columns(rows), least_positives=0)
    found = list(zip(knots.scores, knots.rates, strict=True))
    assert found[0][0] == 0
    assert found[-1][0] == 1
    assert np.array(found[1:-1]) == pytest.approx(np.array(pooled(rows)), abs=1e-9)


@given(samples, st.integers(0, 10))
def test_knots_are_always_ones_the_bidder_takes(
    rows: list[tuple[int, bool, float]], least: int
) -> None:
    scores, labels, weights = columns(rows)
    knots = isotonic(scores, labels, weights, least_positives=least)
    calibration = Calibration(knots.scores, knots.rates)
    fast = [calibration.apply(score) for score in scores.tolist()]
    assert fast == pytest.approx(apply(knots, scores), abs=1e-12)


def test_the_lowest_scores_keep_a_chance() -> None:
    """The lowest hundred have no click at all; their probability must not be 0."""
    scores = np.linspace(0.01, 0.5, 1000)
    labels = (np.arange(1000) % 10 == 0) & (np.arange(1000) >= 100)
    knots = isotonic(scores, labels, np.ones(1000))
    assert apply(knots, scores[:1])[0] > 0


def test_calibration_puts_the_average_right() -> None:
    random = np.random.default_rng(3)
    truth = random.beta(1, 30, 50_000)
    labels = random.random(50_000) < truth
    knots = calibrate(truth**0.5, labels, np.ones(50_000), np.full(50_000, "a"))
    said = apply(knots, truth**0.5)
    assert said.mean() == pytest.approx(labels.mean(), rel=0.01)
    assert np.abs(said - truth).mean() < 0.005
    assert knots.factors["a"] == pytest.approx(1, abs=0.01)


def test_a_factor_trusts_an_advertiser_as_far_as_its_rows_go() -> None:
    names = np.array(["big"] * 10_000 + ["small"] * 10 + [""] * 10)
    labels = np.zeros(len(names), dtype=bool)
    labels[:2000] = True
    found = factors(np.full(len(names), 0.1), labels, np.ones(len(names)), names)
    assert set(found) == {"big", "small"}
    assert found["big"] == pytest.approx(2020 / 1020)
    assert found["small"] == pytest.approx(20 / 21)


def test_nothing_to_calibrate_on() -> None:
    with pytest.raises(ValueError, match="no positive row"):
        isotonic(np.array([0.5]), np.array([False]), np.array([1.0]))
