"""Into which portions can a file be cut, so that several processes read it at once?

A portion is some whole rows, which mean the same whatever stands before and after them. Of CSV and
JSON Lines these are bytes up to a line's end, of Parquet a row group. Where a quoted field may
reach over the end of a CSV portion, the cut is moved to before it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from msgspec import Struct

from bidder.crm.blocks import Unreadable, checked, opened
from bidder.crm.csvrows import BLOCK_BYTES, MAX_JOINED_LINES, MAX_ROW_BYTES, Layout, layout

TAIL_BYTES = 1 << 18
"""So much of the end of a portion usually tells where to cut."""
_QUOTE, _NEWLINE = ord('"'), ord("\n")
GIVE_UP_BYTES = 64 << 20
"""So long a stretch where every few lines have an odd number of quotes is cut anywhere."""


class Portion(Struct):
    """Some rows of one file."""

    path: Path
    format: str
    names: list[str]
    """The columns to be kept."""
    first: int
    """Number of the first line (of Parquet: row), from 1."""
    done_bytes: int
    """How much of the file is behind its end."""
    text: bytes = b""
    layout: Layout | None = None
    """None where each line has names of its own."""
    group: int = 0
    """Of Parquet: the row group."""


def portions(
    path: Path, format: str, names: list[str], delimiter: str | None = None
) -> Iterator[Portion]:
    """The portions of a file, in order.

    Raises `Unreadable` if it has none of the columns, or is not of its format, and `OSError`.
    """
    if format == "parquet":
        yield from _row_groups(path, names)
    elif format == "jsonl":
        yield from _lines(path, names)
    else:
        yield from _csv(path, names, delimiter)


def _row_groups(path: Path, names: list[str]) -> Iterator[Portion]:
    try:
        file = pa.parquet.ParquetFile(path)
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        raise Unreadable(f"not a Parquet file: {str(error).splitlines()[0]}") from None
    with file:
        columns = file.schema_arrow.names
        present = [name for name in names if name in columns]
        checked(present, names, columns)
        total, size, row = max(file.metadata.num_rows, 1), path.stat().st_size, 1
        for group in range(file.metadata.num_row_groups):
            first, row = row, row + file.metadata.row_group(group).num_rows
            done = size * (row - 1) // total
            shape = Layout(b"", columns, present)
            yield Portion(path, "parquet", present, first, done, layout=shape, group=group)


def _lines(path: Path, names: list[str]) -> Iterator[Portion]:
    with opened(path) as file:
        number, done = 1, 0
        while text := file.read(BLOCK_BYTES):
            text += file.readline()
            done += len(text)
            yield Portion(path, "jsonl", names, number, done, text)
            number += text.count(b"\n")


def _csv(path: Path, names: list[str], delimiter: str | None) -> Iterator[Portion]:
    with opened(path) as file:
        shape, rows, done = layout(file, names, delimiter)
        left, number = b"", 2
        while chunk := rows.read(BLOCK_BYTES):
            done += len(chunk)
            text = left + chunk
            cut = _safe_cut(text)
            text, left = text[:cut], text[cut:]
            if b"\n" not in left:  # a row longer than any may be is refused when its end comes
                left = left[: 2 * MAX_ROW_BYTES]
            if text:
                yield Portion(path, "csv", shape.names, number, done, text, shape)
                number += text.count(b"\n")
        if left:
            yield Portion(path, "csv", shape.names, number, done, left, shape)


def _safe_cut(text: bytes) -> int:
    """Where `text` can be cut: after a whole line, and inside no quoted field.

    A field spans `MAX_JOINED_LINES` at most. So a line with an odd number of quotes that has no
    other in so many lines before it begins a field or means nothing: the cut may be before it; and
    where there is none in the last lines, after them.
    """
    end = text.rfind(b"\n") + 1
    if not end or b'"' not in text:
        return end
    start = text.find(b"\n", max(end - TAIL_BYTES, 0)) + 1
    cut = _cut_in(text[start:end], MAX_JOINED_LINES) if end > TAIL_BYTES and start < end else 0
    if cut:
        return start + cut
    cut = _cut_in(text[:end], 0)
    return cut or (end if len(text) > GIVE_UP_BYTES else 0)


def _cut_in(text: bytes, least: int) -> int:
    """The same in whole lines, after at least so many of them; 0 = nowhere."""
    raw = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(raw == _NEWLINE)
    starts = np.concatenate([[0], ends[:-1] + 1])
    odd = np.flatnonzero(np.add.reduceat(raw == _QUOTE, starts, dtype=np.int32) & 1)
    cut = len(starts)
    for line in odd[::-1].tolist():
        if cut - line > MAX_JOINED_LINES:
            break
        cut = line
    if cut < least:
        return 0
    return int(starts[cut]) if cut < len(starts) else len(text)
