"""How good are the predicted clicks, once the sampled negatives count for what they stand for?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from models import calibrate
from models.evaluate import quality
from models.ipinyou.loading import Impressions
from models.table import Flags, Floats

SOURCE_RATE = 0.000745
"""Clicks per impression where the sample was drawn from."""
SAMPLED_ABOVE = 0.01
"""No campaign of iPinYou's is clicked on this often: with more, negatives were left out."""
DRAWS = 1000
_SPREAD = (0.025, 0.975)


def weights(click: Flags, advertisers: NDArray[Any], rates: Mapping[str, float]) -> Floats:
    """How many impressions each row stands for: 1 for clicks, the same for all negatives.

    Negatives weigh so much that the rate is that of the source: by advertiser where `rates` knows
    all of them, so that a sample with another mix of advertisers is weighted right, else
    `SOURCE_RATE`. Rows that were not sampled weigh 1.
    """
    rows = np.ones(len(click))
    clicks = click.sum()
    if not clicks or click.all() or clicks / len(click) < SAMPLED_ABOVE:
        return rows
    names, count = np.unique(advertisers[click].astype(str), return_counts=True)
    if all(name in rates for name in names):
        missing = sum(n * (1 - rates[a]) / rates[a] for a, n in zip(names, count, strict=True))
    else:
        missing = clicks * (1 - SOURCE_RATE) / SOURCE_RATE
    rows[~click] = max(missing / (~click).sum(), 1.0)
    return rows


def calibrated(
    scores: Floats, click: Flags, weight: Floats, advertisers: NDArray[Any], fold: Any
) -> Floats:
    """Probabilities of the source, by a calibration learnt on the other folds."""
    found = np.empty(len(scores))
    for number in np.unique(fold).tolist():
        held = fold == number
        learnt = (scores[~held], click[~held], weight[~held], advertisers[~held])
        found[held] = applied(learnt, scores[held], advertisers[held])
    return found


def applied(
    learnt_from: tuple[Floats, Flags, Floats, NDArray[Any]],
    scores: Floats,
    advertisers: NDArray[Any],
) -> Floats:
    """Scores as probabilities, by a calibration learnt from other rows' scores and labels.

    A line in log-odds, then q = p / (p + (1 - p) w) for negatives that stand for w (He et al.
    2014), then a factor for each advertiser. Isotonic regression, which serving uses, is no good
    here: its highest blocks are a handful of clicks without one sampled negative, so rate 1, and a
    negative that stands for 70 costs all that was won (normalised entropy 0.93 against 0.73).
    """
    known, click, weight, names = learnt_from
    line = LogisticRegression(C=1.0).fit(_odds(known), click)
    stands_for = float(weight[~click].max())
    rates = _thinned(line.predict_proba(_odds(known))[:, 1], stands_for)
    factors = calibrate.factors(rates, click.astype(np.float64), weight, names.astype(str))
    factor = np.array([factors.get(str(name), 1.0) for name in advertisers])
    found = _thinned(line.predict_proba(_odds(scores))[:, 1], stands_for)
    probability: Floats = np.minimum(found * factor, 1.0)
    return probability


def _odds(scores: Floats) -> Floats:
    inside = np.clip(scores, 1e-9, 1 - 1e-9)
    odds: Floats = np.log(inside / (1 - inside))[:, None]
    return odds


def _thinned(rates: Floats, stands_for: float) -> Floats:
    thinned: Floats = rates / (rates + (1 - rates) * stands_for)
    return thinned


