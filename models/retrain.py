"""Does the loop learn? Serve, log, retrain, three times over, on markets whose truth is known.

    python -m models.retrain --out build/retrain            (make retrain)

In each world: round 0 serves the models that ship and knows nothing of prices; what it logs teaches
the models and the win rates of round 1, and so on to round 3, each model judged and promoted as in
service. Then, on ten seeds that nothing was trained on, round 3 is put beside round 0, beside round
0 with the prices of round 3, and beside the best possible: the true chances, with those prices. All
are given the same money, so sales per euro compare. Writes `retrain.json` and `retrain.png`.
"""

import argparse
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree, rmtree
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table as Shown
from scipy.stats import t as student

from bidder.campaigns.loading import load as load_campaigns
from bidder.exchanges.loading import load as load_exchanges
from bidder.pricing.market import NOTHING, Learnt
from bidder.pricing.market import load as load_market
from bidder.scoring.model import Scorer
from bidder.store.embedded import EmbeddedStore
from loadtest.exchange.market import Market
from loadtest.world import world_names
from models import shading, train
from models.dataset import Dataset
from models.evaluate import evaluate, unseen
from models.promote import CURRENT, Refused, promote, switch
from models.retrain_market import EXCHANGE, SETTLE_SECONDS, Oracle, Outcome, Trial, dense
from models.table import Table

matplotlib.use("Agg")

SEEDS = tuple(range(1, 11))
"""Fixed before anything was run."""
ROUNDS = 3
MORNING_SECONDS = 7 * 3600
LEARNING_EUROS, JUDGING_EUROS = 0.0003, 0.00003
"""Spent per person and hour: more where there is something to learn; little where it counts, so
that whoever bids can spend it, and has to choose."""
HOLD_OUT = 0.2
COMPARED = ("round 0", "its models, prices learnt", f"round {ROUNDS}", "best possible")
RECIPE = train.Recipe(
    trees=300, leaves=8, learning_rate=0.05, rows_per_leaf=40, patience=20, folds=4, threads=2
)
"""Small trees for small logs."""
HERE = Path(__file__).parent


class Size(msgspec.Struct, frozen=True):
    """How large the markets are."""

    people: int
    hours: float
    euros: float
    """Per person and hour."""

    @property
    def budget(self) -> float:
        """What is spent in one, in euros."""
        return self.people * self.hours * self.euros


class Loop:
    """The learning loop in one world, in a folder of its own."""

    def __init__(self, world: str, out: Path, trial: Trial, console: Console) -> None:
        rmtree(out, ignore_errors=True)
        self._world = dense(world)
        self._trial = trial
        self._console = console
        self._log = out / "state" / "events"
        self._dataset = out / "dataset"
        self._challenger = out / "challenger"
        self.root = out / "models"
        self._shipped = Scorer.load(HERE / "demo")
        self.root.mkdir(parents=True)
        copytree(HERE / "demo", self.root / self._shipped.version)
        switch(self.root, self._shipped.version, "promoted", datetime.now(UTC))
        self.rounds: list[dict[str, Any]] = []

    def serve(self, number: int, size: Size) -> None:
        """Serve one round with what is in service, and log it."""
        start = self._world.start.timestamp() + MORNING_SECONDS
        start += number * (SETTLE_SECONDS + 4 * 86400)
        market = Market(
            self._world, 100 + number, people=size.people, hours=size.hours, start=start
        )
        models = Scorer.load(self.root / CURRENT)
        learnt = load_market(self.root / CURRENT)
        outcome = self._trial.serve(
            market, models, number, size.budget, self._log / f"worker-{number}", learnt
        )
        self.rounds.append(
            {"round": number, "model": models.version} | msgspec.to_builtins(outcome)
        )
        self._console.log(f"round {number}: {_said(outcome)}")

    def retrain(self) -> None:
        """From the log to a better model in service, if it is one."""
        Dataset(self._log, self._dataset).update()
        table = train.load(self._dataset)
        older = table.take(slice(int(len(table) * (1 - HOLD_OUT))))
        try:
            learnt = train.train(older, RECIPE)
            train.save(
                learnt, self._challenger, older, RECIPE, source=str(self._dataset),
                created=datetime.now(UTC),
            )  # fmt: skip
            made = promote(self._challenger, self._judged(table), self.root, datetime.now(UTC))
        except (train.TrainingError, Refused) as problem:
            self._console.log(f"the model in service stays: {problem}")
            self.rounds[-1]["kept"] = str(problem)
        else:
            self._console.log(f"promoted {made.version}, trained on {len(older)} impressions")
        prices = shading.learn(self._log, self.root / CURRENT, None, datetime.now(UTC))
        if prices is not None:
            known = prices.learnt_from
            self._console.log(f"prices of {known.bids} bids, {known.wins} of them won")

    def _judged(self, table: Table) -> dict[str, Any]:
        champion = self.root / CURRENT
        young, old = unseen(table, self._challenger)
        late = train.delays_of(table.take(table.click))
        return evaluate(young, self._challenger, champion, late, old)

    def judge(self, seed: int, size: Size) -> dict[str, Outcome]:
        """All that are compared, each before the same market."""
        start = self._world.start.timestamp() + MORNING_SECONDS
        learnt = load_market(self.root / CURRENT)
        last, best = Scorer.load(self.root / CURRENT), Oracle(self._trial.catalogue)
        bidders: Sequence[tuple[Scorer | Oracle, Learnt]] = (
            (self._shipped, NOTHING),
            (self._shipped, learnt),
            (last, learnt),
            (best, learnt),
        )
        found = {}
        for name, (models, prices) in zip(COMPARED, bidders, strict=True):
            market = Market(self._world, seed, people=size.people, hours=size.hours, start=start)
            found[name] = self._trial.serve(market, models, seed, size.budget, None, prices)
        return found


