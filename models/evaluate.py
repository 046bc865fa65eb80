"""How good are predicted probabilities on rows the model has not seen?"""

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from models.table import Flags, Floats


def quality(labels: Flags, predicted: Floats, weights: Floats) -> dict[str, float]:
    """`rows`, `positives`, `rate`, `calibration`, and, with both labels present, the rest.

    `calibration` is predicted over observed: 1 is right on average. `normalised_entropy` is log
    loss over that of always saying the average rate (He et al. 2014): below 1 is better than that.
    """
    positives = float(labels.sum())
    rate = float(np.average(labels, weights=weights))
    found = {"rows": float(len(labels)), "positives": positives, "rate": rate}
    if 0 < positives < len(labels):
        loss = float(log_loss(labels, predicted, sample_weight=weights))
        entropy = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
        found["auc"] = float(roc_auc_score(labels, predicted, sample_weight=weights))
        found["log_loss"] = loss
        found["normalised_entropy"] = float(loss / entropy)
        found["calibration"] = float(np.average(predicted, weights=weights) / rate)
    return found
