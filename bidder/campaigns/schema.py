"""What may a campaign file say? The YAML that traders write, as models.

Money is in units of the advertiser's currency. Whatever is left out means "any" or "no limit".
"""

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bidder.campaigns.catalogue import Level, Pacing
from bidder.campaigns.lists import Lists, OneOrMore
from bidder.campaigns.vocabulary import (
    LARGEST_SIDE,
    App,
    Attributed,
    BrowserName,
    Category,
    ChannelName,
    Count,
    Country,
    Currency,
    Days,
    DeviceName,
    Domain,
    Hours,
    Id,
    Language,
    Moment,
    Money,
    PositionName,
    Recency,
    Size,
    Status,
    SupplyName,
    SystemName,
    Text,
    Url,
    Zone,
)
from bidder.yamlfiles import Duration, ListOf, Model, Window

DAY = 86400
MAX_CAP_SECONDS = 30 * DAY
"""The ledger keeps single records this long; older ones are only in lifetime totals."""


class Circle(Model):
    """Round a point, in degrees and kilometres."""

    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    km: Annotated[float, Field(gt=0, le=20_000)]


class Where(Model):
    """Places in which the line item may appear."""

    countries: Lists[Country] | None = None
    regions: Lists[Text] | None = None
    cities: Lists[Text] | None = None
    postcodes: Lists[Text] | None = None
    around: ListOf[Circle] = ()
    devices: Lists[DeviceName] | None = None
    os: Lists[SystemName] | None = None
    browsers: Lists[BrowserName] | None = None
    languages: Lists[Language] | None = None
    exchanges: Lists[Text] | None = None
    supply: Lists[SupplyName] | None = None
    domains: Lists[Domain] | None = None
    apps: Lists[Text] | None = None
    publishers: Lists[Text] | None = None
    categories: Lists[Category] | None = None
    deals: ListOf[Text] = ()
    positions: ListOf[PositionName] = ()
    min_viewability: Annotated[float, Field(ge=0, le=1)] = 0.0


class When(Model):
    """Days and hours, on the clock of the campaign's time zone or of the person."""

    days: Days = Field(default_factory=lambda: frozenset(range(7)))
    hours: Hours = Field(default_factory=lambda: frozenset(range(24)))
    zone: Literal["campaign", "person"] = "campaign"


class SegmentRule(Model):
    """Seen in the segment within this time; left out: ever."""

    segment: Text
    within: Recency = 0

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, written: Any) -> Any:
        return {"segment": written} if isinstance(written, str) else written

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        rule = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [{"type": "string", "minLength": 1}, rule]}


class Audience(Model):
    any_of: ListOf[SegmentRule] = ()
    all_of: ListOf[SegmentRule] = ()
    none_of: ListOf[SegmentRule] = ()


class Flight(Model):
    """A day begins at its midnight; an `end` that is a day includes all of it."""

    start: Moment | None = None
    end: Moment | None = None


class Budget(Model):
    """Money or impressions; pacing even, ahead (more at first) or asap."""

    total: Money | None = None
    daily: Money | None = None
    total_impressions: Count | None = None
    daily_impressions: Count | None = None
    pacing: Pacing = "even"


class Attribution(Model):
    """How long after a click or a view a conversion counts."""

    click: Attributed = 30 * DAY
    view: Attributed = DAY


