"""Does a row say what the definitions promise?"""

from datetime import UTC, datetime
from math import isnan, nan
from zlib import crc32
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.campaigns.catalogue import (
    Advertiser,
    Audience,
    Bid,
    Budget,
    Campaign,
    Creative,
    Goal,
    Intrusiveness,
    LineItem,
    NativeAsset,
    SegmentRule,
    When,
    Where,
)
from bidder.events.schema import BidEvent, decode, encode
from bidder.openrtb import request as wire
from bidder.openrtb.opportunity import Opportunity, opportunity
from bidder.person import NO_HISTORY, Basket, History, Profile
from bidder.scoring import features

NOW = 1_788_000_000  # 2026-08-29 10:40 UTC, a Saturday
SIZE = (300, 250)
CREATIVE = Creative(
    id="k", path="lumen/c/l/k", id32=5 * 65536 + 7, width=300, height=250, image_url="https://i",
    html="", native=None, click_url="https://c", language="fr", product=True,
)  # fmt: skip
ADVERTISER = Advertiser(
    id="lumen", id32=9 * 65536 + 1, domain="lumen.example", currency="EUR",
    zone=ZoneInfo("Europe/Paris"), max_cpm_micros=0, max_spend_per_minute_micros=0,
    categories=frozenset({"IAB1"}),
)  # fmt: skip
LINE_ITEM = LineItem(
    index=0, id="l", path="lumen/c/l", id32=65536 * 3 + 2,
    campaign=Campaign(
        id="c", path="lumen/c", id32=77, advertiser=ADVERTISER, flights=(), budget=Budget()
    ),
    audience=Audience(
        any_of=(SegmentRule("basket"), SegmentRule("viewed")), all_of=(SegmentRule("seen"),)
    ),
    where=Where(), when=When(), bid=Bid(1), goal=Goal("cpm", 1), caps=(),
    intrusiveness=Intrusiveness(), creatives=(CREATIVE,), unknown_people="skip",
)  # fmt: skip
PROFILE = Profile(
    segments={"basket": NOW - 900, "viewed": NOW - 600, "seen": NOW - 8000, "other": NOW - 5},
    last_visit=NOW - 500,
    last_order=NOW - 86400,
    orders=3,
    spent_micros=123_450_000,
    stage="active",
    baskets={"lumen": Basket(value_micros=45_500_000, updated=NOW - 700)},
    interests={"IAB1": NOW - 50, "IAB1-2": NOW - 90, "IAB9": NOW - 1},
)
HISTORY = History(
    impressions_hour=1, impressions_day=2, impressions_week=3, impressions_month=4,
    line_item_impressions_day=5, line_item_impressions_week=6, clicks_month=7,
    conversions_month=8, contacts_week=9, since_impression=10, since_click=11,
    since_conversion=12, since_contact=13, other_impressions_day=14,
)  # fmt: skip


def offer(utc_offset: int | None = 330, **changes: object) -> Opportunity:
    imp = wire.Imp(
        id="1",
        banner=wire.Banner(format=[wire.Format(w=300, h=250)], pos=3),
        instl=1,
        bidfloor=0.75,
        metric=[wire.Metric(type="viewability", value=0.4)],
    )
    request = wire.BidRequest(
        id="r",
        imp=[imp],
        site=wire.Inventory(
            domain="news.example", cat=["IAB1-2", "IAB7"], publisher=wire.Publisher(id="p7")
        ),
        device=wire.Device(
            devicetype=2,
            ua="Mozilla/5.0 (Windows NT 10.0) Firefox/140.0",
            language="fr",
            geo=wire.Geo(utcoffset=utc_offset),
        ),
    )
    return msgspec.structs.replace(opportunity(request, "demo"), **changes)


def row_of(
    opportunity: Opportunity,
    profile: Profile = PROFILE,
    history: History = HISTORY,
    line_item: LineItem = LINE_ITEM,
    creative: Creative = CREATIVE,
    size: tuple[int, int] = SIZE,
    now: int = NOW,
) -> dict[str, float]:
    context = features.context(opportunity, profile, now)
    row = features.row(context, opportunity.slots[0], size, history, line_item, creative)
    return dict(zip(features.NAMES, row, strict=True))


def test_the_golden_row() -> None:
    """If a value changes, change the definition too: the version must not mean two things."""
    assert features.VERSION == "a617b8d77b16"
    assert row_of(offer()) == {
        "device": 2, "os": 2, "browser": 2, "supply": 0,
        "exchange": crc32(b"demo") % 65536, "domain": crc32(b"news.example") % 65536,
        "publisher": crc32(b"p7") % 65536,
        "interest_matches": 2, "interest_age": 50, "stage": 3, "segments": 4,
        "visit_age": 500, "order_age": 86400, "orders": 3, "spent": 123.45,
        "position": 3, "interstitial": 1, "viewability": 0.4, "floor": 0.75,
        "area": 75000, "aspect": 1.2,
        "impressions_hour": 1, "impressions_day": 2, "impressions_week": 3,
        "impressions_month": 4, "line_item_impressions_day": 5, "line_item_impressions_week": 6,
        "other_impressions_day": 14, "clicks_month": 7, "conversions_month": 8,
        "contacts_week": 9, "impression_age": 10, "click_age": 11, "conversion_age": 12,
        "contact_age": 13,
        "hour": 16, "weekday": 5, "audience_age": 600, "basket_value": 45.5, "basket_age": 700,
        "category_match": 1, "language_match": 1, "creative_type": 0, "product": 1,
        "advertiser": 1, "line_item": 2, "creative": 7,
    }  # fmt: skip


