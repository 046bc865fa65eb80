"""What do the trees see of a name that has many? How often its ads were clicked, or led to a sale.

A row carries buckets (a hash of the domain, the creative...), which outlive the models trained on
them. A split on buckets is slow: it tripled the cost of a compiled model. So a model directory
holds, per role and feature, a table from bucket to smoothed rate, and `Encoding` puts the rates in
the buckets' place between row and trees. A bucket that training never saw has the average rate.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite

from msgspec import Struct

from bidder.scoring import features
from bidder.scoring.features import Row

_rate: Callable[[dict[float, float], float, float], float] = dict.get


class Rates(Struct, frozen=True):
    """One feature's table as it stands in `encoding.json`."""

    average: float
    """For buckets that are not listed, and where the feature is unknown."""
    rates: dict[int, float]


class Encoding:
    """The tables of one role, by feature. Raises `ValueError` on a table that makes no sense."""

    def __init__(self, tables: Mapping[str, Rates]) -> None:
        for name, table in tables.items():
            if name not in features.BUCKETED:
                raise ValueError(f"{name!r} is no feature with buckets")
            if not all(map(isfinite, (table.average, *table.rates.values()))):
                raise ValueError(f"a rate of {name!r} is not finite")
        columns = {features.NAMES.index(name): table for name, table in tables.items()}
        self._runs = []
        for run in _runs(sorted(columns)):
            named = [columns[at] for at in range(run.start, run.stop)]
            rates = [{float(bucket): rate for bucket, rate in t.rates.items()} for t in named]
            self._runs.append((run, rates, [table.average for table in named]))

    def apply(self, row: Row) -> Sequence[float]:
        """`row` with rates in the place of buckets."""
        encoded = [*row]
        for run, rates, averages in self._runs:
            encoded[run] = map(_rate, rates, row[run], averages)
        return encoded


def _runs(columns: Sequence[int]) -> list[slice]:
    """Ascending columns as slices: neighbours are looked up in one go."""
    runs: list[slice] = []
    for at in columns:
        if runs and runs[-1].stop == at:
            runs[-1] = slice(runs[-1].start, at + 1)
        else:
            runs.append(slice(at, at + 1))
    return runs


PLAIN = Encoding({})
"""No feature is encoded."""
