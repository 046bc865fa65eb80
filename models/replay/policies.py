"""How does each policy bid, and on what is it tuned? Constant and linear bidding, and ours.

Ours is the project's pricing: `value` from a CPC goal, times the multiplier that `resolving` finds
from the budget and the auctions left, and from how dear the episode has been so far, shaded by
`winrate` where the winner pays its bid. Nothing
here ever looks at the auctions that are judged on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from bidder.campaigns.catalogue import (
    Advertiser,
    Audience,
    Bid,
    Budget,
    Goal,
    Intrusiveness,
    LineItem,
    When,
    Where,
)
from bidder.campaigns.catalogue import Campaign as Booked
from bidder.pricing.resolving import Solver, SpendCurve, first_price_curve, second_price_curve
from bidder.pricing.value import Estimate, value
from bidder.pricing.winrate import WinRate, blend, win_rate
from models.replay.logs import MICROS_PER_UNIT, Auctions, Campaign, Floats
from models.replay.market import Mode, Played, Policy, play

MULTIPLIERS = 200
SPAN = 100.0
"""Linear multipliers reach from the mean bid of CPM / 100 to CPM x 100, log-spaced."""
BANDS = 5
"""Win rates are learnt per fifth of the predicted click rate: better places cost more."""
TRUST = 1000.0
"""A finer source counts against the coarser one behind it as if that were so many auctions."""
_QUANTILES = 50
_NO_LIMIT = 10**15


def budgets(campaign: Campaign, auctions: Auctions, share: float) -> Floats:
    """Auctions x share x training CPM, per episode (Cai et al. 2017)."""
    budget: Floats = auctions.lengths.astype(np.float64) * (share * campaign.cpm)
    return budget


def valuation(campaign: Campaign, factor: float) -> Callable[[Floats], Floats]:
    """Values in CPM micros, `factor` x training CPM x pctr / mean training pctr, by `value`."""
    mean = float(campaign.history.pctr[campaign.history.real].mean())
    line_item = _line_item(campaign.name, round(factor * campaign.cpm / (1000 * mean)))

    def worth(pctr: Floats) -> Floats:
        micros = [value(line_item, Estimate(p, 0.0), 1.0) for p in pctr.ravel().tolist()]
        return np.array(micros, dtype=np.float64).reshape(pctr.shape)

    return worth


@dataclass(frozen=True, slots=True)
class Shading:
    """Win rates per band of pctr; `edges` are the inner limits of the bands."""

    edges: Floats
    rates: tuple[WinRate, ...]

    def bids(self, pctr: Floats, values: Floats) -> Floats:
        """The best first-price bid for each value, given the pctr of its auction."""
        band = np.searchsorted(self.edges, pctr)
        offered = np.zeros_like(values)
        for number, rate in enumerate(self.rates):
            here = band == number
            offered[here] = rate.bids(values[here])
        return offered


def shading(campaign: Campaign) -> Shading:
    """Win rates of each band, backed by those of the whole history and of the histogram."""
    history = campaign.history
    pctr, price = history.pctr[history.real], history.price[history.real]
    whole = win_rate(price)
    if campaign.histogram.any():
        behind = win_rate(_steps(campaign), campaign.histogram)
        whole = blend([(whole, len(price)), (behind, TRUST)])
    edges = np.unique(np.quantile(pctr, np.arange(1, BANDS) / BANDS))
    band = np.searchsorted(edges, pctr)
    rates = []
    for number in range(len(edges) + 1):
        own = price[band == number]
        rates.append(blend([(win_rate(own), len(own)), (whole, TRUST)]) if len(own) else whole)
    return Shading(edges, tuple(rates))


def constant(campaign: Campaign, share: float, mode: Mode) -> Policy:
    """One bid for all, the best of 200 on the history."""
    highest = float(campaign.history.price[campaign.history.real].max())
    tried = np.geomspace(min(MICROS_PER_UNIT, highest) or 1.0, max(highest, 1.0), MULTIPLIERS)

    def each(t: int, left: Floats) -> Floats:
        return np.broadcast_to(tried[:, None], left.shape)

    best = tried[_best(campaign, share, mode, each)]
    return lambda t, left: np.full_like(left, best)


def linear(campaign: Campaign, share: float, mode: Mode) -> Callable[[Auctions], Policy]:
    """Multiplier x pctr, the best of 200 log-spaced multipliers on the history."""
    history = campaign.history
    scale = campaign.cpm / history.pctr[history.real].mean()
    tried = np.geomspace(scale / SPAN, scale * SPAN, MULTIPLIERS)

    def each(t: int, left: Floats) -> Floats:
        return tried[:, None] * history.pctr[:, t]

    best = tried[_best(campaign, share, mode, each)]
    return lambda auctions: lambda t, left: best * auctions.pctr[:, t]


def ours(campaign: Campaign, mode: Mode) -> Callable[[Auctions], Policy]:
    """Value x the multiplier that spends what is left over the auctions left, shaded."""
    worth = valuation(campaign, 1.0)
    shade = shading(campaign) if mode == "first" else None
    curve = _curve(campaign, worth, shade)

    def on(auctions: Auctions) -> Policy:
        values = worth(auctions.pctr)
        solver = Solver(curve, np.zeros(len(auctions)))

        def bid(t: int, left: Floats) -> Floats:
            nonlocal solver
            if t == 0:
                solver = Solver(curve, left)
            remaining = np.maximum(auctions.lengths - t, 1).astype(np.float64)
            paced = solver.multiplier(left, remaining) * values[:, t]
            return paced if shade is None else shade.bids(auctions.pctr[:, t], paced)

        return bid

    return on


def _curve(
    campaign: Campaign, worth: Callable[[Floats], Floats], shade: Shading | None
) -> SpendCurve:
    """Spend per auction of the history, backed by the histogram for prices it has not seen."""
    history = campaign.history
    pctr, price = history.pctr[history.real], history.price[history.real]
    weight = np.ones(len(price))
    if campaign.histogram.any():
        typical = np.quantile(pctr, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
        counts = campaign.histogram / campaign.histogram.sum()
        pctr = np.concatenate((pctr, np.repeat(typical, len(counts))))
        price = np.concatenate((price, np.tile(_steps(campaign), _QUANTILES)))
        weight = np.concatenate((weight, np.tile(counts * TRUST / _QUANTILES, _QUANTILES)))
    values = np.maximum(worth(pctr), 1.0)
    if shade is None:
        return second_price_curve(values, price, weight)
    return first_price_curve(
        values, price, weight, lambda worths, times: shade.bids(pctr, worths * times)
    )


def _best(campaign: Campaign, share: float, mode: Mode, each: Policy) -> int:
    """Which variant won most clicks in the history; of equals, the most predicted clicks.

    Ties are common with few clicks, and a linear rival that is left with the lowest multiplier of
    a tie is a weaker one.
    """
    history = campaign.history
    budget = budgets(campaign, history, share)
    played: Played = play(each, history, budget, mode, (MULTIPLIERS,))
    return int(np.lexsort((played.predicted.sum(-1), played.clicks.sum(-1)))[-1])


def _steps(campaign: Campaign) -> Floats:
    return np.arange(len(campaign.histogram), dtype=np.float64) * MICROS_PER_UNIT


def _line_item(name: str, click_micros: int) -> LineItem:
    """A line item as the catalogue has them, with a CPC goal and no limit of its own."""
    advertiser = Advertiser(name, 0, "", "CNY", ZoneInfo("Asia/Shanghai"), 0, 0)
    booked = Booked(name, name, 0, advertiser, (), Budget())
    return LineItem(
        index=0,
        id=name,
        path=name,
        id32=0,
        campaign=booked,
        audience=Audience(),
        where=Where(),
        when=When(),
        bid=Bid(_NO_LIMIT),
        goal=Goal("cpc", click_micros),
        caps=(),
        intrusiveness=Intrusiveness(),
        creatives=(),
        unknown_people="serve",
    )
