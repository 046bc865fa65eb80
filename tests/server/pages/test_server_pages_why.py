"""`/why`: strangers learn nothing about the person, and the person why they saw the ad."""

import re
from typing import Any

import pytest

from bidder.campaigns.catalogue import Catalogue
from bidder.notices.tokens import Tokens
from bidder.server.pages import OUR_COOKIE
from bidder.server.pages_why import kind_of

COOKIE = "jo-cookie-0123456789ab"
BASKET, OPEN = "maison-lumen/basket-left/fresh", "maison-lumen/run-of-network/everyone"


async def test_strangers_see_the_same_whoever_the_ad_was_for(
    site: Any, tokens: Tokens, catalogue: Catalogue, jo: str, why: Any
) -> None:
    seen = []
    for person in (jo, "", "A" * 16):
        address = why(tokens, catalogue, BASKET, person)
        page = await site.get(address)
        token = address.partition("=")[2]
        seen.append(re.sub(r"\s+", " ", page.text))
        body = (await site.visit("GET", address)).body.decode()
        assert jo not in body.replace(token, "")
    assert len(set(seen)) == 1
    assert "Maison Lumen (maison-lumen.example)" in seen[0]
    assert "to people who have had to do with it before" in seen[0]
    assert "left something in a basket" not in seen[0]


async def test_its_own_person_is_told_the_kind_of_reason(
    site: Any, tokens: Tokens, catalogue: Catalogue, jo: str, why: Any
) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    page = await site.get(why(tokens, catalogue, BASKET, jo))
    assert "those who left something in a basket" in page.text
    assert "99" not in page.text
    other = await site.get(why(tokens, catalogue, BASKET, "A" * 16))
    assert "those who left something in a basket" not in other.text


async def test_an_ad_for_anybody_says_so(
    site: Any, tokens: Tokens, catalogue: Catalogue, jo: str, why: Any
) -> None:
    site.language = "fr-FR,fr;q=0.9"
    page = await site.get(why(tokens, catalogue, OPEN, jo))
    assert "choisie pour l’endroit" in page.text
    assert page.all("html") == [{"lang": "fr"}]


@pytest.mark.parametrize("token", ["", "x", "A" * 200, "%00"])
async def test_links_that_are_not_ours(site: Any, token: str, parsed: Any) -> None:
    answer = await site.visit("GET", f"/why?t={token}")
    assert answer.status == 400
    assert "not one of ours" in parsed(answer.body).text


async def test_an_ad_of_a_campaign_that_is_gone(
    site: Any, tokens: Tokens, catalogue: Catalogue, pages: Any, why: Any
) -> None:
    address = why(tokens, catalogue, BASKET)
    site.pages = pages(site.pages._desk, tokens, Catalogue("", (), (), (), {}))
    assert "had to do with it before" in (await site.get(address)).text


@pytest.mark.parametrize(
    ("segment", "kind"),
    [
        ("basket-abandoned", "basket"), ("first-time-visitor", "visit"), ("won-back", "purchase"),
        ("store-visitor", "store"), ("email-inactive", "contact"), ("lookalike-3", "alike"),
        ("churn-risk", "purchase"), ("x", "other"),
    ],
)  # fmt: skip
def test_what_segments_are_about(segment: str, kind: str) -> None:
    assert kind_of(segment) == kind
