"""How does what the CRM says of people get into the store? One way for files, calls and pixels.

`Writer.write` takes changes: who (identifiers, hashed already), what they did (records), what they
told us. It finds the people, joins those whom a change links, adds the records to what is there,
derives the profiles, and writes each person's keys together and only over what it read. All of it
may be done again. Nobody is brought back by an identifier that has a tombstone, and of who objected
to profiling nothing is kept but that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from random import Random
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from bidder import capping
from bidder.crm.activity import (
    PURCHASES,
    RECORD_BYTES,
    Keep,
)
from bidder.crm.batch import ABSENT, Batch, Change, Person, Written, grown, names, told_profile
from bidder.crm.burying import permitted, renamed
from bidder.crm.deriving import derived, fresh, last_heard
from bidder.crm.merging import Lives, merge, two_customers
from bidder.crm.segments import Segments
from bidder.people.erasure import marked_anew
from bidder.people.holding import hold, put, silence
from bidder.people.identity import Identifier
from bidder.people.loading import Silence, decode_identifiers, followed
from bidder.people.reading import decode_profile, encode_profile
from bidder.person import Profile
from bidder.privacy import Rules
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Reader, Scripts
from bidder.store.digest import digest
from bidder.store.link import Command
from bidder.store.links import Links
from bidder.store.scan import scan
from bidder.tombstones import Tombstones

ATTEMPTS = 60
"""Each time, one of those who write the same person at the same moment gets through."""
_MATCHED = "buyeruid."
"""How the sources of identifiers begin that were matched with an exchange's."""

Sale = Callable[[str, bytes, Sequence[bytes]], Awaitable[None]]
"""Gets a person, their ledger, and the purchases that are new of a person we knew before."""


class Retention(Struct, frozen=True):
    """How long things are kept, in seconds."""

    profile: int
    identifier: int
    ledger: int
    match: int
    objection: int
    """Of an objection or a withdrawal, and all names of who declared it."""
    records: Keep

    def of(self, source: str) -> int:
        """How long an identifier of this source is kept."""
        return self.match if source.startswith(_MATCHED) else self.identifier