class Goal(Model):
    """Exactly one of the four, and the windows in which conversions count."""

    cpm: Money | None = None
    cpc: Money | None = None
    cpa: Money | None = None
    roas: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Revenue wanted per unit of spend: 4 = four euros for each euro."""
    attribution: Attribution = Attribution()

    @model_validator(mode="after")
    def _exactly_one(self) -> "Goal":
        if sum(x is not None for x in (self.cpm, self.cpc, self.cpa, self.roas)) != 1:
            raise ValueError("expected exactly one of cpm, cpc, cpa and roas")
        return self


class Cap(Model):
    """``{max: 3, per: 1d}`` or ``{min_gap: 20m}``, counted over `of`."""

    max: Annotated[int, Field(gt=0, le=1000)] | None = None
    per: Window | None = None
    min_gap: Duration | None = None
    of: Level | None = None
    """Left out: the level at which the cap is written."""
    channels: ListOf[ChannelName] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> "Cap":
        gap, window = self.min_gap is not None, self.max is not None or self.per is not None
        if gap == window:
            raise ValueError("expected max and per, or min_gap")
        if window and (self.max is None or self.per is None):
            raise ValueError("max and per go together")
        if self.min_gap == 0:
            raise ValueError("a min_gap of 0 forbids nothing")
        if max(self.per or 0, self.min_gap or 0) > MAX_CAP_SECONDS:
            raise ValueError("a cap can look back at most 30d, or lifetime")
        return self


class Silence(Model):
    """``{after: conversion, for: 30d}``: nobody likes an ad for what they have just bought."""

    after: Literal["click", "conversion"]
    for_: Annotated[Duration, Field(alias="for")]
    of: Level = "advertiser"
    """Left out: of the advertiser, whichever ad led to it."""

    @model_validator(mode="after")
    def _in_the_ledger(self) -> "Silence":
        if not 0 < self.for_ <= MAX_CAP_SECONDS:
            raise ValueError("a silence lasts above 0s and at most 30d")
        return self


class ProductAds(Model):
    """When creatives with ``product: true`` may speak: once it is clear what the person wants."""

    basket: Attributed = 0
    """An open basket at the advertiser, touched within this time."""
    any_of: ListOf[SegmentRule] = ()
    after_generic: Annotated[int, Field(ge=0, le=100)] = 0
    """So many other ads of the line item come first."""


class About(Model):
    """What the line item speaks of; left out, the categories of the advertiser."""

    categories: ListOf[Category] = ()
    keywords: ListOf[Text] = ()


class Intrusiveness(Model):
    """Silence above `ceiling`; `cost_cpm` times the intrusiveness comes off the value."""

    ceiling: Annotated[float, Field(ge=0, le=1)] = 1.0
    cost_cpm: Annotated[float, Field(ge=0, le=1e6)] = 0.0


class Condition(Model):
    """Each named dimension has one of its values. A missing fact is none of them."""

    country: OneOrMore[Country] | None = None
    region: OneOrMore[Text] | None = None
    city: OneOrMore[Text] | None = None
    postcode: OneOrMore[Text] | None = None
    device: OneOrMore[DeviceName] | None = None
    os: OneOrMore[SystemName] | None = None
    browser: OneOrMore[BrowserName] | None = None
    language: OneOrMore[Language] | None = None
    exchange: OneOrMore[Text] | None = None
    supply: OneOrMore[SupplyName] | None = None
    domain: OneOrMore[Domain] | None = None
    app: OneOrMore[Text] | None = None
    publisher: OneOrMore[Text] | None = None
    category: OneOrMore[Category] | None = None
    position: OneOrMore[PositionName] | None = None
    size: OneOrMore[Size] | None = None
    segment: OneOrMore[Text] | None = None
    hour: Hours | None = None
    weekday: Days | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Condition":
        if not self.model_fields_set:
            raise ValueError("names no dimension, so it would always hold; change max_cpm instead")
        return self


class Modifier(Model):
    """Multiplies the bid where `when` holds; 0 = do not bid there."""

    when: Condition
    times: Annotated[float, Field(ge=0, le=100)]


class Bid(Model):
    """Left out, `max_cpm` is that of the advertiser's limits."""

    max_cpm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    modifiers: ListOf[Modifier] = ()


Attribute = Annotated[int, Field(ge=1, le=999)]
Pixels = Annotated[int, Field(gt=0, le=LARGEST_SIDE)]


