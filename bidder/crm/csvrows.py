"""Which rows does a CSV file hold, whatever state it is in?

CSV comes from everywhere: with a byte order mark, in UTF-16, in Windows-1252 here and there, with
quotes that never close. The rule is that a bad row costs nothing but itself. So lines are counted
and checked in numpy, those that could mislead a parser are taken out and looked at one by one, and
Arrow parses the rest. Some megabytes at a time.
"""

import codecs
import csv
import io
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
from msgspec import Struct

from bidder.crm.blocks import Block, Reject, checked, decoded, shortened

BLOCK_BYTES = 4 << 20
"""Little enough that what is worked out of it stays in a processor's cache."""
MAX_ROW_BYTES = 1 << 20
MAX_JOINED_LINES = 50
"""A quoted field may span so many lines."""
_DELIMITERS = b",;\t|"
_QUOTE, _NEWLINE = ord('"'), ord("\n")


class Layout(Struct):
    """What the header of a CSV file says."""

    delimiter: bytes
    titles: list[str]
    names: list[str]
    """The columns to be kept that it has."""


def layout(
    file: IO[bytes], names: list[str], delimiter: str | None
) -> tuple[Layout, IO[bytes], int]:
    """The layout of a CSV file, the rest of it, and how many bytes the header has; it gives the
    `delimiter` where none is said. Raises `Unreadable` if it has none of the columns `names`."""
    header = file.readline(MAX_ROW_BYTES)
    size = len(header)
    if b"\r" in header.rstrip(b"\r\n"):  # lines that end in CR alone, as on old Macs
        text = (header + file.read()).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        file = io.BytesIO(text)
        header = file.readline(MAX_ROW_BYTES)
    header = header.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
    mark = delimiter.encode() if delimiter else _delimiter(header)
    titles = next(csv.reader([decoded(header)], delimiter=mark.decode()), [])
    titles = [title.strip() for title in titles]
    present = [name for name in names if name in titles]
    checked(present, names, titles)
    return Layout(mark, titles, present), file, size


def csv_block(text: bytes, number: int, shape: Layout, reject: Reject) -> Block:
    """The rows in `text`: whole rows, the first of which begins on line `number`."""
    return _Shape(shape, reject).block(text, number)


def _delimiter(header: bytes) -> bytes:
    """The likeliest of the usual ones."""
    best = max(_DELIMITERS, key=lambda each: header.count(bytes([each])))
    return bytes([best])