class Writer:
    """Writes people to one store. Make it in a running event loop."""

    def __init__(
        self,
        links: Links,
        segments: Segments,
        advertisers: Mapping[int, str],
        retention: Retention,
        tombstones: Tombstones,
        rules: Rules,
        random: Random,
        on_sale: Sale | None = None,
        on_silence: Silence | None = None,
    ) -> None:
        """`advertisers`: 32-bit id -> name, of all who may report baskets."""
        self.segments = segments
        self.advertisers = advertisers
        self.links = links
        self.reader, self.scripts = Reader(links), Scripts(links)
        self.retention = retention
        self._tombstones = tombstones
        self.rules = rules
        self.random = random
        self._on_sale = on_sale
        self._on_silence = on_silence
        self._erasures: int | None = None
        """How many had been erased when there was no tombstone; None = look for each."""

    async def write(self, changes: Sequence[Change], now: int) -> Written:
        """Write these changes, in their order where they are of one person.

        Raises `StoreUnavailable`; what was written before stays, and writing again is safe.
        """
        written = Written()
        waiting = list(changes)
        for _ in range(ATTEMPTS):
            if not waiting:
                return written
            waiting = await self._once(waiting, now, written)
        raise StoreUnavailable(f"{len(waiting)} people are being written by too many at once")

    async def refresh(
        self,
        people: Sequence[str],
        now: int,
        lists: Set[str] = frozenset(),
        on: Mapping[str, Iterable[str]] = MappingProxyType({}),
    ) -> Written:
        """Judge these people again: segments that no longer hold and records too old drop out.

        `on`: person -> on which of `lists` they are; they leave the others of `lists`.
        """
        written = Written()
        states = await self._states([Person(pid, False) for pid in people])
        known = [person for person in states if person.read != ABSENT]
        for person in known if lists else ():
            segments = {k: at for k, at in person.profile.segments.items() if k not in lists}
            segments |= dict.fromkeys(on.get(person.pid, ()), now)
            person.profile = replace(person.profile, segments=segments)
        await self._store(known, now, written, renew=False)
        return written

    async def _once(self, changes: list[Change], now: int, written: Written) -> list[Change]:
        """Write what can be written; the changes whose person changed in between come back."""
        owners, left = await self._owners(changes)
        written.erased += len(changes) - len(left)
        pids = sorted(set(owners.values()))
        states = {
            person.pid: person for person in await self._states([Person(p, False) for p in pids])
        }
        said = {pid: person.profile for pid, person in states.items()}
        await self._settle(owners, states)
        batch = Batch(owners, states, self.random, written)
        for change in left:
            batch.add(change)
        await self._tell(_silenced(batch.merges, said))
        for keep, gone in batch.merges:
            kept = self.retention
            lives = Lives(kept.identifier, kept.ledger, kept.objection)
            await merge(self.links, self.scripts, keep, gone, now, lives)
            written.merged += 1
        if batch.merges:  # they were written: read again what they are now
            keepers = {keep for keep, _ in batch.merges}
            await self._states([each for each in batch.people() if each.pid in keepers])
        return await self._store(batch.people(), now, written, renew=True)

    async def _owners(self, changes: list[Change]) -> tuple[dict[Identifier, str], list[Change]]:
        """Whose each identifier is, merges followed, and the changes without what was erased."""
        wanted = list({each: None for change in changes for each in names(change)})
        values = await self.reader.get_many([keys.identifier(*each) for each in wanted])
        owners = {
            each: raw.decode() for each, raw in zip(wanted, values, strict=True) if raw is not None
        }
        buried = await self.buried(wanted)
        if buried:
            pairs = [pair for change in changes for pair in renamed(change).items()]
            moved = {old: new for old, new in pairs if old in buried and new not in buried}
            await marked_anew(self.links, self._tombstones, moved)
            owners = {each: pid for each, pid in owners.items() if each not in buried}
            changes = permitted(changes, buried, owners.keys())
        if owners:
            ends = await followed(self.links, set(owners.values()))
            owners = {each: ends[pid] for each, pid in owners.items()}
        return owners, changes

    async def _settle(self, owners: dict[Identifier, str], states: dict[str, Person]) -> None:
        """See to identifiers that were taken for people who do not list them.

        Of somebody of whom nothing is written yet they say who that will be. Those that another
        customer was quicker to be written under are free again.
        """
        unwritten = {pid for pid, person in states.items() if not person.identifiers}
        for each, pid in owners.items():
            if pid in unwritten:
                states[pid].identifiers.append(each)
        lost = [each for each, pid in owners.items() if _is_others(each, states[pid])]
        for each in lost:
            del owners[each]
        await self.links.bulk([("DEL", keys.identifier(*each)) for each in lost])

    async def buried(self, identifiers: list[Identifier]) -> set[Identifier]:
        """Which of these were erased."""
        if self._erasures is not None and await self._count_erasures() == self._erasures:
            return set()
        marks = {
            keys.tombstone(mark): each
            for each in identifiers
            for mark in self._tombstones.of_identifier(*each)
        }
        found = await self.reader.get_many(list(marks))
        return {
            each for each, stone in zip(marks.values(), found, strict=True) if stone is not None
        }

    async def spare_tombstones(self) -> None:
        """Look now whether anybody was ever erased. If not, skip looking for each identifier, until
        somebody is: for an import, where that is a tenth of the work."""
        erasures = await self._count_erasures()
        async for _ in scan(self.links, keys.tombstone("*")):
            return
        self._erasures = erasures

    async def _count_erasures(self) -> int:
        (count,) = await self.links.bulk([("GET", keys.ERASURES)])
        return int(count or 0)

    async def _states(self, people: list[Person]) -> list[Person]:
        """Read into each what the store has of them."""
        asked = []
        for person in people:
            pid = person.pid
            asked += [keys.profile(pid), keys.activity(pid), keys.identifiers(pid)]
        values = await self.reader.get_many(asked) if asked else []
        for place, person in enumerate(people):
            read = values[3 * place : 3 * place + 3]
            person.profile = decode_profile(read[0])
            person.records = read[1] or b""
            stored = decode_identifiers(read[2])
            person.identifiers = list(dict.fromkeys([*stored, *person.identifiers]))
            person.read = digest(read)
        return people

    async def _store(
        self, people: list[Person], now: int, written: Written, renew: bool
    ) -> list[Change]:
        """Derive and write; the changes of people whom somebody else wrote meanwhile come back.
        `renew`: the people were heard of, so their identifiers are theirs for longer."""
        if not people:
            return []
        before = [person.profile for person in people]
        for person in people:
            person.profile = told_profile(person, self.rules, now)
        lives = fresh([grown(person) for person in people], self.retention.records, now)
        profiles = [person.profile for person in people]
        profiles = derived(profiles, lives, self.segments, self.advertisers, now)
        ready = []
        for person, was, profile, records in zip(people, before, profiles, lives, strict=True):
            until = self._until(profile, records, now)
            written.objected += silence(profile) > 0
            if until > now:
                ready.append(_Ready(person, was, profile, records, until))
            else:
                written.outdated += 1
        lost = await self._claim([each for each in ready if each.person.is_new], now)
        await self._tell([(each.person.pid, each.profile) for each in ready if each.turns])
        if self._on_sale is not None:
            await self._sell(ready)
        going = [each for each in ready if each.person.pid not in lost]
        answers = [self._put(each) for each in going]
        for each, answer in zip(going, answers, strict=True):
            if await answer == 1:
                _count(each, written)
            else:
                lost.add(each.person.pid)
        await self._follow_up([each for each in going if each.person.pid not in lost], now, renew)
        return [
            change for each in ready if each.person.pid in lost for change in each.person.changes
        ]

    def _until(self, profile: Profile, records: bytes, now: int) -> int:
        """When these are forgotten by themselves, seconds since the epoch."""
        heard = last_heard(profile, _last_time(records), now)
        kept = self.retention
        return heard + (kept.objection if silence(profile) else kept.profile)

    async def _tell(self, silenced: Sequence[tuple[str, Profile]]) -> None:
        """Tell of those who object, before it is written: a crash in between tells of them again,
        and what is forgotten twice is forgotten."""
        if silenced and self._on_silence is not None:
            await self._on_silence(silenced)

    async def _claim(self, ready: list["_Ready"], now: int) -> set[str]:
        """Take the identifiers; the ids of new people of whom one is somebody else's by now.

        People we know take theirs after they were written: whoever erases them in between leaves no
        name that they do not list.
        """
        commands: list[Command] = []
        takers: list[Person] = []
        for each in ready:
            person, until = each.person, each.until
            for identifier in person.identifiers:
                life = until if silence(each.profile) else now + self.retention.of(identifier[0])
                words: Command = ("SET", keys.identifier(*identifier), person.pid)
                words += ("NX", "GET") if person.is_new else ()
                commands.append((*words, "EXAT", min(life, until)))
                takers.append(person)
        replies = await self.links.bulk(commands)
        return {
            person.pid
            for person, reply in zip(takers, replies, strict=True)
            if person.is_new and reply is not None and reply.decode() != person.pid
        }

    def _put(self, ready: "_Ready") -> "asyncio.Future[object]":
        """Write one person; the answer is 1 unless somebody else did meanwhile."""
        person = ready.person
        ready.profile_bytes = encode_profile(ready.profile)
        return put(
            self.scripts,
            person.pid,
            person.read,
            ready.until,
            ready.profile_bytes,
            ready.records,
            person.identifiers,
            ready.profile.opted_out,
        )

    async def _follow_up(self, ready: list["_Ready"], now: int, renew: bool) -> None:
        """What comes after people were written: their names, contacts to the ledger, old names
        away."""
        if renew:
            await self._claim([each for each in ready if not each.person.is_new], now)
        silent = [each.person for each in ready if silence(each.profile)]
        await hold(
            self.links,
            [(person.pid, person.identifiers) for person in silent],
            self.retention.objection,
        )
        contacts = [
            (each.person.pid, [record for one in each.person.changes for record in one.contacts])
            for each in ready
            if each.records
        ]
        some = [(pid, records) for pid, records in contacts if records]
        await capping.absorb_all(self.scripts, some, now, self.retention.ledger)
        former = [name for each in ready for name in each.person.former]
        await self.links.bulk([("DEL", keys.identifier(*name)) for name in former])

    async def _sell(self, ready: list["_Ready"]) -> None:
        """Tell of purchases that are new of people we knew, before they are written: a crash in
        between tells of them again, which counts nothing."""
        sold = [(each.person, new) for each in ready if (new := _new_purchases(each))]
        if not sold or self._on_sale is None:
            return
        ledgers = await self.reader.get_many([keys.ledger(person.pid) for person, _ in sold])
        for (person, new), ledger in zip(sold, ledgers, strict=True):
            if ledger:
                await self._on_sale(person.pid, ledger, new)


