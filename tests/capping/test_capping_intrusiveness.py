"""Does perceived intrusiveness move the way the research says?"""

from collections.abc import Callable
from math import exp, log1p
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.campaigns.catalogue import About, Audience, Creative, LineItem, ProductAds, SegmentRule
from bidder.capping import (
    Channel,
    Judge,
    Kind,
    Ledger,
    Parameters,
    intrusiveness,
    load_parameters,
    why_not_products,
)
from bidder.capping.product_ads import GENERIC_FIRST, UNDEFINED
from bidder.openrtb import request as wire
from bidder.openrtb.opportunity import Opportunity, opportunity
from bidder.person import Basket, Profile
from bidder.yamlfiles import InvalidFile

CONFIG = Path(__file__).parents[2] / "config/intrusiveness.yaml"
GIVEN = load_parameters(CONFIG)
NOW = 1_788_000_000
HOUR, DAY = 3600, 86400

times = st.lists(st.integers(NOW - 90 * DAY, NOW), max_size=30).map(sorted)
shares = st.floats(0, 1)


def plain(exposures: list[int], relevance: float, specificity: float, wish: bool = False) -> float:
    """The formula of the YAML, with no regard for speed."""
    repetition = bunching = 0.0
    for place, time in enumerate(exposures):
        following = exposures[place + 1] if place + 1 < len(exposures) else NOW
        weight = 0.5 ** ((NOW - time) / HOUR / GIVEN.repetition_half_life_hours)
        repetition += weight
        bunching += weight * 0.5 ** ((following - time) / HOUR / GIVEN.bunching_half_life_hours)
    odds = (
        GIVEN.base
        + GIVEN.repetition * log1p(repetition)
        + GIVEN.bunching * log1p(bunching)
        + GIVEN.specificity * specificity
        - GIVEN.relevance * relevance
        + GIVEN.fewer_ads * wish
    )
    return 1 / (1 + exp(-odds))


def felt(exposures: list[int], relevance: float = 0.3, specificity: float = 0.5) -> float:
    return intrusiveness(exposures, NOW, relevance, specificity, GIVEN)


@given(times, shares, shares, st.booleans())
def test_it_is_the_formula(
    exposures: list[int], relevance: float, specificity: float, wish: bool
) -> None:
    found = intrusiveness(exposures, NOW, relevance, specificity, GIVEN, fewer_ads=wish)
    assert 0 <= found <= 1
    assert found == pytest.approx(plain(exposures, relevance, specificity, wish), abs=0.003)


@given(times, st.integers(NOW - 20 * DAY, NOW))
def test_one_more_exposure_is_never_felt_less(exposures: list[int], more: int) -> None:
    assert felt(sorted([*exposures, more])) >= felt(exposures) - 1e-9


@given(times, st.integers(0, 10 * DAY))
def test_it_fades(exposures: list[int], later: int) -> None:
    assert felt([time - later for time in exposures]) <= felt(exposures) + 0.003


@given(times, shares, shares, shares)
def test_relevance_soothes_and_the_personal_does_not(
    exposures: list[int], a: float, b: float, other: float
) -> None:
    low, high = sorted((a, b))
    assert felt(exposures, high, other) <= felt(exposures, low, other)
    assert felt(exposures, other, low) <= felt(exposures, other, high)


def test_bunched_ads_are_felt_more_than_spaced_ones() -> None:
    """Four ads within minutes against four over a day, of the same mean age."""
    bunched = [NOW - 12 * HOUR - minute * 60 for minute in (15, 5, -5, -15)]
    spaced = [NOW - hours * HOUR for hours in (21, 15, 9, 3)]
    assert felt(bunched) > felt(spaced) + 0.05


def test_what_stands_in_the_future_is_now() -> None:
    assert felt([NOW + 30]) == felt([NOW])


def test_extreme_parameters_do_not_overflow() -> None:
    never = GIVEN._replace(base=-1000.0)
    assert intrusiveness([NOW], NOW, 0, 1, never) == 0.0


