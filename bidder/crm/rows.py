"""Which rows does a file hold? CSV, JSON Lines and Parquet as blocks of text columns."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet

from bidder.crm.blocks import MAX_FIELD_CHARS, Block, Reject, Unreadable
from bidder.crm.csvrows import csv_block
from bidder.crm.portions import Portion, portions

PARQUET_ROWS = 250_000
"""Rows of a block."""


def read(
    path: Path, format: str, names: list[str], reject: Reject, delimiter: str | None = None
) -> Iterator[Block]:
    """The rows of a file, of which only the columns `names` are kept.

    Raises `Unreadable` if it has none of the columns, or is not of its format, and `OSError`.
    """
    for portion in portions(path, format, names, delimiter):
        yield from blocks(portion, reject)


def blocks(portion: Portion, reject: Reject) -> Iterator[Block]:
    """The rows of a portion. Raises `Unreadable` and `OSError`."""
    if portion.format == "parquet":
        found = _row_group(portion)
    elif portion.format == "jsonl":
        found = iter([_json_lines(portion, reject)])
    else:
        assert portion.layout is not None
        found = iter([csv_block(portion.text, portion.first, portion.layout, reject)])
    yield from (block for block in found if len(block.lines))


def _row_group(portion: Portion) -> Iterator[Block]:
    row = portion.first
    try:
        with pa.parquet.ParquetFile(portion.path) as file:
            for batch in file.iter_batches(
                batch_size=PARQUET_ROWS, columns=portion.names, row_groups=[portion.group]
            ):
                columns = {name: _text(batch.column(name)) for name in portion.names}
                lines = np.arange(row, row + batch.num_rows)
                row += batch.num_rows
                yield Block(columns, lines)
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        raise Unreadable(f"from row {row}: {str(error).splitlines()[0]}") from None


def _text(column: pa.Array) -> pa.Array:
    """A column as text; timestamps stay what they are."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        return column  # text only where it is not read as a time
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if each is None else str(each) for each in column.to_pylist()])


def _json_lines(portion: Portion, reject: Reject) -> Block:
    paths = [(name, name.split(".")) for name in portion.names]
    columns: dict[str, list[str | None]] = {name: [] for name in portion.names}
    lines = []
    for number, line in enumerate(portion.text.split(b"\n"), portion.first):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            try:
                row = orjson.loads(line.decode("cp1252", "replace").encode())
            except orjson.JSONDecodeError as error:
                reject(number, f"not JSON: {error.msg}, at character {error.colno}")
                continue
        if type(row) is not dict:
            reject(number, "not a JSON object: each line must be one, {...}")
            continue
        lines.append(number)
        for name, steps in paths:
            columns[name].append(_reached(row, name, steps))
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return Block(arrays, np.array(lines, np.int64))


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
