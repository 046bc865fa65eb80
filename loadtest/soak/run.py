"""How does a soak go? Find what the bidder carries, run below it, then count everything."""

import asyncio
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import psutil
from hdrh.histogram import HdrHistogram

from loadtest.faults.installation import Installation
from loadtest.faults.judging import LAG_SECONDS, doubles, losses
from loadtest.faults.run import settled
from loadtest.faults.traffic import TMAX_MS, Mix, Traffic
from loadtest.faults.truth import Asked
from loadtest.load.result import MAX_MICROS
from loadtest.soak.memory import Growth, growth

PEOPLE = 100_000
MIX = Mix(win_share=0.15, loss_share=0.2)
CONNECTIONS = 64
SAMPLE_SECONDS = 2.0
FINISH_SECONDS = 60.0
LATE_SHARE = 0.0001
"""More late answers than one in ten thousand, the sender's own aside, are too many."""
FIRST_RATE, RATE_STEP, STEP_SECONDS, MAX_STEPS = 100.0, 1.25, 5.0, 40
CARRIED_P99_MS, CARRIED_LATE_SHARE = 25.0, 0.001
SENDER_LAG_SECONDS = 0.05
"""A sender that comes this late is itself the bottleneck."""


class Latencies:
    """The answers of some stretch of time, added up as they come."""

    def __init__(self) -> None:
        self.histogram = HdrHistogram(1, MAX_MICROS, 3)
        self.statuses: Counter[int] = Counter()
        self.late = self.sender_late = self.usual = 0

    def heard(self, one: Asked) -> None:
        """One more answer."""
        self.statuses[one.status] += 1
        self.usual += one.usual
        self.histogram.record_value(max(1, min(int(one.seconds * 1e6), MAX_MICROS)))
        if one.seconds * 1000 > TMAX_MS:
            if one.lag <= LAG_SECONDS:
                self.late += 1
            else:
                self.sender_late += 1

    @property
    def answers(self) -> int:
        """How many there were."""
        return sum(self.statuses.values())

    def ms(self, percentile: float) -> float:
        """A percentile of the latency, in milliseconds."""
        return float(self.histogram.get_value_at_percentile(percentile)) / 1000

    @property
    def carried(self) -> bool:
        """This rate is one the bidder carries."""
        late = self.late + self.sender_late
        fine = self.statuses[200] + self.statuses[204] == self.answers
        return fine and late <= CARRIED_LATE_SHARE * self.answers and self.ms(99) < CARRIED_P99_MS


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it."""

    seconds: float
    rate: float
    highest_rate: float | None
    """What it carried, in requests a second; None if the rate was given."""
    requests: int
    bids: int
    usual_share: float
    late: int
    sender_late: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    statuses: dict[int, int]
    notices: int
    refused: dict[str, int]
    problems: dict[str, int]
    unlogged_bids: int
    lost: dict[str, int]
    double: dict[str, int]
    memory: list[Growth]
    notes: tuple[str, ...] = ()
    samples: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """Process -> (second, resident bytes)."""

    @property
    def broken(self) -> list[str]:
        """What was promised and not kept."""
        odd = {s: n for s, n in self.statuses.items() if s not in (200, 204)}
        checks = [
            (self.late > LATE_SHARE * self.requests, f"{self.late} answers came after tmax"),
            (bool(odd), f"answers to bid requests: {odd}"),
            (bool(self.refused or self.problems), f"went wrong: {self.refused | self.problems}"),
            (self.unlogged_bids > 0, f"{self.unlogged_bids} bids are not in the log"),
            (bool(self.lost), f"lost: {self.lost}"),
            (bool(self.double), f"double: {self.double}"),
        ]
        grown = [one for one in self.memory if one.grows and one.process != "store"]
        checks += [
            (True, f"{g.process} grows by {g.slope * 60 / 1e6:.2f} MB a minute") for g in grown
        ]
        return [said for wrong, said in checks if wrong]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self) | {"broken": self.broken}


async def highest(installation: Installation, seed: int) -> float:
    """The highest rate, in requests a second and with its notices, that is carried for a few
    seconds; 0 if not even the first is."""
    best, rate, again = 0.0, FIRST_RATE, True
    for step in range(MAX_STEPS):
        found = Latencies()
        traffic = _traffic(installation, rate, Random(seed + step), found)
        try:
            await traffic.open()
            await asyncio.sleep(STEP_SECONDS)
            await traffic.finish(FINISH_SECONDS)
        finally:
            await traffic.close()
        if found.carried:
            best, rate, again = rate, rate * RATE_STEP, True
        elif again:
            again = False  # once more: a neighbour may have been at it, or the bidder still cold
        else:
            break
    return best


async def soak(
    installation: Installation, rate: float, seconds: float, seed: int, highest_rate: float | None
) -> Soaked:
    """Load at `rate` for so long, then all that was seen. The bidder must be fresh: all that it
    has counted is held against what was sent here."""
    found, samples = Latencies(), dict[str, list[tuple[float, int]]]()
    traffic = _traffic(installation, rate, Random(seed), found)
    try:
        await traffic.open()
        end = traffic.began + seconds
        while (now := time.perf_counter()) < end:
            await asyncio.to_thread(_sample, installation, samples, now - traffic.began)
            await asyncio.sleep(min(SAMPLE_SECONDS, max(end - time.perf_counter(), 0.01)))
        left = await traffic.finish(FINISH_SECONDS)
    finally:
        await traffic.close()
    truth = traffic.truth
    logged, counted = await asyncio.to_thread(settled, installation, truth)
    notes = []
    if traffic.worst_lag > SENDER_LAG_SECONDS:
        notes.append(f"The sender itself came up to {traffic.worst_lag * 1e3:.0f} ms late.")
    if left:
        notes.append(f"{left} notices were still not accepted at the end.")
    return Soaked(
        seconds=seconds,
        rate=rate,
        highest_rate=highest_rate,
        requests=found.answers,
        bids=len(truth.bids),
        usual_share=found.usual / max(found.answers, 1),
        late=found.late,
        sender_late=found.sender_late,
        p50_ms=found.ms(50),
        p99_ms=found.ms(99),
        p999_ms=found.ms(99.9),
        max_ms=found.ms(100),
        statuses=dict(found.statuses),
        notices=sum(told.accepted > 0 for told in truth.told.values()),
        refused=truth.refused,
        problems=truth.problems,
        unlogged_bids=len(truth.bids - logged.bids),
        lost=losses(truth, logged, counted),
        double=doubles(truth, logged, counted),
        memory=[growth(name, seen) for name, seen in sorted(samples.items())],
        notes=tuple(notes),
        samples=samples,
    )


def _traffic(installation: Installation, rate: float, random: Random, to: Latencies) -> Traffic:
    return Traffic(
        installation.port,
        rate,
        PEOPLE,
        random,
        connections=CONNECTIONS,
        mix=MIX,
        heard=to.heard,
    )


def _sample(
    installation: Installation, samples: dict[str, list[tuple[float, int]]], at: float
) -> None:
    for name, pid in installation.processes().items():
        try:
            resident = psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
        samples.setdefault(name, []).append((at, resident))
