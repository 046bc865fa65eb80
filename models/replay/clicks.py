"""How many clicks does each policy win for the same budget, and is ours better than linear?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from models.replay import policies
from models.replay.logs import Campaign, Floats
from models.replay.market import Mode, Played, Policy, play

POLICIES = ("ours", "linear", "constant")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What each policy won on the judged episodes of one campaign with one budget."""

    campaign: str
    budget: Fraction
    played: dict[str, Played]
    available: float
    """Clicks there were to win."""
    money: float
    """The budgets of all episodes together, CPM micros."""


def outcomes(
    campaign: Campaign, shares: Sequence[Fraction], mode: Mode, progress: Callable[[str], None]
) -> list[Outcome]:
    """Tune on the campaign's history, play its judged episodes, for each budget."""
    judged = campaign.judged
    ours = policies.ours(campaign, mode)(judged)
    found = []
    for share in shares:
        bidding: dict[str, Policy] = {
            "ours": ours,
            "linear": policies.linear(campaign, float(share), mode)(judged),
            "constant": policies.constant(campaign, float(share), mode),
        }
        budget = policies.budgets(campaign, judged, float(share))
        played = {name: play(policy, judged, budget, mode) for name, policy in bidding.items()}
        available = float(judged.click.sum())
        found.append(Outcome(campaign.name, share, played, available, float(budget.sum())))
        clicks = ", ".join(f"{n} {one.clicks.sum():.0f}" for n, one in played.items())
        progress(f"{campaign.name} {share}: {clicks} of {available:.0f} clicks")
    return found


def pooled(found: Sequence[Outcome], rival: str = "linear") -> float | None:
    """Our clicks over the rival's, all campaigns and budgets; None where it won none."""
    theirs = sum(outcome.played[rival].clicks.sum() for outcome in found)
    mine = sum(outcome.played["ours"].clicks.sum() for outcome in found)
    return float(mine / theirs) if theirs else None


def pooled_predicted(found: Sequence[Outcome]) -> float | None:
    """The same of clicks as predicted, the sum of pctr over what was won: less a matter of luck."""
    theirs = sum(outcome.played["linear"].predicted.sum() for outcome in found)
    mine = sum(outcome.played["ours"].predicted.sum() for outcome in found)
    return float(mine / theirs) if theirs else None


def interval(
    found: Sequence[Outcome], draws: int, seed: int, rival: str = "linear"
) -> tuple[float, float] | None:
    """95 % interval of `pooled`: episodes drawn again within each campaign, with all their budgets.

    Budgets of one episode are not independent, so they stay together. None where the rival may win
    nothing in a draw.
    """
    random = np.random.default_rng(seed)
    mine, theirs = np.zeros(draws), np.zeros(draws)
    for name in sorted({outcome.campaign for outcome in found}):
        own = [outcome for outcome in found if outcome.campaign == name]
        clicks = [_by_episode(own, policy) for policy in ("ours", rival)]
        drawn = random.integers(len(clicks[0]), size=(draws, len(clicks[0])))
        mine += clicks[0][drawn].sum(1)
        theirs += clicks[1][drawn].sum(1)
    if not theirs.all():
        return None
    low, high = np.quantile(mine / theirs, (0.025, 0.975))
    return float(low), float(high)


def _by_episode(own: Sequence[Outcome], policy: str) -> Floats:
    total: Floats = np.sum([outcome.played[policy].clicks for outcome in own], axis=0)
    return total
