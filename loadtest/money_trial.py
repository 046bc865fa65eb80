"""Do many workers spend a budget, all of it and no more, in step with its plan?

    python -m loadtest.money_trial                         8 workers, 1,000 bids/s, 4 hours
    python -m loadtest.money_trial --kill                  one of them killed half-way
    python -m loadtest.money_trial --hours 24 --rate 40 --pacing ahead --plot build/ahead.png

A clock of its own, the project's books, pacing, scripts and applier, and a real store. The
exchange decides every auction at once and keeps the invoice by which all is judged; what it tells
us comes up to a minute late, out of order, some of it twice, and a part of the billings and of the
pixels never.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import uvloop
from numpy.typing import NDArray

from bidder.campaigns import catalogue
from bidder.events.schema import BillingEvent, ImpressionEvent, LossEvent, decode
from bidder.ids import hash32, to_text
from bidder.metrics import Metrics
from bidder.money import impression_cost
from bidder.notices.applying import Applier
from bidder.pricing import Books, Pacing
from bidder.pricing.counting import overdue
from bidder.pricing.curve import Plan, Traffic, open_hours
from bidder.pricing.leases import Hold
from bidder.pricing.pacing import FRONT, ahead
from bidder.pricing.shading import DEFAULT_SHARE
from bidder.store.breaker import Breaker
from bidder.store.coalesce import Scripts
from bidder.store.connect import connect
from bidder.store.embedded import EmbeddedStore
from bidder.store.links import Links

TICK_SECONDS = 0.5
"""As often as busy workers renew their leases."""
SWEEP_TICKS = 20
AFTER_SECONDS = 2100
"""How long the notices are followed after the last bid: past the last inferred billing."""
NOTICE_LAG_SECONDS, EXP_SECONDS = 600, 300
"""What the exchanges' profiles say, and most requests."""
PRICE_SPREAD = 0.6
"""Sigma of the logarithm of values and of prices to beat."""
CURVE_POINTS = 2000
EXCHANGES = ("alpha", "beta")
"""Alpha is first price and never says what is lost; beta is second price and does. Without a
model, first-price bids are a fixed share of the value."""
Heard = BillingEvent | ImpressionEvent | LossEvent
DAY = datetime(2026, 11, 20, tzinfo=ZoneInfo("Europe/Paris"))


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried. Amounts are micros; prices CPM micros."""

    workers: int = 8
    rate: float = 1000.0
    """Bids per second at the mean of the day."""
    hours: float = 4.0
    pacing: catalogue.Pacing = "even"
    kill: bool = False
    value: float = 3_000_000.0
    """Median value of an impression."""
    price: float = 9_000_000.0
    """Median price to beat."""
    wanted: float = 0.6
    """The budget, as a share of what bidding all values would cost."""
    lag_seconds: float = 60.0
    lost: float = 0.01
    """Of billing notices and, independently, of pixels."""
    repeated: float = 0.05
    beta: float = 0.1
    """The second exchange's share of the traffic."""
    wave: float = 0.3
    """How much traffic swings beside what was expected."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. Shares are of the budget."""

    bids: int
    wins: int
    budget_micros: int
    invoice_micros: int
    counted_micros: int
    """What our counters say was spent."""
    deviation: float
    """Mean absolute difference between invoiced and planned, over the flight."""
    worst: float
    delivered: list[float]
    planned: list[float]

    @property
    def overspend(self) -> float:
        return max(self.invoice_micros / self.budget_micros - 1, 0.0)

    @property
    def underspend(self) -> float:
        return max(1 - self.invoice_micros / self.budget_micros, 0.0)


