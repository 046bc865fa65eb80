"""How do a company's files get into the store? `bidder crm import`.

Files are cut into portions, read into columns (`bidder.crm.taking`), joined to one whole
(`bidder.crm.gathering`), sorted by person and written in batches. Large files are read and written
by several processes at once (`bidder.crm.crew`). A finished batch is noted, so that an import that
was stopped goes on where it was; and as all writing is a union, doing it all again changes nothing
either.
"""

import asyncio
import csv
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct

from bidder.crm.batch import Written
from bidder.crm.blocks import Unreadable
from bidder.crm.bulk import write
from bidder.crm.crew import Crew
from bidder.crm.csvrows import BLOCK_BYTES
from bidder.crm.gathering import Gathered
from bidder.crm.mapping import Mapping, format_of
from bidder.crm.sorting import Slice, Sorted
from bidder.crm.taking import Taker, Tally
from bidder.crm.writing import Retention, Writer
from bidder.store import keys
from bidder.store.links import Links

BATCH = 4000
"""People per round trip."""
IN_FLIGHT = 4
ROUND_EVENTS = 16_000_000
"""Records gathered before they are written: half a gigabyte."""
ORDER = 1
"""To be raised with each change of how people are numbered or sorted: an import that was stopped
before it begins anew, since its first batches are other ones now."""
LONGEST_PAUSE = 7 * 86400
"""Seconds. An import that was begun longer ago begins anew: it would write by too old a clock."""
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

    def __call__(self, path: Path, line: int, column: str, reason: str) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", newline="", encoding="utf-8")
            self._rows = csv.writer(self._file)
            self._rows.writerow(["file", "line", "column", "reason"])
        self._rows.writerow([path.name, line, column, reason])

    def close(self) -> None:
        """Finish the file, if there is any."""
        if self._file is not None:
            self._file.close()


class Checkpoint:
    """How many batches of this very import are done, and as of when it judges what it reads."""

    def __init__(self, path: Path, now: int) -> None:
        self._path = path
        try:
            noted = json.loads(path.read_text())
            done, began = int(noted["done"]), int(noted["now"])
        except (OSError, ValueError, KeyError, TypeError):
            done, began = 0, now
        self.done, self.now = (done, began) if began > now - LONGEST_PAUSE else (0, now)

    def save(self, done: int) -> None:
        """Note it, atomically."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        made = self._path.with_suffix(".new")
        made.write_text(json.dumps({"done": done, "now": self.now}))
        made.replace(self._path)

    def finished(self) -> None:
        """Forget it: the next import of the same files starts anew."""
        self._path.unlink(missing_ok=True)


def fingerprint(mapping: Mapping, files: Sequence[Path], retention: Retention) -> str:
    """What makes two imports the same one, batch by batch: the mapping, the files as they are, how
    long things are kept, and how this code cuts and sorts."""
    parts = [mapping.model_dump_json(), str(msgspec.to_builtins(retention))]
    parts.append(f"{ORDER} {BLOCK_BYTES} {ROUND_EVENTS} {BATCH}")
    for path in files:
        state = path.stat()
        parts.append(f"{path.absolute()}\0{state.st_size}\0{state.st_mtime_ns}")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


async def import_files(
    links: Links,
    writer: Writer,
    taker: Taker,
    files: Sequence[Path],
    rejects: Rejects,
    checkpoint: Checkpoint,
    progress: Progress = lambda what, done, total: None,
    crew: Crew | None = None,
) -> Imported:
    """Import these files. A file that cannot be read is a problem, and the others are imported.

    `taker` says what they mean, as of the checkpoint's `now`. With a `crew` its processes read and
    write. Raises `StoreUnavailable`; what was written before stays, and importing again goes on
    there.
    """
    mapping, now = taker.mapping, taker.now
    gathered = Gathered(mapping, crew.read if crew is not None else taker.read_all, rejects)
    result = Imported(gathered.tally, Written(), [])
    if crew is None:
        await writer.spare_tombstones()
    pipeline = _Pipeline(crew.write if crew else partial(write, writer), checkpoint, result, now)
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
    result.problems += gathered.notes
    checkpoint.finished()
    return result


def _read(progress: Progress, before: int, total: int, done: int) -> None:
    progress("reading", before + done, total)


class _Pipeline:
    """Writes what was gathered, batch by batch, several at a time."""

    def __init__(
        self,
        write: Callable[[Slice, int], Awaitable[Written]],
        checkpoint: Checkpoint,
        result: Imported,
        now: int,
    ) -> None:
        self._write = write
        self._checkpoint = checkpoint
        self._result = result
        self._now = now
        self._number = 0

    async def run(self, gathered: Gathered, progress: Progress) -> None:
        """Write all that was gathered since the last time."""
        sorted_out = Sorted(gathered, self._now)
        under_way: list[asyncio.Future[Written]] = []
        done = 0
        try:
            for slice_ in sorted_out.slices(BATCH):
                self._number += 1
                if self._number <= self._checkpoint.done:
                    self._result.skipped += 1
                    done += len(slice_)
                    continue
                if len(under_way) >= IN_FLIGHT:
                    await self._finish(under_way.pop(0))
                under_way.append(asyncio.ensure_future(self._write(slice_, self._now)))
                await asyncio.sleep(0)
                done += len(slice_)
                progress("writing", done, sorted_out.people)
            while under_way:
                await self._finish(under_way.pop(0))
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _finish(self, task: "asyncio.Future[Written]") -> None:
        self._result.written.add(await task)
        self._checkpoint.done += 1
        self._checkpoint.save(self._checkpoint.done)
