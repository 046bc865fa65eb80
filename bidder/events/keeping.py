"""How is the log kept small, and for how long is it kept?

Files stay plain until they have been applied to their end; then they are compressed, and deleted
when they are old. All of it is blocking work for a thread beside the loop.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj

from bidder.events.files import COMPRESSED, PLAIN, log_files, sync_directory
from bidder.events.reading import CHUNK_BYTES, load_offsets

DAY_SECONDS = 86400
LOCK = "keeping.lock"
"""Beside the writers' folders."""


def keep(directory: Path, days: float, now: float) -> None:
    """Compress what has been applied, delete what was last written `days` ago. Raises `OSError`."""
    with alone(directory):
        compress(applied(directory))
        expire(directory, days, now)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """While no other process replaces files: what one has just removed, no other brings back."""
    directory.mkdir(parents=True, exist_ok=True)
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def applied(directory: Path) -> list[Path]:
    """The plain files that are finished and, by the saved offsets, applied to their end."""
    offsets = load_offsets(directory)
    return [
        file.path
        for file in log_files(directory)
        if file.finished
        and not file.compressed
        and offsets.get(f"{file.writer}/{file.path.name}", 0) >= file.path.stat().st_size
    ]


def compress(paths: Iterable[Path]) -> None:
    """Replace finished files by `.zst` ones, empty files by nothing. Raises `OSError`.

    A crash leaves the plain file, or both with the same content; readers then take the compressed.
    """
    import pyarrow  # 0.1 s and 50 MB, and not before there is something to compress

    for path in paths:
        times = path.stat()
        if times.st_size:
            temporary = path.with_name(path.name + ".zst.tmp")
            with (
                path.open("rb") as source,
                temporary.open("wb") as target,
                pyarrow.CompressedOutputStream(target, "zstd") as stream,
            ):
                copyfileobj(source, stream, CHUNK_BYTES)
            _sync(temporary)
            os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))  # `expire` goes by it
            temporary.replace(path.with_suffix(COMPRESSED))
            sync_directory(path.parent)
        path.unlink()


def expire(directory: Path, days: float, now: float) -> None:
    """Delete compressed files last written more than `days` before `now`, and crashes' leftovers.

    Plain files have not been applied and stay.
    """
    for writer in {file.path.parent for file in log_files(directory)}:
        for path in writer.glob("*" + COMPRESSED):
            if path.stat().st_mtime < now - days * DAY_SECONDS:
                path.unlink()
            else:
                path.with_name(path.name.removesuffix(COMPRESSED) + PLAIN).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
