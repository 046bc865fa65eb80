"""Which rows does a CSV file hold, whatever state it is in?

CSV comes from everywhere: with a byte order mark, in UTF-16, in Windows-1252 here and there, with
quotes that never close. The rule is that a bad row costs nothing but itself. So lines are counted
and checked in numpy, those that could mislead a parser are taken out and looked at one by one, and
Arrow parses the rest. 16 MB at a time.
"""

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from bidder.crm.blocks import Block, Reject, checked, decoded, opened, shortened

BLOCK_BYTES = 16 << 20
MAX_ROW_BYTES = 1 << 20
MAX_JOINED_LINES = 50
"""A quoted field may span so many lines."""
_DELIMITERS = b",;\t|"
_QUOTE, _NEWLINE = ord('"'), ord("\n")


def csv_rows(
    path: Path, names: list[str], reject: Reject, delimiter: str | None
) -> Iterator[Block]:
    """The rows of a CSV file, of which only the columns `names` are kept; the header gives the
    `delimiter` where none is said. Raises `Unreadable` if it has none of the columns, `OSError`."""
    with opened(path) as file:
        header = file.readline(MAX_ROW_BYTES)
        if b"\r" in header.rstrip(b"\r\n"):  # lines that end in CR alone, as on old Macs
            file = io.BytesIO((header + file.read()).replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
            header = file.readline(MAX_ROW_BYTES)
        header = header.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
        mark = delimiter.encode() if delimiter else _delimiter(header)
        titles = next(csv.reader([decoded(header)], delimiter=mark.decode()), [])
        titles = [title.strip() for title in titles]
        checked([name for name in names if name in titles], names, titles)
        shape = _Shape(mark, titles, [name for name in names if name in titles], reject)
        number, rest, done = 2, b"", len(header)
        while chunk := file.read(BLOCK_BYTES):
            done += len(chunk)
            text, rest = _cut(rest + chunk)
            block, number, left = shape.block(text, number, done, last=False)
            rest = left + rest
            if len(block.lines):
                yield block
        block, _, _ = shape.block(rest, number, done, last=True)
        if len(block.lines):
            yield block


def _delimiter(header: bytes) -> bytes:
    """The likeliest of the usual ones."""
    best = max(_DELIMITERS, key=lambda each: header.count(bytes([each])))
    return bytes([best])


def _cut(text: bytes) -> tuple[bytes, bytes]:
    """What ends with a line, and the rest. A rest too long for a row is shortened: it is refused
    when its end comes."""
    end = text.rfind(b"\n") + 1
    rest = text[end:]
    if len(rest) > 2 * MAX_ROW_BYTES:
        rest = rest[: 2 * MAX_ROW_BYTES]
    return text[:end], rest


class _Shape:
    """What a row of one CSV file must look like, and how to get it into columns."""

    def __init__(self, mark: bytes, titles: list[str], names: list[str], reject: Reject) -> None:
        self._mark = mark
        self._count = len(titles)
        self._titles = titles
        self._names = names
        self._places = {name: titles.index(name) for name in names}
        self._reject = reject

    def block(self, text: bytes, number: int, done: int, last: bool) -> tuple[Block, int, bytes]:
        """The rows in `text` (whole lines, of which the first is line `number`), the number of the
        line after them, and what must wait for more text: a quoted field that has not ended."""
        text = _mended(text)
        if not text:
            return Block({}, np.empty(0, np.int64), done), number, b""
        if not text.endswith(b"\n"):
            text += b"\n"
        raw = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(raw == _NEWLINE)
        starts = np.concatenate([[0], ends[:-1] + 1])
        quotes = _per_line(raw == _QUOTE, starts)
        odd = (quotes & 1).astype(bool) | (ends - starts > MAX_ROW_BYTES)
        marks = self._marks(raw, odd, starts, ends) if quotes.any() else raw == self._mark[0]
        columns = _per_line(marks, starts) + 1
        blank = (ends - starts == 0) | ((ends - starts == 1) & (raw[starts] == ord("\r")))
        good = (columns == self._count) & ~odd & ~blank
        doubtful = np.flatnonzero(~good & ~blank)
        singles, waiting = self._doubtful(text, starts, ends, doubtful, good, number, last)
        if waiting is not None:
            left, keep = text[starts[waiting] :], slice(0, waiting)
            good, starts, ends = good[keep], starts[keep], ends[keep]
        else:
            left = b""
        parsed = self._parse(raw, good, starts, ends, number, singles)
        return Block(*parsed, done), number + len(starts), left

    def _marks(self, raw: Any, odd: Any, starts: Any, ends: Any) -> Any:
        """Where the delimiters are that stand outside quotes, in lines whose quotes pair up."""
        quote = raw == _QUOTE
        for line in np.flatnonzero(odd):
            quote[starts[line] : ends[line]] = False
        inside = np.cumsum(quote, dtype=np.int64) & 1
        return (raw == self._mark[0]) & (inside == 0)

    def _doubtful(
        self, text: bytes, starts: Any, ends: Any, doubtful: Any, good: Any, number: int, last: bool
    ) -> tuple[list[tuple[int, list[str]]], int | None]:
        """Rows saved from lines that are not plainly good, and the first line that must wait."""
        saved: list[tuple[int, list[str]]] = []
        upto = -1
        for line in doubtful.tolist():
            if line <= upto:
                continue
            row, upto, why = self._joined(text, starts, ends, line, good)
            if (
                row is None
                and why == "open"
                and not last
                and len(text) - starts[line] < MAX_ROW_BYTES
            ):
                return saved, line
            if row is None:
                row = self._lenient(text[starts[line] : ends[line]])
                upto = line
            if row is None:
                length = ends[line] - starts[line]
                if length > MAX_ROW_BYTES:
                    reason = f"the row has {length} bytes or more; {MAX_ROW_BYTES} are allowed"
                else:
                    found = len(_fields(decoded(text[starts[line] : ends[line]]), self._mark))
                    reason = f"{found} columns, expected {self._count}, or quotes that never close"
                self._reject(number + line, reason)
                continue
            good[line : upto + 1] = False
            saved.append((number + line, row))
        return saved, None

    def _joined(
        self, text: bytes, starts: Any, ends: Any, line: int, good: Any
    ) -> tuple[list[str] | None, int, str]:
        """A row whose quoted field goes over several lines, its last line, and why it is none."""
        final = min(line + MAX_JOINED_LINES, len(starts))
        quotes = text.count(b'"', starts[line], ends[line])
        if not quotes & 1:
            return None, line, "shape"
        for upto in range(line + 1, final):
            if good[upto]:
                return None, line, "shape"  # a whole row of its own is never part of another
            quotes += text.count(b'"', starts[upto], ends[upto])
            if quotes & 1:
                continue
            whole = decoded(text[starts[line] : ends[upto]])
            if len(whole) > MAX_ROW_BYTES:
                return None, line, "shape"
            row = _fields(whole, self._mark)
            return (row, upto, "") if len(row) == self._count else (None, line, "shape")
        return None, line, "open" if final == len(starts) else "shape"

    def _lenient(self, line: bytes) -> list[str] | None:
        """A line whose quotes mean nothing, such as 5" in a product's name."""
        if len(line) > MAX_ROW_BYTES:
            return None
        fields = decoded(line).rstrip("\r").split(self._mark.decode())
        return [field.strip('"') for field in fields] if len(fields) == self._count else None

    def _parse(
        self, raw: Any, good: Any, starts: Any, ends: Any, number: int,
        singles: list[tuple[int, list[str]]],
    ) -> tuple[dict[str, pa.Array], npt.NDArray[np.int64]]:  # fmt: skip
        lines = np.flatnonzero(good) + number
        used = raw[: int(ends[-1]) + 1] if len(ends) else raw[:0]
        clean = (used if good.all() else used[np.repeat(good, ends - starts + 1)]).tobytes()
        columns = self._arrow(clean, len(lines)) if len(lines) else {}
        if columns is None:
            singles = [*singles, *self._one_by_one(clean, lines)]
            columns, lines = {}, np.empty(0, np.int64)
        if singles:
            more = {
                name: pa.array([shortened(row[place]) for _, row in singles], pa.string())
                for name, place in self._places.items()
            }
            columns = {
                name: pa.concat_arrays([columns[name], more[name]]) if columns else more[name]
                for name in self._names
            }
            lines = np.concatenate([lines, [line for line, _ in singles]]).astype(np.int64)
        return columns, lines

    def _arrow(self, clean: bytes, expected: int) -> dict[str, pa.Array] | None:
        """The columns of lines that are good, or None if Arrow sees other rows than we do."""
        unique = [f"{place}" for place in range(self._count)]
        chosen = {name: f"{place}" for name, place in self._places.items()}
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(clean),
                pa.csv.ReadOptions(column_names=unique, block_size=max(len(clean), 1 << 20)),
                pa.csv.ParseOptions(delimiter=self._mark.decode(), ignore_empty_lines=False),
                pa.csv.ConvertOptions(
                    include_columns=sorted(set(chosen.values())),
                    column_types=dict.fromkeys(chosen.values(), pa.string()),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != expected:
            return None
        return {name: table.column(key).combine_chunks() for name, key in chosen.items()}

    def _one_by_one(self, clean: bytes, lines: Any) -> list[tuple[int, list[str]]]:
        rows = []
        for line, number in zip(clean.split(b"\n"), lines.tolist(), strict=False):
            row = _fields(decoded(line).rstrip("\r"), self._mark)
            if len(row) != self._count:
                row = self._lenient(line) or []
            if row:
                rows.append((number, row))
            else:
                self._reject(number, f"expected {self._count} columns")
        return rows


def _mended(text: bytes) -> bytes:
    """UTF-8 without NUL characters or returns in the middle of a line."""
    if b"\0" in text:
        text = text.replace(b"\0", b"")
    if b"\r" in text and text.count(b"\r") != text.count(b"\r\n"):
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    try:
        text.decode()
    except UnicodeDecodeError:
        return b"\n".join([decoded(line).encode() for line in text.split(b"\n")])
    return text


def _per_line(flags: Any, starts: Any) -> Any:
    """How many flags are set in each line."""
    return np.add.reduceat(flags, starts, dtype=np.int32)


def _fields(line: str, mark: bytes) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(line.rstrip("\r"), newline=""), delimiter=mark.decode()))
    except (csv.Error, StopIteration):
        return []
