"""What stands in the log, and what is new in it?

`read` goes over everything once; `Tail` follows the log as it grows and remembers how far it came.
Both pass over a line that a crash tore in two, and count it.
"""

import heapq
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from bidder.events.files import OFFSETS, LogFile, files_of, log_files, writer_names
from bidder.events.forgotten import Forgotten
from bidder.events.schema import AnyEvent, decode

CHUNK_BYTES = 256 << 10
SCAN_BYTES = 16 << 20
"""Most that one `Tail.batch` looks through: a long stretch of bids must not hold its caller up."""
RELIST_EVERY = 20
"""A directory's time of change is too coarse to show every new file: look anyway so often."""
SKIPPED = (b'{"type":"bid"', b'{"type":"no_bid"')
"""How the lines begin that `Tail` passes over unread: they are most of the log."""


@dataclass(slots=True)
class Tally:
    """How many lines were read, and how many of them made no sense."""

    lines: int = 0
    torn: int = 0


def read(
    directory: Path,
    since: float | None = None,
    until: float | None = None,
    *,
    tally: Tally | None = None,
    wanted: Callable[[bytes], bool] | None = None,
) -> Iterator[AnyEvent]:
    """All events with `since` <= time < `until`, of all writers, plain and compressed files.

    They come in the order of their times, as far as each writer's own lines do. `wanted` sees the
    raw line and may spare its decoding. Whoever was erased is no longer in them, whether or not the
    files have been compacted since.
    """
    tally = tally if tally is not None else Tally()
    forgotten = Forgotten(directory)
    forgotten.refresh()
    files = [file for file in log_files(directory) if file.may_hold(since, until)]
    streams = [
        _events(list(group), tally, wanted, forgotten)
        for _, group in groupby(files, lambda file: file.writer)
    ]
    for event in heapq.merge(*streams, key=lambda event: event.time):
        if (since is None or event.time >= since) and (until is None or event.time < until):
            yield event


def _events(
    files: list[LogFile],
    tally: Tally,
    wanted: Callable[[bytes], bool] | None,
    forgotten: Forgotten,
) -> Iterator[AnyEvent]:
    """The events of one writer, in the order of its lines."""
    hide = forgotten.anonymous if forgotten else None
    for file in files:
        with opened(file.path) as lines:
            for line in lines:
                if wanted is not None and not wanted(line):
                    continue
                tally.lines += 1
                try:
                    event = decode(line)
                    yield event if hide is None else hide(event)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    tally.torn += 1


def opened(path: Path) -> BinaryIO:
    """A file of the log as plain lines, also if it is compressed before we come to it."""
    try:
        if path.suffix != ".zst":
            return path.open("rb", buffering=CHUNK_BYTES)
    except FileNotFoundError:
        path = path.with_name(path.name + ".zst")
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        return BytesIO()  # deleted since it was listed: its time was over
    return _decompressed(raw)


def _decompressed(raw: BinaryIO) -> BinaryIO:
    import pyarrow  # 0.1 s and 50 MB: only for those who read old files

    stream = pyarrow.CompressedInputStream(raw, "zstd")
    return cast(BinaryIO, BufferedReader(stream, CHUNK_BYTES))


@dataclass(slots=True)
class _Followed:
    """One plain file and how far it was read: everything before `offset` is done."""

    file: LogFile
    offset: int
    partial: int = 0
    """Bytes after the last newline seen: a line not yet whole."""
    stream: BinaryIO | None = None
    done: bool = False
    """Finished, and read to its end."""


