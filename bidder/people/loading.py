"""How do people get into the store from a file?

A load is an upsert: a person is found by any identifier of the line and keeps their id, ledger and
identifiers; the profile is replaced. What a person told us is kept: a load never lifts an
objection, a withdrawal or a wish, and brings no identifier back that was erased. Loading the same
file twice changes nothing but the TTLs. Identifiers that belong to somebody else stay theirs, and
are reported: merging people, with their ledgers, is for `bidder.crm`. Run one load at a time.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Set
from itertools import islice
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from bidder.ids import new_person_id
from bidder.people.erasure import erased
from bidder.people.identity import Identifier
from bidder.people.reading import decode_profile, encode_profile
from bidder.people.records import MAX_IDENTIFIERS, BadRecord, Record, parse
from bidder.person import Profile, kept
from bidder.store import keys
from bidder.store.link import Command
from bidder.store.links import Links
from bidder.tombstones import Tombstones

TTL_SECONDS = 396 * 86400
"""13 months: what the CNIL recommends for the life of an advertising identifier."""
BATCH = 2000
"""Lines per round trip."""

_encoder = msgspec.msgpack.Encoder()
_identifiers = msgspec.msgpack.Decoder(list[Identifier])


class Loaded(Struct):
    """What came of a load."""

    people: int = 0
    """Lines that were loaded."""
    new: int = 0
    bad: int = 0
    """Lines that were not."""
    kept_apart: int = 0
    """Identifiers not taken: somebody else's, erased, or beyond the limit of a person."""


class _Known(Struct):
    """A person as the store has them before the batch."""

    profile: Profile
    identifiers: list[Identifier]


async def load(
    links: Links,
    lines: Iterable[bytes],
    now: float,
    random: Random,
    *,
    ttl_seconds: int = TTL_SECONDS,
    tombstones: Tombstones | None = None,
    report: Callable[[int, str], None] = lambda line, reason: None,
) -> Loaded:
    """Load JSON Lines (see `bidder.people.records`); empty lines are skipped.

    `tombstones` recognise who was erased; without them nobody was.
    `report` gets the number of each line (from 1) that is bad or that lost an identifier, and why.
    Raises `StoreUnavailable`; what was loaded before stays, and loading again is safe. The links
    need patience (some seconds) for batches.
    """
    loaded = Loaded()
    writing: asyncio.Task[list[Any]] | None = None
    try:
        for records in _batches(lines, now, loaded, report):  # parsed while the store still writes
            if writing is not None:
                await writing
            batch = _Batch(links, records, loaded, report, random, ttl_seconds, tombstones)
            writing = asyncio.create_task(links.bulk(await batch.commands()))
            await asyncio.sleep(0)  # let them be sent
    finally:
        if writing is not None:
            await writing
    return loaded


def _batches(
    lines: Iterable[bytes], now: float, loaded: Loaded, report: Callable[[int, str], None]
) -> Iterator[list[tuple[int, Record]]]:
    numbered = enumerate(lines, 1)
    while some := list(islice(numbered, BATCH)):
        batch = []
        for number, line in some:
            if not line.strip():
                continue
            try:
                batch.append((number, parse(line, now)))
            except BadRecord as error:
                loaded.bad += 1
                report(number, str(error))
        yield batch


