"""How are many people written at once? Those whom the store does not know yet, by columns.

A first import is nearly all of them: nothing to read, to merge with, or to write over. Their
profiles are derived together, their identifiers claimed together, and only what somebody else
claims or writes in the same moment goes the way of everyone else, `Writer.write`. So do people
whom the store knows, who were erased or who objected. What ends up in the store is the same.
"""

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bidder import capping
from bidder.capping.ledger import RECORD_BYTES as LEDGER_BYTES
from bidder.crm.activity import RECORD_BYTES
from bidder.crm.batch import Written
from bidder.crm.deriving import derived, last_heard
from bidder.crm.sorting import Slice
from bidder.crm.writing import MATCHED, Writer
from bidder.ids import to_text
from bidder.people.reading import encode_profile
from bidder.person import Profile, kept
from bidder.store import keys
from bidder.store.link import Command

_encoder = msgspec.msgpack.Encoder()
_NOBODY = Profile()
PID_BYTES = 12


class _New(Struct):
    """People whom the store does not know, by columns. `places`: in the slice."""

    places: list[int]
    pids: list[str]
    profiles: list[Profile]
    records: list[bytes]
    untils: list[int]


async def write(writer: Writer, people: Slice, now: int) -> Written:
    """Write these people. Raises `StoreUnavailable`; writing again is safe."""
    written = Written()
    unknown = await _unknown(writer, people)
    new = _derived(writer, people, unknown, now, written)
    lost = await _claim(writer, people, new, now)
    lost |= await _put(writer, people, new, lost, now, written)
    taken = set(unknown) - lost
    others = [place for place in range(len(people)) if place not in taken]
    if others:
        written.add(await writer.write(people.changes(others), now))
    return written


async def _unknown(writer: Writer, people: Slice) -> list[int]:
    """The places of those of whom neither the store nor the list of the erased knows a name, and
    who did not object."""
    names = [(each, place) for place, ids in enumerate(people.ids) for each in ids]
    names += [(each, place) for place, ids in enumerate(people.former) for each in ids]
    values = await writer.reader.get_many([keys.identifier(*each) for each, _ in names])
    known = {place for (_, place), value in zip(names, values, strict=True) if value is not None}
    buried = await writer.buried([each for each, _ in names])
    if buried:
        known.update(place for each, place in names if each in buried)
    known.update(
        place
        for place, told in enumerate(people.told)
        if told is not None and (told.opted_out or told.withdrawn)
    )
    return [place for place in range(len(people)) if place not in known]


def _derived(writer: Writer, people: Slice, places: list[int], now: int, written: Written) -> _New:
    """What is to be stored of them."""
    records, start = [], 0
    for count in people.counts:
        end = start + count * RECORD_BYTES
        records.append(people.records[start:end])
        start = end
    if len(places) < len(people):
        records = [records[place] for place in places]
    known = [
        _told(people.told[place], bool(raw), now)
        for place, raw in zip(places, records, strict=True)
    ]
    profiles = derived(known, records, writer.segments, writer.advertisers, now)
    new = _New([], [], [], [], [])
    for place, profile, raw in zip(places, profiles, records, strict=True):
        last = int.from_bytes(raw[-RECORD_BYTES : 4 - RECORD_BYTES], "little")
        until = last_heard(profile, last, now) + writer.retention.profile
        if until <= now:
            written.outdated += 1
            continue
        new.places.append(place)
        new.profiles.append(profile)
        new.records.append(raw)
        new.untils.append(until)
    raw_ids = writer.random.randbytes(PID_BYTES * len(new.places))
    text = to_text(raw_ids)
    width = PID_BYTES * 4 // 3
    new.pids = [text[at : at + width] for at in range(0, len(text), width)]
    return new


def _told(told: Profile | None, has_records: bool, now: int) -> Profile:
    """What the person told us, as `batch.told_profile` has it of somebody new."""
    if told is None:
        return _NOBODY if has_records else Profile(first_seen=now)
    if told.consent:
        told = kept(told, _NOBODY)
    return told if told.first_seen or has_records else replace(told, first_seen=now)


async def _claim(writer: Writer, people: Slice, new: _New, now: int) -> set[int]:
    """Take the identifiers; the places of those of whom one is somebody else's by now."""
    commands: list[Command] = []
    takers: list[int] = []
    matched, known = now + writer.retention.match, now + writer.retention.identifier
    for place, pid, until in zip(new.places, new.pids, new.untils, strict=True):
        for source, value in people.ids[place]:
            life = matched if source.startswith(MATCHED) else known
            key = keys.identifier(source, value)
            commands.append(("SET", key, pid, "NX", "GET", "EXAT", min(life, until)))
            takers.append(place)
    replies = await writer.links.bulk(commands)
    return {place for place, reply in zip(takers, replies, strict=True) if reply is not None}


async def _put(
    writer: Writer, people: Slice, new: _New, lost: set[int], now: int, written: Written
) -> set[int]:
    """Write those who are not lost, over nothing; the places of those who were there meanwhile."""
    commands: list[Command] = []
    takers: list[int] = []
    contacts: list[tuple[str, list[bytes]]] = []
    sent = _contacts(people)
    for place, pid, profile, raw, until in zip(
        new.places, new.pids, new.profiles, new.records, new.untils, strict=True
    ):
        if place in lost:
            continue
        encoded = encode_profile(profile)
        life: Command = ("NX", "EXAT", until)
        commands.append(("SET", keys.profile(pid), encoded, *life))
        if raw:
            commands.append(("SET", keys.activity(pid), raw, *life))
        commands.append(("SET", keys.identifiers(pid), _encoder.encode(people.ids[place]), *life))
        takers += [place] * (3 if raw else 2)
        written.people += 1
        written.new += 1
        written.records += len(raw) // RECORD_BYTES
        written.bytes += len(encoded) + len(raw)
        if place in sent and raw:
            contacts.append((pid, sent[place]))
    replies = await writer.links.bulk(commands)
    met = {place for place, reply in zip(takers, replies, strict=True) if reply is None}
    pids = dict(zip(new.places, new.pids, strict=True))
    going = [place for place in pids if place not in lost]
    moved = await writer.reader.get_many([keys.alias(pids[place]) for place in going])
    met |= {place for place, alias in zip(going, moved, strict=True) if alias is not None}
    written.people -= len(met)
    written.new -= len(met)
    await capping.absorb_all(writer.scripts, contacts, now, writer.retention.ledger)
    return met


def _contacts(people: Slice) -> dict[int, list[bytes]]:
    """Place -> packed records for the ledger, where there are any."""
    found: dict[int, list[bytes]] = {}
    start = 0
    for place, count in enumerate(people.contact_counts):
        if count:
            end = start + count * LEDGER_BYTES
            found[place] = [
                people.contacts[at : at + LEDGER_BYTES] for at in range(start, end, LEDGER_BYTES)
            ]
            start = end
    return found