def campaign_of(trial: Trial, budget_micros: int) -> catalogue.Catalogue:
    """One advertiser, one campaign, one line item, in flight for the hours of the trial."""
    start = DAY if trial.hours >= 24 else DAY + timedelta(hours=10)
    flight = catalogue.Flight(start, start + timedelta(hours=trial.hours))
    advertiser = catalogue.Advertiser(
        id="adv", id32=hash32("adv"), domain="adv.example", currency="EUR",
        zone=ZoneInfo("Europe/Paris"), max_cpm_micros=0, max_spend_per_minute_micros=0,
    )  # fmt: skip
    campaign = catalogue.Campaign(
        id="trial", path="adv/trial", id32=hash32("adv/trial"), advertiser=advertiser,
        flights=(flight,),
        budget=catalogue.Budget(daily_micros=budget_micros, pacing=trial.pacing),
    )  # fmt: skip
    item = catalogue.LineItem(
        index=0, id="all", path="adv/trial/all", id32=hash32("adv/trial/all"), campaign=campaign,
        audience=catalogue.Audience(), where=catalogue.Where(), when=catalogue.When(),
        bid=catalogue.Bid(int(10 * trial.value)), goal=catalogue.Goal("cpm", int(10 * trial.value)),
        caps=(), intrusiveness=catalogue.Intrusiveness(), creatives=(), unknown_people="serve",
    )  # fmt: skip
    return catalogue.Catalogue("trial", (item,), (campaign,), (advertiser,), {})


