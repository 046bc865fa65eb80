"""How are many people written at once? Those whom the store does not know yet, by columns.

A first import is nearly all of them: nothing to read, to merge with, or to write over. Their
profiles are derived together, their identifiers claimed together, and only what somebody else
claims or writes in the same moment goes the way of everyone else, `Writer.write`. So do people
whom the store knows, who were erased or who objected. What ends up in the store is the same.
"""

from itertools import accumulate

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from bidder import capping
from bidder.capping.first import first_ledger
from bidder.crm.activity import RECORD_BYTES
from bidder.crm.batch import Written
from bidder.crm.deriving import derived, last_heard
from bidder.crm.rights.consent import heard
from bidder.crm.sorting import Slice
from bidder.crm.writing import Writer
from bidder.ids import PERSON_ID_CHARS, to_text
from bidder.people.identity import Identifier
from bidder.people.reading import encode_profile
from bidder.person import Profile
from bidder.privacy import Rules
from bidder.store import keys

_encoder = msgspec.msgpack.Encoder()
_NOBODY = Profile()


class _Named(Struct):
    """How the people of a slice are known."""

    ids: list[tuple[Identifier, ...]]
    """Of each of them."""
    keys: list[bytes]
    """Of all identifiers, one person's after the other's."""
    bounds: list[int]
    """Where each person's keys begin, and where the last one's end."""


class _New(Struct, gc=False):
    """Somebody whom the store does not know. `place`: in the slice."""

    place: int
    pid: str
    profile: Profile
    records: bytes
    until: int


async def write(writer: Writer, people: Slice, now: int) -> Written:
    """Write these people. Raises `StoreUnavailable`; writing again is safe."""
    written = Written()
    named = _Named(
        people.ids(),
        [
            keys.identifier(source, value).encode()
            for source, value in zip(people.sources, people.values, strict=True)
        ],
        list(accumulate(people.id_counts, initial=0)),
    )
    unknown = await _unknown(writer, people, named, now)
    new = _derived(writer, people, unknown, now, written)
    lost = await _claim(writer, named, new, now)
    lost |= await _put(writer, people, named, [e for e in new if e.place not in lost], now, written)
    taken = set(unknown) - lost
    others = [place for place in range(len(people)) if place not in taken]
    if others:
        written.add(await writer.write(people.changes(others), now))
    return written


async def _unknown(writer: Writer, people: Slice, named: _Named, now: int) -> list[int]:
    """The places of those of whom neither the store nor the list of the erased knows a name, and
    who neither object nor withdraw."""
    owners = np.repeat(np.arange(len(people)), people.id_counts)
    values = await writer.reader.get_many(named.keys)
    known = {int(owners[at]) for at, value in enumerate(values) if value is not None}
    former = [(each, place) for place, old in enumerate(people.former) for each in old]
    values = await writer.reader.get_many([keys.identifier(*each) for each, _ in former])
    known |= {place for (_, place), value in zip(former, values, strict=True) if value is not None}
    current = zip(people.sources, people.values, strict=True)
    every: list[Identifier] = [*current, *[each for each, _ in former]]
    buried = await writer.buried(every)
    if buried:
        places = [*owners.tolist(), *[place for _, place in former]]
        known.update(place for each, place in zip(every, places, strict=True) if each in buried)
    known |= {
        place
        for place, told in people.words.items()
        if told.opted_out or _told(told, True, writer.rules, now).withdrawn
    }
    return [place for place in range(len(people)) if place not in known]


