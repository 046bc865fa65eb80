"""What may we advertise? The campaign files compiled into values that the hot path reads.

Line items stand in order of their highest bid, highest first: the position is the bit by which the
index knows them. Everything is immutable; a reload builds a new `Catalogue` and swaps it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

Pacing = Literal["even", "ahead", "asap"]
Level = Literal["creative", "line_item", "campaign", "advertiser", "everyone"]


class Cap(Struct, frozen=True):
    """At most `count` exposures per rolling window of one level; `min_gap_seconds` instead of both.

    `seconds` 0 means lifetime. `channels` are those counted; empty means display alone.
    """

    level: Level
    count: int = 0
    seconds: int = 0
    min_gap_seconds: int = 0
    channels: frozenset[str] = frozenset()


class Silence(Struct, frozen=True):
    """No ad in the `seconds` after a click on, or a conversion of, one level."""

    after: Literal["click", "conversion"]
    seconds: int
    level: Level = "advertiser"


class SegmentRule(Struct, frozen=True):
    """A person seen in `segment` in the last `within_seconds` (0 = ever)."""

    segment: str
    within_seconds: int = 0


class Audience(Struct, frozen=True):
    """Whom a line item speaks to. With nothing in any list, anyone."""

    any_of: tuple[SegmentRule, ...] = ()
    all_of: tuple[SegmentRule, ...] = ()
    none_of: tuple[SegmentRule, ...] = ()

    @property
    def anyone(self) -> bool:
        """No segment is asked for or ruled out."""
        return not (self.any_of or self.all_of or self.none_of)


class Allow(Struct, frozen=True):
    """An allow list and a block list of one dimension. An empty `allow` means any, also unknown."""

    allow: frozenset[str] = frozenset()
    block: frozenset[str] = frozenset()


class Radius(Struct, frozen=True):
    """A circle on the map, in degrees and kilometres."""

    latitude: float
    longitude: float
    km: float


class Where(Struct, frozen=True):
    """Places a line item may appear in; names of the fields are those of `Opportunity`."""

    countries: Allow = Allow()
    regions: Allow = Allow()
    """ISO 3166-2 without the country, as OpenRTB sends them."""
    cities: Allow = Allow()
    postcodes: Allow = Allow()
    around: tuple[Radius, ...] = ()
    devices: Allow = Allow()
    os: Allow = Allow()
    browsers: Allow = Allow()
    languages: Allow = Allow()
    exchanges: Allow = Allow()
    supply: Allow = Allow()
    domains: Allow = Allow()
    """Of sites; a listed domain covers its subdomains."""
    apps: Allow = Allow()
    """App bundles."""
    publishers: Allow = Allow()
    categories: Allow = Allow()
    """`IAB1` covers `IAB1-2`; other taxonomies are written `6:123`."""
    deals: frozenset[str] = frozenset()
    """Only these deals; empty = open auction and any deal."""
    positions: frozenset[int] = frozenset()
    min_viewability: float = 0.0


class When(Struct, frozen=True):
    """Hours of the week, Monday 0:00 = 0, in which the line item may bid."""

    hours_of_week: frozenset[int] = frozenset(range(168))
    zone: Literal["campaign", "person"] = "campaign"


class Modifier(Struct, frozen=True):
    """A factor on the bid where every named dimension has one of its values; 0 = do not bid."""

    when: Mapping[str, frozenset[str]]
    """Field of `Opportunity` (or `segment`, `size`, `hour`, `weekday`, `position`) -> values."""
    times: float


class Bid(Struct, frozen=True):
    """What a line item may bid, in CPM micros of the advertiser's currency."""

    max_cpm_micros: int
    modifiers: tuple[Modifier, ...] = ()


class Goal(Struct, frozen=True):
    """What the money is for. `micros` per thousand, click or conversion; roas in millionths."""

    kind: Literal["cpm", "cpc", "cpa", "roas"]
    micros: int
    click_window_seconds: int = 30 * 86400
    view_window_seconds: int = 86400


class Intrusiveness(Struct, frozen=True):
    """Above `ceiling` (0..1) silence; `cost_cpm_micros` x intrusiveness is taken off the value."""

    ceiling: float = 1.0
    cost_cpm_micros: int = 0


class ProductAds(Struct, frozen=True):
    """When creatives that show products may speak, and then they go first; until then the others.

    The person's preference must be well defined, by an open basket or by a segment (with neither
    given, it always is), and they must have seen `after_generic` ads of the line item.
    """

    basket_seconds: int = 0
    """A basket touched within this time; 0 = a basket says nothing."""
    any_of: tuple[SegmentRule, ...] = ()
    after_generic: int = 0


