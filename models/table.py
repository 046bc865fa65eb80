"""What is trained on? One row per billed impression: the features logged with the bid, and labels.

As Parquet: a column per feature (float64, NaN = unknown), then `_time` (seconds since the epoch),
`_person`, `_advertiser`, `_click`, `_conversion` (was there one) and `_weight`. The version of
the features stands in the file's metadata.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bidder.scoring import features

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
_VERSION_KEY = b"feature_version"


class TableError(ValueError):
    """A table that cannot be trained on; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length n. `rows` is n x len(FEATURES), C order."""

    rows: Floats
    time: Floats
    person: NDArray[np.str_]
    """Rows of one person stay together in cross-fitting; empty = nobody known."""
    advertiser: NDArray[np.str_]
    click: Flags
    conversion: Flags
    weight: Floats
    """How many impressions a row stands for: 1 / rate for negatives sampled at a rate.

    Weighting in training undoes the sampling there, so nothing is left to correct when serving.
    """

    def __len__(self) -> int:
        return len(self.time)

    def take(self, index: NDArray[Any] | slice) -> "Table":
        """The rows at these positions, or where this mask holds."""
        return Table(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def by_time(self) -> "Table":
        """The same rows, oldest first; rows of one second keep their order."""
        return self.take(np.argsort(self.time, kind="stable"))


def write(table: Table, path: Path) -> None:
    """Write a table as one Parquet file."""
    columns = dict(zip(features.NAMES, table.rows.T, strict=True))
    labels = {f"_{f.name}": getattr(table, f.name) for f in fields(table) if f.name != "rows"}
    content = pa.table({name: pa.array(column) for name, column in (columns | labels).items()})
    marked = content.replace_schema_metadata({_VERSION_KEY: features.VERSION.encode()})
    pq.write_table(marked, path, compression="zstd")


def read(path: Path) -> Table:
    """Read what `write` wrote. Raises `TableError` on other features or a missing column."""
    content = pq.read_table(path)
    found = (content.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if found != features.VERSION:
        raise TableError(f"{path}: features of version {found}, wanted {features.VERSION}")
    try:
        columns = [content.column(name).to_numpy() for name in features.NAMES]
        labels = {
            field.name: content.column(f"_{field.name}").to_numpy()
            for field in fields(Table)
            if field.name != "rows"
        }
    except KeyError as error:
        raise TableError(f"{path}: lacks a column ({error})") from None
    for name in ("person", "advertiser"):
        labels[name] = labels[name].astype(np.str_)
    return Table(rows=np.column_stack(columns), **labels)