class _Shape:
    """What a row of one CSV file must look like, and how to get it into columns."""

    def __init__(self, shape: Layout, reject: Reject) -> None:
        self._mark = shape.delimiter
        self._count = len(shape.titles)
        self._names = shape.names
        self._places = {name: shape.titles.index(name) for name in shape.names}
        self._reject = reject

    def block(self, text: bytes, number: int) -> Block:
        """The rows in `text`, whole lines of which the first is line `number`."""
        text = _mended(text)
        if not text:
            return Block({}, np.empty(0, np.int64))
        if not text.endswith(b"\n"):
            text += b"\n"
        raw = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(raw == _NEWLINE)
        starts = np.concatenate([[0], ends[:-1] + 1])
        columns, odd = self._counted(raw, starts, ends, b'"' in text)
        blank = (ends - starts == 0) | ((ends - starts == 1) & (raw[starts] == ord("\r")))
        good = (columns == self._count) & ~odd & ~blank
        doubtful = np.flatnonzero(~good & ~blank)
        singles = self._doubtful(text, starts, ends, doubtful, good, number)
        return Block(*self._parse(raw, good, starts, ends, number, singles))

    def _counted(self, raw: Any, starts: Any, ends: Any, quoted: bool) -> tuple[Any, Any]:
        """How many columns each line has, and which lines are odd: too long, or a quote too few."""
        odd = ends - starts > MAX_ROW_BYTES
        marks = raw == self._mark[0]
        if not quoted:
            return _per_line(marks, starts) + 1, odd
        inside = _inside(raw)
        if not inside[ends].any():  # every line closes what it opens, as nearly always
            return _per_line(marks & (inside == 0), starts) + 1, odd
        columns, quotes = _per_line(marks, starts) + 1, _per_line(raw == _QUOTE, starts)
        odd |= (quotes & 1).astype(bool)
        some = np.flatnonzero((quotes > 0) & ~odd)
        if len(some):
            columns[some] = self._columns(raw, starts[some], ends[some])
        return columns, odd

    def _columns(self, raw: Any, starts: Any, ends: Any) -> Any:
        """How many columns these lines have, whose quotes pair up: delimiters outside them."""
        lengths = ends - starts + 1
        firsts = np.cumsum(lengths) - lengths
        if len(lengths) and int(lengths.sum()) == int(ends[-1]) + 1 - int(starts[0]):
            some = raw[int(starts[0]) : int(ends[-1]) + 1]
        else:
            some = raw[np.repeat(starts - firsts, lengths) + np.arange(int(lengths.sum()))]
        return _per_line((some == self._mark[0]) & (_inside(some) == 0), firsts) + 1

    def _doubtful(
        self, text: bytes, starts: Any, ends: Any, doubtful: Any, good: Any, number: int
    ) -> list[tuple[int, list[str]]]:
        """Rows saved from lines that are not plainly good; `good` no longer says they are."""
        saved: list[tuple[int, list[str]]] = []
        upto = -1
        for line in doubtful.tolist():
            if line <= upto:
                continue
            row, upto = self._joined(text, starts, ends, line, good)
            if row is None:
                row, upto = self._lenient(text[starts[line] : ends[line]]), line
            if row is None:
                self._reject(number + line, self._why(text[starts[line] : ends[line]]))
                continue
            good[line : upto + 1] = False
            saved.append((number + line, row))
        return saved

    def _why(self, line: bytes) -> str:
        """What is wrong with a line, and where."""
        if len(line) > MAX_ROW_BYTES:
            return (
                f"the row has {len(line)} bytes or more; {MAX_ROW_BYTES} are allowed: "
                "is a quote missing at the end of a field?"
            )
        found = len(_fields(decoded(line), self._mark))
        if line.count(b'"') % 2:
            at = line.rfind(b'"') + 1
            return f'column {at}: a quote that never closes; write quotes in a field twice ("")'
        return (
            f"{found} fields, the header has {self._count}; quote fields with the delimiter in them"
        )

    def _joined(
        self, text: bytes, starts: Any, ends: Any, line: int, good: Any
    ) -> tuple[list[str] | None, int]:
        """A row whose quoted field goes over several lines, if this begins one, and its last
        line."""
        quotes = text.count(b'"', starts[line], ends[line])
        if not quotes & 1:
            return None, line
        for upto in range(line + 1, min(line + MAX_JOINED_LINES, len(starts))):
            if good[upto]:
                return None, line  # a whole row of its own is never part of another
            quotes += text.count(b'"', starts[upto], ends[upto])
            if quotes & 1:
                continue
            whole = decoded(text[starts[line] : ends[upto]])
            if len(whole) > MAX_ROW_BYTES:
                return None, line
            row = _fields(whole, self._mark)
            return (row, upto) if len(row) == self._count else (None, line)
        return None, line

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


def _inside(raw: Any) -> Any:
    """1 where a byte stands inside quotes: the parity of the quotes up to it."""
    return np.bitwise_xor.accumulate((raw == _QUOTE).view(np.uint8))


def _per_line(flags: Any, starts: Any) -> Any:
    """How many flags are set in each line."""
    return np.add.reduceat(flags, starts, dtype=np.int32)


def _fields(line: str, mark: bytes) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(line.rstrip("\r"), newline=""), delimiter=mark.decode()))
    except (csv.Error, StopIteration):
        return []