def _derived(
    writer: Writer, people: Slice, places: list[int], now: int, written: Written
) -> list[_New]:
    """What is to be stored of them."""
    done = people.records_of_each()
    records = [done[place] for place in places]
    known = [
        _told(people.told(place), bool(raw), writer.rules, now)
        for place, raw in zip(places, records, strict=True)
    ]
    profiles = derived(known, records, writer.segments, writer.advertisers, now)
    width = PERSON_ID_CHARS
    pids = to_text(writer.random.randbytes(width * 3 // 4 * len(places)))  # of all, in one text
    new = []
    for at, (place, profile, raw) in enumerate(zip(places, profiles, records, strict=True)):
        last = int.from_bytes(raw[-RECORD_BYTES : 4 - RECORD_BYTES], "little")
        until = last_heard(profile, last, now) + writer.retention.profile
        if until <= now:
            written.outdated += 1
            continue
        new.append(_New(place, pids[at * width : (at + 1) * width], profile, raw, until))
    return new


def _told(told: Profile | None, has_records: bool, rules: Rules, now: int) -> Profile:
    """What the person told us, as `batch.told_profile` has it of somebody new."""
    if told is None:
        return _NOBODY if has_records else Profile(first_seen=now)
    if told.consent:
        told = heard(Profile(first_seen=told.first_seen), told, rules, now)
    return told if told.first_seen or has_records else replace(told, first_seen=now)


async def _claim(writer: Writer, named: _Named, new: list[_New], now: int) -> set[int]:
    """Take the identifiers; the places of those of whom one is somebody else's by now."""
    wanted: list[bytes] = []
    owners: list[bytes] = []
    untils: list[int] = []
    takers: list[int] = []
    for each in new:
        ids = named.ids[each.place]
        wanted += named.keys[named.bounds[each.place] : named.bounds[each.place + 1]]
        owners += [each.pid.encode()] * len(ids)
        takers += [each.place] * len(ids)
        for source, _ in ids:
            untils.append(min(now + writer.retention.of(source), each.until))
    before = await writer.links.take(wanted, owners, untils)
    return {place for place, owner in zip(takers, before, strict=True) if owner is not None}


async def _put(
    writer: Writer, people: Slice, named: _Named, new: list[_New], now: int, written: Written
) -> set[int]:
    """Write these over nothing; the places of those who were there meanwhile."""
    rows: list[tuple[_New, str, bytes]] = []
    for each in new:
        encoded = encode_profile(each.profile)
        rows.append((each, keys.profile(each.pid), encoded))
        rows.append((each, keys.identifiers(each.pid), _encoder.encode(named.ids[each.place])))
        if each.records:
            rows.append((each, keys.activity(each.pid), each.records))
        written.people += 1
        written.new += 1
        written.records += len(each.records) // RECORD_BYTES
        written.bytes += len(encoded) + len(each.records)
    before = await writer.links.take(
        [name.encode() for _, name, _ in rows],
        [value for _, _, value in rows],
        [each.until for each, _, _ in rows],
    )
    met = {each.place for (each, _, _), was in zip(rows, before, strict=True) if was is not None}
    await _tell_ledgers(writer, people, new, now)
    moved = await writer.reader.get_many([keys.alias(each.pid) for each in new])
    met |= {each.place for each, alias in zip(new, moved, strict=True) if alias is not None}
    written.people -= len(met)
    written.new -= len(met)
    return met


async def _tell_ledgers(writer: Writer, people: Slice, new: list[_New], now: int) -> None:
    """Write what was sent to them to their ledgers: to new ones, where nobody made one meanwhile.

    It comes before the look for aliases: whoever merges one of them later finds the ledger.
    """
    sent = people.contacts_of_each()
    some = [(each.pid, sent[each.place]) for each in new if each.records and sent[each.place]]
    ledgers = [first_ledger(records, now) for _, records in some]
    easy = [at for at, ledger in enumerate(ledgers) if ledger]
    before = await writer.links.take(
        [keys.ledger(some[at][0]).encode() for at in easy],
        [ledgers[at] for at in easy],
        [now + writer.retention.ledger] * len(easy),
    )
    done = {at for at, was in zip(easy, before, strict=True) if was is None}
    left = [one for at, one in enumerate(some) if at not in done]
    await capping.absorb_all(writer.scripts, left, now, writer.retention.ledger)
