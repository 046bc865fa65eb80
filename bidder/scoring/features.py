"""What do the models see of one ad, in one slot, for one person?

One ordered list, `FEATURES`, shared by serving and training. A row is `FEATURES` as float64; NaN is
"unknown". Work is split in two: `context` once per request, `row` once per candidate. Rows are
logged with the bid and trained on as logged, so a feature is computed in one place only: here.

`VERSION` names what a row means: it changes with any name, kind, definition or list of names below.
Edit the definition when you edit the code (the golden row in the tests reminds you); the bidder
refuses a model made for another version.

Kinds: `number` (ages are whole seconds), `flag` (0 or 1), `code` (position in a list of names) and
`bucket` (a stable hash below `BUCKETS`). Codes are categorical for the trees. Buckets are not: see
`encoding`, which puts a rate in the place of each between row and trees. That has no place in the
row, which must outlive the models it trains.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from math import nan
from typing import Literal, NamedTuple
from zlib import crc32
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import astuple

from bidder.campaigns.catalogue import Creative, LineItem
from bidder.openrtb.opportunity import Opportunity, Slot
from bidder.openrtb.spelling import with_parents
from bidder.person import History, Profile

BUCKETS = 65536
"""A power of two; large, because two names in one bucket share a rate."""

DEVICES = ("mobile", "tablet", "desktop", "ctv", "ooh", "other")
SYSTEMS = ("ios", "android", "windows", "macos", "linux", "chromeos", "other")
BROWSERS = ("chrome", "safari", "firefox", "edge", "samsung", "opera", "other")
SUPPLIES = ("site", "app", "dooh")
STAGES = ("prospect", "visitor", "new", "active", "lapsing", "lapsed", "won-back")
CREATIVE_TYPES = ("image", "html", "native")

Kind = Literal["number", "flag", "code", "bucket"]
Row = tuple[float, ...]
"""`FEATURES` of one candidate, in order."""


class Feature(NamedTuple):
    """One column of the row."""

    name: str
    kind: Kind
    definition: str
    click_trend: int = 0
    """-1 or 1 where P(click) may never rise, or fall, as the value grows: a constraint on training.
    Not a part of `VERSION`, as it does not change what a row means."""
    names: tuple[str, ...] = ()
    """Of a `code`: what its values stand for."""


FEATURES = (
    # The request and the person: `context`
    Feature("device", "code", "Device type.", names=DEVICES),
    Feature("os", "code", "Operating system.", names=SYSTEMS),
    Feature("browser", "code", "Browser.", names=BROWSERS),
    Feature("supply", "code", "Kind of inventory.", names=SUPPLIES),
    Feature("exchange", "bucket", "CRC-32 of the exchange's name."),
    Feature("domain", "bucket", "CRC-32 of the app bundle or else the site's domain."),
    Feature("publisher", "bucket", "CRC-32 of the publisher's id."),
    Feature("interest_matches", "number", "Page categories, with their parents, of interest."),
    Feature("interest_age", "number", "Since the latest signal for one of those."),
    Feature("stage", "code", "Lifecycle stage.", names=STAGES),
    Feature("segments", "number", "Segments the person was ever seen in."),
    Feature("visit_age", "number", "Since the last visit."),
    Feature("order_age", "number", "Since the last order."),
    Feature("orders", "number", "Orders in the retention period."),
    Feature("spent", "number", "Their sum, in units of the advertiser's currency."),
    # The slot and the size chosen
    Feature("position", "code", "AdCOM placement position, 1 = above the fold."),
    Feature("interstitial", "flag", "The slot is an interstitial."),
    Feature("viewability", "number", "As the exchange predicts it, 0..1.", click_trend=1),
    Feature("floor", "number", "CPM floor of the imp, in the exchange's currency."),
    Feature("area", "number", "Square pixels of the banner."),
    Feature("aspect", "number", "Width over height of the banner."),
    # What was shown to this person: `History`, of this advertiser unless said otherwise
    Feature("impressions_hour", "number", "Impressions in 60 minutes.", click_trend=-1),
    Feature("impressions_day", "number", "Impressions in 24 hours."),
    Feature("impressions_week", "number", "Impressions in 7 days."),
    Feature("impressions_month", "number", "Impressions in 30 days."),
    Feature("line_item_impressions_day", "number", "The line item's impressions in 24 hours."),
    Feature("line_item_impressions_week", "number", "The line item's impressions in 7 days."),
    Feature("other_impressions_day", "number", "Other advertisers' impressions in 24 hours."),
    Feature("clicks_month", "number", "Clicks in 30 days."),
    Feature("conversions_month", "number", "Conversions in 30 days."),
    Feature("contacts_week", "number", "Emails, SMS and pushes in 7 days."),
    Feature("impression_age", "number", "Since the last impression."),
    Feature("click_age", "number", "Since the last click."),
    Feature("conversion_age", "number", "Since the last conversion."),
    Feature("contact_age", "number", "Since the last email, SMS or push."),
    # The line item and the creative
    Feature("hour", "number", "Hour of the day, 0..23: the person's, else the advertiser's."),
    Feature("weekday", "number", "Day of the week, Monday = 0, in the same zone."),
    Feature("audience_age", "number", "Since last seen in a segment that the line item asks for."),
    Feature("basket_value", "number", "Open basket at this advertiser, in currency units."),
    Feature("basket_age", "number", "Since that basket was last touched."),
    Feature("category_match", "flag", "Page and creative, or else advertiser, share a category."),
    Feature("language_match", "flag", "The creative speaks the device's language."),
    Feature("creative_type", "code", "Image, HTML or native.", names=CREATIVE_TYPES),
    Feature("product", "flag", "The creative shows products the person looked at."),
    Feature("advertiser", "bucket", "32-bit id of the advertiser."),
    Feature("line_item", "bucket", "32-bit id of the line item."),
    Feature("creative", "bucket", "32-bit id of the creative."),
)
NAMES = tuple(feature.name for feature in FEATURES)
CATEGORICAL = tuple(f.name for f in FEATURES if f.kind == "code")
BUCKETED = tuple(f.name for f in FEATURES if f.kind == "bucket")


def version(features: Iterable[Feature]) -> str:
    """A hash of what these columns mean: 12 hexadecimal digits."""
    meaning = [(f.name, f.kind, f.definition, f.names) for f in features]
    return blake2b(repr((BUCKETS, meaning)).encode(), digest_size=6).hexdigest()


VERSION = version(FEATURES)

_DEVICES, _SYSTEMS, _BROWSERS, _SUPPLIES, _STAGES = (
    {name: index for index, name in enumerate(names)}
    for names in (DEVICES, SYSTEMS, BROWSERS, SUPPLIES, STAGES)
)
_IMAGE, _HTML, _NATIVE = range(3)
_LOW_BITS = BUCKETS - 1


class Context(Struct, frozen=True, gc=False):
    """What all candidates of one request share: made once by `context`, read by `row`."""

    values: tuple[float, ...]
    """The features of the request and the person, in order."""
    now: int
    profile: Profile
    topics: frozenset[str]
    """Categories of the page, with their parents."""
    language: str
    hour: int
    """Local hour since the epoch; -1 if the person's zone is unknown."""