def test_the_file_says_that_sizes_are_assumed() -> None:
    assert not GIVEN.calibrated
    assert "ASSUMPTIONS until calibrated" in CONFIG.read_text()


def test_a_wrong_sign_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "intrusiveness.yaml"
    text = CONFIG.read_text()
    path.write_text(text.replace("relevance: {value: 1.2", "relevance: {value: -1.2"))
    with pytest.raises(InvalidFile, match=r"relevance.value: found -1.2"):
        load_parameters(path)


# What page and person are about


def offer(categories: list[str], keywords: str = "", language: str = "fr") -> Opportunity:
    site = wire.Inventory(domain="n.example", cat=categories, keywords=keywords)
    device = wire.Device(language=language)
    imp = wire.Imp(id="1", banner=wire.Banner(w=300, h=250))
    return opportunity(wire.BidRequest(id="r", imp=[imp], site=site, device=device), "demo")


def judge(
    page: Opportunity | None = None, profile: Profile | None = None, ledger: Ledger | None = None
) -> Judge:
    return Judge(page or offer([]), profile or Profile(), ledger or Ledger(b"", NOW), GIVEN)


MakeItem = Callable[..., LineItem]
MakeCreative = Callable[..., Creative]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (offer(["IAB7"]), 0.0),
        (offer(["IAB10"]), 0.5),
        (offer(["IAB10-5"]), 0.5),
        (offer(["IAB18-3"]), 0.5),
        (offer(["IAB18"]), 0.0),
        (offer([], "Garden, LAMP"), 0.4),
        (offer([], "garden,  Reading Light ,x"), 0.4),
        (offer([], "lamps"), 0.0),
        (offer(["IAB10"], "lamp"), 0.7),
        (offer(["IAB10"], language="de"), 0.25),
        (offer(["IAB10"], language=""), 0.5),
    ],
)
def test_a_page_about_the_same_is_relevant(
    make_item: MakeItem, make_creative: MakeCreative, page: Opportunity, expected: float
) -> None:
    found = judge(page).relevance(make_item(), make_creative(language="fr"))
    assert found == pytest.approx(expected)


def _basket(at: int) -> dict[str, Basket]:
    return {"lumen": Basket(value_micros=1, updated=at)}


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (Profile(interests={"IAB10": NOW}), 0.8),
        (Profile(interests={"IAB10-4": NOW + 9}), 0.8),
        (Profile(interests={"IAB10": NOW - 7 * DAY}), 0.4),
        (Profile(interests={"IAB10": NOW - 7 * DAY, "IAB18-3": NOW - 14 * DAY}), 0.4),
        (Profile(interests={"IAB18": NOW, "IAB7": NOW}), 0.0),
        (Profile(baskets=_basket(NOW - 14 * DAY)), 0.2),
        (Profile(baskets=_basket(NOW - 14 * DAY), interests={"IAB10": NOW - 7 * DAY}), 0.4),
        (Profile(baskets=_basket(NOW), unwanted=frozenset({"IAB10"})), 0.0),
    ],
)
def test_what_the_person_looked_for_is_relevant_while_fresh(
    make_item: MakeItem, make_creative: MakeCreative, profile: Profile, expected: float
) -> None:
    found = judge(profile=profile).relevance(make_item(), make_creative())
    assert found == pytest.approx(expected)


def test_how_personal_an_ad_is(make_item: MakeItem, make_creative: MakeCreative) -> None:
    chosen = make_item(audience=Audience(any_of=(SegmentRule("basket"),)))
    here = judge()
    assert here.specificity(make_item(), make_creative()) == 0.0
    assert here.specificity(chosen, make_creative()) == 0.4
    assert here.specificity(chosen, make_creative(product=True)) == 1.0


