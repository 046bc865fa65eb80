"""What does a replay say, as JSON and as a picture?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from models.replay.clicks import POLICIES, Outcome, interval, pooled, pooled_predicted
from models.replay.logs import MICROS_PER_UNIT
from models.replay.market import Mode
from models.replay.surplus import Surplus

DRAWS = 2000
SEED = 1
_COLOURS = {"ours": "#0b6e4f", "linear": "#c1666b", "constant": "#8d99ae"}


def summary(found: Sequence[Outcome], surpluses: Sequence[Surplus], mode: Mode) -> dict[str, Any]:
    """Everything measured; money in the unit of the logged prices."""
    between = interval(found, DRAWS, SEED)
    campaigns: dict[str, Any] = {}
    for outcome in found:
        name, share = outcome.campaign, str(outcome.budget)
        campaigns.setdefault(name, {"clicks": {}})["clicks"][share] = _clicks(outcome)
    for surplus in surpluses:
        levels = campaigns[surplus.campaign].setdefault("surplus", {})
        levels[f"{surplus.level:g}"] = _surplus(surplus)
    result: dict[str, Any] = {
        "mode": mode,
        "pooled_ratio": pooled(found),
        "interval": None if between is None else list(between),
        "pooled_predicted_ratio": pooled_predicted(found),
        "pooled_ratio_over_constant": pooled(found, "constant"),
        "clicks": {p: sum(float(o.played[p].clicks.sum()) for o in found) for p in POLICIES},
        "campaigns": campaigns,
    }
    if surpluses:
        result["least_surplus"] = min(surplus.ours for surplus in surpluses)
        result["least_lead_over_fractions"] = min(
            surplus.ours - max(surplus.fractions.values()) for surplus in surpluses
        )
    return result


def picture(found: Sequence[Outcome], path: Path) -> None:
    """Clicks against budget, pooled and for each campaign. Raises `OSError`."""
    names = sorted({outcome.campaign for outcome in found})
    panels = ["all", *names] if len(names) > 1 else names
    figure = Figure(figsize=(3.2 * len(panels), 3.4), layout="constrained")
    for place, name in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        own = [outcome for outcome in found if name in ("all", outcome.campaign)]
        shares = sorted({outcome.budget for outcome in own})
        where = np.log2([float(share) for share in shares])
        for policy in POLICIES:
            clicks = [
                sum(o.played[policy].clicks.sum() for o in own if o.budget == share)
                for share in shares
            ]
            axes.plot(where, clicks, marker="o", label=policy, color=_COLOURS[policy])
        axes.set_xticks(where, [str(share) for share in shares])
        axes.set_ylim(bottom=0)
        axes.set_title("all campaigns" if name == "all" else name)
        axes.set_xlabel("budget, share of training CPM")
        if place == 0:
            axes.set_ylabel("clicks")
            axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def _clicks(outcome: Outcome) -> dict[str, Any]:
    shown: dict[str, Any] = {
        policy: float(played.clicks.sum()) for policy, played in outcome.played.items()
    }
    shown["available"] = outcome.available
    shown["budget"] = outcome.money / MICROS_PER_UNIT
    shown["spent"] = {
        policy: float(played.spent.sum()) / MICROS_PER_UNIT
        for policy, played in outcome.played.items()
    }
    shown["wins"] = {policy: float(p.wins.sum()) for policy, p in outcome.played.items()}
    return shown


def _surplus(surplus: Surplus) -> dict[str, Any]:
    return {
        "ours": surplus.ours,
        "argmax_per_auction": surplus.argmax / MICROS_PER_UNIT,
        "fractions": {f"{share:g}": kept for share, kept in surplus.fractions.items()},
        "tuned_fraction": surplus.tuned,
        "tuned_fraction_surplus": surplus.fractions[surplus.tuned],
    }