class Picture(Model):
    """An image of a native creative, its sides in pixels."""

    url: Url
    w: Pixels
    h: Pixels


class Native(Model):
    title: Text
    description: str = ""
    sponsored_by: str = ""
    cta: str = ""
    image: Picture | None = None
    icon: Picture | None = None


class Creative(Model):
    """One ad: `size` with `image` or `html`, or `native`; `app` is what it has people install."""

    id: Id
    size: Size | None = None
    image: Url | None = None
    html: Text | None = None
    native: Native | None = None
    click: Url
    attributes: ListOf[Attribute] = ()
    """AdCOM creative attributes."""
    categories: ListOf[Category] = ()
    apis: ListOf[Attribute] = ()
    language: Language | None = None
    registered: dict[str, Text] = Field(default_factory=dict)
    """Exchange -> the id under which the creative is registered there."""
    product: bool = False
    """Shows the products the person looked at."""
    expandable: ListOf[Annotated[int, Field(ge=1, le=6)]] = ()
    app: App | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Creative":
        if sum(x is not None for x in (self.image, self.html, self.native)) != 1:
            raise ValueError("expected exactly one of image, html and native")
        if self.native is None and self.size is None:
            raise ValueError("an image or html creative needs its size")
        if self.native is not None and self.size is not None:
            raise ValueError("a native creative has no size; its image has")
        return self


class _Flown(Model):
    """What has flights: `flight` for one, `flights` for several."""

    flight: Flight | None = None
    flights: Annotated[ListOf[Flight], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "_Flown":
        if self.flight is not None and self.flights is not None:
            raise ValueError("expected flight or flights, found both")
        return self

    @property
    def all_flights(self) -> tuple[Flight, ...]:
        """However they are written; empty = always."""
        return self.flights or ((self.flight,) if self.flight else ())


class _Settings(_Flown):
    """What a line item can say, and an arm of its split can say otherwise."""

    status: Status = "active"
    audience: Audience = Audience()
    where: Where = Where()
    when: When | None = None
    bid: Bid = Bid()
    goal: Goal | None = None
    """Left out: the campaign's."""
    frequency: ListOf[Cap] = ()
    silence: ListOf[Silence] = ()
    intrusiveness: Intrusiveness | None = None
    product_ads: ProductAds | None = None
    """Left out: any creative at any time."""
    about: About | None = None
    unknown_people: Literal["skip", "serve"] | None = None
    """Left out: skip where there is any cap or audience, else serve."""


class Arm(_Settings):
    """For this percent of people, whole settings in place of those of the line item."""

    id: Id
    percent: Annotated[float, Field(gt=0, le=100)]
    creatives: Annotated[ListOf[Creative], Field(min_length=1)] = ()


class LineItem(_Settings):
    id: Id
    creatives: Annotated[ListOf[Creative], Field(min_length=1)]
    split: ListOf[Arm] = ()


class Campaign(_Flown):
    id: Id
    status: Status = "active"
    budget: Budget = Budget()
    goal: Goal | None = None
    frequency: ListOf[Cap] = ()
    silence: ListOf[Silence] = ()
    intrusiveness: Intrusiveness | None = None
    control: Annotated[float, Field(ge=0, lt=100)] = 0.0
    """Percent of people held out."""
    line_items: Annotated[ListOf[LineItem], Field(min_length=1)]


class Limits(Model):
    """Hard: nothing below can exceed them."""

    max_cpm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    max_spend_per_minute: Money | None = None


class Advertiser(Model):
    """One campaign file."""

    advertiser: Id
    domain: Domain
    currency: Currency
    timezone: Zone
    status: Status = "active"
    categories: ListOf[Category] = ()
    limits: Limits = Limits()
    frequency: ListOf[Cap] = ()
    silence: ListOf[Silence] = ()
    intrusiveness: Intrusiveness | None = None
    campaigns: ListOf[Campaign] = ()
