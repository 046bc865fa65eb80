"""Which rows does a file hold, whatever state it is in? Blocks of text columns, and what was wrong.

CSV comes from everywhere: with a byte order mark, in UTF-16, in Windows-1252 here and there, with
quotes that never close. The rule is that a bad row costs nothing but itself. So lines are counted
and checked in numpy, those that could mislead a parser are taken out and looked at one by one, and
Arrow parses the rest. 16 MB at a time.
"""

import codecs
import csv
import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

BLOCK_BYTES = 16 << 20
MAX_ROW_BYTES = 1 << 20
MAX_FIELD_CHARS = 4096
"""Nothing that a mapping reads is longer; longer values are cut off, not the row."""
MAX_JOINED_LINES = 50
"""A quoted field may span so many lines."""
_DELIMITERS = b",;\t|"
_QUOTE, _NEWLINE = ord('"'), ord("\n")

Reject = Callable[[int, str], None]
"""Gets the line (from 1; of Parquet the row) and what is wrong with it."""


class Unreadable(ValueError):
    """The file as a whole makes no sense; the message says why."""


class Block(NamedTuple):
    """Some rows: one text column for each name asked for, null where there is nothing."""

    columns: dict[str, pa.Array]
    lines: npt.NDArray[np.int64]
    done_bytes: int
    """How much of the file has been read, for the progress bar."""


def read(
    path: Path, format: str, names: list[str], reject: Reject, delimiter: str | None = None
) -> Iterator[Block]:
    """The rows of a file, of which only the columns `names` are kept.

    Raises `Unreadable` if it has none of the columns, or is not of its format, and `OSError`.
    """
    if format == "parquet":
        yield from _parquet(path, names)
    elif format == "jsonl":
        yield from _json_lines(path, names, reject)
    else:
        yield from _csv(path, names, reject, delimiter)


def _parquet(path: Path, names: list[str]) -> Iterator[Block]:
    try:
        file = pa.parquet.ParquetFile(path)
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        raise Unreadable(f"not a Parquet file: {str(error).splitlines()[0]}") from None
    with file:
        present = [name for name in names if name in file.schema_arrow.names]
        _check(present, names, file.schema_arrow.names)
        row, rows, size = 1, max(file.metadata.num_rows, 1), path.stat().st_size
        for batch in file.iter_batches(batch_size=250_000, columns=present):
            columns = {name: _text(batch.column(name)) for name in present}
            lines = np.arange(row, row + batch.num_rows)
            row += batch.num_rows
            yield Block(columns, lines, size * (row - 1) // rows)


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if each is None else str(each) for each in column.to_pylist()])


def _check(present: list[str], wanted: list[str], found: list[str]) -> None:
    """Raises `Unreadable` unless a column that is wanted is there."""
    if not present:
        shown = ", ".join(found[:20])
        raise Unreadable(f"none of the columns {', '.join(wanted)}; it has {shown}")


def _json_lines(path: Path, names: list[str], reject: Reject) -> Iterator[Block]:
    paths = [(name, name.split(".")) for name in names]
    with _opened(path) as file:
        number, done = 0, 0
        while some := file.readlines(BLOCK_BYTES):
            columns: dict[str, list[str | None]] = {name: [] for name in names}
            lines = []
            for line in some:
                number += 1
                done += len(line)
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if not line.strip():
                    continue
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    try:
                        row = orjson.loads(line.decode("cp1252", "replace").encode())
                    except orjson.JSONDecodeError as error:
                        reject(number, f"not JSON: {error.msg}")
                        continue
                if type(row) is not dict:
                    reject(number, "not a JSON object")
                    continue
                lines.append(number)
                for name, steps in paths:
                    columns[name].append(_reached(row, name, steps))
            arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
            yield Block(arrays, np.array(lines, np.int64), done)


def _reached(row: dict[str, Any], name: str, steps: list[str]) -> str | None:
    value: Any = row.get(name)
    if value is None and len(steps) > 1:
        value = row
        for step in steps:
            value = value.get(step) if type(value) is dict else None
    if value is None or type(value) is str:
        return value[:MAX_FIELD_CHARS].encode("utf-8", "replace").decode() if value else None
    if type(value) is bool:
        return "true" if value else "false"
    return str(value)[:MAX_FIELD_CHARS] if type(value) in (int, float) else None


def _opened(path: Path) -> IO[bytes]:
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


def _csv(path: Path, names: list[str], reject: Reject, delimiter: str | None) -> Iterator[Block]:
    with _opened(path) as file:
        header = file.readline(MAX_ROW_BYTES)
        if b"\r" in header.rstrip(b"\r\n"):  # lines that end in CR alone, as on old Macs
            file = io.BytesIO((header + file.read()).replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
            header = file.readline(MAX_ROW_BYTES)
        header = header.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
        mark = delimiter.encode() if delimiter else _delimiter(header)
        titles = next(csv.reader([_decoded(header)], delimiter=mark.decode()), [])
        titles = [title.strip() for title in titles]
        _check([name for name in names if name in titles], names, titles)
        shape = _Shape(mark, titles, [name for name in names if name in titles], reject)
        number, rest, done = 2, b"", len(header)
        while chunk := file.read(BLOCK_BYTES):
            done += len(chunk)
            text, rest = _cut(rest + chunk, number, reject)
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


def _cut(text: bytes, number: int, reject: Reject) -> tuple[bytes, bytes]:
    """What ends with a line, and the rest. A rest too long for a row is shortened: it is refused
    when its end comes."""
    end = text.rfind(b"\n") + 1
    rest = text[end:]
    if len(rest) > 2 * MAX_ROW_BYTES:
        rest = rest[: 2 * MAX_ROW_BYTES]
    return text[:end], rest


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


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
                    found = len(_fields(_decoded(text[starts[line] : ends[line]]), self._mark))
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
            whole = _decoded(text[starts[line] : ends[upto]])
            if len(whole) > MAX_ROW_BYTES:
                return None, line, "shape"
            row = _fields(whole, self._mark)
            return (row, upto, "") if len(row) == self._count else (None, line, "shape")
        return None, line, "open" if final == len(starts) else "shape"

    def _lenient(self, line: bytes) -> list[str] | None:
        """A line whose quotes mean nothing, such as 5" in a product's name."""
        if len(line) > MAX_ROW_BYTES:
            return None
        fields = _decoded(line).rstrip("\r").split(self._mark.decode())
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
                name: pa.array([_short(row[place]) for _, row in singles], pa.string())
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
            row = _fields(_decoded(line).rstrip("\r"), self._mark)
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
        return b"\n".join([_decoded(line).encode() for line in text.split(b"\n")])
    return text


def _per_line(flags: Any, starts: Any) -> Any:
    """How many flags are set in each line."""
    return np.add.reduceat(flags, starts, dtype=np.int32)


def _fields(line: str, mark: bytes) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(line.rstrip("\r"), newline=""), delimiter=mark.decode()))
    except (csv.Error, StopIteration):
        return []


def _short(field: str) -> str | None:
    return field[:MAX_FIELD_CHARS] or None
