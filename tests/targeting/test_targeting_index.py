"""The bitmaps say what a plain loop over the line items says.

Catalogues, opportunities and people are random, over few values so that they often meet.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from math import asin, cos, radians, sin, sqrt
from random import Random
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.campaigns import catalogue as c
from bidder.openrtb.opportunity import Opportunity, Slot, opportunity
from bidder.openrtb.request import decode
from bidder.targeting import AudienceIndex, Index, Schedule, survivors
from bidder.targeting.dimensions import mask_of

T = TypeVar("T")

SIZES = [(300, 250), (728, 90), (600, 500), (160, 600)]
DOMAINS = ["example", "news.example", "a.news.example", "sport.example"]
LISTS: dict[str, list[str]] = {
    "countries": ["FR", "DE", "US"],
    "regions": ["IDF", "BY"],
    "cities": ["Paris"],
    "postcodes": ["75001"],
    "devices": ["mobile", "desktop"],
    "os": ["ios", "windows"],
    "browsers": ["chrome", "safari"],
    "languages": ["fr", "de"],
    "exchanges": ["demo", "other"],
    "supply": ["site", "app"],
    "domains": DOMAINS,
    "apps": ["com.x"],
    "publishers": ["p1"],
    "categories": ["IAB1", "IAB1-2", "IAB1-3", "IAB2", "6:12"],
}
SEGMENTS = ["basket", "buyer", "lapsed", "vip"]
DEALS = ["d1", "d2", "d3"]
ZONES = [ZoneInfo(name) for name in ("Europe/Paris", "America/New_York", "Asia/Kolkata")]
CLOCKS_CHANGE = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
]
PLACES = [(48.85, 2.35), (48.86, 2.34), (45.76, 4.84), (-33.9, 151.2)]


SEEDS = st.integers(0, 2**63)
"""What is drawn from a seed is spread evenly, where hypothesis leans towards the empty."""


def some(random: Random, values: Sequence[T], most: int = 2) -> list[T]:
    return random.sample(values, random.randint(0, min(most, len(values))))


def allow(random: Random, values: Sequence[str]) -> c.Allow:
    """Mostly no list, else a few values to allow or block."""
    if random.random() < 0.7:
        return c.Allow()
    allowed = random.random() < 0.6
    blocked = not allowed or random.random() < 0.3
    return c.Allow(
        frozenset(some(random, values)) if allowed else frozenset(),
        frozenset(some(random, values)) if blocked else frozenset(),
    )


def moment(random: Random) -> datetime:
    """Near where clocks change, to the second."""
    near = random.choice((3600, 2 * 86400))
    return random.choice(CLOCKS_CHANGE) + timedelta(seconds=random.randint(-near, near))


def flights(random: Random) -> tuple[c.Flight, ...]:
    def edge() -> datetime | None:
        zone = random.choice(ZONES)
        at = moment(random).astimezone(zone).replace(tzinfo=zone)
        return random.choice((None, at))

    return tuple(c.Flight(edge(), edge()) for _ in range(random.choice((0, 0, 1, 2))))


def where(random: Random) -> c.Where:
    circles = [c.Radius(*random.choice(PLACES), random.choice((1, 500))) for _ in range(2)]
    return c.Where(
        **{name: allow(random, values) for name, values in LISTS.items()},
        around=tuple(some(random, circles)) if random.random() < 0.1 else (),
        deals=frozenset(some(random, DEALS)) if random.random() < 0.3 else frozenset(),
        positions=frozenset(some(random, (1, 3))) if random.random() < 0.3 else frozenset(),
        min_viewability=random.choice((0.0, 0.0, 0.0, 0.5, 0.7)),
    )


def creative(random: Random) -> c.Creative:
    size = random.choice((*SIZES, None))
    return c.Creative(
        id="c",
        path="a/b/l/c",
        id32=9,
        width=size[0] if size else 0,
        height=size[1] if size else 0,
        image_url="https://cdn.example/a.png" if size else "",
        html="",
        native=None if size else c.NativeAsset(title="t"),
        click_url="https://shop.example",
        secure=random.random() < 0.6,
    )


def audience(random: Random) -> c.Audience:
    def rules() -> tuple[c.SegmentRule, ...]:
        chosen = some(random, SEGMENTS) if random.random() < 0.5 else []
        return tuple(c.SegmentRule(s, random.choice((0, 60, 3600, 86400))) for s in chosen)

    return c.Audience(rules(), rules(), rules())


def line_item(random: Random, index: int) -> c.LineItem:
    owner = c.Advertiser("a", 1, "shop.example", "EUR", random.choice(ZONES), 0, 0)
    hours = range(168)
    if random.random() < 0.5:
        hours = random.sample(range(168), 100)
    return c.LineItem(
        index=index,
        id="l",
        path=f"a/b/l{index}",
        id32=3,
        campaign=c.Campaign("b", "a/b", 2, owner, flights(random), c.Budget()),
        audience=audience(random),
        where=where(random),
        when=c.When(frozenset(hours), random.choice(("campaign", "person"))),
        bid=c.Bid(1_000_000),
        goal=c.Goal("cpm", 1_000_000),
        caps=(),
        intrusiveness=c.Intrusiveness(),
        creatives=tuple(creative(random) for _ in range(random.randint(1, 3))),
        unknown_people=random.choice(("skip", "serve")),
        flights=flights(random),
        active=random.random() < 0.8,
    )


def catalogue(random: Random, most: int = 12) -> c.Catalogue:
    items = tuple(line_item(random, index) for index in range(random.randint(1, most)))
    return c.Catalogue("", items, (), (), {})


def imp(random: Random, number: int) -> dict[str, Any]:
    formats = [{"w": w, "h": h} for w, h in some(random, SIZES)]
    formats += [{"wratio": 6, "hratio": 5, "wmin": w} for w in some(random, (200, 400, 800), 1)]
    deals = [{"id": deal} for deal in some(random, DEALS)]
    metric = [{"type": "viewability", "value": random.choice((0.3, 0.5, 0.9))}]
    return {
        "id": str(number),
        "banner": {"format": formats, "pos": random.choice((None, 0, 1, 3))},
        "native": random.choice((None, None, {"request": "{}"})),
        "secure": random.choice((None, 0, 1)),
        "pmp": random.choice((None, {"private_auction": random.choice((0, 1)), "deals": deals})),
        "metric": random.choice((None, metric)),
    }


def offered(random: Random) -> Opportunity:
    """What a random request comes to, by the very code that serves."""
    place = random.choice((None, *PLACES))
    geo = {
        "country": random.choice((None, "FRA", "DEU", "USA")),
        "region": random.choice((None, "IDF")),
        "city": random.choice((None, "Paris")),
        "zip": random.choice((None, "75001")),
        **({"lat": place[0], "lon": place[1]} if place else {}),
    }
    device = {
        "devicetype": random.choice((None, 2, 4)),
        "os": random.choice((None, "iOS", "Windows")),
        "ua": random.choice((None, "Mozilla Chrome/1", "Safari/1")),
        "language": random.choice((None, "fr", "de")),
        "geo": geo,
    }
    site = {
        "domain": random.choice((None, *DOMAINS, "else.test")),
        "cat": some(random, ("IAB1", "IAB1-2", "IAB9")),
        "publisher": random.choice((None, {"id": "p1"})),
    }
    supply = random.choice(({"site": site}, {"site": site}, {"app": {"bundle": "com.x"}}, {}))
    imps = [imp(random, number) for number in range(random.randint(1, 2))]
    body = {"id": "r", "imp": imps, "device": device, **supply}
    return opportunity(decode(json.dumps(body).encode()), "demo")


def listed(rule: c.Allow, values: Iterable[str]) -> bool:
    """One of `values` is allowed and none blocked."""
    given_values = set(values)
    return (not rule.allow or bool(rule.allow & given_values)) and not rule.block & given_values


def domain_parts(domain: str) -> list[str]:
    labels = domain.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


def near(circle: c.Radius, latitude: float, longitude: float) -> bool:
    a, b = radians(latitude), radians(circle.latitude)
    turn = radians(longitude - circle.longitude)
    chord = sin((a - b) / 2) ** 2 + cos(a) * cos(b) * sin(turn / 2) ** 2
    return 2 * 6371.0 * asin(sqrt(chord)) <= circle.km


def takes_request(item: c.LineItem, offer: Opportunity) -> bool:
    where = item.where
    singles = (
        (where.countries, offer.country),
        (where.regions, offer.region),
        (where.cities, offer.city),
        (where.postcodes, offer.postcode),
        (where.devices, offer.device),
        (where.os, offer.os),
        (where.browsers, offer.browser),
        (where.languages, offer.language),
        (where.exchanges, offer.exchange),
        (where.supply, offer.supply),
        (where.apps, offer.bundle),
        (where.publishers, offer.publisher),
    )
    wider = {parent for found in offer.categories for parent in (found, found.split("-")[0])}
    place = offer.latitude, offer.longitude
    return (
        all(listed(rule, [value]) for rule, value in singles)
        and listed(where.domains, domain_parts(offer.domain))
        and listed(where.categories, wider)
        and (
            not where.around
            or (
                place[0] is not None
                and place[1] is not None
                and any(near(circle, place[0], place[1]) for circle in where.around)
            )
        )
    )


def takes_slot(item: c.LineItem, slot: Slot) -> bool:
    where = item.where
    return (
        any(fills(creative, slot) for creative in item.creatives)
        and (not where.positions or slot.position in where.positions)
        and max(slot.viewability, 0.0) >= where.min_viewability
        and (
            bool(where.deals & {deal.id for deal in slot.deals})
            if where.deals
            else not slot.private or bool(slot.deals)
        )
    )


def fills(creative: c.Creative, slot: Slot) -> bool:
    if slot.secure and not creative.secure:
        return False
    if creative.native is not None:
        return bool(slot.native)
    width, height = creative.width, creative.height
    return (width, height) in slot.sizes or any(
        width >= f.wmin and width * f.hratio == height * f.wratio for f in slot.flexible
    )


def on_air(item: c.LineItem, now: datetime, offset: int | None, stopped: set[str]) -> bool:
    if not item.active or stopped & {"all", "a", "a/b", item.path}:
        return False
    for nested in (item.campaign.flights, item.flights):
        if nested and not any(
            (f.start is None or f.start.timestamp() <= now.timestamp())
            and (f.end is None or now.timestamp() < f.end.timestamp())
            for f in nested
        ):
            return False
    local = now.astimezone(item.campaign.advertiser.zone)
    if item.when.zone == "person" and offset is not None:
        local = (now + timedelta(minutes=offset)).replace(tzinfo=None).replace(tzinfo=UTC)
    return local.weekday() * 24 + local.hour in item.when.hours_of_week


def speaks_to(item: c.LineItem, segments: dict[str, int], now: int) -> bool:
    def meets(rule: c.SegmentRule) -> bool:
        seen = segments.get(rule.segment)
        return seen is not None and (not rule.within_seconds or now - seen <= rule.within_seconds)

    audience = item.audience
    return (
        (not audience.any_of or any(map(meets, audience.any_of)))
        and all(map(meets, audience.all_of))
        and not any(map(meets, audience.none_of))
    )


def bits(catalogue: c.Catalogue, accepts: Callable[[c.LineItem], bool]) -> int:
    return sum(1 << item.index for item in catalogue.line_items if accepts(item))


MANY = settings(max_examples=300)


@MANY
@given(SEEDS)
def test_requests_and_slots(seed: int) -> None:
    random = Random(seed)
    catalogued = catalogue(random)
    index = Index(catalogued)
    for offer in [offered(random) for _ in range(3)]:
        expected = bits(catalogued, lambda item: takes_request(item, offer))  # noqa: B023
        assert index.request_mask(offer, index.everyone) == expected
        passing = index.everyone
        for _, accepting, says in index.request_reasons(offer):
            assert says
            passing &= accepting
        assert passing == expected, "the reasons leave out just as many"
        for slot in offer.slots:
            fitting = bits(catalogued, lambda item: takes_slot(item, slot))  # noqa: B023
            assert index.slot_mask(slot, index.everyone) == fitting
            assert index.slot_mask(slot, expected) == expected & fitting
            passing = index.everyone
            for _, accepting, says in index.slot_reasons(slot):
                assert says
                passing &= accepting
            assert passing == fitting


@MANY
@given(SEEDS)
def test_schedule(seed: int) -> None:
    """At any moment, in any order of moments, also where clocks change."""
    random = Random(seed)
    catalogued = catalogue(random)
    stopped = set(some(random, ("all", "a/b", "a/b/l0", "a/b/l1", "a/b/l"), 1))
    funded = random.getrandbits(12)
    schedule = Schedule(catalogued)
    schedule.stop(stopped)
    schedule.fund(funded)
    at = moment(random)
    for _ in range(6):
        at = random.choice((moment(random), at + timedelta(seconds=random.randint(0, 900))))
        offset = random.choice((None, -300, 60, 330))
        expected = funded & bits(catalogued, lambda item: on_air(item, at, offset, stopped))  # noqa: B023
        assert schedule.mask(at.timestamp(), offset) == expected
        passing = (1 << len(catalogued.line_items)) - 1
        for _, accepting in schedule.reasons(at.timestamp(), offset):
            passing &= accepting
        assert passing == expected


@MANY
@given(SEEDS)
def test_audiences(seed: int) -> None:
    random, now = Random(seed), 2_000_000_000
    catalogued = catalogue(random)
    ages = (-10, 0, 1, 59, 60, 61, 3599, 3600, 3601, 86400, 86401, 10**8)
    segments = {s: now - random.choice(ages) for s in some(random, [*SEGMENTS, "other"], 5)}
    audiences = AudienceIndex(catalogued)
    mask = audiences.mask(segments, now)
    expected = bits(catalogued, lambda item: speaks_to(item, segments, now))
    assert mask & expected == expected, "nobody is lost before `all_of` is asked"
    told = bits(
        catalogued,
        lambda item: bool(mask >> item.index & 1) and audiences.all_of(item.index, segments, now),
    )
    assert told == expected
    exact = ~audiences.has_all_of
    assert mask & exact == expected & exact
    nobody = bits(
        catalogued,
        lambda item: item.unknown_people == "serve" and item.audience == c.Audience(),
    )
    assert Index(catalogued).needs_nobody == nobody


@given(st.sets(st.integers(0, 3000), max_size=200), st.integers(0, 100))
def test_survivors_are_the_lowest_bits(indexes: set[int], limit: int) -> None:
    mask = sum(1 << index for index in indexes)
    assert mask_of(indexes) == mask
    assert survivors(mask, limit) == sorted(indexes)[:limit]
    assert survivors(mask, len(indexes)) == sorted(indexes)
