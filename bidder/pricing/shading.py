"""What to bid when the winner pays its own bid?

Second-price auctions get the value: bidding anything else loses. First-price auctions get the bid
that earns the most, argmax over b of (V - b) F(b), with F learnt from our own wins and losses
(`models.shading`) per exchange, deal, size, floor and hour. A cell with little of its own leans on
the coarser one above it; one never seen is the coarser one. Until there is a model, the bid is a
fixed share of what the value leaves above the floor; Pan et al. 2020 report prices falling to about
55 % of the unshaded bid once it is learnt, so that share is on the careful side.
"""

from collections.abc import Mapping
from random import Random

import numpy as np

from bidder.pricing.winrate import WinRate

FIRST_PRICE, SECOND_PRICE, FIXED_PRICE = 1, 2, 3
DEFAULT_SHARE = 0.75
HOURS_PER_BAND = 6
SEPARATOR = "|"
REMEMBERED = 100_000
"""Cells looked up and kept; beyond it the memory starts anew."""
_NOT_SHADED = (SECOND_PRICE, FIXED_PRICE)
_NEVER = 1e30
_UNKNOWN = WinRate(np.array([_NEVER]), np.array([1.0]))
"""Every price to beat is out of reach."""

_Key = tuple[str, str, str, str, int, int]


def shade(value_micros: int, floor_micros: int, auction: int) -> int:
    """The bid for a value where nothing is learnt, both CPM micros of one currency; 0 if the value
    is below the floor.

    `auction` is OpenRTB's `at` (§3.2.1; for deals §3.2.12): 1 first price, 2 second price, 3 fixed
    price at the floor. Unknown types are treated as first price. Never above the value.
    """
    if value_micros < floor_micros or value_micros <= 0:
        return 0
    if auction == FIXED_PRICE:
        return floor_micros or value_micros
    if auction == SECOND_PRICE:
        return value_micros
    return min(
        floor_micros + max(int((value_micros - floor_micros) * DEFAULT_SHARE), 1), value_micros
    )


def cells(
    exchange: str, currency: str, deal: str, size: str, floor_micros: int, hour: int
) -> tuple[str, ...]:
    """The names of the cells that an auction lies in, finest first; the last holds everything.

    Floors of one cell differ by less than a factor of two. `hour` is UTC's, 0 to 23.
    """
    market = f"{exchange}/{currency}"
    floor = str(floor_micros.bit_length())
    band = str(hour // HOURS_PER_BAND)
    parts = (market, deal, size, floor, band)
    return (
        *[SEPARATOR.join(parts[:count]) for count in (5, 4, 3, 2, 1)],
        f"/{currency}",
    )


class Shader:
    """Bids by cell. `exploration` is the share of first-price bids that are drawn at random."""

    def __init__(
        self, rates: Mapping[str, WinRate], exploration: float = 0.0, version: str = ""
    ) -> None:
        self.version = version
        """Empty without a model."""
        self.exploration = exploration
        self.rates: Mapping[str, WinRate] = dict(rates)
        """By the names of `cells`."""
        self._found: dict[_Key, WinRate] = {}

    def bid(
        self,
        value_micros: int,
        floor_micros: int,
        auction: int,
        exchange: str,
        currency: str,
        deal: str,
        size: str,
        hour: int,
    ) -> int:
        """The bid for a value, both CPM micros of `currency`; 0 if the value is below the floor.

        Never above the value, never below the floor. `auction` is as in `shade`.
        """
        if auction in _NOT_SHADED or not self.rates:
            return shade(value_micros, floor_micros, auction)
        if value_micros < floor_micros or value_micros <= 0:
            return 0
        band = hour // HOURS_PER_BAND
        key = (exchange, currency, deal, size, floor_micros.bit_length(), band)
        rate = self._found.get(key)
        if rate is None:
            rate = self._look_up(key, floor_micros)
        best = int(rate.bid_from(value_micros, floor_micros))
        # Where nothing is known to be won, there is nothing to choose by.
        return best if best > 0 else shade(value_micros, floor_micros, auction)

    def chance(
        self,
        bid_micros: int,
        floor_micros: int,
        exchange: str,
        currency: str,
        deal: str,
        size: str,
        hour: int,
    ) -> float:
        """How likely this bid is to win: 0 where nothing is learnt."""
        if not self.rates:
            return 0.0
        key = (exchange, currency, deal, size, floor_micros.bit_length(), hour // HOURS_PER_BAND)
        return (self._found.get(key) or self._look_up(key, floor_micros)).at(bid_micros)

    def _look_up(self, key: _Key, floor_micros: int) -> WinRate:
        """The win rate of the finest cell known; one that wins nothing if none is."""
        exchange, currency, deal, size, _, band = key
        names = cells(exchange, currency, deal, size, floor_micros, band * HOURS_PER_BAND)
        found = next((self.rates[name] for name in names if name in self.rates), _UNKNOWN)
        if len(self._found) >= REMEMBERED:
            self._found.clear()
        self._found[key] = found
        return found

    def propensity(self, auction: int, explored: bool) -> float:
        """The share of the bids in such an auction that are explored; or of those that are not."""
        share = 0.0 if auction in _NOT_SHADED else self.exploration
        return share if explored else 1.0 - share

    def explores(self, random: Random) -> bool:
        """Is this first-price bid one of those that are drawn?"""
        return self.exploration > 0 and random.random() < self.exploration


def drawn(value_micros: int, floor_micros: int, random: Random) -> int:
    """An exploring bid: anything from the floor (or a tenth of the value) to the value, alike."""
    lowest = max(floor_micros, value_micros // 10, 1)
    return random.randint(min(lowest, value_micros), value_micros)


UNTAUGHT = Shader({})
"""What serves while there is no model."""
