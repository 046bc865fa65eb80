"""How are the files of the log named, and in which order do they stand?

`<directory>/<writer>/20261121T202056-000017.jsonl`: when it was begun (UTC) and its number within
the writer, which decides the order whatever the clock did. A finished and applied file becomes
`....jsonl.zst`. A writer ends a file before it begins the next, so all but its last are finished.
"""

import os
from calendar import timegm
from collections.abc import Iterator
from math import inf
from pathlib import Path
from re import compile as pattern
from time import gmtime, strftime, strptime
from typing import NamedTuple

PLAIN = ".jsonl"
COMPRESSED = ".jsonl.zst"
OFFSETS = "offsets.json"
"""How far each file has been applied: lies beside the writers' folders."""
SKEW_SECONDS = 3600.0
"""How far the clock may have jumped before a file is passed over by the times in the names."""

_STAMP = "%Y%m%dT%H%M%S"
_NAME = pattern(r"(\d{8}T\d{6})-(\d{6,})\.jsonl(\.zst)?")


class LogFile(NamedTuple):
    """One file of one writer."""

    path: Path
    writer: str
    sequence: int
    started: float
    """Seconds since the epoch, by the writer's clock."""
    ended: float
    """When the writer's next file was begun; infinite for its last."""

    @property
    def compressed(self) -> bool:
        """Zstandard; such a file has been applied to its end."""
        return self.path.name.endswith(COMPRESSED)

    @property
    def finished(self) -> bool:
        """Nothing will be added to it any more."""
        return self.ended < inf

    def may_hold(self, since: float | None, until: float | None) -> bool:
        """Whether events of `since` <= time < `until` may stand in it."""
        return (since is None or self.ended + SKEW_SECONDS >= since) and (
            until is None or self.started - SKEW_SECONDS < until
        )


def file_name(started: float, sequence: int) -> str:
    """The name of a file begun at `started`."""
    return f"{strftime(_STAMP, gmtime(started))}-{sequence:06d}{PLAIN}"


def files_of(writer: Path) -> list[LogFile]:
    """The files of one writer, oldest first. Raises `OSError` if there is no such directory."""
    found: dict[tuple[int, str], str] = {}
    for name in sorted(os.listdir(writer)):  # x.jsonl comes before x.jsonl.zst, which replaces it
        if match := _NAME.fullmatch(name):
            found[int(match[2]), match[1]] = name
    starts = [float(timegm(strptime(stamp, _STAMP))) for _, stamp in sorted(found)]
    ends = [*starts, inf][1:]
    return [
        LogFile(writer / found[key], writer.name, key[0], start, end)
        for key, start, end in zip(sorted(found), starts, ends, strict=True)
    ]


def writer_names(directory: Path) -> list[str]:
    """What the writers' folders under `directory` are called; none if it does not exist."""
    try:
        return sorted([entry.name for entry in os.scandir(directory) if entry.is_dir()])
    except FileNotFoundError:
        return []


def writers_of(directory: Path) -> list[Path]:
    """The writers' folders under `directory`, by name."""
    return [directory / name for name in writer_names(directory)]


def log_files(directory: Path) -> Iterator[LogFile]:
    """Every file of every writer, by writer and age."""
    for writer in writers_of(directory):
        try:
            yield from files_of(writer)
        except FileNotFoundError:
            continue  # removed since it was listed


def sync_directory(directory: Path) -> None:
    """Make names in `directory` survive a power cut. Raises `OSError`."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
