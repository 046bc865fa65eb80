"""How high must a bid be? Win rates by kind of auction, and traffic by hour, from our own log.

    python -m models.shading fit --events .state/events --models models/demo
    python -m models.shading show --models models/demo

A lost bid says only that the price to beat was higher, a won one that it was not: the distribution
of prices is estimated from such censored rows by self-consistency (Turnbull 1976, the EM of the
nonparametric likelihood), over a geometric grid. Where the exchange tells the price to beat (with
a loss, or what a second-price win paid), the row is exact. Cells go from coarse to fine; each
starts from the cell above it as if it had seen `PRIOR` auctions more like that one, and is kept
only if it has `LEAST` of its own.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bidder.events.reading import read
from bidder.events.schema import (
    AnyEvent,
    BidEvent,
    BillingEvent,
    ImpressionEvent,
    LossEvent,
    RequestsEvent,
    WinEvent,
)
from bidder.pricing.market import (
    CONTENT,
    DIRECTORY,
    LAYOUT,
    Cell,
    Content,
    LearntFrom,
    Manifest,
    MarketError,
    Probe,
    load,
    write,
)
from bidder.pricing.shading import FIRST_PRICE, Shader, cells
from bidder.pricing.winrate import WinRate
from bidder.reasons import Loss

Floats = NDArray[np.float64]

GRID_FROM, GRID_TO, GRID_STEP = 1_000.0, 1e9, 1.04
"""CPM micros: from a thousandth of a unit to a thousand, 4 % apart."""
GRID: Floats = np.unique(
    np.round(
        GRID_FROM * GRID_STEP ** np.arange(np.log(GRID_TO / GRID_FROM) / np.log(GRID_STEP) + 1)
    )
)
PRIOR, LEAST = 100.0, 200.0
"""In auctions."""
STEPS = 300
SETTLED = 1e-7
EXPLORATION = 0.01
WAIT_SECONDS = 2 * 3600
"""A bid is taken for lost when so much of the log follows it without a word of it."""
ABOUT_PRICE = frozenset(
    {Loss.WON, Loss.BELOW_FLOOR, Loss.BELOW_DEAL_FLOOR, Loss.OUTBID, Loss.LOST_TO_DEAL}
)
"""Loss reasons after which a higher bid might have won. 0 is sent by who does not say."""
KEPT_POINTS = 120
LEAST_RATE = 1e-6
PROBES = 20


@dataclass(slots=True)
class Counts:
    """What is known of one cell's auctions, by place in `GRID` (length n)."""

    won: Floats = field(default_factory=lambda: np.zeros(len(GRID)))
    """Bids at this price that won: the price to beat was there or below."""
    lost: Floats = field(default_factory=lambda: np.zeros(len(GRID)))
    """Bids at this price that lost: it was above."""
    told: Floats = field(default_factory=lambda: np.zeros(len(GRID)))
    """Auctions whose price to beat was this."""

    @property
    def auctions(self) -> float:
        """How many in all."""
        return float(self.won.sum() + self.lost.sum() + self.told.sum())

    def add(self, other: "Counts") -> None:
        """Take in another's."""
        self.won += other.won
        self.lost += other.lost
        self.told += other.told


@dataclass(slots=True)
class Heard:
    """What a log says: counts by the finest cell's ancestry, and requests by hour of the week."""

    cells: dict[tuple[str, ...], Counts] = field(default_factory=dict)
    requests: Floats = field(default_factory=lambda: np.zeros(168))
    hours: Floats = field(default_factory=lambda: np.zeros(168))
    bids: int = 0
    wins: int = 0
    told: int = 0
    first: float = 0.0
    last: float = 0.0


class _Bid(NamedTuple):
    """What is kept of a bid until its fate is known."""

    time: float
    cells: tuple[str, ...]
    price: int
    first_price: bool


class _Fate(NamedTuple):
    """What became of a bid. `price` is what it paid, or what it had to beat; 0 = not told."""

    won: bool
    about_price: bool
    price: int


