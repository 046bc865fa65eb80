"""Which rows does a file hold? CSV, JSON Lines and Parquet as blocks of text columns."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet

from bidder.crm.blocks import MAX_FIELD_CHARS, Block, Reject, Unreadable, checked, opened
from bidder.crm.csvrows import BLOCK_BYTES, csv_rows


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
        yield from csv_rows(path, names, reject, delimiter)


def _parquet(path: Path, names: list[str]) -> Iterator[Block]:
    try:
        file = pa.parquet.ParquetFile(path)
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        raise Unreadable(f"not a Parquet file: {str(error).splitlines()[0]}") from None
    with file:
        present = [name for name in names if name in file.schema_arrow.names]
        checked(present, names, file.schema_arrow.names)
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


def _json_lines(path: Path, names: list[str], reject: Reject) -> Iterator[Block]:
    paths = [(name, name.split(".")) for name in names]
    with opened(path) as file:
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
