"""How do the forgotten leave the files? Each file that speaks of them is written again without.

A new file takes the place of the old one in one step, after it is on the disk: a crash leaves the
one or the other, and the next run goes on. In plain files every line keeps its length, by blanks at
its end, so that the offset up to which the file was applied stays true. The file a writer is still
adding to is first ended, by asking for it (see `output.ROTATE`), and then treated as all others.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from bidder.events.files import COMPRESSED, PLAIN, files_of, sync_directory, writers_of
from bidder.events.forgotten import Forgotten
from bidder.events.keeping import alone
from bidder.events.output import ROTATE
from bidder.events.reading import CHUNK_BYTES, opened
from bidder.events.schema import AnyEvent, decode, encode

WAIT_SECONDS = 5.0
"""The longest to wait for a writer to end its file."""
POLL_SECONDS = 0.05
TEMPORARY = ".compact.tmp"
_PERSON = re.compile(rb'"person":"([^"\\]+)"')


class Compacted(Struct):
    """What came of it."""

    files: int = 0
    """Looked through."""
    rewritten: int = 0
    lines: int = 0
    """Lines that spoke of somebody forgotten."""
    open_files: int = 0
    """Still being written to: their writer did not end them in time. Run it again."""


def compact(
    directory: Path,
    forgotten: Forgotten,
    clock: Callable[[], float],
    pause: Callable[[float], None],
) -> Compacted:
    """Remove whom `forgotten` covers from all files under `directory`.

    Blocking; `clock` is monotonic, `pause` sleeps. Raises `OSError`.
    """
    forgotten.refresh()
    done = Compacted()
    with ExitStack() as locks, alone(directory):
        writers = {writer: _is_idle(writer, locks) for writer in writers_of(directory)}
        busy = [writer for writer, idle in writers.items() if not idle]
        for writer in busy:
            (writer / ROTATE).touch()
        _wait_for_rotation(busy, clock, pause)
        for writer, idle in writers.items():
            _compact_writer(writer, idle, forgotten, done)
    return done


def mentions(directory: Path, people: list[str]) -> Iterator[AnyEvent]:
    """Every event of any of `people` that is in the log, by writer and age; for who asks for it.

    Looks through chunks, not lines, so that a thread doing this leaves the others their turn.
    """
    needles = [msgspec.json.encode(person) for person in people]
    for writer in writers_of(directory):
        for file in files_of(writer):
            with opened(file.path) as stream:
                for chunk in _chunks(stream):
                    if any(needle in chunk for needle in needles):
                        yield from _events_of(chunk, people)


def _events_of(chunk: bytes, people: list[str]) -> Iterator[AnyEvent]:
    for line in chunk.splitlines():
        try:
            event = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if getattr(event, "person", "") in people:
            yield event


def _is_idle(writer: Path, locks: ExitStack) -> bool:
    """Whether nobody writes there; then nobody will until `locks` are let go."""
    fd = os.open(writer / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return False
    locks.callback(os.close, fd)
    return True


def _wait_for_rotation(
    writers: list[Path], clock: Callable[[], float], pause: Callable[[float], None]
) -> None:
    """Return when each has ended the file it was writing, or has had time enough."""
    end = clock() + WAIT_SECONDS
    while any((writer / ROTATE).exists() for writer in writers) and clock() < end:
        pause(POLL_SECONDS)


def _compact_writer(writer: Path, idle: bool, forgotten: Forgotten, done: Compacted) -> None:
    for leftover in (*writer.glob("*" + TEMPORARY), *writer.glob("*.zst.tmp")):
        leftover.unlink()  # of a crash; it may hold what is to be removed
    unheard = (writer / ROTATE).exists()
    (writer / ROTATE).unlink(missing_ok=True)
    for file in files_of(writer):
        if file.compressed:  # a crash may have left the plain one, which nobody reads
            plain = file.path.name.removesuffix(COMPRESSED) + PLAIN
            file.path.with_name(plain).unlink(missing_ok=True)
        if file.finished or idle:
            _compact_file(file.path, file.compressed, forgotten, done)
        elif unheard:
            done.open_files += 1


def _compact_file(path: Path, compressed: bool, forgotten: Forgotten, done: Compacted) -> None:
    """Replace the file, if anybody forgotten is in it."""
    done.files += 1
    with opened(path) as stream:
        if not any(_speaks_of(chunk, forgotten) for chunk in _chunks(stream)):
            return
    temporary = path.with_name(path.name + TEMPORARY)
    times = path.stat()
    with opened(path) as source, temporary.open("wb") as target:
        out = _compressor(target) if compressed else target
        for chunk in _chunks(source):
            out.write(_rewritten(chunk, forgotten, done) if _speaks_of(chunk, forgotten) else chunk)
        if compressed:
            out.close()
    with temporary.open("rb+") as written:
        os.fsync(written.fileno())
    os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))  # `keeping.expire` goes by it
    temporary.replace(path)
    sync_directory(path.parent)
    done.rewritten += 1


def _compressor(target: BinaryIO) -> BinaryIO:
    import pyarrow  # 0.1 s and 50 MB, and not before there is something to compress

    stream: BinaryIO = pyarrow.CompressedOutputStream(target, "zstd")
    return stream


def _speaks_of(chunk: bytes, forgotten: Forgotten) -> bool:
    """Whether anybody in these lines was ever forgotten, at whatever time."""
    people = set(_PERSON.findall(chunk))
    return any(forgotten.covers(person.decode("utf-8", "replace"), 0.0) for person in people)


def _rewritten(chunk: bytes, forgotten: Forgotten, done: Compacted) -> bytes:
    return b"".join([_line(line, forgotten, done) for line in chunk.splitlines(keepends=True)])


def _line(line: bytes, forgotten: Forgotten, done: Compacted) -> bytes:
    """The line without the person, of the same length."""
    if not _speaks_of(line, forgotten):
        return line
    try:
        event = decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        done.lines += 1
        return _padded(b"", len(line), line)  # torn, and of no use to anybody
    less = forgotten.anonymous(event)
    if less is event:
        return line
    done.lines += 1
    return _padded(encode(less).rstrip(b"\n"), len(line), line)


def _padded(text: bytes, length: int, line: bytes) -> bytes:
    """`text` with blanks up to the `length` of `line`, which ends as before."""
    end = b"\n" if line.endswith(b"\n") else b""
    return text + b" " * (length - len(text) - len(end)) + end


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Whole lines, some hundred kilobytes at a time; the last one may lack its newline."""
    rest = b""
    while chunk := stream.read(CHUNK_BYTES):
        whole = chunk.rfind(b"\n") + 1
        if whole:
            yield rest + chunk[:whole]
            rest = chunk[whole:]
        else:
            rest += chunk
    if rest:
        yield rest
