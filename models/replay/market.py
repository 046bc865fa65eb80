"""What does a way of bidding win in logged auctions, within each episode's budget?

A bid at or above the logged price wins. It pays that price (second price) or itself (first price),
and never offers more than what is left of the episode's budget. All episodes are played at once,
auction by auction; further leading dimensions play many variants of a policy at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.replay.logs import Auctions, Floats

Mode = Literal["second", "first"]

Policy = Callable[[int, Floats], Floats]
"""Bids (CPM micros) for auction number t of each episode, given what is left of each budget."""


@dataclass(frozen=True, slots=True)
class Played:
    """Per variant and episode: clicks won, impressions won, predicted clicks won, money spent."""

    clicks: Floats
    wins: Floats
    predicted: Floats
    spent: Floats


def play(
    policy: Policy, auctions: Auctions, budget: Floats, mode: Mode, variants: tuple[int, ...] = ()
) -> Played:
    """Replay every episode; `budget` in the unit of prices, one per episode."""
    left = np.broadcast_to(budget, (*variants, len(auctions))).copy()
    clicks, wins, predicted = (np.zeros_like(left) for _ in range(3))
    for t in range(auctions.price.shape[1]):
        price = auctions.price[:, t]
        bids = np.minimum(policy(t, left), left)
        # A bid of nothing is none, except where nothing is all there is to pay.
        won = (bids >= price) & ((bids > 0) | (price == 0))
        left -= np.where(won, bids if mode == "first" else price, 0.0)
        clicks += won * auctions.click[:, t]
        wins += won
        predicted += won * auctions.pctr[:, t]
    return Played(clicks, wins, predicted, np.broadcast_to(budget, left.shape) - left)
