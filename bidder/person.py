"""What do we know of a person at the moment of a request?

`Profile` is what the CRM wrote, one msgpack value in the store. `Person` is what one read brings
back: id, profile, and the raw ledger of what was shown to them. `History` is what a ledger says of
the ads one line item may repeat, as the models see it.
"""

from math import nan

from msgspec import Struct
from msgspec.structs import replace


class Basket(Struct, frozen=True, omit_defaults=True):
    """An open basket: its value in the advertiser's currency, when it was last touched."""

    value_micros: int
    updated: int
    products: int = 1


class Profile(Struct, frozen=True, omit_defaults=True):
    """What an advertiser's CRM knows of one person. Times are seconds since the epoch."""

    segments: dict[str, int] = {}
    """Segment name -> time the person was last seen to belong to it."""
    first_seen: int = 0
    last_visit: int = 0
    last_order: int = 0
    orders: int = 0
    """Number of orders in the retention period."""
    spent_micros: int = 0
    """Sum of orders in the retention period."""
    stage: str = ""
    """Lifecycle stage: prospect, visitor, new, active, lapsing, lapsed, won-back."""
    baskets: dict[str, Basket] = {}
    """Advertiser -> open basket."""
    interests: dict[str, int] = {}
    """Content category -> time of the latest signal, what was declared included."""
    wanted: dict[str, int] = {}
    """Content category -> time the person told us that it interests them."""
    unwanted: frozenset[str] = frozenset()
    """Content categories that the person took out of their interests."""
    paused_until: int = 0
    """The person asked for no personal ads until then."""
    fewer_ads: frozenset[str] = frozenset()
    """Advertisers of which the person asked to see less."""
    opted_out: bool = False
    """The person objected to profiling: never target."""
    withdrawn: int = 0
    """When we were last told that consent to profiling is withdrawn; 0 = it is not."""
    withdrawn_at: frozenset[str] = frozenset()
    """The places where it was withdrawn, each of which must see a newer consent."""
    consents: dict[str, int] = {}
    """Place -> the time of the latest consent that was given there and judged to be one."""
    consent: str = ""
    """The consent string kept as proof, with its time and source."""
    consent_time: int = 0
    consent_source: str = ""
    """The place (`visit maison-lumen`, `sync demo`, a domain); what a company told us of its own
    customers continues after `: ` with what it says of where."""


def silent(profile: Profile, now: float) -> bool:
    """Whether this person is to be treated as one we do not know."""
    return profile.opted_out or profile.withdrawn > 0 or profile.paused_until > now


def kept(new: Profile, old: Profile) -> Profile:
    """`new`, which a company wrote over `old`, with all that the person told us themselves.

    Neither an objection, a withdrawal, a wish nor an interest is lifted by a file: what ends a
    withdrawal is judged in `bidder.crm.rights.consent`. Of who objected only `bare` is stored.
    """
    consent = new if new.consent_time >= old.consent_time else old
    places = sorted({*new.consents, *old.consents})
    merged = replace(
        new,
        fewer_ads=new.fewer_ads | old.fewer_ads,
        opted_out=new.opted_out or old.opted_out,
        paused_until=max(new.paused_until, old.paused_until),
        withdrawn=max(new.withdrawn, old.withdrawn),
        withdrawn_at=new.withdrawn_at | old.withdrawn_at,
        wanted={**new.wanted, **old.wanted},
        unwanted=new.unwanted | old.unwanted,
        interests={
            name: at
            for name, at in {**new.interests, **old.wanted}.items()
            if name not in old.unwanted
        },
        consents={
            place: max(new.consents.get(place, 0), old.consents.get(place, 0)) for place in places
        },
        consent=consent.consent,
        consent_time=consent.consent_time,
        consent_source=consent.consent_source,
    )
    return bare(merged) if merged.opted_out or merged.withdrawn else merged


def bare(profile: Profile) -> Profile:
    """What may be kept of who objected: that they did, what they asked for, and the proof."""
    return Profile(**{name: getattr(profile, name) for name in _OWN_WORDS})


_OWN_WORDS = (
    "fewer_ads",
    "opted_out",
    "paused_until",
    "withdrawn",
    "withdrawn_at",
    "consents",
    "consent",
    "consent_time",
    "consent_source",
)


class Person(Struct, frozen=True):
    """One person as read for one request. `id` is empty for nobody."""

    id: str
    profile: Profile
    ledger: bytes


NOBODY = Person(id="", profile=Profile(), ledger=b"")


class History(Struct, frozen=True):
    """Exposures of one person, counted for one advertiser, in the order of the models' features.
    Ages are in seconds, NaN = never."""

    impressions_hour: int = 0
    impressions_day: int = 0
    impressions_week: int = 0
    impressions_month: int = 0
    line_item_impressions_day: int = 0
    line_item_impressions_week: int = 0
    other_impressions_day: int = 0
    """Impressions of other advertisers in the last 24 hours."""
    clicks_month: int = 0
    conversions_month: int = 0
    contacts_week: int = 0
    """Emails, SMS and pushes of the advertiser in the last 7 days."""
    since_impression: float = nan
    since_click: float = nan
    since_conversion: float = nan
    since_contact: float = nan


NO_HISTORY = History()