def from_log(values: Sequence[float | None]) -> Row:
    """The row that was logged with a bid, where JSON wrote NaN as null.

    Raises `ValueError` if it is not as long as `FEATURES`.
    """
    if len(values) != len(FEATURES):
        raise ValueError(f"a row has {len(FEATURES)} features, this one {len(values)}")
    return tuple([nan if value is None else value for value in values])


def context(opportunity: Opportunity, profile: Profile, now: int) -> Context:
    """The request's part of every row. `profile` may be the empty one; `now` in epoch seconds."""
    topics = with_parents(opportunity.categories)
    interests = profile.interests
    matches: float = nan
    interest_age: float = nan
    if interests and topics:
        signals = [interests[topic] for topic in topics if topic in interests]
        matches = len(signals)
        if signals:
            interest_age = max(now - max(signals), 0)
    offset = opportunity.utc_offset_minutes
    values = (
        _DEVICES.get(opportunity.device, nan),
        _SYSTEMS.get(opportunity.os, nan),
        _BROWSERS.get(opportunity.browser, nan),
        _SUPPLIES.get(opportunity.supply, nan),
        _bucket(opportunity.exchange),
        _bucket(opportunity.bundle or opportunity.domain),
        _bucket(opportunity.publisher),
        matches,
        interest_age,
        _STAGES.get(profile.stage, nan),
        len(profile.segments),
        max(now - profile.last_visit, 0) if profile.last_visit else nan,
        max(now - profile.last_order, 0) if profile.last_order else nan,
        profile.orders,
        profile.spent_micros / 1_000_000,
    )
    hour = -1 if offset is None else (now + offset * 60) // 3600
    return Context(values, now, profile, topics, opportunity.language, hour)


