"""How do a company's files get into the store? `bidder crm import`.

Files are gathered into columns (`bidder.crm.gathering`), sorted by person, and written in batches
while the next is made ready. A finished batch is noted, so that an import that was stopped goes on
where it was; and as all writing is a union, doing it all again changes nothing either.
"""

import asyncio
import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from bidder.capping import Channel
from bidder.capping import Kind as Touch
from bidder.capping.ledger import KEEP_SECONDS
from bidder.capping.ledger import RECORD_BYTES as LEDGER_BYTES
from bidder.crm.activity import MAX_RECORDS, RECORD_BYTES, Keep, Kind, united
from bidder.crm.batch import Change, Written
from bidder.crm.blocks import Unreadable
from bidder.crm.gathering import Gathered, Names, Numbers, Tally
from bidder.crm.mapping import Mapping, format_of
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.writing import Writer
from bidder.person import Profile
from bidder.store import keys
from bidder.store.links import Links

BATCH = 4000
"""People per round trip."""
IN_FLIGHT = 2
ROUND_EVENTS = 16_000_000
"""Records gathered before they are written: half a gigabyte."""
CHANNELS = {
    Kind.EMAIL_SENT: Channel.EMAIL,
    Kind.SMS_SENT: Channel.SMS,
    Kind.PUSH_SENT: Channel.PUSH,
}
LEDGER_DTYPE = np.dtype(
    [
        ("time", "<u4"), ("what", "u1"), ("specificity", "u1"), ("hold", "<u2"),
        ("advertiser", "<u4"), ("campaign", "<u4"), ("line_item", "<u4"), ("creative", "<u4"),
        ("page", "<u4"), ("key", "<u8"),
    ]
)  # fmt: skip
assert LEDGER_DTYPE.itemsize == LEDGER_BYTES

Progress = Callable[[str, int, int], None]
"""Gets what is being done, how far it is, and how far it goes."""


class Imported(Struct):
    """What came of an import."""

    tally: Tally
    written: Written
    problems: list[str]
    """Files that could not be read."""
    skipped: int = 0
    """Batches that an earlier, stopped import had finished."""