class _Writer:
    """The files of one writer, as `Tail` knows them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[str, _Followed] = {}
        self._changed = -1
        self._polls = 0

    def relist(self, offsets: dict[str, int]) -> None:
        """Take up new files, let go of those that are gone or compressed (so: applied)."""
        self._polls += 1
        try:
            changed = self.directory.stat().st_mtime_ns
            if changed == self._changed and self._polls % RELIST_EVERY:
                return
            self._changed = changed
            found = {file.path.name: file for file in files_of(self.directory)}
        except FileNotFoundError:
            found = {}
        for name in [name for name in self.files if name not in found]:
            _close(self.files.pop(name))
        for name, file in found.items():
            if file.compressed:
                continue
            if name in self.files:
                self.files[name].file = file
            else:
                key = f"{self.directory.name}/{name}"
                self.files[name] = _Followed(file, offsets.get(key, 0))


class Tail:
    """Follows every writer under `directory` from the saved offsets: each whole line once.

    The lines of one writer come in their order; between writers there is none. Offsets lie in
    `<directory>/offsets.json`. A compressed file has been applied (see `bidder.events.keeping`) and
    is left alone, even if the offsets are lost.
    """

    def __init__(self, directory: Path) -> None:
        self.tally = Tally()
        """Lines decoded, and those among them that could not be."""
        self._directory = directory
        self._path = directory / OFFSETS
        self._temporary = directory / f"{OFFSETS}.tmp"
        self._offsets = load_offsets(directory)
        self._writers: dict[str, _Writer] = {}
        self._turn = 0
        self._forgotten = Forgotten(directory)
        self._relist()

    def batch(self, limit: int) -> list[AnyEvent]:
        """At most `limit` new events, without bids and no-bids; empty if there are none.

        It stops after 16 MB, so an empty answer with `lag_bytes()` left means "call again". What
        was handed out comes again after a restart unless it was saved. Events of people who were
        erased name nobody: they are to be counted, and not to be written to anyone's ledger. Raises
        `OSError` for a file that cannot be read; what was read before it is handed out first.
        """
        self._relist()
        self._forgotten.refresh()
        events: list[AnyEvent] = []
        scanned = 0
        writers = list(self._writers.values())
        self._turn += 1  # another one first each time: none is starved
        idle = 0
        turn = self._turn
        while writers and idle < len(writers) and len(events) < limit and scanned < SCAN_BYTES:
            try:
                read = self._read_some(writers[turn % len(writers)], events, limit)
            except OSError:
                if not events:
                    raise
                break
            scanned += read
            idle = 0 if read else idle + 1
            turn += 1
        return events

    def reached(self) -> dict[str, int]:
        """How far all that was handed out goes: `<writer>/<file>` -> bytes."""
        return {
            f"{followed.file.writer}/{name}": followed.offset
            for writer in self._writers.values()
            for name, followed in writer.files.items()
        }

    def save(self, offsets: dict[str, int]) -> None:
        """Everything before `offsets` has been dealt with. Atomic. Raises `OSError`."""
        if offsets == self._offsets:
            return
        with self._temporary.open("wb") as file:
            file.write(msgspec.json.encode(offsets))
            file.flush()
            os.fsync(file.fileno())
        self._temporary.replace(self._path)
        self._offsets = offsets

    def lag_bytes(self) -> int:
        """Bytes of whole lines not yet handed out, bids included."""
        lag = 0
        for writer in self._writers.values():
            for followed in writer.files.values():
                if not followed.done:
                    size = _size(followed)
                    lag += max(0, size - followed.offset - followed.partial)
        return lag

    def close(self) -> None:
        """Close the files. Saves nothing."""
        for writer in self._writers.values():
            for followed in writer.files.values():
                _close(followed)

    def _relist(self) -> None:
        # By name: this runs at every poll, and a new Path leaves its mark among interned strings.
        for name in writer_names(self._directory):
            if name not in self._writers:
                self._writers[name] = _Writer(self._directory / name)
        for writer in self._writers.values():
            writer.relist(self._offsets)

    def _read_some(self, writer: _Writer, events: list[AnyEvent], limit: int) -> int:
        """Read one chunk of the oldest file that is not done. Returns the bytes got through."""
        for followed in writer.files.values():
            if followed.done:
                continue
            finished = followed.file.finished  # known before reading: nothing is added after
            read = self._read_chunk(followed, events, limit)
            if read or not finished:
                return read
            followed.offset = max(followed.offset, _size(followed))
            followed.partial = 0
            followed.done = True
            _close(followed)
        return 0

    def _read_chunk(self, followed: _Followed, events: list[AnyEvent], limit: int) -> int:
        if followed.stream is None:
            try:
                followed.stream = followed.file.path.open("rb", buffering=0)
            except FileNotFoundError:
                return 0
        chunk = _whole_lines(followed.stream, followed.offset, followed.file.finished)
        position = 0
        while position < len(chunk) and len(events) < limit:
            end = chunk.find(b"\n", position) + 1 or len(chunk)
            if not chunk.startswith(SKIPPED, position):
                self._take(chunk[position:end], events)
            position = end
        followed.offset += position
        followed.partial = 0 if chunk else max(0, _size(followed) - followed.offset)
        return position

    def _take(self, line: bytes, events: list[AnyEvent]) -> None:
        self.tally.lines += 1
        try:
            event = decode(line)
            events.append(self._forgotten.without_person(event) if self._forgotten else event)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.tally.torn += 1


def load_offsets(directory: Path) -> dict[str, int]:
    """`<writer>/<file>` -> bytes applied, as last saved under `directory`."""
    try:
        return msgspec.json.decode((directory / OFFSETS).read_bytes(), type=dict[str, int])
    except FileNotFoundError:
        return {}


def _whole_lines(stream: BinaryIO, offset: int, finished: bool) -> bytes:
    """The whole lines of at least one chunk from `offset`; the torn rest too if `finished`."""
    size = CHUNK_BYTES
    while True:
        chunk = os.pread(stream.fileno(), size, offset)
        whole = chunk.rfind(b"\n") + 1
        if whole:
            return chunk[:whole]
        if len(chunk) < size:
            return chunk if finished else b""
        size *= 2  # a line longer than the chunk


def _size(followed: _Followed) -> int:
    try:
        if followed.stream is not None:
            return os.fstat(followed.stream.fileno()).st_size
        return followed.file.path.stat().st_size
    except FileNotFoundError:
        return followed.offset


def _close(followed: _Followed) -> None:
    if followed.stream is not None:
        followed.stream.close()
        followed.stream = None