def row(
    context: Context,
    slot: Slot,
    size: tuple[int, int],
    history: History,
    line_item: LineItem,
    creative: Creative,
) -> Row:
    """One candidate's. `size` is width, height in pixels; (0, 0) for native."""
    width, height = size
    advertiser = line_item.campaign.advertiser
    hour = context.hour
    if hour < 0:
        hour = _local_hour(advertiser.zone, context.now)
    categories = creative.categories or advertiser.categories
    topics = context.topics
    spoken, understood = creative.language, context.language
    viewability = slot.viewability
    return (
        *context.values,
        slot.position or nan,
        +slot.interstitial,  # a number, as the log has it
        viewability if viewability >= 0 else nan,
        slot.floor_cpm,
        width * height or nan,
        width / height if height else nan,
        *astuple(history),
        hour % 24,
        (hour // 24 + 3) % 7,  # the epoch began on a Thursday
        _audience_age(context, line_item),
        *_basket(context, advertiser.id),
        +(not categories.isdisjoint(topics)) if categories and topics else nan,
        +(spoken == understood) if spoken and understood else nan,
        _NATIVE if creative.native is not None else _HTML if creative.html else _IMAGE,
        +creative.product,
        advertiser.id32 & _LOW_BITS,
        line_item.id32 & _LOW_BITS,
        creative.id32 & _LOW_BITS,
    )


def _bucket(text: str) -> float:
    return crc32(text.encode()) & _LOW_BITS if text else nan


def _audience_age(context: Context, line_item: LineItem) -> float:
    """Seconds since the person was last seen in a segment the line item asks for; NaN if never."""
    segments = context.profile.segments
    if not segments:
        return nan
    latest = 0
    audience = line_item.audience
    for rule in audience.any_of + audience.all_of:
        seen = segments.get(rule.segment, 0)
        if seen > latest:  # max() costs three times as much
            latest = seen
    return max(context.now - latest, 0) if latest else nan


def _basket(context: Context, advertiser: str) -> tuple[float, float]:
    """Value in currency units and age in seconds of the open basket; NaN if there is none."""
    basket = context.profile.baskets.get(advertiser)
    if basket is None:
        return nan, nan
    return basket.value_micros / 1_000_000, max(context.now - basket.updated, 0)


def _local_hour(zone: ZoneInfo, now: int) -> int:
    return (now + _utc_offset(zone, now // 900)) // 3600


@lru_cache(maxsize=4096)
def _utc_offset(zone: ZoneInfo, quarter: int) -> int:
    """Seconds east of UTC in this quarter of an hour: clocks change on no finer grid."""
    offset = datetime.fromtimestamp(quarter * 900, UTC).astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0