class Market:
    """The exchange: what comes, who wins, what is invoiced and what is said."""

    def __init__(self, trial: Trial, item: catalogue.LineItem, plan: Plan, start: float) -> None:
        self.invoice = self.bids = self.wins = 0
        self._trial, self._item, self._plan, self._start = trial, item, plan, start
        self._random = np.random.default_rng(trial.seed)
        self._due: dict[int, list[Heard]] = {}
        self._phase = self._random.uniform(0, 2 * np.pi)

    def count(self, now: float) -> int:
        """How many auctions the tick from `now` on brings: the plan's traffic, and a wave on it."""
        trial, seconds = self._trial, self._trial.hours * 3600
        share = self._plan.elapsed(now + TICK_SECONDS) - self._plan.elapsed(now)
        wave = 1 + trial.wave * np.sin(self._phase + 7 * np.pi * (now - self._start) / seconds)
        return int(self._random.poisson(trial.rate * seconds * share * wave))

    def draw(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values of so many auctions, and the prices to beat in them."""
        trial, normal = self._trial, self._random.standard_normal
        values = trial.value * np.exp(PRICE_SPREAD * normal(count))
        return values, trial.price * np.exp(PRICE_SPREAD * normal(count))

    def auctions(self, now: float, books: Books, factor: float, count: int) -> None:
        """A worker bids in so many auctions."""
        values, prices = self.draw(count)
        beta = self._random.random(count) < self._trial.beta
        bids = np.where(beta, values, DEFAULT_SHARE * values) * factor
        for bid, price, second in zip(
            bids.astype(int).tolist(), prices.tolist(), beta.tolist(), strict=True
        ):
            exchange = EXCHANGES[second]
            seconds = NOTICE_LAG_SECONDS + EXP_SECONDS
            hold = books.hold(self._item, bid, now, exchange, seconds) if bid else None
            if hold is None:
                continue
            self.bids += 1
            if bid >= price:
                self._won(now, exchange, bid, int(price) if second else bid, hold)
            elif second:
                self._say(now, LossEvent(**self._common(now, exchange, bid, hold)))

    def notices(self, now: float) -> list[Heard]:
        """What arrives by now."""
        return self._due.pop(round(now / TICK_SECONDS), [])

    def _won(self, now: float, exchange: str, bid: int, price: int, hold: Hold) -> None:
        cost, common = impression_cost(price), self._common(now, exchange, bid, hold)
        self.wins += 1
        self.invoice += cost
        if self._random.random() >= self._trial.lost:
            self._say(now, BillingEvent(**common, price_cpm_micros=price, cost_micros=cost))
        if self._random.random() >= self._trial.lost:
            self._say(now, ImpressionEvent(**common))

    def _say(self, now: float, notice: Heard) -> None:
        times = 2 if self._random.random() < self._trial.repeated else 1
        for _ in range(times):
            late = now + self._random.uniform(TICK_SECONDS, self._trial.lag_seconds)
            self._due.setdefault(round(late / TICK_SECONDS), []).append(notice)

    def _common(self, now: float, exchange: str, bid: int, hold: Hold) -> dict[str, Any]:
        item = self._item
        owner = item.campaign.advertiser.id32
        return {
            "time": now,
            "bid_id": to_text(int(now).to_bytes(4, "big") + self._random.bytes(8)),
            "exchange": exchange,
            "line_item": item.path,
            "creative": "one",
            "bid_time": float(int(now)),
            "bid_cpm_micros": bid,
            "currency": "EUR",
            "account_currency": "EUR",
            "rate": 1.0,
            "hold": hold.holder,
            "ids": (owner, item.campaign.id32, item.id32, 1),
            "hold_until": float(hold.until),
            "day": hold.day,
        }


class Worker:
    """Books and pacing of one process, as the bidder's worker runs them."""

    def __init__(self, name: str, whole: catalogue.Catalogue) -> None:
        self.books = Books(name, NOTICE_LAG_SECONDS + EXP_SECONDS)
        self.books.adopt(whole)
        self.pacing = Pacing(self.books)
        self.pacing.adopt(whole, Traffic())
        self.requests = 0

    async def tick(self, scripts: Scripts, now: float) -> None:
        """Renew leases and factors."""
        await self.books.sync(scripts, now)
        self.pacing.step(now, self.requests)


async def play(trial: Trial, links: Links, say: Callable[[str], None]) -> Outcome:
    """Run the trial against an empty store."""
    budget = sized(trial)
    whole = campaign_of(trial, budget)
    campaign, item = whole.campaigns[0], whole.line_items[0]
    flight = campaign.flights[0]
    assert flight.start is not None
    start = flight.start.timestamp()
    plan = Plan(Traffic(), campaign, open_hours([item]), DAY.date().isoformat())
    market = Market(trial, item, plan, start)
    scripts = Scripts(links)
    billing = dict.fromkeys(EXCHANGES, NOTICE_LAG_SECONDS + EXP_SECONDS)
    applier = Applier(scripts, Metrics(), 86400, billing)
    workers = [Worker(f"worker-{i}", whole) for i in range(trial.workers)]
    ticks = round(trial.hours * 3600 / TICK_SECONDS)
    every = max(ticks // CURVE_POINTS, 1)
    delivered, planned = [], []
    front = FRONT if trial.pacing == "ahead" else 0.0
    for tick in range(ticks + round(AFTER_SECONDS / TICK_SECONDS)):
        now = start + tick * TICK_SECONDS
        if trial.kill and tick == ticks // 2:
            workers[0] = Worker("another", whole)
        await asyncio.gather(*[worker.tick(scripts, now) for worker in workers])
        if tick < ticks:
            bid_all(market, workers, campaign.id32, now)
            if tick % every == 0:
                delivered.append(market.invoice / budget)
                planned.append(ahead(plan.elapsed(now), front))
        await applier.apply(market.notices(now), now)
        if tick % SWEEP_TICKS == 0:
            lines = await overdue(scripts, campaign.id32, int(now), 1000)
            await applier.apply([decode(line) for line in lines], now)
        if tick % (ticks // 10) == 0 and tick < ticks:
            say(f"{100 * tick // ticks:3} %  invoiced {market.invoice / budget:.4f}  "
                f"planned {ahead(plan.elapsed(now), front):.4f}  bids {market.bids:,}")  # fmt: skip
    spent = workers[-1].books.accounts[campaign.id32].spent.micros_today
    off = np.abs(np.array(delivered) - planned)
    return Outcome(
        bids=market.bids, wins=market.wins, budget_micros=budget, invoice_micros=market.invoice,
        counted_micros=spent, deviation=float(off.mean()), worst=float(off.max()),
        delivered=delivered, planned=planned,
    )  # fmt: skip


def bid_all(market: Market, workers: list[Worker], campaign: int, now: float) -> None:
    """Spread one tick's auctions over the workers."""
    count = market.count(now)
    for place, worker in enumerate(workers):
        share = count // len(workers) + (place < count % len(workers))
        worker.requests += share
        factor = worker.pacing.paces.get(campaign, 1.0)
        if factor > 0 and worker.books.funded(now):
            market.auctions(now, worker.books, factor, share)


def sized(trial: Trial) -> int:
    """A budget that takes the wanted share of what all values would cost."""
    whole = campaign_of(trial, 1)
    plan = Plan(Traffic(), whole.campaigns[0], frozenset(range(168)), DAY.date().isoformat())
    market = Market(replace(trial, seed=trial.seed + 1), whole.line_items[0], plan, 0.0)
    values, prices = market.draw(400_000)
    bids = DEFAULT_SHARE * values
    first, second = np.where(bids >= prices, bids, 0), np.where(values >= prices, prices, 0)
    mean = (1 - trial.beta) * first.mean() + trial.beta * second.mean()
    return int(trial.wanted * trial.rate * trial.hours * 3600 * mean / 1000)


def plot(outcome: Outcome, trial: Trial, path: Path) -> None:
    """Delivered against planned, as a picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    hours = np.linspace(0, trial.hours, len(outcome.delivered))
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(hours, outcome.planned, "--", color="grey", label="planned")
    axes.plot(hours, outcome.delivered, label="delivered (invoice)")
    axes.set(xlabel="hours", ylabel="share of the budget", xlim=(0, trial.hours), ylim=(0, 1.02))
    axes.set_title(f"{trial.pacing}: mean deviation {outcome.deviation:.2%} of the day")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


async def on_a_store(trial: Trial, say: Callable[[str], None]) -> Outcome:
    """`play` on a real server of its own, gone afterwards."""
    with (
        TemporaryDirectory(prefix="money-trial-") as folder,
        EmbeddedStore(Path(folder), {"appendonly": "no"}) as server,
    ):
        client = connect(server.url, timeout_seconds=30.0)
        clock = asyncio.get_running_loop().time
        links = Links(client, Breaker(clock), timeout_seconds=30.0)
        await links.ping()
        try:
            return await play(trial, links, say)
        finally:
            await links.aclose()
            await client.aclose()


def main() -> None:
    """Run a trial and say how it went; exit code 1 if the money was not kept."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.money_trial", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1000.0, help="bids per second")
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--pacing", choices=("even", "ahead", "asap"), default="even")
    parser.add_argument("--kill", action="store_true", help="kill a worker half-way")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="picture of delivered against planned")
    parser.add_argument("--json", type=Path, help="the figures, as a file")
    given = parser.parse_args()
    trial = Trial(given.workers, given.rate, given.hours, given.pacing, given.kill, seed=given.seed)
    began = datetime.now(UTC)
    outcome = uvloop.run(on_a_store(trial, lambda line: print(line, flush=True)))
    took = (datetime.now(UTC) - began).total_seconds()
    print(
        f"{trial.workers} workers, {trial.hours:g} h, {outcome.bids:,} bids"
        f", {outcome.wins:,} wins, {'one killed' if trial.kill else 'none killed'}; {took:.0f} s\n"
        f"budget    {outcome.budget_micros:>15,} micros\n"
        f"invoice   {outcome.invoice_micros:>15,}  overspend {outcome.overspend:.3%}, "
        f"under-spend {outcome.underspend:.3%}\n"
        f"counters  {outcome.counted_micros:>15,}  off the invoice by "
        f"{outcome.counted_micros / outcome.invoice_micros - 1:+.3%}\n"
        f"deviation from the {trial.pacing} plan: mean {outcome.deviation:.2%}, "
        f"worst {outcome.worst:.2%} of the budget"
    )
    if given.plot:
        plot(outcome, trial, given.plot)
    if given.json:
        figures = {n: getattr(outcome, n) for n in Outcome.__slots__ if n != "planned"}
        figures |= {"overspend": outcome.overspend, "underspend": outcome.underspend}
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(figures))
    sys.exit(outcome.overspend > 0.005 or outcome.underspend > 0.02)


if __name__ == "__main__":
    main()
