"""What does sparing people cost? Sales against mean intrusiveness, for several ceilings and costs.

    python -m models.intrusiveness_tradeoff --plot docs/intrusiveness.png

The real engine on the simulated market, in three worlds: where repetition helps, does not matter,
and harms. The same people, requests and money each time; what a ceiling keeps from one person is
spent on others. Judged by the world's own truth: expected sales after ads, and all sales of people
the CRM knows, those that no ad led to among them, which is where annoyance is paid for. Clicks and
sales after ads are made likelier (`models.retrain_market.dense`), so levels mean nothing.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from msgspec.structs import replace
from scipy.stats import t as student

from bidder.campaigns.catalogue import Catalogue, Intrusiveness
from bidder.campaigns.loading import load as load_campaigns
from bidder.capping import load_parameters
from bidder.events.intrusiveness import report
from bidder.exchanges.loading import load as load_exchanges
from bidder.scoring.model import Scorer
from bidder.store.embedded import EmbeddedStore
from loadtest.exchange.market import Market
from models.retrain_market import EXCHANGE, HERE, Trial, dense

WORLDS = ("repetition-helps", "repetition-neutral", "repetition-harms")
SETTINGS = (
    Intrusiveness(),
    *(Intrusiveness(ceiling=ceiling) for ceiling in (0.8, 0.6, 0.45, 0.3)),
    *(Intrusiveness(cost_cpm_micros=cost) for cost in (30_000, 100_000, 300_000)),
)
EUROS = 0.0001
"""Money per person and hour: little enough to be spent whatever the setting, or nearly."""
MORNING_SECONDS = 8 * 3600


@dataclass(frozen=True)
class Point:
    """What one setting came to in one world, summed over the seeds."""

    world: str
    ceiling: float
    cost_cpm: float
    intrusiveness: float
    """Mean over impressions, 0..1, as the bidder's parameters have it."""
    impressions: int
    spend: float
    sales_after_ads: tuple[float, ...]
    """Expected, without luck; of each seed."""
    other_sales: int
    """Of people the CRM knows, that no ad led to."""

    @property
    def name(self) -> str:
        """As a trader would say it."""
        if self.ceiling < 1:
            return f"ceiling {self.ceiling:g}"
        return f"cost_cpm {self.cost_cpm:g}" if self.cost_cpm else "neither"


def curve(
    catalogue: Catalogue, world: str, seeds: Sequence[int], people: int, hours: float
) -> list[Point]:
    """All settings in one world."""
    exchange = load_exchanges(HERE.parent / "config/exchanges", {})[EXCHANGE]
    models = Scorer.load(HERE / "demo")
    parameters = load_parameters(HERE.parent / "config/intrusiveness.yaml")
    points = []
    with TemporaryDirectory(prefix="tradeoff-") as folder:
        options = {"appendonly": "no", "save": ""}
        with EmbeddedStore(Path(folder) / "store", options) as store:
            for place, setting in enumerate(SETTINGS):
                trial = Trial(store.url, _with(catalogue, setting), exchange, parameters)
                found = []
                for seed in seeds:
                    given = dense(world)
                    start = given.start.timestamp() + MORNING_SECONDS
                    market = Market(given, seed, people=people, hours=hours, start=start)
                    log = Path(folder) / f"events-{place}-{seed}"
                    money = people * hours * EUROS
                    outcome = trial.serve(market, models, seed, money, log / "worker-0")
                    found.append((outcome, report(log, {}).campaigns, market.tally.organic_sales))
                shown = sum(row.impressions for _, rows, _ in found for row in rows)
                felt = sum(row.impressions * row.mean for _, rows, _ in found for row in rows)
                points.append(
                    Point(
                        world,
                        setting.ceiling,
                        setting.cost_cpm_micros / 1e6,
                        felt / max(shown, 1),
                        shown,
                        sum(outcome.spend for outcome, _, _ in found),
                        tuple(outcome.expected_sales for outcome, _, _ in found),
                        sum(organic for _, _, organic in found),
                    )
                )
                print(f"{world}, {points[-1].name}: {asdict(points[-1])}", flush=True)
    return points


def _with(catalogue: Catalogue, setting: Intrusiveness) -> Catalogue:
    """The same line items under this setting."""
    items = tuple(replace(item, intrusiveness=setting) for item in catalogue.line_items)
    return replace(catalogue, line_items=items)


def draw(points: Sequence[Point], path: Path) -> None:
    """One panel a world: what each setting gives up or gains, in percent of neither.

    Bars are 95 % intervals over seeds (Student's t of paired differences).
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, len(WORLDS), figsize=(13, 4.2), sharey=True, layout="constrained"
    )
    for world, axes in zip(WORLDS, panels, strict=True):
        mine = [point for point in points if point.world == world]
        base = mine[0]
        for kind, mark in (("ceiling", "o-"), ("cost_cpm", "s--")):
            line = [p for p in mine if p is base or p.name.startswith(kind)]
            at = [point.intrusiveness for point in line]
            ads, bars = zip(*[_gain(point, base) for point in line], strict=True)
            whole = sum(base.sales_after_ads) + base.other_sales
            every = [100 * ((sum(p.sales_after_ads) + p.other_sales) / whole - 1) for p in line]
            axes.errorbar(
                at, ads, bars, fmt=mark, color="tab:blue", capsize=3,
                label=f"{kind}: sales after ads",
            )  # fmt: skip
            axes.plot(at, every, mark, color="tab:green", label=f"{kind}: all sales")
            for point, height in zip(line[1:], ads[1:], strict=True):
                axes.annotate(point.name.split()[-1], (point.intrusiveness, height), fontsize=8)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set(title=world, xlabel="mean intrusiveness of impressions")
    panels[0].set_ylabel("percent more sales than with neither")
    panels[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _gain(point: Point, base: Point) -> tuple[float, float]:
    """Percent of sales after ads gained over `base`, and half its 95 % interval (0 if unknown)."""
    here, there = np.array(point.sales_after_ads), np.array(base.sales_after_ads)
    percent = 100 * (here - there) / there.mean()
    many = len(percent)
    if many < 2:
        return float(percent.mean()), 0.0
    half = student.ppf(0.975, many - 1) * percent.std(ddof=1) / many**0.5
    return float(percent.mean()), float(half)


def main(arguments: Sequence[str] | None = None) -> None:
    """All worlds; prints every point."""
    parser = argparse.ArgumentParser(prog="python -m models.intrusiveness_tradeoff")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=12.0)
    parser.add_argument("--seeds", type=int, default=5, help="fewer say little")
    parser.add_argument("--plot", type=Path, default=Path("build/tradeoff.png"))
    parser.add_argument("--out", type=Path, default=Path("build/tradeoff.json"))
    given = parser.parse_args(arguments)
    catalogue, _ = load_campaigns(
        HERE / "market_campaigns", now=datetime.now(UTC), exchanges=frozenset({EXCHANGE})
    )
    points = [
        point
        for world in WORLDS
        for point in curve(catalogue, world, range(given.seeds), given.people, given.hours)
    ]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps([asdict(point) for point in points], indent=1) + "\n")
    draw(points, given.plot)


if __name__ == "__main__":
    main()
