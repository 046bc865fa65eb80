"""Is a click without a sale a no, or too early to tell? A delay model says how likely each is.

Chapelle 2014, with the delay's distribution estimated without a shape (there: exponential; here the
tail reaches a month): only sales that came before we looked are seen, so the distribution is that
of right-truncated data, estimated backwards in time (Lagakos, Barraj and De Gruttola 1988).

    P(sale | none seen after e seconds) = p S(e) / (1 - p + p S(e))        S(e) = P(delay > e)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.table import Floats

LEAST_SALES = 20
"""With fewer, no delay is known: what has not come is a no."""
FLOOR = 0.02
"""The least share of sales thought to have come: early on, one sale must not stand for many."""


@dataclass(frozen=True, slots=True)
class Delays:
    """The distribution of seconds from click to sale: a staircase, from 0 at the first step."""

    seconds: Floats
    """Rising."""
    come: Floats
    """Share of the sales that came within these seconds; 1 at the last."""

    def share(self, elapsed: Floats) -> Floats:
        """P(delay <= elapsed): how much of what will come has come."""
        if not len(self.seconds):
            return np.ones(len(elapsed))
        place = np.searchsorted(self.seconds, elapsed, side="right")
        return np.concatenate([[0.0], self.come])[place]

    def still_to_come(self, chance: Floats, elapsed: Floats) -> Floats:
        """P(a sale will come | none has after `elapsed` seconds), for a priori chances."""
        missing = 1 - np.maximum(self.share(elapsed), FLOOR)
        found: Floats = chance * missing / (1 - chance + chance * missing)
        return found


NO_DELAYS = Delays(np.array([]), np.array([]))


def estimate(delay: Floats, elapsed: Floats) -> Delays:
    """From sales seen: `delay` seconds after the click, `elapsed` seconds from click to now."""
    if len(delay) < LEAST_SALES:
        return NO_DELAYS
    steps, deaths = np.unique(delay, return_counts=True)
    at_risk = _at_risk(delay, np.maximum(elapsed, delay), steps)
    keep = 1 - deaths / at_risk
    later = np.cumprod(keep[::-1])[::-1]
    come = np.append(later[1:], 1.0)
    return Delays(steps, come)


def _at_risk(delay: Floats, elapsed: Floats, steps: Floats) -> NDArray[np.float64]:
    """At each step: the sales with delay <= step <= elapsed."""
    begun = np.searchsorted(np.sort(delay), steps, side="right")
    over = np.searchsorted(np.sort(elapsed), steps, side="left")
    found: NDArray[np.float64] = (begun - over).astype(np.float64)
    return found
