"""Substitution macros, filled in by us, and recognised where nobody did."""

from html import escape
from urllib.parse import quote

import pytest

from bidder.openrtb.macros import ALL, AUCTION_PRICE, substitute, unreplaced


def test_macros_are_replaced_by_their_values() -> None:
    text = "https://x.example/?p=${AUCTION_PRICE}&i=${AUCTION_IMP_ID}&p2=${AUCTION_PRICE}"
    values = {"AUCTION_PRICE": "1.2", "AUCTION_IMP_ID": "7"}
    assert substitute(text, values) == "https://x.example/?p=1.2&i=7&p2=1.2"


def test_a_macro_without_a_value_is_removed() -> None:
    assert substitute("a=${AUCTION_MBR}&b", {}) == "a=&b"


def test_base64_suffix() -> None:
    assert substitute("${AUCTION_PRICE:B64}", {"AUCTION_PRICE": "1.23"}) == "MS4yMw=="


@pytest.mark.parametrize("text", ["${AUCTION_PRICE:ROT}", "${AUCTION_FOO}", "${CLICK_URL}", "$X"])
def test_what_is_not_ours_stays(text: str) -> None:
    assert substitute(text, {"AUCTION_PRICE": "1"}) == text


def test_values_are_escaped_for_where_they_stand_and_never_expanded_again() -> None:
    values = {"AUCTION_ID": '"><script>', "AUCTION_BID_ID": AUCTION_PRICE, "AUCTION_PRICE": "1"}
    assert substitute("${AUCTION_ID}", values, escape) == "&quot;&gt;&lt;script&gt;"
    assert substitute("${AUCTION_BID_ID}", values) == AUCTION_PRICE


def test_every_standard_macro_is_known() -> None:
    assert substitute("".join(ALL), {macro[2:-1]: "v" for macro in ALL}) == "v" * len(ALL)
    assert len(set(ALL)) == 11


@pytest.mark.parametrize("macro", [*ALL, "${AUCTION_PRICE:B64}", "%%WINNING_PRICE%%", "%%ADVERT%%"])
def test_unreplaced_macros_are_seen_through_two_encodings(macro: str) -> None:
    assert unreplaced(macro)
    assert unreplaced(quote(macro, safe=""))
    assert unreplaced(quote(quote(macro, safe=""), safe=""))


@pytest.mark.parametrize(
    "value", ["", "1.23", "AUDIT", "102", "EUR", "100%", "%25252541", "a%20b", "a+b_-="]
)
def test_values_are_not_macros(value: str) -> None:
    assert not unreplaced(value)