def listen(events: Iterable[AnyEvent]) -> Heard:
    """What the log says, given in the order of its times; bids whose fate is open are left out."""
    heard, bids, fates = Heard(), dict[str, _Bid](), dict[str, _Fate]()
    hours, last = set[int](), 0.0
    for event in events:
        last = max(last, event.time)
        if isinstance(event, BidEvent):
            bids[event.bid_id] = _kept(event)
        elif isinstance(event, RequestsEvent):
            hours.add(int(event.time) // 3600)
            heard.requests[_hour_of_week(event.time)] += event.requests
        elif fate := _fate(event, fates):
            fates[fate[0]] = fate[1]
    for hour in hours:
        heard.hours[_hour_of_week(hour * 3600)] += 1
    silent = _Fate(won=False, about_price=True, price=0)
    for bid_id, bid in bids.items():
        fate_of = fates.get(bid_id)
        if fate_of is None and last - bid.time >= WAIT_SECONDS:
            fate_of = silent
        if fate_of is not None and fate_of.about_price:
            _count(heard, bid, fate_of)
    return heard


def _kept(bid: BidEvent) -> _Bid:
    hour = int(bid.time) // 3600 % 24
    floor = bid.floor_cpm_micros
    names = cells(bid.exchange, bid.currency, bid.deal, bid.size, floor, hour)
    return _Bid(bid.time, names, bid.price_cpm_micros, bid.first_price)


def _fate(event: AnyEvent, known: dict[str, _Fate]) -> tuple[str, _Fate] | None:
    """The bid that a notice is about and what became of it; None if it says nothing new."""
    if isinstance(event, WinEvent | BillingEvent | ImpressionEvent):
        inferred = isinstance(event, BillingEvent) and event.inferred
        before = known.get(event.bid_id)
        told = 0 if inferred else event.price_cpm_micros
        price = max(told, before.price if before and before.won else 0)
        return event.bid_id, _Fate(won=True, about_price=True, price=price)
    if isinstance(event, LossEvent) and event.bid_id not in known:
        about = event.reason in ABOUT_PRICE
        return event.bid_id, _Fate(
            won=False, about_price=about, price=event.minimum_to_win_cpm_micros
        )
    return None


def _count(heard: Heard, bid: _Bid, fate: _Fate) -> None:
    counts = heard.cells.setdefault(bid.cells, Counts())
    heard.bids += 1
    heard.first = min(heard.first or bid.time, bid.time)
    heard.last = max(heard.last, bid.time)
    heard.wins += fate.won
    exact = fate.price > 0 and not bid.first_price if fate.won else fate.price > bid.price
    if exact:
        counts.told[_place_of_price(fate.price)] += 1
        heard.told += 1
    elif fate.won:
        counts.won[_place_of_bid(bid.price)] += 1
    else:
        counts.lost[_place_of_bid(bid.price)] += 1


def _hour_of_week(time: float) -> int:
    """Monday 0:00 UTC = 0. The epoch was a Thursday."""
    return (int(time) // 3600 + 72) % 168


def _place_of_bid(price: float) -> int:
    """The highest grid price that a bid reaches."""
    return max(int(np.searchsorted(GRID, price, side="right")) - 1, 0)


def _place_of_price(price: float) -> int:
    """The lowest grid price that reaches a price to beat."""
    return min(int(np.searchsorted(GRID, price, side="left")), len(GRID) - 1)


def masses(counts: Counts, above: Floats, prior: float = PRIOR) -> Floats:
    """The distribution of the price to beat over `GRID`, and last what lies beyond it (n + 1).

    `above` is that of the coarser cell, which counts like `prior` auctions.
    """
    mass = above.copy()
    base = np.append(counts.told, 0.0) + prior * above
    total = base.sum() + counts.won.sum() + counts.lost.sum()
    for _ in range(STEPS):
        rate = np.cumsum(mass)[:-1]
        per_won = np.divide(counts.won, rate, out=np.zeros_like(rate), where=rate > 0)
        rest = 1 - rate
        per_lost = np.divide(counts.lost, rest, out=np.zeros_like(rate), where=rest > 1e-12)
        # A win at j may have been any price up to j, a loss any above.
        share = np.append(np.cumsum(per_won[::-1])[::-1], 0.0)
        share[1:] += np.cumsum(per_lost)
        new: Floats = (base + mass * share) / total
        new /= new.sum()
        if np.abs(new - mass).max() < SETTLED:
            return new
        mass = new
    return mass


def fit(heard: Heard) -> dict[str, WinRate]:
    """A win rate for every cell with enough of its own, and for each currency as a whole."""
    counts = dict[str, Counts]()
    parents = dict[str, str]()
    for names, own in heard.cells.items():
        for name, parent in zip(names, [*names[1:], ""], strict=True):
            counts.setdefault(name, Counts()).add(own)
            parents[name] = parent
    flat = np.full(len(GRID) + 1, 1 / (len(GRID) + 1))
    found: dict[str, Floats] = {"": flat}
    for name in sorted(counts, key=lambda name: _depth(name, parents)):
        parent = parents[name]
        if counts[name].auctions < LEAST and parent:
            found[name] = found[parent]
            continue
        found[name] = masses(counts[name], found[parent], PRIOR if parent else 1.0)
    kept = {n: m for n, m in found.items() if n and m is not found.get(parents[n])}
    return {name: rate for name, mass in kept.items() if (rate := _staircase(mass)) is not None}


def _depth(name: str, parents: dict[str, str]) -> int:
    depth = 0
    while name:
        name, depth = parents[name], depth + 1
    return depth


def _staircase(mass: Floats) -> WinRate | None:
    """The win rate of a distribution, in few steps; None where nothing is ever won."""
    rates: Floats = np.minimum(np.cumsum(mass)[:-1], 1.0)
    wanted = np.unique(np.searchsorted(rates, np.linspace(rates[0], rates[-1], KEPT_POINTS)))
    places = wanted[wanted < len(GRID)]
    places = places[rates[places] > LEAST_RATE]
    kept = np.round(rates[places], 7).astype(np.float64)
    return WinRate(GRID[places], kept) if len(places) else None


def packed(heard: Heard, rates: dict[str, WinRate], source: str, created: datetime) -> Manifest:
    """The manifest of what was learnt; `content` gives the file it speaks of."""
    shader = Shader(rates)
    return Manifest(
        layout=LAYOUT,
        created=created.isoformat(timespec="seconds"),
        learnt_from=LearntFrom(source, heard.bids, heard.wins, heard.told, heard.first, heard.last),
        sha256=sha256(content(heard, rates)).hexdigest(),
        exploration=EXPLORATION,
        metrics={"cells": float(len(rates)), "win_rate": heard.wins / max(heard.bids, 1)},
        settings={"prior": PRIOR, "least": LEAST, "grid_step": GRID_STEP},
        probes=list(_probes(shader, heard)),
    )


def content(heard: Heard, rates: dict[str, WinRate]) -> bytes:
    """The file that serving reads."""
    counted = heard.hours.sum() > 0
    return msgspec.json.encode(
        Content(
            cells={
                name: Cell(rate.prices.astype(int).tolist(), rate.rates.tolist())
                for name, rate in sorted(rates.items())
            },
            requests=heard.requests.tolist() if counted else [],
            hours=heard.hours.tolist() if counted else [],
        )
    )


def _probes(shader: Shader, heard: Heard) -> Iterator[Probe]:
    """Bids that serving must make as we do."""
    for names in list(heard.cells)[:PROBES]:
        market, deal, size, _, band = names[0].split("|")
        exchange, _, currency = market.rpartition("/")
        value = int(np.median(shader.rates[names[-1]].prices) * 2)
        asked = (exchange, currency, deal, size, int(band) * 6)
        bid = shader.bid(value, 0, FIRST_PRICE, *asked)
        yield Probe(*asked, floor_micros=0, value_micros=value, bid_micros=bid)


def main() -> None:
    """Fit and write, or show what is there."""
    parser = argparse.ArgumentParser(prog="python -m models.shading", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(required=True, dest="command")
    fitting = commands.add_parser("fit", help="learn from a log")
    fitting.add_argument("--events", type=Path, required=True, help="the folder of the log")
    fitting.add_argument("--since", help="ISO 8601: only events from then on")
    commands.add_parser("show", help="what was learnt")
    for command in commands.choices.values():
        command.add_argument("--models", type=Path, required=True, help="the models' directory")
    given = parser.parse_args()
    if given.command == "fit":
        _fit(given.events, given.models, given.since)
    else:
        _show(given.models)


def learn(events: Path, models: Path, start: float | None, created: datetime) -> Manifest | None:
    """Fit to the log from `start` on, and write what was learnt beside the models; None, and
    nothing written, where no fate of a bid is known. Raises `OSError`."""
    heard = listen(read(events, start))
    if not heard.bids:
        return None
    rates = fit(heard)
    about = packed(heard, rates, str(events), created)
    write(models / DIRECTORY, about, content(heard, rates))
    load(models)
    return about


def _fit(events: Path, models: Path, since: str | None) -> None:
    start = datetime.fromisoformat(since).timestamp() if since else None
    about = learn(events, models, start, datetime.now(UTC))
    if about is None:
        sys.exit(f"{events}: no bid whose fate is known")
    learnt = about.learnt_from
    print(f"{models / DIRECTORY / CONTENT}: version {about.version}; {learnt.bids:,} bids, "
          f"{learnt.wins:,} won, {learnt.told:,} prices told; "
          f"{about.metrics['cells']:.0f} cells")  # fmt: skip


def _show(models: Path) -> None:
    try:
        shader = load(models).shader
    except MarketError as problem:
        sys.exit(str(problem))
    print(f"{'cell':40} {'median':>10} {'bid of 2x':>10}  (CPM)")
    for name, rate in sorted(shader.rates.items()):
        middle = float(rate.prices[np.searchsorted(rate.rates, rate.rates[-1] / 2)])
        print(f"{name:40} {middle / 1e6:10.3f} {rate.bid(2 * middle) / 1e6:10.3f}")


if __name__ == "__main__":
    main()
