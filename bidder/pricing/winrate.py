"""How likely is a bid to win, and which bid earns the most when the winner pays its own?

A win rate here is a staircase: the share of past auctions that a bid at each price would have won.
The best bid for a value V is the argmax over b of (V - b) F(b) (Pan et al. 2020). Each price is a
line in V with slope F(b), so the best bids for all values are the upper envelope of those lines:
found once, a bid is then one bisection.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class WinRate:
    """F(b): the share of auctions won by bidding b, and the bids that follow from it.

    `prices` are the lowest winning bids seen, in any unit, at least 0, rising; `rates[i]` is the
    share of auctions that `prices[i]` wins, not falling, in (0, 1]. Below the first price nothing
    is won. Raises `ValueError` where that does not hold.
    """

    def __init__(self, prices: Floats, rates: Floats) -> None:
        if not len(prices) or len(prices) != len(rates):
            raise ValueError(f"{len(prices)} prices for {len(rates)} rates")
        if not (np.isfinite(prices).all() and prices[0] >= 0 and (np.diff(prices) > 0).all()):
            raise ValueError("prices are finite, at least 0 and rise")
        if not (rates[0] > 0 and rates[-1] <= 1 + 1e-9 and (np.diff(rates) >= 0).all()):
            raise ValueError("rates are in (0, 1] and do not fall")
        self.prices = prices
        self.rates = rates
        self._prices, self._all = prices.tolist(), rates.tolist()
        self._from, self._bids, self._wins = _envelope(self._prices, self._all)
        self._starts, self._best = np.array(self._from), np.array(self._bids)

    def at(self, bid: float) -> float:
        """The share of auctions that `bid` wins."""
        place = bisect_right(self._prices, bid)
        return self._all[place - 1] if place else 0.0

    def bid(self, value: float) -> float:
        """The bid with the highest expected surplus, below `value`; 0 where none earns anything."""
        place = bisect_right(self._from, value)
        return self._bids[place - 1] if place else 0.0

    def bid_from(self, value: float, floor: float) -> float:
        """`bid`, but not below `floor`; 0 where nothing from there on is known to be won."""
        best = self.bid(value)
        if best >= floor:
            return best
        # The best bid for all lies below the floor, and along the envelope surplus only falls from
        # there: beside the floor itself, the first bid above it is the only one that can be best.
        found, most = 0.0, 0.0
        place = bisect_right(self._prices, floor)
        if place:
            found, most = floor, (value - floor) * self._all[place - 1]
        place = bisect_right(self._bids, floor)
        if place < len(self._bids) and (value - self._bids[place]) * self._wins[place] > most:
            found = self._bids[place]
        return found if found < value else 0.0

    def bids(self, values: Floats) -> Floats:
        """`bid` of many values."""
        place = np.searchsorted(self._starts, values, side="right")
        best: Floats = np.where(place > 0, self._best[place - 1], 0.0)
        return best


def win_rate(prices: Floats, weights: Floats | None = None) -> WinRate:
    """F from the lowest winning bid of each past auction, `weights` times each (once if None)."""
    kept = slice(None) if weights is None else weights > 0
    distinct, which = np.unique(prices[kept], return_inverse=True)
    counted = np.bincount(which, None if weights is None else weights[kept], len(distinct))
    rates: Floats = np.cumsum(counted, dtype=np.float64)
    return WinRate(distinct, rates / rates[-1] if len(rates) else rates)


def blend(parts: Sequence[tuple[WinRate, float]]) -> WinRate:
    """The mixture of several win rates by weight: how a thin cell leans on the coarser one."""
    total = sum(weight for _, weight in parts)
    prices = np.concatenate([part.prices for part, weight in parts if weight > 0])
    weights = [
        np.diff(part.rates, prepend=0.0) * weight / total for part, weight in parts if weight > 0
    ]
    return win_rate(prices, np.concatenate(weights))


def _envelope(
    prices: Sequence[float], rates: Sequence[float]
) -> tuple[list[float], list[float], list[float]]:
    """From which value on each bid is best, rising; the bids; what share of auctions each wins.

    A bid earns from values above itself."""
    starts: list[float] = []
    kept: list[tuple[float, float]] = []
    for price, rate in zip(prices, rates, strict=True):
        start = price
        while kept:
            lower, slope = kept[-1]
            if rate <= slope:
                start = float("inf")  # wins no more and pays more
                break
            start = (rate * price - slope * lower) / (rate - slope)
            if start > starts[-1]:
                break
            kept.pop()
            starts.pop()
            start = price
        if start < float("inf"):
            kept.append((price, rate))
            starts.append(start)
    return starts, [price for price, _ in kept], [rate for _, rate in kept]
