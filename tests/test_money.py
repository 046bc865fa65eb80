"""Is money counted in whole micros, and converted only at rates that are known and fresh?"""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.money import MICROS, Rates, UnknownRate, from_micros, impression_cost, to_micros

DAY = date(2026, 11, 20)
RATES = Rates("EUR", DAY, {"USD": 1.25, "JPY": 160.0}, max_age_days=7)


@given(st.integers(-(10**12), 10**12))
def test_micros_survive_being_shown(micros: int) -> None:
    assert to_micros(from_micros(micros)) == micros


@given(st.integers(0, 10**12))
def test_a_thousand_impressions_cost_their_cpm_to_half_a_micro_each(cpm: int) -> None:
    assert abs(1000 * impression_cost(cpm) - cpm) <= 500
    assert impression_cost(cpm) <= impression_cost(cpm + 1)


@pytest.mark.parametrize(("cpm", "cost"), [(0, 0), (499, 0), (500, 1), (1_500, 2), (MICROS, 1000)])
def test_half_a_micro_is_rounded_up(cpm: int, cost: int) -> None:
    assert impression_cost(cpm) == cost


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [("EUR", "USD", 1.25), ("USD", "EUR", 0.8), ("USD", "JPY", 128.0), ("JPY", "JPY", 1.0)],
)
def test_any_currency_into_any_other(source: str, target: str, factor: float) -> None:
    assert RATES.factor(source, target, DAY) == pytest.approx(factor)


@given(st.sampled_from(["EUR", "USD", "JPY"]), st.sampled_from(["EUR", "USD", "JPY"]))
def test_there_and_back_is_where_it_was(one: str, other: str) -> None:
    there, back = RATES.factor(one, other, DAY), RATES.factor(other, one, DAY)
    assert there * back == pytest.approx(1)


def test_stale_rates_are_refused_and_no_sooner() -> None:
    assert RATES.factor("EUR", "USD", DAY + timedelta(days=7)) == 1.25
    with pytest.raises(UnknownRate, match="older than 7 days"):
        RATES.factor("EUR", "USD", DAY + timedelta(days=8))
    assert RATES.factor("USD", "USD", DAY + timedelta(days=999)) == 1.0


@pytest.mark.parametrize(("source", "target"), [("GBP", "EUR"), ("EUR", "GBP")])
def test_a_currency_that_is_not_listed_has_no_rate(source: str, target: str) -> None:
    with pytest.raises(UnknownRate, match="no rate for 'GBP'"):
        RATES.factor(source, target, DAY)