def gains(outcomes: Sequence[dict[str, Outcome]]) -> dict[str, float]:
    """The mean gain in sales per euro of the last round over the first, and its 95 % interval over
    seeds (Student's t of paired differences)."""
    rates = {name: np.array([one[name].sales_per_euro for one in outcomes]) for name in COMPARED}
    gap = rates[f"round {ROUNDS}"] - rates["round 0"]
    half = 0.0
    if len(gap) > 1:
        half = float(student.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / len(gap) ** 0.5)
    return {name: float(rate.mean()) for name, rate in rates.items()} | {
        "gain": float(gap.mean()),
        "low": float(gap.mean() - half),
        "high": float(gap.mean() + half),
    }


def run(out: Path, worlds: Sequence[str], seeds: Sequence[int], learn: Size, judge: Size) -> Any:
    """All of it. Returns what is written to `retrain.json`."""
    console = Console()
    catalogue, _ = load_campaigns(
        HERE / "market_campaigns", now=datetime.now(UTC), exchanges=frozenset({EXCHANGE})
    )
    exchange = load_exchanges(HERE.parent / "config/exchanges", {})[EXCHANGE]
    begun = time.monotonic()
    found: dict[str, Any] = {}
    options = {"appendonly": "no", "save": ""}
    with (
        TemporaryDirectory(prefix="retrain-") as folder,
        EmbeddedStore(Path(folder), options) as db,
    ):
        for world in worlds:
            console.rule(world)
            loop = Loop(world, out / world, Trial(db.url, catalogue, exchange), console)
            for number in range(ROUNDS):
                loop.serve(number, learn)
                loop.retrain()
            outcomes = []
            for seed in seeds:
                outcomes.append(loop.judge(seed, judge))
                said = (f"{name} {one.sales_per_euro:.4f}" for name, one in outcomes[-1].items())
                console.log(f"seed {seed}, sales per euro: {', '.join(said)}")
            found[world] = {
                "rounds": loop.rounds,
                "seeds": dict(zip(map(str, seeds), msgspec.to_builtins(outcomes), strict=True)),
                "sales_per_euro": gains(outcomes),
            }
    found["seconds"] = round(time.monotonic() - begun, 1)
    out.mkdir(parents=True, exist_ok=True)
    (out / "retrain.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    _draw(found, worlds, out / "retrain.png")
    console.print(_shown(found, worlds))
    return found


def _said(outcome: Outcome) -> str:
    return (
        f"{outcome.impressions} impressions, {outcome.clicks} clicks, {outcome.sales} sales, "
        f"{outcome.spend:.2f} euros, {outcome.sales_per_euro:.4f} expected sales per euro"
    )


def _shown(found: dict[str, Any], worlds: Sequence[str]) -> Shown:
    shown = Shown(title=f"Expected sales per euro; {found['seconds']:.0f} seconds")
    names = (*COMPARED, "gain", "low", "high")
    for heading in ("world", *names):
        shown.add_column(heading)
    for world in worlds:
        figures = found[world]["sales_per_euro"]
        shown.add_row(world, *[f"{figures[name]:.4f}" for name in names])
    return shown


def _draw(found: dict[str, Any], worlds: Sequence[str], path: Path) -> None:
    """One panel a world: each seed a line over all that are compared."""
    names = [name.replace(", ", ",\n") for name in COMPARED]
    size = (4.4 * len(worlds), 3.8)
    figure, panels = plt.subplots(1, len(worlds), figsize=size, dpi=110, squeeze=False,
                                  layout="constrained")  # fmt: skip
    for world, axes in zip(worlds, panels[0], strict=True):
        for one in found[world]["seeds"].values():
            rates = [
                one[name]["expected_sales"] / max(one[name]["spend"], 1e-9) for name in COMPARED
            ]
            axes.plot(names, rates, "o-", color="#b8c0cc", markersize=3, linewidth=1)
        figures = found[world]["sales_per_euro"]
        means = [figures[name] for name in COMPARED]
        axes.plot(names, means, "o-", color="#0b6e4f", markersize=6, linewidth=2)
        interval = f"{figures['gain']:+.3f} ({figures['low']:+.3f} to {figures['high']:+.3f})"
        axes.set_title(f"{world}\nround {ROUNDS} less round 0: {interval}", fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
        axes.tick_params(axis="x", labelsize=7)
    panels[0][0].set_ylabel("expected sales per euro")
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Run the loop in every world."""
    parser = argparse.ArgumentParser(prog="python -m models.retrain", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("build/retrain"), metavar="DIR")
    parser.add_argument("--worlds", nargs="*", default=world_names(), choices=world_names())
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--people", type=int, default=10000, help="in the markets learnt from")
    parser.add_argument("--hours", type=float, default=12.0, help="of each market")
    parser.add_argument("--judged-people", type=int, default=1000)
    given = parser.parse_args()
    learn = Size(given.people, given.hours, LEARNING_EUROS)
    judge = Size(given.judged_people, given.hours, JUDGING_EUROS)
    run(given.out, given.worlds, given.seeds, learn, judge)


if __name__ == "__main__":
    main()
