"""Does anybody ever see more ads than the caps allow, whatever becomes of the notices?

    python -m loadtest.cap_trial                      1 million requests, 50,000 people, 4 workers
    python -m loadtest.cap_trial --requests 200000    the same with fewer of both

A clock of its own; the project's ledger, caps and claims; a real store. People browse in sessions,
pages have one to four slots, and the requests of a page come at the same moment to different
workers, each with a connection of its own: all of them read, then all of them claim. Every notice
comes three times, each copy up to a minute late, so out of order; a third of the losses is never
told. What was truly shown is judged apart, by counting. Three runs: reservations that outlast the
slowest notice, reservations that do not, and none. Writes build/capping.json.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import uvloop

from bidder import capping
from bidder.campaigns import catalogue
from bidder.campaigns.catalogue import Cap, Level
from bidder.capping import Kind, Ledger, Record, Reservation
from bidder.ids import hash32
from bidder.store import keys
from bidder.store.breaker import Breaker
from bidder.store.coalesce import Reader, Scripts
from bidder.store.connect import connect
from bidder.store.embedded import EmbeddedStore
from bidder.store.links import Links

START = 1_788_000_000
SPAN_SECONDS = 12 * 3600
REQUESTS_PER_PERSON = 20
WORKERS = 4
TICK_SECONDS = 4
"""What falls within a tick happens at once: requests and notices race."""
LARGEST_DELAY = 60
"""Seconds from an impression, or a loss, to the last copy of its notice."""
LARGEST_RENDER = 5
"""Seconds from a bid to its impression."""
COPIES = 3
WIN_SHARE = 0.5
LOSS_UNTOLD_SHARE = 0.33
PAGES, PAGE_GAP_SECONDS, MOST_SLOTS = 4, 40, 4
"""Mean pages of a session, mean time between them, slots of a page."""
LEDGER_SECONDS = 30 * 86400
EXPIRIES = {"above": LARGEST_DELAY + LARGEST_RENDER + 2 * TICK_SECONDS, "below": 20, "off": 0}
"""Above the largest delay by what rounding to ticks can take."""

REPORTED = (
    "reservations", "expiry_seconds", "requests", "impressions", "people_over", "max_over",
    "silenced", "late_after_expiry",
)  # fmt: skip
"""What of a run stands in the report."""

HOUR = 3600
CAPS: dict[str, tuple[Cap, ...]] = {
    "": (Cap("everyone", 12, 12 * HOUR), Cap("everyone", 4, HOUR)),
    "lumen": (Cap("advertiser", 6, 12 * HOUR), Cap("advertiser", min_gap_seconds=120)),
    "lumen/winter": (Cap("campaign", 3, HOUR),),
    "lumen/winter/basket": (),
    "lumen/winter/visit": (Cap("line_item", 2, 1800),),
    "lumen/brand": (),
    "lumen/brand/all": (Cap("creative", 2, 6 * HOUR),),
    "harbor": (Cap("advertiser", 5),),
    "harbor/books": (Cap("campaign", 2, 2 * HOUR),),
    "harbor/books/new": (),
}
"""Path -> the caps that all line items below it have."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A line item of the trial, ready to be checked."""

    ids: dict[Level, int]
    caps: tuple[Cap, ...]
    rules: tuple[capping.Rule, ...]


@dataclass(slots=True)
class Run:
    """What one run came to."""

    reservations: bool
    expiry_seconds: int
    requests: int = 0
    impressions: int = 0
    people_over: int = 0
    """Who truly saw more than some cap allows, in some window."""
    max_over: int = 0
    """The most by which anyone was over a cap."""
    silenced: int = 0
    """Requests without a bid: caps left no line item, or no claim was held."""
    contended: int = 0
    """Those of them that a cap had allowed when the ledger was read."""
    late_after_expiry: int = 0
    """Impressions told after their reservation had ended."""
    seconds: float = 0.0


