"""The bitmaps say what a plain loop over the line items says.

Catalogues, opportunities and people are random, over few values so that they often meet.
"""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from math import asin, cos, radians, sin, sqrt
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidder.campaigns import catalogue as c
from bidder.openrtb.opportunity import Opportunity, Slot, opportunity
from bidder.openrtb.request import decode
from bidder.targeting import AudienceIndex, Index, Schedule, survivors
from bidder.targeting.dimensions import mask_of

SIZES = [(300, 250), (728, 90), (600, 500), (160, 600)]
COUNTRIES = ["FR", "DE", "US"]
DOMAINS = ["example", "news.example", "a.news.example", "sport.example"]
CATEGORIES = ["IAB1", "IAB1-2", "IAB1-3", "IAB2", "6:12"]
SEGMENTS = ["basket", "buyer", "lapsed", "vip"]
DEALS = ["d1", "d2", "d3"]
ZONES = [ZoneInfo(name) for name in ("Europe/Paris", "America/New_York", "Asia/Kolkata")]
CLOCKS_CHANGE = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
]
PLACES = [(48.85, 2.35), (48.86, 2.34), (45.76, 4.84), (-33.9, 151.2)]


def allow(values: list[str]) -> st.SearchStrategy[c.Allow]:
    """Mostly no list, else a few values to allow or block."""
    some = st.frozensets(st.sampled_from(values), max_size=2)
    return st.just(c.Allow()) | st.builds(c.Allow, allow=some, block=some)


def moments() -> st.SearchStrategy[datetime]:
    """Near where clocks change, to the second."""
    near = st.integers(-3 * 86400, 3 * 86400).map(lambda s: timedelta(seconds=s))
    return st.builds(lambda at, by: at + by, st.sampled_from(CLOCKS_CHANGE), near)


def flights() -> st.SearchStrategy[tuple[c.Flight, ...]]:
    edge = st.none() | st.builds(
        lambda at, zone: at.astimezone(zone).replace(tzinfo=zone),
        moments(),
        st.sampled_from(ZONES),
    )
    return st.just(()) | st.lists(st.builds(c.Flight, edge, edge), min_size=1, max_size=2).map(
        tuple
    )


_rules = st.lists(
    st.builds(c.SegmentRule, st.sampled_from(SEGMENTS), st.sampled_from([0, 60, 3600, 86400])),
    max_size=2,
).map(tuple)
_hours = st.just(frozenset(range(168))) | st.frozensets(st.integers(0, 167), min_size=60)


def _creative(size: tuple[int, int] | None, secure: bool) -> c.Creative:
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
        secure=secure,
    )


_where = st.builds(
    c.Where,
    countries=allow(COUNTRIES),
    regions=allow(["IDF", "BY"]),
    cities=allow(["Paris"]),
    postcodes=allow(["75001"]),
    around=st.lists(
        st.builds(
            lambda at, km: c.Radius(*at, km), st.sampled_from(PLACES), st.sampled_from([1, 500])
        ),
        max_size=2,
    ).map(tuple),
    devices=allow(["mobile", "desktop"]),
    os=allow(["ios", "windows"]),
    browsers=allow(["chrome", "safari"]),
    languages=allow(["fr", "de"]),
    exchanges=allow(["demo", "other"]),
    supply=allow(["site", "app"]),
    domains=allow(DOMAINS),
    apps=allow(["com.x"]),
    publishers=allow(["p1"]),
    categories=allow(CATEGORIES),
    deals=st.frozensets(st.sampled_from(DEALS), max_size=2),
    positions=st.just(frozenset()) | st.frozensets(st.sampled_from([1, 3])),
    min_viewability=st.sampled_from([0.0, 0.0, 0.5, 0.7]),
)


