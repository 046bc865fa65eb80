"""Of whom does the log no longer speak? The list beside it, asked by everything that reads lines.

`<directory>/forgotten.jsonl` holds the mark of a person and until when what the log says of them is
forgotten: for good, where they were erased or objected to profiling; until a moment, where they
came back after it. The last line about a mark counts, and none is added that says less than the one
before, but where the person allowed it again. Lines are added, so that a reader takes up
what is new between two lines of the log, and go in one step when all that the log could say of them
is gone too (`prune`).

A forgotten event is one as of somebody who never permitted anything: it keeps what the accounts and
the counts need, and nothing that singles the person out (see `FORGOTTEN_FIELDS`).
"""

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from bidder import settings
from bidder.events.schema import Event
from bidder.tombstones import Tombstones

FILE = "forgotten.jsonl"
LOCK = "forgotten.lock"
MOST_CACHED = 65536
FORGOTTEN_FIELDS: Mapping[str, Any] = {
    "person": "",
    "request_id": "",
    "imp_id": "",
    "features": [],
    "feature_version": "",
    "p_click": 0.0,
    "p_conversion": 0.0,
    "p_view": 0.0,
    "intrusiveness": 0.0,
    "consent": False,
    "train": False,
    "measure": False,
    "group": "",
    "extra": {},
    "page": 0,
    "click_id": "",
}
"""What each of these becomes, in whatever event has it. `order` is scrambled: it tells sales of one
bid apart."""

E = TypeVar("E", bound=Event)
_encoder = msgspec.json.Encoder()


class Entry(Struct, frozen=True, omit_defaults=True):
    """One line of the list."""

    mark: str
    until: float | None = None
    """Events before this time are forgotten; None = all."""
    at: float = 0.0
    """When the line was added, seconds since the epoch; 0 = by an older version."""


_decoder = msgspec.json.Decoder(Entry)


class Forgotten:
    """The list of one log directory. Not for two threads at once."""

    def __init__(
        self,
        directory: Path,
        tombstones: Tombstones | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Without `tombstones` their keys are looked up as the settings say, when first needed.

        Nothing is read before `refresh`.
        """
        self._path = directory / FILE
        self._state = directory.parent
        self._wall = wall
        self._tombstones = tombstones
        self._until: dict[str, float] = {}
        self._known: dict[str, float] = {}
        """Person -> until when, as far as asked: a mark costs more than a look here."""
        self._read_bytes = 0
        self._inode = 0

    def __bool__(self) -> bool:
        return bool(self._until)

    def refresh(self) -> None:
        """Take up what was added since. Raises `OSError`."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return
        if (status.st_ino, status.st_size) == (self._inode, self._read_bytes):
            return
        if status.st_ino != self._inode or status.st_size < self._read_bytes:
            self._read_bytes, self._until = 0, {}
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            added = file.read()
        whole = added.rfind(b"\n") + 1
        for line in added[:whole].splitlines():
            try:
                entry = _decoder.decode(line)
            except msgspec.MsgspecError:
                continue  # torn by a crash; whoever wrote it did not get an answer
            self._until[entry.mark] = math.inf if entry.until is None else entry.until
        self._inode, self._read_bytes = status.st_ino, self._read_bytes + whole
        self._known.clear()

    def covers(self, person: str, at: float) -> bool:
        """Whether what happened to `person` at this time is forgotten."""
        if not self._until or not person:
            return False
        until = self._known.get(person)
        if until is None:
            if len(self._known) >= MOST_CACHED:
                self._known.clear()
            until = self._known[person] = self._until_of(person)
        return at < until

    def _until_of(self, person: str) -> float:
        marks = self._marks().of_person(person)
        return max((self._until.get(mark, -math.inf) for mark in marks), default=-math.inf)

    def add(
        self, people: Iterable[str], until: float | None = None, *, lower: bool = False
    ) -> list[str]:
        """Forget these people, on the disk before it returns; of whom that was noted. What is
        forgotten until later stays so, unless `lower` says that they allowed it again themselves.

        Raises `OSError`.
        """
        most = math.inf if until is None else until
        with self._alone():
            self.refresh()
            noted = [each for each in people if lower or self._until_of(each) <= most]
            self._append({self._marks().of_person(each)[0]: until for each in noted})
        self.refresh()
        return noted

    def add_marks(self, marks: Mapping[str, float | None]) -> None:
        """The same for marks, just as other hosts noted them."""
        with self._alone():
            self._append(marks)
        self.refresh()

    def _append(self, marks: Mapping[str, float | None]) -> None:
        at = self._wall()
        lines = b"".join(
            _encoder.encode(Entry(mark, until, at)) + b"\n" for mark, until in marks.items()
        )
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            torn = os.fstat(fd).st_size and os.pread(fd, 1, os.fstat(fd).st_size - 1) != b"\n"
            os.write(fd, b"\n" * bool(torn) + lines)
            os.fsync(fd)
        finally:
            os.close(fd)

    def prune(self, keep_seconds: float) -> int:
        """Take off the list what was added longer ago: no line of the log is as old any more. How
        many lines that were. Raises `OSError`."""
        now, gone = self._wall(), 0
        with self._alone():
            if not self._path.exists():
                return 0
            lines = []
            for line in self._path.read_bytes().splitlines():
                try:
                    entry = _decoder.decode(line)
                except msgspec.MsgspecError:
                    gone += 1
                    continue
                if entry.at and entry.at + keep_seconds < now:
                    gone += 1
                else:  # of an older version: it counts from now
                    lines.append(_encoder.encode(Entry(entry.mark, entry.until, entry.at or now)))
            if gone:
                self._replace(b"".join(line + b"\n" for line in lines))
        self.refresh()
        return gone

    def _replace(self, content: bytes) -> None:
        made = self._path.with_name(FILE + ".new")
        with made.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        made.replace(self._path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process adds to the list or prunes it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path.with_name(LOCK), os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def has(self, mark: str, until: float | None) -> bool:
        """Whether the list says just this of a mark."""
        return self._until.get(mark) == (math.inf if until is None else until)

    def without_person(self, event: E) -> E:
        """`event` as it may be applied: the money counts, the person is not written to."""
        person = getattr(event, "person", "")
        if person and self.covers(person, event.time):
            return msgspec.structs.replace(event, person="")
        return event

    def anonymous(self, event: E) -> E:
        """`event` as it may be read: itself, unless it speaks of somebody forgotten."""
        person = getattr(event, "person", "")
        if not person or not self.covers(person, event.time):
            return event
        fields = event.__struct_fields__
        blank = {name: value for name, value in FORGOTTEN_FIELDS.items() if name in fields}
        if "order" in fields:
            bid_id: str = getattr(event, "bid_id", "")
            order: str = getattr(event, "order", "")
            blank["order"] = self._marks().scrambled(bid_id + order) if order else ""
        return msgspec.structs.replace(event, **blank)

    def _marks(self) -> Tombstones:
        if self._tombstones is None:
            self._tombstones = Tombstones(settings.tombstone_keys(self._state))
        return self._tombstones
