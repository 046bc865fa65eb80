"""By how much are values multiplied so that a budget lasts exactly as long as the traffic?

With the distribution of values and prices known, one multiplier spends a given rate per auction.
Solving for it again whenever asked, from the budget and the auctions that are left, corrects every
surprise on the way: too much spent lowers it, a quiet stretch raises it. `Solver` also learns on
the way whether this stretch is dearer than usual, and takes the rest of it to be so too. With a
budget that binds, bidding multiplier x value is the optimal dual solution (Balseiro and Gur 2019).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CONFIDENCE = 0.1
"""What is usual counts as if this share of the budget had been spent as expected."""
STEPS = 400
"""Multipliers tried where bids have to be worked out for each (first price)."""


@dataclass(frozen=True, slots=True)
class SpendCurve:
    """Expected spend per auction, `spends[i]`, of bidding `multipliers[i]` x value.

    Multipliers rise and are at least 0; spends do not fall; unit of money: that of the prices.
    """

    multipliers: Floats
    spends: Floats

    def multiplier(self, budget_left: Floats, auctions_left: Floats | float) -> Floats:
        """The multiplier that spends `budget_left` over `auctions_left` (above 0), per budget.

        Linear in between; where even the highest multiplier spends less, the highest.
        """
        wanted = np.maximum(budget_left, 0) / auctions_left
        found: Floats = np.interp(wanted, self.spends, self.multipliers)
        return found

    def spend(self, multiplier: Floats) -> Floats:
        """What a multiplier is expected to spend per auction."""
        found: Floats = np.interp(multiplier, self.multipliers, self.spends)
        return found


class Solver:
    """Solves before every auction of a stretch, for one budget or many at once."""

    def __init__(self, curve: SpendCurve, budget: Floats) -> None:
        """`budget`: what there is to spend at the start of each."""
        self._curve = curve
        self._budget = budget.copy()
        self._expected = np.zeros_like(budget)

    def multiplier(self, budget_left: Floats, auctions_left: Floats | float) -> Floats:
        """For the next auction of each. What was spent so far beside what was expected tells how
        much dearer than usual the auctions are."""
        usual = CONFIDENCE * self._budget
        spent = self._budget - budget_left
        known = usual + self._expected > 0
        dearer = np.divide(
            usual + spent, usual + self._expected, out=np.ones_like(usual), where=known
        )
        found = self._curve.multiplier(budget_left / dearer, auctions_left)
        self._expected += self._curve.spend(found)
        return found


def second_price_curve(values: Floats, prices: Floats, weights: Floats) -> SpendCurve:
    """The curve where a bid at or above the price wins and pays the price.

    `values` (above 0), `prices` to beat and `weights` of past auctions, equally long. Exact: the
    multipliers are those at which one more auction is won.
    """
    needed = prices / values
    order = np.argsort(needed, kind="stable")
    spent = np.cumsum((prices * weights)[order]) / weights.sum()
    needed = needed[order]
    last = np.append(np.diff(needed) > 0, True)
    return _rising(needed[last], spent[last])


def first_price_curve(
    values: Floats,
    prices: Floats,
    weights: Floats,
    bids: Callable[[Floats, Floats], Floats],
    steps: int = STEPS,
) -> SpendCurve:
    """The curve where the winner pays its bid; `bids(values, multipliers)` shades them."""
    least, most = float(np.min(values)), float(np.max(values))
    tried = np.geomspace(prices.max() / most / 1000, 1000 * (prices.max() + 1) / least, steps)
    spends = np.empty(steps)
    for place, multiplier in enumerate(tried.tolist()):
        offered = bids(values, np.full(len(values), multiplier))
        won = (offered >= prices) & (offered > 0)
        spends[place] = np.sum(offered * won * weights) / weights.sum()
    return _rising(tried, spends)


def _rising(multipliers: Floats, spends: Floats) -> SpendCurve:
    """One point per spend, the highest multiplier of each, from nothing spent on."""
    highest = np.maximum.accumulate(spends)
    last = np.append(np.diff(highest) > 0, True)
    if not highest[last][0] > 0:
        return SpendCurve(multipliers[last], highest[last])
    return SpendCurve(
        np.concatenate(([0.0], multipliers[last])), np.concatenate(([0.0], highest[last]))
    )