class _Batch:
    """One batch of lines: who they are, what is known of them, what to write."""

    def __init__(
        self,
        links: Links,
        records: list[tuple[int, Record]],
        loaded: Loaded,
        report: Callable[[int, str], None],
        random: Random,
        ttl_seconds: int,
        tombstones: Tombstones | None,
    ) -> None:
        self._links = links
        self._records = records
        self._loaded = loaded
        self._report = report
        self._random = random
        self._ttl = ttl_seconds
        self._tombstones = tombstones
        self._erased: Set[Identifier] = frozenset()
        self._owner: dict[Identifier, str] = {}
        self._known: dict[str, _Known] = {}
        self._touched: dict[str, None] = {}

    async def commands(self) -> list[Command]:
        """What to write, after reading what there is."""
        await self._find_owners()
        for number, record in self._records:
            self._upsert(number, record)
        return self._writes()

    async def _find_owners(self) -> None:
        """Read who the identifiers stand for, aliases followed, and what is known of them."""
        wanted = list({each: None for _, record in self._records for each in record.ids})
        if self._tombstones is not None:
            self._erased = (await erased(self._links, self._tombstones, wanted)).keys()
        found = await self._links.bulk([("GET", keys.identifier(*each)) for each in wanted])
        for each, raw in zip(wanted, found, strict=True):
            if raw is not None:
                self._owner[each] = raw.decode()
        now_called = await followed(self._links, set(self._owner.values()))
        self._owner = {each: now_called[person] for each, person in self._owner.items()}
        people = list(dict.fromkeys(self._owner.values()))
        commands: list[Command] = [
            ("MGET", keys.profile(person), keys.identifiers(person)) for person in people
        ]
        replies = await self._links.bulk(commands)
        for person, (profile, identifiers) in zip(people, replies, strict=True):
            self._known[person] = _Known(decode_profile(profile), decode_identifiers(identifiers))

    def _upsert(self, number: int, record: Record) -> None:
        names = [each for each in record.ids if each not in self._erased]
        for source in sorted({source for source, _ in set(record.ids) - set(names)}):
            self._keep_apart(number, f"{source!r} was erased; not brought back")
        if not names:
            return
        person = next((self._owner[each] for each in names if each in self._owner), None)
        if person is None:
            person = new_person_id(self._random)
            self._known[person] = _Known(record.profile, [])
            self._loaded.new += 1
        known = self._known[person]
        known.profile = kept(record.profile, known.profile)
        for each in names:
            self._take(number, person, known, each)
        self._touched[person] = None
        self._loaded.people += 1

    def _take(self, number: int, person: str, known: _Known, identifier: Identifier) -> None:
        owner = self._owner.get(identifier, person)
        if owner != person:
            self._keep_apart(number, f"{identifier[0]!r} belongs to another person; left there")
        elif identifier not in known.identifiers:
            if len(known.identifiers) >= MAX_IDENTIFIERS:
                self._keep_apart(
                    number, f"{identifier[0]!r} is beyond {MAX_IDENTIFIERS} identifiers; dropped"
                )
                return
            known.identifiers.append(identifier)
            self._owner[identifier] = person

    def _keep_apart(self, number: int, why: str) -> None:
        self._loaded.kept_apart += 1
        self._report(number, why)

    def _writes(self) -> list[Command]:
        commands: list[Command] = []
        for person in self._touched:
            known = self._known[person]
            values: list[tuple[str, bytes]] = [
                (keys.profile(person), encode_profile(known.profile)),
                (keys.identifiers(person), _encoder.encode(known.identifiers)),
            ]
            values += [(keys.identifier(*each), person.encode()) for each in known.identifiers]
            commands += [("SET", key, value, "EX", self._ttl) for key, value in values]
        return commands


async def followed(links: Links, people: set[str], hops: int = 4) -> dict[str, str]:
    """Each of `people` -> who they are after the merges on record."""
    now_called = {person: person for person in people}
    for _ in range(hops):
        ends = list(dict.fromkeys(now_called.values()))
        found = await links.bulk([("GET", keys.alias(person)) for person in ends])
        step = {end: raw.decode() for end, raw in zip(ends, found, strict=True) if raw is not None}
        if not step:
            break
        now_called = {was: step.get(end, end) for was, end in now_called.items()}
    return now_called


def decode_identifiers(raw: bytes | None) -> list[Identifier]:
    """The identifiers in a stored value; none if there is none, or it cannot be read."""
    try:
        return _identifiers.decode(raw) if raw is not None else []
    except msgspec.MsgspecError:
        return []
