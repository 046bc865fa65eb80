"""Is a bid between floor and value, the best there is, and now and then a drawn one?"""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.pricing import shading
from bidder.pricing.shading import FIRST_PRICE, UNTAUGHT, Shader, cells, drawn, shade
from bidder.pricing.winrate import WinRate, win_rate

MICROS = st.integers(0, 20_000_000)
RATES = st.lists(st.integers(1, 15_000_000), min_size=1, max_size=30).map(
    lambda prices: win_rate(np.array(prices, float))
)
WHERE = ("demo", "EUR", "", "300x250", 13)


def taught(rate: WinRate, **fields) -> Shader:
    return Shader({"demo/EUR": rate}, **fields)


@pytest.mark.parametrize(
    ("value", "floor", "auction", "bid"),
    [
        (4_000_000, 0, 1, 3_000_000),
        (4_000_000, 2_000_000, 1, 3_500_000),
        (4_000_000, 2_000_000, 2, 4_000_000),
        (4_000_000, 2_000_000, 3, 2_000_000),
        (4_000_000, 0, 3, 4_000_000),
        (4_000_000, 4_000_000, 1, 4_000_000),
        (4_000_000, 4_000_001, 1, 0),
        (4_000_000, 4_000_001, 2, 0),
        (0, 0, 2, 0),
        (4_000_000, 0, 7, 3_000_000),
    ],
)
def test_without_a_model_a_fixed_share(value, floor, auction, bid) -> None:
    assert shade(value, floor, auction) == bid
    assert UNTAUGHT.bid(value, floor, auction, *WHERE) == bid
    assert UNTAUGHT.chance(value, floor, *WHERE) == 0


@given(value=MICROS, floor=MICROS, auction=st.integers(1, 4), rate=RATES)
def test_never_above_the_value_nor_below_the_floor(value, floor, auction, rate) -> None:
    bid = taught(rate).bid(value, floor, auction, *WHERE)
    if value < floor or value <= 0:
        assert bid == 0
    else:
        assert max(floor, 1) <= bid <= value


@given(value=MICROS, floor=MICROS, rate=RATES)
def test_no_price_from_the_floor_on_earns_much_more(value, floor, rate) -> None:
    """Where the best bid of all is below the floor, only the floor and the next are tried."""
    bid = taught(rate).bid(value, floor, FIRST_PRICE, *WHERE)
    if bid == 0:
        return

    def surplus(price: float) -> float:
        return (value - price) * rate.at(price)

    envelope = [floor, *(p for p in rate._bids if floor <= p <= value)]
    assert surplus(bid) >= max(map(surplus, envelope)) * (1 - 1e-9) - 1e-6


def test_above_the_floor_the_next_price_may_be_better_than_the_floor() -> None:
    shader = taught(WinRate(np.array([1e6, 2e6]), np.array([0.5, 0.9])))
    assert shader.bid(3_000_000, 0, FIRST_PRICE, *WHERE) == 1_000_000
    assert shader.bid(3_000_000, 1_500_000, FIRST_PRICE, *WHERE) == 2_000_000


def test_paying_more_to_win_no_more_is_never_done() -> None:
    shader = taught(WinRate(np.array([1e6, 2e6]), np.array([0.5, 0.5])))
    assert shader.bid(9_000_000, 0, FIRST_PRICE, *WHERE) == 1_000_000


def test_second_and_fixed_prices_are_not_shaded() -> None:
    shader = taught(win_rate(np.array([1e6])), exploration=0.5)
    assert shader.bid(3_000_000, 0, 2, *WHERE) == 3_000_000
    assert shader.bid(3_000_000, 500_000, 3, *WHERE) == 500_000
    assert shader.propensity(2, explored=False) == 1.0
    assert shader.propensity(1, explored=False) == 0.5
    assert shader.propensity(1, explored=True) == 0.5


def test_the_finest_cell_that_is_known_decides() -> None:
    names = cells("demo", "EUR", "", "300x250", 1_200_000, 13)
    prices = [1.3e6, 1.4e6, 1.5e6, 1.6e6, 1.7e6, 1.8e6]
    rates = {n: win_rate(np.array([p])) for n, p in zip(names, prices, strict=True)}
    for count in range(6):
        shader = Shader({name: rates[name] for name in names[count:]})
        assert shader.bid(9_000_000, 1_200_000, FIRST_PRICE, *WHERE) == prices[count]
        assert shader.chance(int(prices[count]), 1_200_000, *WHERE) == 1.0
        assert shader.chance(int(prices[count]) - 1, 1_200_000, *WHERE) == 0.0
    unknown = Shader({"other/USD": rates[names[0]]})
    assert unknown.bid(4_000_000, 0, FIRST_PRICE, *WHERE) == 3_000_000


def test_what_is_looked_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shading, "REMEMBERED", 3)
    shader = taught(win_rate(np.array([1e6])))
    for number in range(10):
        assert shader.bid(3_000_000, 0, 1, "demo", "EUR", f"deal-{number}", "", 0) == 1_000_000
    assert len(shader._found) <= 3


def test_a_known_share_is_drawn() -> None:
    shader, random = taught(win_rate(np.array([1e6])), exploration=0.1), Random(1)
    assert sum(shader.explores(random) for _ in range(5000)) == pytest.approx(500, rel=0.2)
    assert not any(UNTAUGHT.explores(random) for _ in range(100))


@given(value=st.integers(1, 10**8), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_what_is_drawn_lies_between_floor_and_value(value, share, seed) -> None:
    floor = int(value * share)
    assert floor <= drawn(value, floor, Random(seed)) <= value
