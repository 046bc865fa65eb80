"""How much of the possible surplus does shading keep, where the winner pays its own bid?

No budget here: each auction is worth V = k x training CPM x pctr / mean training pctr, and a win
earns V less the bid. Beside ours stand the bids of someone who knew the win rate of the judged
auctions, argmax over b of (V - b) F_test(b), and fixed fractions of V.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bidder.pricing.winrate import win_rate
from models.replay import policies
from models.replay.logs import Campaign, Floats

LEVELS = (1.0, 2.0, 4.0)
FRACTIONS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class Surplus:
    """Surplus on the judged auctions of one campaign, as a share of the argmax's."""

    campaign: str
    level: float
    """The k of V."""
    argmax: float
    """Surplus of the argmax, CPM micros per auction."""
    ours: float
    fractions: dict[float, float]
    tuned: float
    """The fraction with the highest surplus on the history."""


def surpluses(campaign: Campaign, levels: Sequence[float] = LEVELS) -> list[Surplus]:
    """One result per level of value."""
    history, judged = campaign.history, campaign.judged
    before, now = history.price[history.real], judged.price[judged.real]
    then_pctr, now_pctr = history.pctr[history.real], judged.pctr[judged.real]
    shade = policies.shading(campaign)
    known = win_rate(now)
    found = []
    for level in levels:
        worth = policies.valuation(campaign, level)
        then, values = worth(then_pctr), worth(now_pctr)
        best = earned(values, known.bids(values), now)
        tuned = max(FRACTIONS, key=lambda share: earned(then, share * then, before))
        found.append(
            Surplus(
                campaign=campaign.name,
                level=level,
                argmax=best / len(now),
                ours=_share(earned(values, shade.bids(now_pctr, values), now), best),
                fractions={f: _share(earned(values, f * values, now), best) for f in FRACTIONS},
                tuned=tuned,
            )
        )
    return found


def earned(values: Floats, bids: Floats, prices: Floats) -> float:
    """Value less bid, over the auctions that the bids win."""
    won = (bids >= prices) & (bids > 0)
    return float(np.sum((values - bids) * won))


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
