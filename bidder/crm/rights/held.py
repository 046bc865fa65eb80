"""What do we hold on one person? All of it, for whoever has the right to know (GDPR Art. 15, 20).

The store's keys, the names they were known by, and every line of the event log; as values that
become one JSON document with the times, names and words a person can read.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from bidder.capping import Channel, Ledger
from bidder.capping.ledger import total_key
from bidder.crm import activity
from bidder.crm.pseudonyms import KINDS, BadName, Pseudonyms
from bidder.events.schema import AnyEvent
from bidder.ids import PERSON_ID_CHARS
from bidder.people.identity import Identifier, normal
from bidder.people.loading import decode_identifiers, followed
from bidder.people.reading import decode_profile
from bidder.person import Profile
from bidder.store import keys
from bidder.store.links import Links

_people = msgspec.msgpack.Decoder(list[str])
_MOST_FOLDED = 1_000_000
_TIMES = ("first_seen", "last_visit", "last_order", "paused_until", "withdrawn", "consent_time")
_TIMES_BY_NAME = ("segments", "interests", "wanted", "consents")
_CONSENT = (
    "consent", "consent_time", "consent_source", "consents", "withdrawn", "withdrawn_at",
)  # fmt: skip
ABOUT = {
    "why": "choosing, limiting and counting advertisements for the companies named here",
    "basis": "your consent, GDPR Art. 6(1)(a)",
    "who_receives": "the companies whose advertisements you saw, as counts without your name; the "
    "advertising exchanges, as bids without what is known of you",
    "from": "the companies that you dealt with, and the exchange or site each identifier names",
    "rights": "access (Art. 15), correction (16), erasure (17), objection (21), withdrawing "
    "consent (7(3)), a copy to take elsewhere (20), a complaint to your authority (77)",
    "automated": "which advertisement is shown is decided by a machine; it has no legal effect on "
    "you (Art. 22)",
}
"""What Art. 15(1) wants told beside the data."""


class Everything(Struct, frozen=True):
    """All keys of one person."""

    person: str
    merged: tuple[str, ...]
    """Who they were before: ids under which the log may know them."""
    identifiers: tuple[Identifier, ...]
    profile: Profile
    raw_profile: bytes
    ledger: bytes
    activity: bytes
    seconds_left: int
    """Until the profile is forgotten by itself; negative if there is none."""

    @property
    def ids(self) -> list[str]:
        """Every id they ever had."""
        return [self.person, *self.merged]


async def resolve(links: Links, wanted: str, pseudonyms: Pseudonyms | None = None) -> str | None:
    """The id behind a person id, ``source:value`` as stored, or a plain name such as
    ``email:jo@example.com`` or ``crm:ADVERTISER/NUMBER``. Merges are followed. None = nobody."""
    source, colon, value = wanted.partition(":")
    if not colon:
        if len(wanted) != PERSON_ID_CHARS:
            return None
        return (await followed(links, {wanted}))[wanted]
    tried = [normal(source, value), *_hashed(source, value, pseudonyms)]
    for raw in await links.bulk([("GET", keys.identifier(*each)) for each in tried]):
        if raw is not None:
            person = raw.decode()
            return (await followed(links, {person}))[person]
    return None


def _hashed(source: str, value: str, pseudonyms: Pseudonyms | None) -> list[Identifier]:
    kind = next((each for each in KINDS if each == source), None)
    if pseudonyms is None or kind is None:
        return []
    advertiser, slash, number = value.partition("/")
    try:
        if kind == "crm" and slash:
            return pseudonyms.of(kind, number, advertiser)
        return pseudonyms.of(kind, value)
    except BadName:
        return []


async def gather(links: Links, person: str) -> Everything | None:
    """All keys under this id; None if there are none."""
    profile_key = keys.profile(person)
    values, merged, left = await links.bulk(
        [
            (
                "MGET", profile_key, keys.identifiers(person), keys.ledger(person),
                keys.activity(person),
            ),
            ("GET", keys.merged(person)),
            ("TTL", profile_key),
        ]
    )  # fmt: skip
    if all(value is None for value in (*values, merged)):
        return None
    profile, identifiers, ledger, done = values
    return Everything(
        person=person,
        merged=formerly(merged),
        identifiers=tuple(decode_identifiers(identifiers)),
        profile=decode_profile(profile),
        raw_profile=profile or b"",
        ledger=ledger or b"",
        activity=done or b"",
        seconds_left=left,
    )


def formerly(raw: bytes | None) -> tuple[str, ...]:
    """Who was merged into a person, as the store has it."""
    return tuple(_people.decode(raw)) if raw else ()


def readable(
    held: Everything,
    events: Iterable[AnyEvent],
    names: Mapping[int, str],
    categories: Mapping[int, str],
    now: float,
) -> dict[str, Any]:
    """Everything as one JSON document. `names` of advertisers and ads, and `categories`, by id."""
    profile = held.profile
    ledger = Ledger(held.ledger, int(now))
    return {
        "made": when(now),
        "about": ABOUT,
        "person": held.person,
        "formerly": list(held.merged),
        "known_as": [{"source": source, "value": value} for source, value in held.identifiers],
        "profile": {
            name: _value(name, getattr(profile, name))
            for name in profile.__struct_fields__
            if name not in _CONSENT and (getattr(profile, name) or name == "opted_out")
        },
        "consent": {
            name.removeprefix("consent_"): _value(name, getattr(profile, name))
            for name in _CONSENT
            if getattr(profile, name)
        },
        "ads": [
            {
                "time": when(record.time),
                "what": record.kind.name.lower(),
                "channel": record.channel.name.lower(),
                "advertiser": _named(record.advertiser, names),
                "ad": _named(record.creative, names),
            }
            for record in sorted(ledger.records(), key=lambda record: record.time)
        ],
        "ads_before": _folded(ledger, names),
        "activity": [
            {**msgspec.to_builtins(event), "time": when(event.time)}
            for event in activity.events(held.activity, {**names, **categories})
        ],
        "log": [msgspec.to_builtins(event) for event in events],
        "forgotten_by_itself": when(now + held.seconds_left) if held.seconds_left > 0 else "",
    }


def _folded(ledger: Ledger, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Older impressions, of which only how many is kept: by advertiser and channel."""
    found = []
    for id32, name in names.items():
        if "/" not in name:
            for channel in Channel:
                times = ledger.folded((total_key(id32, channel),), _MOST_FOLDED)
                if times:
                    row = {"advertiser": name, "channel": channel.name.lower()}
                    found.append({**row, "at_most": len(times), "until": when(times[-1])})
    return found


def when(seconds: float) -> str:
    """A time as people and machines read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _value(name: str, value: Any) -> Any:
    if name in _TIMES:
        return when(value)
    if name in _TIMES_BY_NAME:
        return {each: when(at) for each, at in sorted(value.items())}
    if name == "baskets":
        return {
            advertiser: {**msgspec.to_builtins(basket), "updated": when(basket.updated)}
            for advertiser, basket in value.items()
        }
    return sorted(value) if isinstance(value, frozenset) else value


def _named(id32: int, names: Mapping[int, str]) -> str:
    return names.get(id32, f"#{id32:08x}")
