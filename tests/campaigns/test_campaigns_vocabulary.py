"""How are hours and days of the week written in a campaign file?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.campaigns.vocabulary import days, hours
from bidder.yamlfiles import Expected


@given(st.integers(0, 23), st.integers(1, 23))
def test_hours_reach_from_the_first_until_the_last(start: int, length: int) -> None:
    end = (start + length - 1) % 24 + 1
    expected = {(start + n) % 24 for n in range(length)}
    assert hours(f"{start}-{end}") == expected


def test_hours_and_days_by_example() -> None:
    assert hours("8-23") == set(range(8, 23))
    assert hours("22-6") == {22, 23, 0, 1, 2, 3, 4, 5}
    assert hours(["8-10", 14]) == {8, 9, 14}
    assert hours("0-24") == set(range(24))
    assert days("mon-sat") == {0, 1, 2, 3, 4, 5}
    assert days("sat-mon") == {5, 6, 0}
    assert days(["mon", "wed-thu"]) == {0, 2, 3}


@pytest.mark.parametrize("written", ["", "8-", "-8", "8-8", "24", "24-25", "8:00-9:00", [], [True]])
def test_what_are_no_hours(written: object) -> None:
    with pytest.raises(Expected):
        hours(written)


@pytest.mark.parametrize("written", ["", "mon-", "monday", "mon-x", [], [0], None])
def test_what_are_no_days(written: object) -> None:
    with pytest.raises(Expected):
        days(written)
