"""What is trained on? One row per billed impression: the features logged with the bid, and labels.

As Parquet: a column per feature (float64, NaN = unknown), then those of `Table` with an underscore
before their name. The version of the features stands in the file's metadata. `models.dataset` makes
a folder of such files from the log; `write` makes one file of a simulated table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bidder.scoring import features

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
_VERSION_KEY = b"feature_version"
_TEXTS = ("person", "advertiser", "line_item", "model")


class TableError(ValueError):
    """A table that cannot be trained on; the message says why."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length n. `rows` is n x len(FEATURES), C order."""

    rows: Floats
    time: Floats
    person: NDArray[np.str_]
    """Rows of one person stay together in cross-fitting; empty = nobody known."""
    advertiser: NDArray[np.str_]
    line_item: NDArray[np.str_]
    """Path."""
    click: Flags
    conversion: Flags
    """A sale credited to the click."""
    view_conversion: Flags
    """A sale credited to the view."""
    conversion_delay: Floats
    """Seconds from the click to that sale; NaN where there is none."""
    elapsed: Floats
    """Seconds from the click, or else the bid, to when the log was read: a sale later than that
    is not known of. Infinite = all is known."""
    paid_cpm: Floats
    """In units of the advertiser's currency, as the next."""
    value_cpm: Floats
    """What the bidder valued the impression at."""
    p_click: Floats
    """What it said then, as the next."""
    p_conversion: Floats
    p_view: Floats
    model: NDArray[np.str_]
    """The version that said so."""
    weight: Floats
    """How many impressions a row stands for: 1 / rate for negatives sampled at a rate.

    Weighting in training undoes the sampling there: what comes out is the q = p / (p + (1 - p) / w)
    of He et al. 2014 already, and nothing is left to correct when serving.
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
    return _table([_content(path)], {})


def read_dataset(files: Sequence[Path], as_of: float, negatives: float = 1.0) -> Table:
    """The rows of a dataset's files, oldest first.

    `negatives` is the share kept of the impressions without click or sale, by hash of the bid id;
    each then stands for more. Raises `TableError`.
    """
    if not files:
        raise TableError("the dataset has no rows yet")
    parts = [_sampled(_content(path), negatives) for path in files]
    return _table(parts, {"elapsed": as_of}).by_time()


def _content(path: Path) -> pa.Table:
    content = pq.read_table(path, partitioning=None)
    found = (content.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if found != features.VERSION:
        raise TableError(f"{path}: features of version {found}, wanted {features.VERSION}")
    return content


def _sampled(content: pa.Table, negatives: float) -> pa.Table:
    if negatives >= 1:
        return content
    flags = [content.column(name) for name in ("_click", "_conversion", "_view_conversion")]
    positive = np.logical_or.reduce([flag.to_numpy() for flag in flags])
    ids = content.column("_bid_id").to_pylist()
    drawn = np.array([crc32(one.encode()) for one in ids], dtype=np.float64) < negatives * 2**32
    weight = np.where(positive, 1.0, 1 / negatives)
    place = content.schema.get_field_index("_weight")
    weighted = content.set_column(place, "_weight", pa.array(weight))
    return weighted.filter(pa.array(positive | drawn))


def _table(parts: Sequence[pa.Table], given: Mapping[str, float]) -> Table:
    """One table of several; `elapsed` follows from the time that the log was read, if given."""
    # By name and type alone: which columns may be null differs from day to day.
    plain = [pa.Table.from_arrays(part.columns, names=part.column_names) for part in parts]
    content = pa.concat_tables(plain)
    try:
        columns = [content.column(name).to_numpy() for name in features.NAMES]
        labels = {
            field.name: content.column(f"_{field.name}").to_numpy()
            for field in fields(Table)
            if field.name != "rows" and field.name not in given
        }
        if "elapsed" in given:
            clicked = pc.fill_null(content.column("_click_delay"), 0.0).to_numpy()
            labels["elapsed"] = given["elapsed"] - labels["time"] - clicked
            labels["conversion_delay"] = labels["conversion_delay"].astype(np.float64)
    except KeyError as error:
        raise TableError(f"the table lacks a column ({error})") from None
    for name in _TEXTS:
        labels[name] = labels[name].astype(np.str_)
    return Table(rows=np.column_stack(columns).astype(np.float64), **labels)