class About(Struct, frozen=True):
    """What a line item speaks of: on a page about the same, its ad intrudes less."""

    categories: frozenset[str] = frozenset()
    keywords: frozenset[str] = frozenset()
    """In lower case."""


class NativeAsset(Struct, frozen=True):
    """What a native creative can give: texts and images by their role."""

    title: str = ""
    description: str = ""
    sponsored_by: str = ""
    cta: str = ""
    image_url: str = ""
    image_width: int = 0
    image_height: int = 0
    icon_url: str = ""
    icon_width: int = 0
    icon_height: int = 0


class Creative(Struct, frozen=True):
    """One ad. Exactly one of `image_url`, `html` and `native` is set."""

    id: str
    path: str
    """advertiser/campaign/line item/creative."""
    id32: int
    width: int
    """Of banners, in pixels; 0 for native."""
    height: int
    image_url: str
    html: str
    native: NativeAsset | None
    click_url: str
    attributes: frozenset[int] = frozenset()
    """AdCOM creative attributes it has."""
    categories: frozenset[str] = frozenset()
    apis: frozenset[int] = frozenset()
    language: str = ""
    secure: bool = True
    """Every URL in it is HTTPS."""
    registered: Mapping[str, str] = {}
    """Exchange -> the creative id registered there."""
    product: bool = False
    """Shows the very products the person looked at, rather than the brand."""
    expandable: frozenset[int] = frozenset()
    """Directions it expands in (`expdir`)."""
    app: str = ""
    """Store id of the app it is for, as `bidder.openrtb.apps` writes it."""


class Advertiser(Struct, frozen=True):
    id: str
    id32: int
    domain: str
    currency: str
    zone: ZoneInfo
    max_cpm_micros: int
    """Hard limit on any bid; 0 = none."""
    max_spend_per_minute_micros: int
    """Hard limit on spend; 0 = none."""
    categories: frozenset[str] = frozenset()
    active: bool = True


class Flight(Struct, frozen=True):
    """From `start` until `end`, both with time zone; None = not bounded."""

    start: datetime | None = None
    end: datetime | None = None


class Budget(Struct, frozen=True):
    """Micros of the advertiser's currency, or impressions; 0 = no limit."""

    total_micros: int = 0
    daily_micros: int = 0
    total_impressions: int = 0
    daily_impressions: int = 0
    pacing: Pacing = "even"


class Campaign(Struct, frozen=True):
    id: str
    path: str
    """advertiser/campaign."""
    id32: int
    advertiser: Advertiser
    flights: tuple[Flight, ...]
    budget: Budget
    active: bool = True
    control_percent: float = 0.0
    """People held out of the campaign, to prove that ads work."""


class Arm(Struct, frozen=True):
    """One arm of a split: it speaks to those whose place (0..100) under the salt lies in it."""

    salt: str
    """Path of the line item that was split."""
    first: float
    last: float


class LineItem(Struct, frozen=True):
    index: int
    """Its bit."""
    id: str
    path: str
    """advertiser/campaign/line item."""
    id32: int
    campaign: Campaign
    audience: Audience
    where: Where
    when: When
    bid: Bid
    goal: Goal
    caps: tuple[Cap, ...]
    """Its own, its campaign's and those of its advertiser."""
    intrusiveness: Intrusiveness
    creatives: tuple[Creative, ...]
    unknown_people: Literal["skip", "serve"]
    flights: tuple[Flight, ...] = ()
    """Its own, inside those of the campaign; empty = the campaign's."""
    active: bool = True
    """Active, and so are its campaign and advertiser."""
    arm: Arm | None = None
    """Which part of a split it is; None = it is not split."""
    silences: tuple[Silence, ...] = ()
    """Its own, its campaign's and those of its advertiser."""
    product_ads: ProductAds | None = None
    """None = any creative at any time."""
    about: About = About()

    @property
    def needs_nobody(self) -> bool:
        """May bid without knowing who the person is."""
        return self.audience.anyone and self.unknown_people == "serve"


class Catalogue(Struct, frozen=True):
    """All that is loaded, and the version (a hash of the files) by which logs name it."""

    version: str
    line_items: tuple[LineItem, ...]
    campaigns: tuple[Campaign, ...]
    advertisers: tuple[Advertiser, ...]
    names: Mapping[int, str]
    """32-bit id -> path, of everything that has one."""
