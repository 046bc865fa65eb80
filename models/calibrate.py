"""What does a score mean as a probability, learnt from rows the model has not seen?

Isotonic regression, centred: each block of equal rates becomes one knot at its mean score, linear
in between (Oron and Flournoy 2017). A plain isotonic fit is a staircase: it would make candidates
of one step equal, and the lowest step 0, and what is never bid on is never learnt about.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from bidder.scoring.calibration import Calibration
from bidder.scoring.manifest import Knots
from models.table import Floats

LEAST_POSITIVES = 10
"""Neighbouring blocks are joined until each has this many positive rows."""
PRIOR = 20.0
"""An advertiser's factor starts as if this many positives had come exactly as predicted."""


def calibrate(
    scores: Floats, labels: Floats, weights: Floats, advertisers: NDArray[np.str_]
) -> Knots:
    """Knots and factors from scores of rows that were not trained on.

    `labels` lie in 0..1: a sale that may still come counts in part.
    Raises `ValueError` without a single positive row.
    """
    knots = isotonic(scores, labels, weights)
    rates = apply(knots, scores)
    return Knots(knots.scores, knots.rates, factors(rates, labels, weights, advertisers))


def isotonic(
    scores: Floats, labels: Floats, weights: Floats, least_positives: int = LEAST_POSITIVES
) -> Knots:
    """Centred isotonic knots, with the first and last block's ratio kept out to scores 0 and 1."""
    if not labels.any():
        raise ValueError("no positive row to calibrate on")
    distinct, which = np.unique(scores, return_inverse=True)
    weight = np.bincount(which, weights)
    positive = np.bincount(which, weights * labels)
    fitted = isotonic_regression(positive / weight, sample_weight=weight)
    starts = np.flatnonzero(np.diff(fitted, prepend=-1.0))
    starts = _joined(starts, np.bincount(which, labels), least_positives)
    total = np.add.reduceat(weight, starts)
    centres = np.add.reduceat(weight * distinct, starts) / total
    rates = np.maximum.accumulate(np.add.reduceat(positive, starts) / total)
    x, y = [float(centres[0])], [float(rates[0])]
    for centre, rate in zip(centres[1:].tolist(), rates[1:].tolist(), strict=True):
        if centre > x[-1]:
            x.append(centre)
            y.append(rate)
    if x[0] > 0:
        x, y = [0.0, *x], [0.0, *y]
    if x[-1] < 1:
        x, y = [*x, 1.0], [*y, min(1.0, y[-1] / x[-1])]
    return Knots(x, [min(rate, 1.0) for rate in y])


def factors(
    rates: Floats, labels: Floats, weights: Floats, advertisers: NDArray[np.str_]
) -> dict[str, float]:
    """Advertiser id -> observed over predicted positives, drawn towards 1 where there are few."""
    names, which = np.unique(advertisers, return_inverse=True)
    observed = np.bincount(which, weights * labels) + PRIOR
    predicted = np.bincount(which, weights * rates) + PRIOR
    return {
        str(name): float(factor)
        for name, factor in zip(names, observed / predicted, strict=True)
        if name
    }


def apply(knots: Knots, scores: Floats) -> Floats:
    """The knots applied to many scores, without factors: `Calibration.apply`, in bulk."""
    Calibration(knots.scores, knots.rates)  # refuses what the bidder would refuse
    rates: Floats = np.interp(scores, knots.scores, knots.rates)
    return rates


def _joined(starts: NDArray[np.intp], positives: NDArray[Any], least: int) -> NDArray[np.intp]:
    """Block starts such that every block has `least` positives, where there are as many at all."""
    counts = np.add.reduceat(positives, starts).tolist()
    kept, gathered = [int(starts[0])], counts[0]
    for start, count in zip(starts[1:].tolist(), counts[1:], strict=True):
        if gathered >= least:
            kept.append(start)
            gathered = 0
        gathered += count
    if gathered < least and len(kept) > 1:
        kept.pop()
    return np.array(kept)