def report(
    impressions: Impressions, predicted: Floats, linear: Floats, weight: Floats, seed: int = 1
) -> dict[str, Any]:
    """All figures of calibrated predictions, with the linear model's beside them."""
    click, advertisers = impressions.click, impressions.columns["advertiser"]
    if not 0 < click.sum() < len(click):
        return {"rows": len(click), "clicks": int(click.sum()), "auc": None, "calibration": None}
    overall = quality(click, predicted, weight)
    beside = quality(click, linear, weight)
    # Weighting all negatives alike leaves the order, so AUC is that of the rows themselves.
    draws = _drawn(click, (predicted, linear), seed)
    lead = draws[:, 0] - draws[:, 1]
    return {
        "rows": len(click),
        "clicks": int(click.sum()),
        "negative_weight": float(weight[~click].max()),
        "auc": overall["auc"],
        "auc_interval": np.quantile(draws[:, 0], _SPREAD).tolist(),
        "calibration": overall["calibration"],
        "calibration_standard_error": _standard_error(click, predicted, weight),
        "normalised_entropy": overall["normalised_entropy"],
        "log_loss": overall["log_loss"],
        "chi_squared": chi_squared(click, predicted, weight, advertisers),
        "logistic_regression": {
            "auc": beside["auc"],
            "auc_interval": np.quantile(draws[:, 1], _SPREAD).tolist(),
            "calibration": beside["calibration"],
            "normalised_entropy": beside["normalised_entropy"],
        },
        "auc_lead": overall["auc"] - beside["auc"],
        "auc_lead_interval": np.quantile(lead, _SPREAD).tolist(),
        "intact_rows_auc": _auc(click[impressions.intact], predicted[impressions.intact]),
        "by_advertiser": {
            str(name): _one(click, predicted, weight, advertisers == name)
            for name in np.unique(advertisers.astype(str))
        },
    }


def chi_squared(
    click: Flags, predicted: Floats, weight: Floats, advertisers: NDArray[Any]
) -> dict[str, float]:
    """Clicks of each advertiser against those predicted: sum of (seen - expected)^2 / expected."""
    _, which = np.unique(advertisers.astype(str), return_inverse=True)
    seen = np.bincount(which, click)
    expected = np.bincount(which, weight * predicted)
    statistic = float(np.sum((seen - expected) ** 2 / expected))
    degrees = len(seen)
    return {"statistic": statistic, "degrees": degrees, "p": float(chi2.sf(statistic, degrees))}


def _one(click: Flags, predicted: Floats, weight: Floats, own: Flags) -> dict[str, Any]:
    seen, expected = float(click[own].sum()), float((weight * predicted)[own].sum())
    return {
        "rows": int(own.sum()),
        "clicks": int(seen),
        "predicted_clicks": expected,
        "calibration": expected / seen if seen else None,
        "auc": _auc(click[own], predicted[own]),
    }


def _standard_error(click: Flags, predicted: Floats, weight: Floats) -> float:
    """Of predicted over observed, the number of clicks being as good as Poisson."""
    return float((weight * predicted).sum() / click.sum() ** 1.5)


def _drawn(click: Flags, predictions: tuple[Floats, ...], seed: int) -> Floats:
    """AUCs of each prediction on rows drawn again, the same rows for all."""
    random = np.random.default_rng(seed)
    ranked = [_Ranked.of(own) for own in predictions]
    found = np.full((DRAWS, len(predictions)), np.nan)
    for draw in range(DRAWS):
        rows = random.integers(len(click), size=len(click))
        times = np.bincount(rows, minlength=len(click)).astype(np.float64)
        if 0 < times[click].sum() < len(click):
            found[draw] = [own.auc(click, times) for own in ranked]
    usable: Floats = found[~np.isnan(found[:, 0])]
    return usable


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Rows in order of their score, sorted once for all draws."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    """Where in that order a higher score starts."""

    @classmethod
    def of(cls, scores: Floats) -> "_Ranked":
        order = np.argsort(scores, kind="stable")
        return cls(order, np.flatnonzero(np.diff(scores[order], prepend=-np.inf)))

    def auc(self, click: Flags, times: Floats) -> float:
        """The chance that a click scores above what is none, where rows count `times` each."""
        clicked = np.add.reduceat((times * click)[self.order], self.starts)
        others = np.add.reduceat((times * ~click)[self.order], self.starts)
        below = np.cumsum(others) - others
        return float(np.sum(clicked * (below + others / 2)) / clicked.sum() / others.sum())


def _auc(click: Flags, predicted: Floats) -> float | None:
    return float(roc_auc_score(click, predicted)) if 0 < click.sum() < len(click) else None
