"""How do people get into the store from a file?

A load is an upsert: a person is found by any identifier of the line and keeps their id, ledger and
identifiers; the profile is replaced, over nothing that came in between. What a person told us is
kept: a load never lifts an objection, a withdrawal or a wish, and brings no identifier back that
was erased. Loading the same file twice changes nothing but the TTLs. Identifiers that belong to
somebody else stay theirs, and are reported: merging people, with their ledgers, is for
`bidder.crm`. Run one load at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence, Set
from itertools import islice
from random import Random

import msgspec
from msgspec import Struct

from bidder.ids import new_person_id
from bidder.people.erasure import erased
from bidder.people.holding import put, silence
from bidder.people.identity import Identifier
from bidder.people.reading import decode_profile, encode_profile
from bidder.people.records import MAX_IDENTIFIERS, BadRecord, Record, parse
from bidder.person import Profile, kept
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Scripts
from bidder.store.digest import digest
from bidder.store.link import Command
from bidder.store.links import Links
from bidder.tombstones import Tombstones

TTL_SECONDS = 396 * 86400
"""13 months: what the CNIL recommends for the life of an advertising identifier."""
BATCH = 2000
"""Lines per round trip."""
ATTEMPTS = 60
"""Each time, all whom nobody else writes at the same moment get through."""
_Line = tuple[int, Record]
Silence = Callable[[Sequence[tuple[str, Profile]]], Awaitable[None]]
"""Gets people we knew who object from now on, or withdrew, each with a profile that says which."""

_identifiers = msgspec.msgpack.Decoder(list[Identifier])
_ABSENT = digest((None, None, None))


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
    """A person as the store has them before the batch. `read` is the digest of that."""

    profile: Profile
    identifiers: list[Identifier]
    records: bytes
    read: str
    was: Profile
    is_new: bool = False
    lines: list[_Line] = []


async def load(
    links: Links,
    lines: Iterable[bytes],
    now: float,
    random: Random,
    *,
    ttl_seconds: int = TTL_SECONDS,
    tombstones: Tombstones | None = None,
    report: Callable[[int, str], None] = lambda line, reason: None,
    on_silence: Silence | None = None,
) -> Loaded:
    """Load JSON Lines (see `bidder.people.records`); empty lines are skipped.

    `tombstones` recognise who was erased; without them nobody was.
    `report` gets the number of each line (from 1) that is bad or that lost an identifier, and why.
    Raises `StoreUnavailable`; what was loaded before stays, and loading again is safe. The links
    need patience (some seconds) for batches.
    """
    loaded = Loaded()
    writing: asyncio.Task[None] | None = None
    try:
        for records in _batches(lines, now, loaded, report):  # parsed while the store still writes
            if writing is not None:
                await writing
            until = int(now) + ttl_seconds
            batch = _Batch(links, loaded, report, random, until, tombstones, on_silence)
            writing = asyncio.create_task(batch.write(records))
            await asyncio.sleep(0)  # let them be sent
    finally:
        if writing is not None:
            await writing
    return loaded


def _batches(
    lines: Iterable[bytes], now: float, loaded: Loaded, report: Callable[[int, str], None]
) -> Iterator[list[_Line]]:
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
        loaded: Loaded,
        report: Callable[[int, str], None],
        random: Random,
        until: int,
        tombstones: Tombstones | None,
        on_silence: Silence | None,
    ) -> None:
        self._links = links
        self._scripts = Scripts(links)
        self._loaded = loaded
        self._report = report
        self._random = random
        self._until = until
        self._tombstones = tombstones
        self._on_silence = on_silence
        self._erased: Set[Identifier] = frozenset()
        self._owner: dict[Identifier, str] = {}
        self._known: dict[str, _Known] = {}

    async def write(self, lines: list[_Line]) -> None:
        """Write these; whom somebody else wrote in between is read again."""
        for _ in range(ATTEMPTS):
            if not lines:
                return
            await self._find_owners(lines)
            for number, record in lines:
                self._upsert(number, record)
            lines = await self._put()
        raise StoreUnavailable(f"{len(lines)} people are being written by others all the time")

    async def _find_owners(self, lines: list[_Line]) -> None:
        """Read who the identifiers stand for, aliases followed, and what is known of them."""
        wanted = list({each: None for _, record in lines for each in record.ids})
        if self._tombstones is not None:
            self._erased = (await erased(self._links, self._tombstones, wanted)).keys()
        found = await self._links.bulk([("GET", keys.identifier(*each)) for each in wanted])
        self._owner = {
            each: raw.decode() for each, raw in zip(wanted, found, strict=True) if raw is not None
        }
        now_called = await followed(self._links, set(self._owner.values()))
        self._owner = {each: now_called[person] for each, person in self._owner.items()}
        people, self._known = list(dict.fromkeys(self._owner.values())), {}
        names = (keys.profile, keys.activity, keys.identifiers)
        commands: list[Command] = [("MGET", *[name(person) for name in names]) for person in people]
        replies = await self._links.bulk(commands)
        for person, read in zip(people, replies, strict=True):
            profile, names_read = decode_profile(read[0]), decode_identifiers(read[2])
            known = _Known(profile, names_read, read[1] or b"", digest(read), profile)
            self._known[person] = known

    def _upsert(self, number: int, record: Record) -> None:
        names = [each for each in record.ids if each not in self._erased]
        for source in sorted({source for source, _ in set(record.ids) - set(names)}):
            self._keep_apart(number, f"{source!r} was erased; not brought back")
        if not names:
            return
        person = next((self._owner[each] for each in names if each in self._owner), None)
        if person is None:
            person = new_person_id(self._random)
            self._known[person] = _Known(record.profile, [], b"", _ABSENT, Profile(), is_new=True)
        known = self._known[person]
        known.profile = kept(record.profile, known.profile)
        for each in names:
            self._take(number, person, known, each)
        known.lines = [*known.lines, (number, record)]

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

    async def _put(self) -> list[_Line]:
        """Write the people, then their names; the lines of those whom others wrote come back."""
        touched = {person: known for person, known in self._known.items() if known.lines}
        silenced = [
            (person, known.profile)
            for person, known in touched.items()
            if not known.is_new and silence(known.profile) > silence(known.was)
        ]
        if silenced and self._on_silence is not None:  # first: a crash tells of them again
            await self._on_silence(silenced)
        answers = [
            put(
                self._scripts,
                person,
                known.read,
                self._until,
                encode_profile(known.profile),
                b"" if silence(known.profile) else known.records,
                known.identifiers,
                known.profile.opted_out,
            )
            for person, known in touched.items()
        ]
        names: list[Command] = []
        lost: list[_Line] = []
        for (person, known), answer in zip(touched.items(), answers, strict=True):
            if await answer != 1:
                lost += known.lines
                continue
            self._loaded.people += len(known.lines)
            self._loaded.new += known.is_new
            names += [
                ("SET", keys.identifier(*each), person, "EXAT", self._until)
                for each in known.identifiers
            ]
        await self._links.bulk(names)
        return lost


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
