"""What does the company report as it happens? The body of ``POST /crm/events``, as changes.

.. code-block:: json

   {"advertiser": "maison-lumen", "events": [
     {"ids": {"crm": "C1", "email": "jo@example.com"}, "event": "store_purchase",
      "time": "2026-11-21T18:02:00+01:00", "value": 129.9, "order": "T-77", "products": 2,
      "category": "suspensions"}]}

An event may be left out: then the ids are linked, and `opted_out` or the consent noted. Every entry
stands for itself: what is wrong with one is said, and the others are taken. Of an entry that is
refused the objection is taken all the same.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from struct import Struct as Layout

import msgspec
from msgspec import Struct

from bidder.capping.ledger import KEEP_SECONDS, Record
from bidder.capping.ledger import Kind as Touch
from bidder.crm import activity
from bidder.crm.activity import NAMES, Kind
from bidder.crm.batch import Change
from bidder.crm.columns import MAX_AMOUNT
from bidder.crm.contacts import CHANNELS, contact_keys
from bidder.crm.mapping import HASHED
from bidder.crm.pseudonyms import BadName, Identifier, Pseudonyms
from bidder.crm.rights.consent import own_pages
from bidder.crm.taking import EARLIEST, FUTURE_SECONDS
from bidder.ids import hash32
from bidder.money import to_micros
from bidder.orders import Orders
from bidder.people.identity import normal, usable
from bidder.people.records import MAX_IDENTIFIERS
from bidder.person import Profile

MAX_EVENTS = 10_000
"""In one call."""
BRIDGED = (3, 4, 5)
"""`mm` of OpenRTB: the match was inferred, so it links nobody."""
_KEY = Layout("<Q")


class BadEvent(ValueError):
    """This entry cannot be taken; the message says why, and repeats no name."""


class Entry(Struct, forbid_unknown_fields=True):
    """One entry of the call."""

    ids: dict[str, str]
    event: str = ""
    time: int | float | str = 0
    value: float = 0.0
    order: str = ""
    products: int = 0
    category: str = ""
    mm: int = 0
    opted_out: bool = False
    consent: str = ""
    consent_time: int | float | str = 0
    consent_source: str = ""


class _Objection(Struct):
    """What is read of an entry that is refused."""

    ids: dict[str, str]
    mm: int = 0
    opted_out: bool = False


class _Call(Struct, forbid_unknown_fields=True):
    advertiser: str
    events: list[msgspec.Raw]


class Received(Struct):
    """What a call comes to: changes, and the entries (from 0) that cannot be taken, with why."""

    changes: list[Change]
    rejected: dict[int, str]
    categories: dict[int, str]
    """32-bit id -> name of every category named."""


_call = msgspec.json.Decoder(_Call)
_entry = msgspec.json.Decoder(Entry)
_objection = msgspec.json.Decoder(_Objection)


def receive(body: bytes, pseudonyms: Pseudonyms, now: float) -> Received:
    """Read a call. Raises `BadEvent` if the body as a whole is none."""
    try:
        call = _call.decode(body)
    except msgspec.MsgspecError as error:
        raise BadEvent(str(error)) from None
    if len(call.events) > MAX_EVENTS:
        raise BadEvent(f"{len(call.events)} events; {MAX_EVENTS} are allowed in one call")
    received = Received([], {}, {})
    for place, raw in enumerate(call.events):
        try:
            entry = _entry.decode(raw)
            received.changes.append(change(entry, call.advertiser, pseudonyms, now))
        except (msgspec.MsgspecError, BadEvent) as error:
            objection = _objected(raw, call.advertiser, pseudonyms)
            received.rejected[place] = str(error) + ("; the objection is taken" * len(objection))
            received.changes += objection
        else:
            if entry.category:
                received.categories[activity.category_id(entry.category)] = entry.category
    return received


def _objected(raw: msgspec.Raw, advertiser: str, pseudonyms: Pseudonyms) -> list[Change]:
    """The objection in an entry that is refused, if it has one and names somebody."""
    try:
        entry = _objection.decode(raw)
        current, former = _identifiers(entry, advertiser, pseudonyms)
    except (msgspec.MsgspecError, BadEvent):
        return []
    return [Change(current, told=Profile(opted_out=True), former=former)] if entry.opted_out else []


def change(entry: Entry, advertiser: str, pseudonyms: Pseudonyms, now: float) -> Change:
    """One entry as a change. Raises `BadEvent`."""
    current, former = _identifiers(entry, advertiser, pseudonyms)
    told = None
    if entry.opted_out or entry.consent:
        told = Profile(
            opted_out=entry.opted_out,
            consent=entry.consent,
            consent_time=_time(entry.consent_time, now) if entry.consent else 0,
            consent_source=own_pages(advertiser, entry.consent_source or "crm"),
        )
    if not entry.event:
        return Change(current, told=told, former=former)
    kind = NAMES.get(entry.event)
    if kind is None:
        raise BadEvent(f"{entry.event!r} is not something people do")
    record = made(entry, kind, advertiser, _time(entry.time, now), pseudonyms.orders)
    return Change(current, record, contact(record, now), told, former)


def made(entry: Entry, kind: Kind, advertiser: str, time: int, orders: Orders) -> bytes:
    """The record of an event. Raises `BadEvent` on a value or a count that cannot be."""
    if not math.isfinite(entry.value) or not 0 <= entry.value <= MAX_AMOUNT:
        raise BadEvent("the value is not an amount")
    if entry.products < 0:
        raise BadEvent("a negative number of products")
    whose = hash32(advertiser)
    return activity.record(
        time,
        kind,
        whose,
        category=activity.category_id(entry.category),
        value_micros=to_micros(entry.value),
        count=entry.products,
        reference=orders.number(entry.order, whose),
    )


def contact(record: bytes, now: float) -> tuple[bytes, ...]:
    """What a message sent adds to the ledger, so that caps count it; nothing for other records."""
    row = activity.opened(record)
    kind = int(row["kind"][0])
    time = int(row["time"][0])
    channel = next((found for sent, found in CHANNELS.items() if sent == kind), None)
    if channel is None or time <= now - KEEP_SECONDS + 86400:
        return ()
    key = _KEY.pack(int(contact_keys(row)[0]))
    advertiser = int(row["advertiser"][0])
    return (Record(time, Touch.IMPRESSION, advertiser, 0, 0, 0, key, channel).pack(),)


def _identifiers(
    entry: Entry | _Objection, advertiser: str, pseudonyms: Pseudonyms
) -> tuple[tuple[Identifier, ...], tuple[Identifier, ...]]:
    """The identifiers under the current key and under earlier ones."""
    if not entry.ids or len(entry.ids) > MAX_IDENTIFIERS:
        raise BadEvent(f"expected 1 to {MAX_IDENTIFIERS} ids")
    if "cookie" in entry.ids:
        raise BadEvent("cookies are ours alone")
    current: list[Identifier] = []
    former: list[Identifier] = []
    for source, value in sorted(entry.ids.items(), key=lambda each: each[0] != "crm"):
        found = identifiers(source, value, advertiser, pseudonyms)
        current.append(found[0])
        former += found[1:]
    if entry.mm in BRIDGED:
        return (current[0],), ()
    return tuple(current), tuple(former)


def identifiers(
    source: str, value: str, advertiser: str, pseudonyms: Pseudonyms
) -> list[Identifier]:
    """What `value` is stored as, under the current key first. Raises `BadEvent`."""
    if source in HASHED:
        try:
            return pseudonyms.of(source, value, advertiser)
        except BadName as problem:
            raise BadEvent(str(problem)) from None
    if not usable(source) or ":" in source or not usable(value):
        raise BadEvent("an id has a source or value that is empty, too long or has odd characters")
    return [normal(source, value)]


def _time(given: int | float | str, now: float) -> int:
    """Seconds since the epoch; nothing given means now. Raises `BadEvent`."""
    if not given:
        return int(now)
    if isinstance(given, str):
        try:
            at = datetime.fromisoformat(given)
        except ValueError:
            raise BadEvent("the time is not one") from None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    else:
        seconds = float(given)
    if not math.isfinite(seconds) or not EARLIEST < seconds <= now + FUTURE_SECONDS:
        raise BadEvent("the time lies before 1980 or in the future")
    return int(seconds)


def category_words(categories: Mapping[int, str]) -> list[str]:
    """Categories as the store's hash takes them."""
    return [word for number, name in categories.items() for word in (f"{number:08x}", name)]