@dataclass(slots=True)
class Truth:
    """What was shown, whatever the store believes: person -> (time, speaker) in no order."""

    shown: dict[int, list[tuple[float, Speaker]]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker's way to the store."""

    reader: Reader
    scripts: Scripts


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the trial, print and write what came out; exit 1 if anyone was over who must not be."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.cap_trial", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, help="by default one for 20 requests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/capping.json"))
    given = parser.parse_args(arguments)
    people = given.people or max(given.requests // REQUESTS_PER_PERSON, 1)
    runs = []
    for name, expiry in EXPIRIES.items():
        with TemporaryDirectory(prefix="cap-trial-") as folder:
            options = {"appendonly": "no"}
            with EmbeddedStore(Path(folder), options) as store:
                runs.append(
                    uvloop.run(trial(store.url, given.requests, people, expiry, given.seed))
                )
        print(f"{name:>5}: {asdict(runs[-1])}", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"runs": [{name: getattr(run, name) for name in REPORTED} for run in runs]}
    given.out.write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(1 if runs[0].people_over else 0)


async def trial(url: str, requests: int, people: int, expiry: int, seed: int) -> Run:
    """One run over an empty store; `expiry` 0 = without reservations."""
    run = Run(reservations=bool(expiry), expiry_seconds=expiry)
    began = time.perf_counter()
    random, truth = Random(seed), Truth()
    clients = [connect(url, timeout_seconds=10.0) for _ in range(WORKERS)]
    links = [Links(c, Breaker(time.monotonic), timeout_seconds=10.0) for c in clients]
    trial = _Trial(run, truth, random, [Worker(Reader(each), Scripts(each)) for each in links])
    for tick, asking in browsing(requests, people, random):
        await trial.play(tick, asking)
    await trial.finish()
    for each, client in zip(links, clients, strict=True):
        await each.aclose()
        await client.aclose()
    for shown in truth.shown.values():
        run.impressions += len(shown)
        over = most_over(shown)
        run.people_over += over > 0
        run.max_over = max(run.max_over, over)
    run.seconds = round(time.perf_counter() - began, 1)
    return run


def browsing(requests: int, people: int, random: Random) -> Iterator[tuple[int, list[int]]]:
    """Tick by tick, who is asked for: one person for each slot of each page."""
    asked: dict[int, list[int]] = defaultdict(list)
    left = requests
    while left:
        person, at = random.randrange(people), random.uniform(0, SPAN_SECONDS)
        while left:
            slots = min(random.randint(1, MOST_SLOTS), left)
            left -= slots
            asked[START + int(at) // TICK_SECONDS * TICK_SECONDS] += [person] * slots
            at += random.expovariate(1 / PAGE_GAP_SECONDS)
            if random.random() < 1 / PAGES:
                break
    yield from sorted(asked.items())


class _Trial:
    """Workers, exchange and browsers of one run."""

    def __init__(self, run: Run, truth: Truth, random: Random, workers: list[Worker]) -> None:
        self._run = run
        self._truth = truth
        self._random = random
        self._workers = workers
        self._speakers = speakers()
        self._told: dict[int, list[tuple[int, Record, bool]]] = defaultdict(list)
        """Tick -> notices that come then: person, what for, whether it was shown."""
        self._now = START

    async def play(self, tick: int, asking: Sequence[int]) -> None:
        """All until `tick`; then its notices and its requests, in a race."""
        while self._now < tick:
            await self._race(self._now, ())
            self._now += TICK_SECONDS
        await self._race(tick, asking)
        self._now = tick + TICK_SECONDS

    async def finish(self) -> None:
        """The notices that are still to come."""
        for tick in sorted(self._told):
            await self._race(tick, ())

    async def _race(self, now: int, asking: Sequence[int]) -> None:
        coming = self._told.pop(now, [])
        if not coming and not asking:
            return
        self._random.shuffle(coming)
        work = [self._hear(self._worker(), notice, now) for notice in coming]
        work += [self._ask(self._worker(), person, now) for person in asking]
        await asyncio.gather(*work)

    def _worker(self) -> Worker:
        return self._random.choice(self._workers)

    async def _ask(self, worker: Worker, person: int, now: int) -> None:
        """One request: read, check, claim, bid; then the auction."""
        self._run.requests += 1
        name = str(person)
        (raw,) = await worker.reader.get_many((keys.ledger(name),))
        ledger = Ledger(raw or b"", now)
        for speaker in self._random.sample(self._speakers, len(self._speakers)):
            if _allowed(speaker.rules, ledger):
                break
        else:
            self._run.silenced += 1
            return
        wish = self._reservation(speaker, now)
        if self._run.reservations:
            asked = [Reservation(wish, partial(_allowed, speaker.rules))]
            claimed = await capping.claim(worker.scripts, name, ledger, asked, now, LEDGER_SECONDS)
            if not claimed.held[0]:
                self._run.silenced += 1
                self._run.contended += 1
                return
        self._auction(person, speaker, wish, now)

    def _reservation(self, speaker: Speaker, now: int) -> Record:
        return Record(
            time=now,
            kind=Kind.RESERVATION,
            advertiser=speaker.ids["advertiser"],
            campaign=speaker.ids["campaign"],
            line_item=speaker.ids["line_item"],
            creative=speaker.ids["creative"],
            hold=self._run.expiry_seconds,
            bid_key=self._random.randbytes(8),
        )

    def _auction(self, person: int, speaker: Speaker, wish: Record, now: int) -> None:
        """Won or lost, and when we are told of it."""
        random = self._random
        won = random.random() < WIN_SHARE
        at = now + random.uniform(0, LARGEST_RENDER)
        if won:
            self._truth.shown[person].append((at, speaker))
        elif random.random() < LOSS_UNTOLD_SHARE:
            return
        for _ in range(COPIES):
            late = at - now + random.uniform(0, LARGEST_DELAY)
            due = now + max(ceil(late / TICK_SECONDS), 1) * TICK_SECONDS
            self._told[due].append((person, wish, won))

    async def _hear(self, worker: Worker, notice: tuple[int, Record, bool], now: int) -> None:
        """One copy of a notice: an impression, or a loss."""
        person, wish, won = notice
        name, scripts = str(person), worker.scripts
        if not won:
            await capping.release(scripts, name, wish.bid_key, now, LEDGER_SECONDS)
            return
        shown = Record(
            time=now,
            kind=Kind.IMPRESSION,
            advertiser=wish.advertiser,
            campaign=wish.campaign,
            line_item=wish.line_item,
            creative=wish.creative,
            bid_key=wish.bid_key,
        )
        outcome = await capping.record(
            scripts, name, shown, now, LEDGER_SECONDS, claimed=self._run.reservations
        )
        self._run.late_after_expiry += outcome == "late"


def _allowed(rules: Sequence[capping.Rule], ledger: Ledger) -> bool:
    return capping.verdict(ledger, rules) is None


def most_over(shown: Iterable[tuple[float, Speaker]]) -> int:
    """The most by which what one person saw exceeds a cap: every cap, every window, by counting.

    All line items below a cap have it, so it does not matter whose turn was one too many.
    """
    over = 0
    before: list[tuple[float, Speaker]] = []
    for at, speaker in sorted(shown, key=lambda each: each[0]):
        for cap in speaker.caps:
            seconds, most = cap.seconds or cap.min_gap_seconds, cap.count or 1
            seen = sum(
                1 for earlier, other in before
                if other.ids[cap.level] == speaker.ids[cap.level]
                and (not seconds or earlier > at - seconds)
            )  # fmt: skip
            over = max(over, seen + 1 - most)
        before.append((at, speaker))
    return over


def speakers() -> list[Speaker]:
    """The line items of the trial, one creative each."""
    found = []
    for path in (each for each in CAPS if each.count("/") == 2):
        above, between, _ = path.split("/")
        caps = [CAPS[""], CAPS[above], CAPS[f"{above}/{between}"], CAPS[path]]
        found.append(_speaker(path, sum(caps, ())))
    return found


def _speaker(path: str, caps: tuple[Cap, ...]) -> Speaker:
    above, between, name = path.split("/")
    advertiser = catalogue.Advertiser(
        id=above, id32=hash32(above), domain=f"{above}.example", currency="EUR",
        zone=ZoneInfo("UTC"), max_cpm_micros=0, max_spend_per_minute_micros=0,
    )  # fmt: skip
    campaign = catalogue.Campaign(
        id=between, path=f"{above}/{between}", id32=hash32(f"{above}/{between}"),
        advertiser=advertiser, flights=(), budget=catalogue.Budget(),
    )  # fmt: skip
    item = catalogue.LineItem(
        index=0, id=name, path=path, id32=hash32(path), campaign=campaign,
        audience=catalogue.Audience(), where=catalogue.Where(), when=catalogue.When(),
        bid=catalogue.Bid(1), goal=catalogue.Goal("cpm", 1), caps=caps,
        intrusiveness=catalogue.Intrusiveness(), creatives=(), unknown_people="skip",
    )  # fmt: skip
    creative = hash32(f"{path}/creative")
    ids: dict[Level, int] = {
        "everyone": 0, "advertiser": advertiser.id32, "campaign": campaign.id32,
        "line_item": item.id32, "creative": creative,
    }  # fmt: skip
    return Speaker(ids, caps, capping.rules(item, creative))


if __name__ == "__main__":
    main()