def test_the_judge_applies_the_formula_once(
    make_item: MakeItem, make_creative: MakeCreative, make_ledger: Callable[..., Ledger]
) -> None:
    """Contacts count, other advertisers do not; a wish for fewer ads does."""
    ledger = make_ledger(
        NOW,
        (NOW - 2 * HOUR, Kind.IMPRESSION, {}),
        (NOW - HOUR, Kind.IMPRESSION, {"channel": Channel.EMAIL, "campaign": 0}),
        (NOW - 60, Kind.IMPRESSION, {"advertiser": 21}),
        (NOW - 30, Kind.CLICK, {}),
    )
    exposures = [NOW - 2 * HOUR, NOW - HOUR]
    page, item = offer(["IAB10"]), make_item()
    here = judge(page, ledger=ledger)
    generic = here.intrusiveness(item, make_creative())
    assert generic == pytest.approx(plain(exposures, 0.5, 0.0), abs=1e-6)
    assert here.intrusiveness(item, make_creative()) == generic
    product = here.intrusiveness(item, make_creative(product=True))
    assert product == pytest.approx(plain(exposures, 0.5, 1.0), abs=1e-6)
    wishing = judge(page, Profile(fewer_ads=frozenset({"lumen"})), ledger)
    assert wishing.intrusiveness(item, make_creative()) == pytest.approx(
        plain(exposures, 0.5, 0.0, wish=True), abs=1e-6
    )


def test_a_line_item_about_nothing_is_relevant_nowhere(
    make_item: MakeItem, make_creative: MakeCreative
) -> None:
    here = judge(offer(["IAB10"], "lamp"), Profile(interests={"IAB10": NOW}))
    assert here.relevance(make_item(about=About()), make_creative()) == 0.0


# Product ads


@pytest.fixture
def both(make_creative: MakeCreative) -> tuple[Creative, ...]:
    generic = make_creative(id="g", id32=50)
    return generic, msgspec.structs.replace(generic, id="p", id32=51, product=True)


BASKET = Profile(baskets=_basket(NOW - HOUR))
COMPARED = Profile(segments={"compared": NOW - 3 * DAY})


@pytest.mark.parametrize(
    ("rule", "profile", "expected"),
    [
        (None, Profile(), ""),
        (ProductAds(), Profile(), ""),
        (ProductAds(basket_seconds=DAY), Profile(), UNDEFINED),
        (ProductAds(basket_seconds=DAY), BASKET, ""),
        (ProductAds(basket_seconds=HOUR), BASKET, UNDEFINED),
        (ProductAds(any_of=(SegmentRule("compared"),)), BASKET, UNDEFINED),
        (ProductAds(any_of=(SegmentRule("compared"),)), COMPARED, ""),
        (ProductAds(any_of=(SegmentRule("x"), SegmentRule("compared", 3 * DAY))), COMPARED, ""),
        (ProductAds(any_of=(SegmentRule("compared", 3 * DAY - 1),)), COMPARED, UNDEFINED),
        (ProductAds(after_generic=2), Profile(), ""),
        (ProductAds(after_generic=3), Profile(), GENERIC_FIRST),
        (ProductAds(basket_seconds=DAY, after_generic=3), BASKET, GENERIC_FIRST),
    ],
)
def test_product_ads_wait_until_it_is_clear_what_is_wanted(
    make_item: MakeItem,
    make_ledger: Callable[..., Ledger],
    both: tuple[Creative, ...],
    rule: ProductAds | None,
    profile: Profile,
    expected: str,
) -> None:
    """Two generic ads were seen, and any number of the other kind."""
    shown: list[Any] = [(NOW - 9, Kind.IMPRESSION, {"creative": each}) for each in (50, 50, 51, 51)]
    item = make_item(product_ads=rule, creatives=both)
    assert why_not_products(item, profile, make_ledger(NOW, *shown)) == expected


def test_parameters_are_a_plain_value() -> None:
    assert Parameters(*GIVEN) == GIVEN