@st.composite
def line_item(draw: Callable[..., Any]) -> c.LineItem:
    """One line item, its index still 0."""
    zone = draw(st.sampled_from(ZONES))
    owner = c.Advertiser("a", 1, "shop.example", "EUR", zone, 0, 0)
    campaign = c.Campaign("b", "a/b", 2, owner, draw(flights()), c.Budget())
    return c.LineItem(
        index=0,
        id="l",
        path="a/b/l",
        id32=3,
        campaign=campaign,
        audience=c.Audience(draw(_rules), draw(_rules), draw(_rules)),
        where=draw(_where),
        when=c.When(draw(_hours), draw(st.sampled_from(["campaign", "person"]))),
        bid=c.Bid(1_000_000),
        goal=c.Goal("cpm", 1_000_000),
        caps=(),
        intrusiveness=c.Intrusiveness(),
        creatives=tuple(
            _creative(size, secure)
            for size, secure in draw(
                st.lists(
                    st.tuples(st.sampled_from([*SIZES, None]), st.booleans()),
                    min_size=1,
                    max_size=3,
                )
            )
        ),
        unknown_people=draw(st.sampled_from(["skip", "serve"])),
        flights=draw(flights()),
        active=draw(st.sampled_from([True, True, True, False])),
    )


def numbered(items: list[c.LineItem]) -> c.Catalogue:
    """A catalogue in which each line item knows its bit and has a path of its own."""
    found = []
    for index, item in enumerate(items):
        fields = {name: getattr(item, name) for name in item.__struct_fields__}
        found.append(c.LineItem(**{**fields, "index": index, "path": f"a/b/l{index}"}))
    return c.Catalogue("", tuple(found), (), (), {})


def catalogues() -> st.SearchStrategy[c.Catalogue]:
    return st.lists(line_item(), min_size=1, max_size=12).map(numbered)


def _maybe(values: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, *values])


_imp = st.fixed_dictionaries(
    {
        "banner": st.none()
        | st.fixed_dictionaries(
            {
                "format": st.lists(
                    st.sampled_from([{"w": w, "h": h} for w, h in SIZES])
                    | st.sampled_from(
                        [{"wratio": 6, "hratio": 5, "wmin": 200 * n} for n in (1, 2, 4)]
                    ),
                    max_size=3,
                ),
                "pos": _maybe([0, 1, 3]),
            }
        ),
        "native": st.none() | st.just({"request": "{}"}),
        "secure": _maybe([0, 1]),
        "pmp": st.none()
        | st.fixed_dictionaries(
            {
                "private_auction": st.sampled_from([0, 1]),
                "deals": st.lists(st.sampled_from([{"id": d} for d in DEALS]), max_size=2),
            }
        ),
        "metric": st.none()
        | st.sampled_from([0.3, 0.5, 0.9]).map(lambda v: [{"type": "viewability", "value": v}]),
    }
)
_bodies = st.fixed_dictionaries(
    {
        "imp": st.lists(_imp, min_size=1, max_size=2),
        "site": st.none()
        | st.fixed_dictionaries(
            {
                "domain": _maybe([*DOMAINS, "else.test"]),
                "cat": st.lists(st.sampled_from(["IAB1", "IAB1-2", "IAB9"]), max_size=2),
                "publisher": _maybe([{"id": "p1"}]),
            }
        ),
        "app": st.none() | st.just({"bundle": "com.x"}),
        "device": st.none()
        | st.fixed_dictionaries(
            {
                "devicetype": _maybe([2, 4]),
                "os": _maybe(["iOS", "Windows"]),
                "ua": _maybe(["Mozilla Chrome/1", "Safari/1"]),
                "language": _maybe(["fr", "de"]),
                "geo": st.fixed_dictionaries(
                    {
                        "country": _maybe(["FRA", "DEU", "USA"]),
                        "region": _maybe(["IDF"]),
                        "city": _maybe(["Paris"]),
                        "zip": _maybe(["75001"]),
                        "utcoffset": _maybe([-300, 60, 330]),
                    }
                ),
                "place": _maybe(PLACES),
            }
        ),
    }
)