class _Ready(Struct):
    """One person, derived and not written yet."""

    person: Person
    was: Profile
    """The profile that was read."""
    profile: Profile
    records: bytes
    until: int
    profile_bytes: bytes = b""

    @property
    def turns(self) -> bool:
        """Whether somebody we knew objects, or withdrew, who had not."""
        return not self.person.is_new and silence(self.profile) > silence(self.was)


def _silenced(
    merges: Sequence[tuple[str, str]], said: Mapping[str, Profile]
) -> list[tuple[str, Profile]]:
    """Those who had not objected, or withdrawn, and are joined with somebody who has."""
    strictest, found = dict(said), []
    for pair in merges:
        profile = max((strictest[pid] for pid in pair), key=silence)
        found += [(pid, profile) for pid in pair if silence(profile) > silence(strictest[pid])]
        strictest[pair[0]] = profile
    return found


def _is_others(identifier: Identifier, person: Person) -> bool:
    """Whether it can only be another customer's than this person."""
    listed = person.identifiers
    return identifier not in listed and two_customers([identifier], listed)


def _count(ready: _Ready, written: Written) -> None:
    written.people += 1
    written.new += ready.person.is_new
    written.records += len(ready.records) // RECORD_BYTES
    written.bytes += len(ready.profile_bytes) + len(ready.records)


def _last_time(records: bytes) -> int:
    """The time of the last record, 0 if there is none."""
    start = len(records) - RECORD_BYTES
    return int.from_bytes(records[start : start + 4], "little") if start >= 0 else 0


def _new_purchases(ready: _Ready) -> list[bytes]:
    before, after = ready.person.records, ready.records
    if ready.person.is_new or before == after:
        return []
    old = {before[at : at + RECORD_BYTES] for at in range(0, len(before), RECORD_BYTES)}
    every = [after[at : at + RECORD_BYTES] for at in range(0, len(after), RECORD_BYTES)]
    return [record for record in every if record[4] in PURCHASES and record not in old]
