"""What does a model directory say of many rows, and how sure are we of a figure made from them?

`scores` repeats in bulk what `bidder.scoring.model.Scorer` does row by row; a test holds them
together. Intervals are bootstraps over people, since rows of one person are not independent.
"""

from collections.abc import Callable
from pathlib import Path

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from bidder.scoring import manifest
from bidder.scoring.manifest import Role
from bidder.scoring.model import Scorer
from models import calibrate, encode
from models.table import Floats, Table

RESAMPLES = 200
LEVEL = 0.95


def scores(directory: Path, table: Table) -> dict[Role, Floats]:
    """The probabilities of each role, factors included. Raises `ModelError`."""
    about = Scorer.load(directory).manifest  # refuses what the bidder would refuse
    directory = directory.resolve()
    knots = manifest.read_calibration(directory, about.calibration)
    rates = manifest.read_encoding(directory, about.encoding)
    found: dict[Role, Floats] = {}
    for role in manifest.ROLES:
        text = manifest.checked(directory, about.models[role]).decode()
        booster = lgb.Booster(model_str=text)
        raw = np.asarray(booster.predict(encode.apply(table.rows, rates[role])), dtype=np.float64)
        factors = knots[role].factors
        names, which = np.unique(table.advertiser, return_inverse=True)
        factor = np.array([factors.get(str(name), 1.0) for name in names])[which]
        found[role] = np.minimum(calibrate.apply(knots[role], raw) * factor, 1.0)
    return found


def interval(
    person: NDArray[np.str_], figure: Callable[[Floats], float], seed: int = 1
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a figure that is made from rows and their weights.

    `figure` gets how often each row was drawn. A person is drawn with all their rows; rows of
    nobody known are drawn one by one.
    """
    random = np.random.default_rng(seed)
    names, which = np.unique(person, return_inverse=True)
    nobody = person == ""
    drawn = []
    for _ in range(RESAMPLES):
        times = random.multinomial(len(names), np.full(len(names), 1 / len(names)))[which]
        if nobody.any():
            times = np.where(nobody, random.poisson(1.0, len(person)), times)
        drawn.append(figure(times.astype(np.float64)))
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def log_loss(labels: Floats, said: Floats) -> Floats:
    """The loss of each row; a certainty that was wrong costs no more than 1e-12 does."""
    said = np.clip(said, 1e-12, 1 - 1e-12)
    found: Floats = -(labels * np.log(said) + (1 - labels) * np.log1p(-said))
    return found


def auc(labels: Floats, said: Floats, weights: Floats) -> float:
    """The area under the ROC curve, of weighted rows; NaN with one label only."""
    distinct, which = np.unique(said, return_inverse=True)
    positive = np.bincount(which, weights * labels, len(distinct))
    negative = np.bincount(which, weights * (1 - labels), len(distinct))
    below = np.cumsum(negative) - negative / 2  # half of those that tie
    total = positive.sum() * negative.sum()
    return float((positive * below).sum() / total) if total else float("nan")


def psi(before: Floats, after: Floats, bins: int = 10) -> float:
    """The population stability index of one feature: 0.1 is a shift, 0.25 a large one.

    Bins are deciles of `before`; unknown is a bin of its own.
    """
    known = before[np.isfinite(before)]
    if len(before) == 0 or len(after) == 0:
        return float("nan")
    quantiles = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.unique(np.quantile(known, quantiles)) if len(known) else known
    shares = []
    for values in (before, after):
        finite = values[np.isfinite(values)]
        counts = np.bincount(np.searchsorted(edges, finite, side="right"), minlength=len(edges) + 1)
        counts = np.append(counts, len(values) - len(finite))
        shares.append((counts + 0.5) / (len(values) + 0.5 * len(counts)))
    old, new = shares
    return float(((new - old) * np.log(new / old)).sum())
