"""Which identifiers of a request are looked up, and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.people.identity import MAX_TRIED, candidates, usable

ORDER = ("buyeruid", "example.com", "ifa")


def test_the_configured_order_wins_over_the_wire() -> None:
    given_ids = [("ifa", "ABC"), ("example.com", "b"), ("buyeruid", "c"), ("example.com", "a")]
    assert candidates(given_ids, "demo", ORDER) == [
        ("buyeruid.demo", "c"),
        ("example.com", "b"),
        ("example.com", "a"),
        ("ifa", "abc"),
    ]


def test_sources_that_are_not_configured_are_not_used() -> None:
    assert candidates([("other.example", "a")], "demo", ORDER) == []
    assert candidates([("buyeruid.google", "a")], "demo", ORDER) == [], "another exchange's"


@pytest.mark.parametrize("value", ["", "x" * 257, "a\x00b", "a\nb", "\x7f", "\ud800", "\u200b"])
def test_what_cannot_be_an_identifier_is_ignored(value: str) -> None:
    assert not usable(value)
    assert candidates([("buyeruid", value), ("ifa", "a")], "demo", ORDER) == [("ifa", "a")]


@pytest.mark.parametrize("value", ["a", "x" * 256, "é", "a b", "{x}", "a:b"])
def test_what_may_be_one_is_not(value: str) -> None:
    assert usable(value)


@given(st.lists(st.tuples(st.sampled_from([*ORDER, "none"]), st.text(max_size=4)), max_size=30))
def test_as_the_obvious_loop_says(pairs: list[tuple[str, str]]) -> None:
    expected = []
    for source in ORDER:
        for own, value in pairs:
            if own == source and usable(value):
                name = "buyeruid.demo" if source == "buyeruid" else source
                expected.append((name, value.lower() if source == "ifa" else value))
    assert candidates(pairs, "demo", ORDER) == expected[:MAX_TRIED]
