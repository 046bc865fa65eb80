"""Who wins a slot, and what does the winner pay?

One bidder against the highest bid of the others. A bid at or above it wins. First price pays the
bid, second price the higher of floor and competing bid, a fixed-price deal its floor (§3.2.12).
"""

from typing import NamedTuple

from .lawful import Json, Rates, deal_of

FIRST, SECOND, FIXED = 1, 2, 3
OUTBID, LOST_TO_DEAL, INTERNAL_ERROR = 102, 103, 1


class Lot(NamedTuple):
    """One slot under the hammer."""

    imp: Json
    auction: int
    """The request's `at`."""
    competing_cpm: float
    """Highest bid of the others, in the base currency of the rates."""
    fault: int
    """A loss reason that strikes whatever is bid, 0 = none."""


class Outcome(NamedTuple):
    """What became of one bid. Prices are CPM micros of the bid's currency."""

    won: bool
    price_micros: int
    """What is paid; 0 if lost."""
    reason: int
    """AdCOM loss reason, 0 = won."""
    minimum_micros: int
    """Least that would have won."""


def settle(lot: Lot, bids: list[Json], currency: str, rates: Rates) -> list[Outcome]:
    """The outcome of each of one bidder's lawful bids for the slot; at most one wins."""
    rate = rates.get(currency, 1.0)
    competing = lot.competing_cpm * rate
    best, best_rank = -1, (False, 0.0)
    for number, bid in enumerate(bids):
        rank = (_is_fixed(lot.imp, bid), bid["price"])
        if best < 0 or rank > best_rank:
            best, best_rank = number, rank
    outcomes = []
    for number, bid in enumerate(bids):
        floor = _floor(lot.imp, bid, currency, rates)
        fixed = _is_fixed(lot.imp, bid)
        minimum = floor if fixed else max(floor, competing)
        outcomes.append(_outcome(lot, bid, number == best, fixed, minimum, bids[best]["price"]))
    return outcomes


def _outcome(
    lot: Lot, bid: Json, first: bool, fixed: bool, minimum: float, best_price: float
) -> Outcome:
    paid = round(bid["price"] * 1e6)
    needed = _micros_up(minimum)
    if lot.fault and not (fixed and lot.fault == LOST_TO_DEAL):
        return Outcome(False, 0, lot.fault, needed)
    if not first:
        return Outcome(False, 0, OUTBID, max(needed, round(best_price * 1e6)))
    if bid["price"] < minimum - 1e-9:
        return Outcome(False, 0, OUTBID, needed)
    deal = deal_of(lot.imp, bid)
    auction = (deal.get("at") if deal else None) or lot.auction
    price = paid if auction == FIRST else min(paid, needed)
    return Outcome(True, price, 0, needed)


def _micros_up(cpm: float) -> int:
    """Micros, rounded up, so that bidding the result does win."""
    return int(-(-cpm * 1e6 // 1))


def _is_fixed(imp: Json, bid: Json) -> bool:
    deal = deal_of(imp, bid)
    return deal is not None and deal.get("at") == FIXED


def _floor(imp: Json, bid: Json, currency: str, rates: Rates) -> float:
    place = deal_of(imp, bid) or imp
    floor: float = place.get("bidfloor") or 0.0
    other = place.get("bidfloorcur", "USD")
    if other != currency:
        floor *= rates.get(currency, 1.0) / rates.get(other, 1.0)
    # A lawful bid may lie under a converted floor by the tolerance of `lawful.below`.
    return min(floor, bid["price"]) if other != currency else floor