def _written(body: dict[str, Any]) -> Opportunity:
    if body["site"] and body["app"]:
        body["app"] = None
    device = body["device"]
    if device and (place := device.pop("place")):
        device["geo"] |= {"lat": place[0], "lon": place[1]}
    imps = [{"id": str(number), **imp} for number, imp in enumerate(body["imp"])]
    text = json.dumps({"id": "r", **body, "imp": imps})
    return opportunity(decode(text.encode()), "demo")


def opportunities() -> st.SearchStrategy[Opportunity]:
    return _bodies.map(_written)


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


MANY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(catalogues(), st.lists(opportunities(), min_size=1, max_size=4))
def test_requests_and_slots(catalogue: c.Catalogue, offers: list[Opportunity]) -> None:
    index = Index(catalogue)
    for offer in offers:
        expected = bits(catalogue, lambda item: takes_request(item, offer))  # noqa: B023
        assert index.request_mask(offer, index.everyone) == expected
        reasons = list(index.request_reasons(offer))
        passing = index.everyone
        for _, accepting, says in reasons:
            assert says
            passing &= accepting
        assert passing == expected, "the reasons leave out just as many"
        for slot in offer.slots:
            fitting = bits(catalogue, lambda item: takes_slot(item, slot))  # noqa: B023
            assert index.slot_mask(slot, index.everyone) == fitting
            assert index.slot_mask(slot, expected) == expected & fitting
            passing = index.everyone
            for _, accepting, _ in index.slot_reasons(slot):
                passing &= accepting
            assert passing == fitting
    nobody = bits(
        catalogue,
        lambda item: item.unknown_people == "serve" and item.audience == c.Audience(),
    )
    assert index.needs_nobody == nobody


@MANY
@given(
    catalogues(),
    st.lists(st.tuples(moments(), st.sampled_from([None, -300, 60, 330])), min_size=1, max_size=8),
    st.sets(st.sampled_from(["all", "a/b", "a/b/l0", "a/b/l1", "a/b/l"]), max_size=1),
    st.integers(0, (1 << 12) - 1),
)
def test_schedule(
    catalogue: c.Catalogue,
    asked: list[tuple[datetime, int | None]],
    stopped: set[str],
    funded: int,
) -> None:
    """At any moment, in any order of moments, also where clocks change."""
    schedule = Schedule(catalogue)
    schedule.stop(stopped)
    schedule.fund(funded)
    for now, offset in asked:
        expected = funded & bits(catalogue, lambda item: on_air(item, now, offset, stopped))  # noqa: B023
        assert schedule.mask(now.timestamp(), offset) == expected
        passing = (1 << len(catalogue.line_items)) - 1
        for _, accepting in schedule.reasons(now.timestamp(), offset):
            passing &= accepting
        assert passing == expected


@MANY
@given(
    catalogues(),
    st.dictionaries(
        st.sampled_from([*SEGMENTS, "other"]),
        st.sampled_from([-10, 0, 1, 59, 60, 61, 3599, 3600, 3601, 86400, 86401, 10**8]),
    ),
)
def test_audiences(catalogue: c.Catalogue, ages: dict[str, int]) -> None:
    now = 2_000_000_000
    segments = {segment: now - age for segment, age in ages.items()}
    audiences = AudienceIndex(catalogue)
    expected = bits(catalogue, lambda item: speaks_to(item, segments, now))
    mask = audiences.mask(segments, now)
    assert mask & expected == expected, "nobody is lost before `all_of` is asked"
    assert (
        bits(
            catalogue,
            lambda item: (
                bool(mask >> item.index & 1) and audiences.all_of(item.index, segments, now)
            ),
        )
        == expected
    )
    exact = ~audiences.has_all_of
    assert mask & exact == expected & exact


@given(st.sets(st.integers(0, 3000), max_size=200), st.integers(0, 100))
def test_survivors_are_the_lowest_bits(indexes: set[int], limit: int) -> None:
    mask = sum(1 << index for index in indexes)
    assert mask_of(indexes) == mask
    assert survivors(mask, limit) == sorted(indexes)[:limit]
    assert survivors(mask, len(indexes)) == sorted(indexes)
