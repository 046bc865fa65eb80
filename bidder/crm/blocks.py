"""What do readers of files hand on? Blocks of text columns; and how a file's bytes become text."""

import codecs
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MAX_FIELD_CHARS = 4096
"""Nothing that a mapping reads is longer; longer values are cut off, not the row."""

Reject = Callable[[int, str], None]
"""Gets the line (from 1; of Parquet the row) and what is wrong with it."""


class Unreadable(ValueError):
    """The file as a whole makes no sense; the message says why."""


class Block(NamedTuple):
    """Some rows: one text column for each name asked for, null where there is nothing."""

    columns: dict[str, pa.Array]
    lines: npt.NDArray[np.int64]


def checked(present: list[str], wanted: list[str], found: list[str]) -> None:
    """Raises `Unreadable` unless a column that is wanted is there."""
    if not any(found):
        raise Unreadable("the file is empty: its first line must name the columns")
    if not present:
        shown = ", ".join(found[:20])
        raise Unreadable(
            f"none of the columns {', '.join(wanted)}; it has {shown}: check `columns` and "
            "`delimiter` in the mapping"
        )


def opened(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked, in UTF-8 as far as its byte order mark tells."""
    raw = cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    start = raw.read(4)
    raw.seek(0)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return io.BufferedReader(_Transcoded(raw))
    return raw


class _Transcoded(io.RawIOBase):
    """UTF-16 read as UTF-8."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = self._raw.read(1 << 20)
            self._rest = self._decoder.decode(chunk, final=not chunk).encode("utf-8", "replace")
            if not chunk:
                break
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        self._raw.close()
        super().close()


def decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def shortened(field: str) -> str | None:
    return field[:MAX_FIELD_CHARS] or None