class Rejects:
    """The file of refused rows: where they stand and why, never what they say."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._rows: Any = None

    def __call__(self, path: Path, line: int, reason: str) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", newline="", encoding="utf-8")
            self._rows = csv.writer(self._file)
            self._rows.writerow(["file", "line", "reason"])
        self._rows.writerow([path.name, line, reason])

    def close(self) -> None:
        """Finish the file, if there is any."""
        if self._file is not None:
            self._file.close()


class Checkpoint:
    """How many batches of this very import are done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.done = int(json.loads(path.read_text())["done"])
        except (OSError, ValueError, KeyError, TypeError):
            self.done = 0

    def save(self, done: int) -> None:
        """Note it, atomically."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        made = self._path.with_suffix(".new")
        made.write_text(json.dumps({"done": done}))
        made.replace(self._path)

    def finished(self) -> None:
        """Forget it: the next import of the same files starts anew."""
        self._path.unlink(missing_ok=True)


def fingerprint(mapping: Mapping, files: Sequence[Path]) -> str:
    """What makes two imports the same one: the mapping, and the files as they are."""
    parts = [mapping.model_dump_json()]
    for path in files:
        state = path.stat()
        parts.append(f"{path.absolute()}\0{state.st_size}\0{state.st_mtime_ns}")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


async def import_files(
    links: Links,
    writer: Writer,
    mapping: Mapping,
    files: Sequence[Path],
    pseudonyms: Pseudonyms,
    keep: Keep,
    now: int,
    rejects: Rejects,
    checkpoint: Checkpoint,
    progress: Progress = lambda what, done, total: None,
) -> Imported:
    """Import these files. A file that cannot be read is a problem, and the others are imported.

    Raises `StoreUnavailable`; what was written before stays, and importing again goes on there.
    """
    await writer.spare_tombstones()
    names = Names(pseudonyms, mapping.advertiser)
    gathered = Gathered(mapping, names, keep, now, rejects)
    result = Imported(gathered.tally, Written(), [])
    pipeline = _Pipeline(writer, checkpoint, result, now)
    total = sum(path.stat().st_size for path in files if path.exists())
    before = 0
    for path in files:
        source = mapping.source_of(path)
        if source is None:
            result.problems.append(f"{path}: no entry of the mapping matches its name")
            continue
        if not format_of(path, source):
            result.problems.append(f"{path}: neither its name nor the mapping says its format")
            continue
        try:
            gathered.file(path, source, partial(_read, progress, before, total))
            before += path.stat().st_size
        except (Unreadable, OSError) as problem:
            result.problems.append(f"{path}: {problem}")
        if gathered.events >= ROUND_EVENTS:
            await pipeline.run(gathered, progress)
    await pipeline.run(gathered, progress)
    if gathered.categories:
        named: list[str] = []
        for name, number in gathered.categories.items():
            named += [f"{number:08x}", name]
        await links.bulk([("HSET", keys.CATEGORIES, *named[:20_000])])
    checkpoint.finished()
    return result


def _read(progress: Progress, before: int, total: int, done: int) -> None:
    progress("reading", before + done, total)


class _Pipeline:
    """Writes what was gathered, batch by batch, several at a time."""

    def __init__(self, writer: Writer, checkpoint: Checkpoint, result: Imported, now: int) -> None:
        self._writer = writer
        self._checkpoint = checkpoint
        self._result = result
        self._now = now
        self._number = 0

    async def run(self, gathered: Gathered, progress: Progress) -> None:
        """Write all that was gathered since the last time."""
        sorted_out = _Sorted(gathered, self._now)
        under_way: list[asyncio.Task[Written]] = []
        done = 0
        try:
            for changes in sorted_out.batches():
                self._number += 1
                if self._number <= self._checkpoint.done:
                    self._result.skipped += 1
                    done += len(changes)
                    continue
                if len(under_way) >= IN_FLIGHT:
                    await self._finish(under_way.pop(0))
                under_way.append(asyncio.create_task(self._writer.write(changes, self._now)))
                await asyncio.sleep(0)
                done += len(changes)
                progress("writing", done, sorted_out.people)
            while under_way:
                await self._finish(under_way.pop(0))
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _finish(self, task: "asyncio.Task[Written]") -> None:
        self._result.written.add(await task)
        self._checkpoint.save(max(self._checkpoint.done, 0) + 1)
        self._checkpoint.done += 1


class _Sorted:
    """Everything gathered, by person."""

    def __init__(self, gathered: Gathered, now: int) -> None:
        names = gathered.names
        records, who, (seen_who, seen_at) = gathered.taken()
        roots = names.roots()
        touched = np.unique(roots[np.concatenate([who[:0], *gathered.named])])
        gathered.named.clear()
        self.people = len(touched)
        self._names = names
        group = np.searchsorted(touched, roots)
        group[~np.isin(roots, touched)] = self.people  # nobody, this time
        order = np.argsort(group[who] << 32 | records["time"].astype(np.int64), kind="stable")
        self._records = records[order]
        owner = group[who][order]
        del records, order
        self._bounds = np.searchsorted(owner, np.arange(self.people + 1))
        self._untidy = _untidy(self._records, owner, self._bounds)
        self._contacts, self._contact_bounds = _contacts(self._records, owner, self.people, now)
        members = np.argsort(group, kind="stable")
        self._members = members.tolist()
        self._member_bounds = np.searchsorted(group[members], np.arange(self.people + 1)).tolist()
        self._first = np.zeros(self.people, np.int64)
        if len(seen_who):
            first = np.full(self.people, np.iinfo(np.int64).max)
            np.minimum.at(first, group[seen_who], seen_at)
            self._first = np.where(first == np.iinfo(np.int64).max, 0, first)
        self._told: dict[int, list[Profile]] = {}
        for number, profile in gathered.told.items():
            self._told.setdefault(int(group[number]), []).append(profile)
        gathered.told.clear()

    def batches(self) -> Iterator[list[Change]]:
        """The changes of all people, in an order that the files alone decide."""
        for start in range(0, self.people, BATCH):
            yield [self._change(place) for place in range(start, min(start + BATCH, self.people))]

    def _change(self, place: int) -> Change:
        low, high = self._bounds[place], self._bounds[place + 1]
        records = self._records[low:high].tobytes()
        if self._untidy[place]:
            records = united(None, records)
        names = self._names
        numbers = self._members[self._member_bounds[place] : self._member_bounds[place + 1]]
        ids = [names.identifiers[number] for number in numbers]
        ids.sort(key=lambda each: each[0] != "crm")
        former = [each for number in numbers for each in names.former.get(number, ())]
        return Change(tuple(ids), records, self._ledger(place), self._words(place), tuple(former))

    def _ledger(self, place: int) -> tuple[bytes, ...]:
        low, high = self._contact_bounds[place], self._contact_bounds[place + 1]
        if low == high:
            return ()
        raw = self._contacts[low:high].tobytes()
        return tuple([raw[at : at + LEDGER_BYTES] for at in range(0, len(raw), LEDGER_BYTES)])

    def _words(self, place: int) -> Profile | None:
        first = int(self._first[place])
        several = self._told.get(place)
        if several is None:
            return Profile(first_seen=first) if first else None
        latest = max(several, key=lambda each: each.consent_time)
        objected = any(each.opted_out for each in several)
        return replace(latest, opted_out=objected, first_seen=first)


def _untidy(
    records: npt.NDArray[np.void], owner: Numbers, bounds: Numbers
) -> npt.NDArray[np.bool_]:
    """People whose records may hold one twice, out of order, or too many."""
    untidy: npt.NDArray[np.bool_] = np.diff(bounds) > MAX_RECORDS
    same = (owner[1:] == owner[:-1]) & (records["time"][1:] == records["time"][:-1])
    untidy[owner[1:][same]] = True
    orders = np.flatnonzero(records["reference"])
    if len(orders):
        pairs = np.stack([owner[orders].astype(np.uint64), records["reference"][orders]])
        pairs = pairs[:, np.lexsort(pairs)]
        again = (pairs[:, 1:] == pairs[:, :-1]).all(axis=0)
        untidy[pairs[0, 1:][again].astype(np.int64)] = True
    return untidy


def _contacts(
    records: npt.NDArray[np.void], owner: Numbers, people: int, now: int
) -> tuple[npt.NDArray[np.void], Numbers]:
    """Messages sent, as the ledger keeps them, by person, and where each person's begin."""
    recent = records["time"].astype(np.int64) > now - KEEP_SECONDS + 86400
    chosen = np.flatnonzero(np.isin(records["kind"], [int(kind) for kind in CHANNELS]) & recent)
    sent = records[chosen]
    ledger = np.zeros(len(sent), LEDGER_DTYPE)
    ledger["time"], ledger["advertiser"] = sent["time"], sent["advertiser"]
    for kind, channel in CHANNELS.items():
        ledger["what"][sent["kind"] == kind] = Touch.IMPRESSION | channel << 4
    ledger["key"] = contact_keys(sent)
    bounds: Numbers = np.searchsorted(owner[chosen], np.arange(people + 1))
    return ledger, bounds


def contact_keys(sent: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """8 bytes by which a ledger knows a message again: the same record, the same key."""
    words = np.frombuffer(sent.tobytes(), "<u8").reshape(-1, RECORD_BYTES // 8)
    mixed = np.full(len(words), 0x9E3779B97F4A7C15, np.uint64)
    for place in range(words.shape[1]):  # the finaliser of SplitMix64 (Steele 2014), word by word
        mixed = mixed ^ words[:, place]
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
