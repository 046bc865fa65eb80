"""What would the others have bid? The highest competing bid, and the fit it comes from.

``python -m loadtest.world.prices DIR`` refits the mixture on iPinYou's ``*.prices.json`` (counts of
market prices 0..300 in `price_counter_train`) and prints the lines for `worlds/base.yaml`.
"""

import sys
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from .description import Prices
from .draws import normal, uniform

Floats = NDArray[np.float64]


def competing_cpm(prices: Prices, key: int, channel: int) -> float:
    """The highest competing bid as CPM of the world's currency; uses two channels."""
    u = uniform(key, channel)
    component = 0
    for weight in prices.weights[:-1]:
        if u < weight:
            break
        u -= weight
        component += 1
    spread = prices.log_sigmas[component] * normal(key, channel + 1)
    return prices.unit_cpm * exp(prices.log_means[component] + spread)


def fit(counts: Floats, start: tuple[float, ...] = (0.0, 3.5, 4.8, -0.3, -1.0)) -> dict[str, Any]:
    """Two log-normals by maximum likelihood on counts of the prices 0, 1, 2..., truncated there.

    Returns `weights`, `log_means`, `log_sigmas`, the mean negative log-likelihood `nll`, and `gap`,
    the largest distance between the two distribution functions.
    """
    from scipy.optimize import minimize  # only needed to refit

    total = counts.sum()

    def loss(theta: Floats) -> float:
        steps = np.maximum(np.diff(_distribution(theta, len(counts))), 1e-12)
        return float(-(counts * np.log(steps)).sum() / total)

    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-5, "fatol": 1e-9}
    found = minimize(loss, np.array(start), method="Nelder-Mead", options=options)
    theta = found.x
    weight = float(1 / (1 + np.exp(theta[0])))
    real = counts.cumsum() / total
    return {
        "weights": [weight, 1 - weight],
        "log_means": theta[1:3].tolist(),
        "log_sigmas": np.exp(theta[3:5]).tolist(),
        "nll": float(found.fun),
        "gap": float(np.abs(_distribution(theta, len(counts))[1:] - real).max()),
    }


def _distribution(theta: Floats, size: int) -> Floats:
    """The mixture's distribution function at the edges of the prices, scaled to end at 1."""
    from scipy.stats import norm

    edges = np.log(np.maximum(np.arange(size + 1) - 0.5, 1e-9))
    weight = 1 / (1 + np.exp(theta[0]))
    values: Floats = weight * norm.cdf((edges - theta[1]) / np.exp(theta[3]))
    values = values + (1 - weight) * norm.cdf((edges - theta[2]) / np.exp(theta[4]))
    values[0] = 0.0
    scaled: Floats = values / values[-1]
    return scaled


def main(folder: str) -> None:
    """Print the fit over all campaigns in `folder`."""
    files = sorted(Path(folder).glob("*.prices.json"))
    if not files:
        raise SystemExit(f"no *.prices.json in {folder}")
    counts = np.zeros(301)
    for path in files:
        counts += np.array(orjson.loads(path.read_bytes())["price_counter_train"], dtype=float)
    for name, value in fit(counts).items():
        rounded = [round(v, 4) for v in value] if isinstance(value, list) else round(value, 4)
        print(f"  {name}: {rounded}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/ipinyou")
