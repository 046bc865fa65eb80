"""Which rate stands for a bucket? Smoothed, and learnt only from rows that came before.

A row that helped to make its own rate would teach the trees to trust it too much. So rows are cut
by time into `BLOCKS`, and a row is encoded from the blocks before its own, as serving encodes it
from all that training saw. Smoothing adds `PRIOR_POSITIVES` at the average rate.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bidder.scoring import features
from bidder.scoring.encoding import Rates
from models.table import Floats

BLOCKS = 20
PRIOR_POSITIVES = 3.0

Tables = Mapping[str, Rates]


def in_order(rows: Floats, labels: Floats, weights: Floats, names: Sequence[str]) -> Floats:
    """`rows` (oldest first) with the features `names` encoded, each from earlier blocks alone.

    `labels` lie in 0..1: a conversion that may still come counts in part.
    """
    encoded = rows.copy()
    edges = np.linspace(0, len(rows), BLOCKS + 1).astype(int)
    for name in names:
        column = features.NAMES.index(name)
        buckets, known = _buckets(rows[:, column])
        positive, weight = np.zeros(features.BUCKETS), np.zeros(features.BUCKETS)
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            block = slice(start, end)
            rates, average = _smoothed(positive, weight)
            encoded[block, column] = np.where(known[block], rates[buckets[block]], average)
            add = buckets[block][known[block]]
            inside, share = labels[block][known[block]], weights[block][known[block]]
            positive += np.bincount(add, inside * share, features.BUCKETS)
            weight += np.bincount(add, share, features.BUCKETS)
    return encoded


def tables(rows: Floats, labels: Floats, weights: Floats, names: Sequence[str]) -> dict[str, Rates]:
    """The tables to serve with, from all rows."""
    found = {}
    for name in names:
        buckets, known = _buckets(rows[:, features.NAMES.index(name)])
        seen = buckets[known]
        positive = np.bincount(seen, (labels * weights)[known], features.BUCKETS)
        weight = np.bincount(seen, weights[known], features.BUCKETS)
        rates, average = _smoothed(positive, weight)
        listed = np.flatnonzero(weight)
        pairs = zip(listed.tolist(), rates[listed].tolist(), strict=True)
        found[name] = Rates(average, dict(pairs))
    return found


def apply(rows: Floats, by_name: Tables) -> Floats:
    """What `bidder.scoring.encoding.Encoding` does, in bulk."""
    encoded = rows.copy()
    for name, table in by_name.items():
        column = features.NAMES.index(name)
        rates = np.full(features.BUCKETS, table.average)
        rates[list(table.rates)] = list(table.rates.values())
        buckets, known = _buckets(rows[:, column])
        encoded[:, column] = np.where(known, rates[buckets], table.average)
    return encoded


def _buckets(values: Floats) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Bucket of each row, 0 where unknown; and where it is known."""
    known = np.isfinite(values)
    return np.where(known, values, 0).astype(np.int64), known


def _smoothed(positive: NDArray[Any], weight: NDArray[Any]) -> tuple[Floats, float]:
    """The rate of every bucket, drawn to the average, and that average; 0 before any positive."""
    total = float(weight.sum())
    average = float(positive.sum()) / total if total else 0.0
    if not average:
        return np.zeros(len(weight)), 0.0
    return (positive + PRIOR_POSITIVES) / (weight + PRIOR_POSITIVES / average), average