def test_flags_are_numbers_in_the_log() -> None:
    assert {type(value) for value in row_of(offer()).values()} == {int, float}


def test_of_nobody_nothing_is_made_up() -> None:
    row = row_of(offer(), profile=Profile(), history=NO_HISTORY)
    unknown = {name for name, value in row.items() if isnan(value)}
    assert unknown == {
        "interest_matches", "interest_age", "stage", "visit_age", "order_age", "audience_age",
        "basket_value", "basket_age", "impression_age", "click_age", "conversion_age",
        "contact_age",
    }  # fmt: skip
    assert row["segments"] == row["orders"] == row["impressions_month"] == 0


def test_an_empty_request_is_all_unknown() -> None:
    bare = opportunity(
        wire.BidRequest(id="r", imp=[wire.Imp(id="1", native=wire.Native(request="{}"))]), ""
    )
    row = row_of(bare, Profile(), NO_HISTORY, size=(0, 0))
    for name in ("device", "os", "browser", "supply", "exchange", "domain", "publisher", "position",
                 "viewability", "area", "aspect", "category_match", "language_match"):  # fmt: skip
        assert isnan(row[name]), name
    assert row["floor"] == 0


def test_the_advertisers_clock_stands_in_for_an_unknown_one() -> None:
    assert row_of(offer(utc_offset=None))["hour"] == 12  # Paris in summer
    winter = NOW + 120 * 86400
    assert row_of(offer(utc_offset=None), now=winter)["hour"] == 11


@given(
    st.integers(0, 4_000_000_000),
    st.sampled_from(("Europe/Paris", "Australia/Lord_Howe", "Asia/Kathmandu", "America/New_York")),
)
def test_local_time_is_that_of_the_calendar(now: int, zone: str) -> None:
    there = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(zone))
    advertiser = msgspec.structs.replace(ADVERTISER, zone=ZoneInfo(zone))
    campaign = msgspec.structs.replace(LINE_ITEM.campaign, advertiser=advertiser)
    line_item = msgspec.structs.replace(LINE_ITEM, campaign=campaign)
    row = row_of(offer(utc_offset=None), Profile(), NO_HISTORY, line_item, now=now)
    assert (row["hour"], row["weekday"]) == (there.hour, there.weekday())


def test_clocks_that_disagree_make_no_negative_ages() -> None:
    ahead = Profile(
        segments={"basket": NOW + 60},
        last_visit=NOW + 60,
        last_order=NOW + 60,
        baskets={"lumen": Basket(1, NOW + 60)},
        interests={"IAB7": NOW + 60},
    )
    row = row_of(offer(), profile=ahead)
    for name in ("visit_age", "order_age", "audience_age", "basket_age", "interest_age"):
        assert row[name] == 0, name


def test_what_is_not_this_advertisers_or_line_items_does_not_count() -> None:
    profile = Profile(segments={"other": NOW}, baskets={"rival": Basket(1, NOW)})
    row = row_of(offer(), profile=profile)
    assert isnan(row["audience_age"])
    assert isnan(row["basket_value"])


def test_a_creative_answers_for_its_own_categories_and_language() -> None:
    creative = msgspec.structs.replace(CREATIVE, categories=frozenset({"IAB4"}), language="de")
    row = row_of(offer(), creative=creative)
    assert (row["category_match"], row["language_match"]) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"native": NativeAsset(title="t"), "image_url": ""}, 2), ({"html": "<b>"}, 1), ({}, 0)],
)
def test_creative_types(changes: dict[str, object], code: int) -> None:
    creative = msgspec.structs.replace(CREATIVE, **changes)
    assert row_of(offer(), creative=creative)["creative_type"] == code


def test_apps_are_known_by_their_bundle() -> None:
    row = row_of(offer(bundle="com.example.app", supply="app"))
    assert row["domain"] == crc32(b"com.example.app") % 65536
    assert row["supply"] == 1


def test_a_row_comes_back_from_the_log_as_it_went_in() -> None:
    row = tuple([nan if i % 5 == 0 else i / 7 for i in range(len(features.NAMES))])
    bid = BidEvent(
        time=1.0, bid_id="b", request_id="r", imp_id="1", exchange="demo", line_item="a/c/l",
        creative="k", price_cpm_micros=1, currency="EUR", value_cpm_micros=1,
        account_currency="EUR", rate=1.0, first_price=True, features=[*row],
    )  # fmt: skip
    back = decode(encode(bid))
    assert isinstance(back, BidEvent)
    assert repr(features.from_log(back.features)) == repr(row)


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="47 features, this one 3"):
        features.from_log([1.0, None, 2.0])


@pytest.mark.parametrize(
    "change", [{"name": "x"}, {"kind": "flag"}, {"definition": "x"}, {"names": ("x",)}]
)
def test_the_version_follows_the_meaning(change: dict[str, object]) -> None:
    changed = [features.FEATURES[0]._replace(**change), *features.FEATURES[1:]]
    assert features.version(changed) != features.VERSION


def test_the_version_follows_the_order_but_not_the_constraints() -> None:
    assert features.version(features.FEATURES[::-1]) != features.VERSION
    freed = [feature._replace(click_trend=0) for feature in features.FEATURES]
    assert features.version(freed) == features.VERSION


def test_names_are_unique() -> None:
    assert len(set(features.NAMES)) == len(features.NAMES)
