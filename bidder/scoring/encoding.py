"""What do the trees see of a name that has many? How often its ads were clicked, or led to a sale.

A row carries buckets (a hash of the domain, the creative...), which outlive the models trained on
them. A split on buckets is slow: it tripled the cost of a compiled model. So a model directory
holds, per role and feature, a table from bucket to smoothed rate, and `Encoding` puts the rates in
the buckets' place between row and trees. A bucket that training never saw has the average rate.
"""

from collections.abc import Mapping
from math import isfinite

from msgspec import Struct

from bidder.scoring import features
from bidder.scoring.features import Row


class Rates(Struct, frozen=True):
    """One feature's table as it stands in `encoding.json`."""

    average: float
    """For buckets that are not listed, and where the feature is unknown."""
    rates: dict[int, float]


class Encoding:
    """The tables of one role, by feature. Raises `ValueError` on a table that makes no sense.

    Not for use by several threads at once: the row that `apply` returns is its own.
    """

    def __init__(self, tables: Mapping[str, Rates]) -> None:
        for name, table in tables.items():
            if name not in features.BUCKETED:
                raise ValueError(f"{name!r} is no feature with buckets")
            if not all(map(isfinite, (table.average, *table.rates.values()))):
                raise ValueError(f"a rate of {name!r} is not finite")
        self._tables = [
            (features.NAMES.index(name), {float(b): rate for b, rate in table.rates.items()}.get,
             table.average)
            for name, table in tables.items()
        ]  # fmt: skip
        self._row = features.new_row()
        self._encoded = _numbers(self._row)

    def apply(self, row: Row) -> Row:
        """`row` with rates in the place of buckets; overwritten by the next call."""
        if not self._tables:
            return row
        given, encoded = _numbers(row), self._encoded
        encoded[:] = given
        for column, rate_of, average in self._tables:
            encoded[column] = rate_of(given[column], average)
        return self._row


def _numbers(row: Row) -> "memoryview[float]":
    """The numbers of a row, which ctypes itself hands out at twice the price."""
    return memoryview(row).cast("B").cast("d")


PLAIN = Encoding({})
"""No feature is encoded."""
