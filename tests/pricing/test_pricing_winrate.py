"""Are the bids for a win rate those that a search of every price finds?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.pricing.winrate import WinRate, blend, win_rate

auctions = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from((0.5, 1.0, 3.0))), min_size=1, max_size=30
)


def learnt(rows: list[tuple[int, float]]) -> WinRate:
    prices, weights = zip(*rows, strict=True)
    return win_rate(np.array(prices, float), np.array(weights))


def surplus(rate: WinRate, value: float, bid: float) -> float:
    return (value - bid) * rate.at(bid)


@given(auctions, st.floats(0, 60))
def test_no_price_earns_more_than_the_bid(rows: list[tuple[int, float]], value: float) -> None:
    rate = learnt(rows)
    bid = rate.bid(value)
    best = max(surplus(rate, value, price) for price in range(31))
    assert bid <= value
    assert surplus(rate, value, bid) == pytest.approx(max(best, 0), abs=1e-9)


@given(auctions, st.lists(st.floats(0, 60), min_size=1, max_size=10))
def test_many_bids_are_the_single_ones(rows: list[tuple[int, float]], values: list[float]) -> None:
    rate = learnt(rows)
    assert rate.bids(np.array(values)).tolist() == [rate.bid(value) for value in values]


@given(auctions, st.floats(0, 40))
def test_the_rate_is_the_weight_of_the_auctions_won(
    rows: list[tuple[int, float]], bid: float
) -> None:
    won = sum(weight for price, weight in rows if price <= bid)
    assert learnt(rows).at(bid) == pytest.approx(won / sum(weight for _, weight in rows))


@given(auctions, auctions, st.floats(0.1, 5), st.floats(0, 40))
def test_a_blend_is_the_weighted_mean(
    one: list[tuple[int, float]], other: list[tuple[int, float]], weight: float, bid: float
) -> None:
    a, b = learnt(one), learnt(other)
    wanted = (a.at(bid) + weight * b.at(bid)) / (1 + weight)
    assert blend([(a, 1.0), (b, weight)]).at(bid) == pytest.approx(wanted)


def test_a_part_without_weight_does_not_count() -> None:
    a, b = learnt([(3, 1.0)]), learnt([(7, 1.0)])
    assert blend([(a, 2.0), (b, 0.0)]).prices.tolist() == [3.0]


@pytest.mark.parametrize(
    ("prices", "rates", "complaint"),
    [
        ([], [], "0 prices for 0 rates"),
        ([1.0], [0.5, 1.0], "1 prices for 2 rates"),
        ([2.0, 1.0], [0.5, 1.0], "prices are"),
        ([-1.0], [1.0], "prices are"),
        ([1.0, 2.0], [0.9, 0.5], "rates are"),
        ([1.0], [0.0], "rates are"),
    ],
)
def test_what_is_no_win_rate_is_refused(
    prices: list[float], rates: list[float], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        WinRate(np.array(prices), np.array(rates))
