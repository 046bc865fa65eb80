"""Does the multiplier found spend what was asked for?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.pricing.resolving import Solver, SpendCurve, first_price_curve, second_price_curve
from bidder.pricing.winrate import win_rate

auctions = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=25)


def columns(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, prices = np.array(rows, float).T
    return values, prices, np.ones(len(rows))


@given(auctions)
def test_second_price_curve_is_what_bidding_so_would_have_spent(
    rows: list[tuple[int, int]],
) -> None:
    values, prices, weights = columns(rows)
    curve = second_price_curve(values, prices, weights)
    for multiplier, spend in zip(curve.multipliers, curve.spends, strict=True):
        won = multiplier * values >= prices - 1e-9
        assert spend == pytest.approx(np.mean(prices * won))


@given(auctions, st.floats(0.01, 60), st.integers(1, 100))
def test_more_money_never_lowers_the_multiplier(
    rows: list[tuple[int, int]], budget: float, left: int
) -> None:
    curve = second_price_curve(*columns(rows))
    less, more = curve.multiplier(np.array([budget, budget * 2]), left)
    assert 0 <= less <= more <= curve.multipliers[-1]


def test_no_budget_bids_nothing_and_plenty_bids_for_everything() -> None:
    values, prices, weights = columns([(1, 10), (2, 10), (4, 10)])
    curve = second_price_curve(values, prices, weights)
    assert curve.multiplier(np.array([0.0, -1.0]), 5).tolist() == [0.0, 0.0]
    assert curve.multiplier(np.array([1e9]), 5).tolist() == [10.0]


def test_the_budget_asked_for_is_spent_on_average() -> None:
    random = np.random.default_rng(1)
    values, prices = random.lognormal(0, 1, 20_000), random.integers(1, 300, 20_000).astype(float)
    curve = second_price_curve(values, prices, np.ones(20_000))
    for rate in (2.0, 20.0, 80.0):
        multiplier = float(curve.multiplier(np.array([rate * 7]), 7)[0])
        assert np.mean(prices * (multiplier * values >= prices)) == pytest.approx(rate, rel=0.01)


def test_first_price_curve_spends_shaded_bids() -> None:
    random = np.random.default_rng(2)
    values, prices = random.lognormal(3, 1, 5000), random.integers(1, 300, 5000).astype(float)
    rate = win_rate(prices)

    def bids(worth: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
        return rate.bids(worth * multipliers)

    curve = first_price_curve(values, prices, np.ones(5000), bids)
    offered = bids(values, np.full(5000, float(curve.multiplier(np.array([30.0]), 1)[0])))
    assert np.mean(offered * (offered >= prices)) == pytest.approx(30, rel=0.05)


def test_prices_of_nothing_cost_nothing() -> None:
    curve = second_price_curve(np.ones(3), np.zeros(3), np.ones(3))
    assert curve.multiplier(np.array([5.0]), 1).tolist() == [0.0]


def test_a_stretch_as_dear_as_usual_is_solved_as_the_curve_says() -> None:
    curve = _curve()
    budget = np.array([20.0, 60.0])
    solver, left = Solver(curve, budget), budget.copy()
    for auction in range(100):
        rest = 100.0 - auction
        found = solver.multiplier(left, rest)
        assert found == pytest.approx(curve.multiplier(left, rest))
        left = left - curve.spend(found)
    assert left == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dearer", [0.5, 2.0])
def test_a_dearer_stretch_is_taken_to_stay_so(dearer: float) -> None:
    """Then the multiplier comes to rest; solving alone, it would be corrected until the end."""
    curve = _curve()
    budget = np.array([30.0])
    moved = []
    for multiplier in (Solver(curve, budget).multiplier, curve.multiplier):
        left, found = budget.copy(), []
        for auction in range(100):
            found.append(float(multiplier(left, 100.0 - auction)[0]))
            left = np.maximum(left - dearer * curve.spend(np.array([found[-1]])), 0)
        moved.append(abs(found[90] / found[40] - 1))
    assert moved[0] < 0.25 * moved[1]


def test_nothing_to_spend_bids_nothing() -> None:
    assert Solver(_curve(), np.zeros(2)).multiplier(np.zeros(2), 10.0).tolist() == [0, 0]


def _curve() -> SpendCurve:
    random = np.random.default_rng(3)
    values, prices = random.lognormal(0, 0.5, (2, 4000))
    return second_price_curve(values, prices, np.ones(4000))
