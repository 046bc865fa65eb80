"""What does one request cost? Two servers held against each other, in turns, each on one core.

The cost is the CPU time of all processes of a server over the requests it answered, at the highest
rate it sustains: open loop, at least 99 % of the asked rate, all answered with 200 or 204, under
0.1 % late, and under 1 % shed, as a request that is not decided costs next to nothing. That rate is
sought downwards from 97 % of what a closed loop gets through.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from statistics import median
from typing import Any, NamedTuple

import psutil

from loadtest.load.find import broken
from loadtest.load.generator import Generators, Step
from loadtest.load.ops import scrape, total
from loadtest.load.result import Result
from loadtest.load.usage import Watch

FIRST_SHARE = 0.97
STEP_SHARE = 0.95
MAX_TRIALS = 12
MAX_CORE_BUSY = 0.97
MAX_FOREIGN = 0.05
MAX_SHED_SHARE = 0.01
SHED = ("overloaded", "insufficient_time", "store_unavailable", "log_stalled")
"""Why a request was not decided: reasons of `bidder_no_bids_total`."""
QUIET_SHARE = 0.7
"""Where latency is read: an exchange does not run a bidder flat out."""


class Cores(NamedTuple):
    """Which core runs what."""

    server: int
    client: int
    """Client and store."""


@dataclass(frozen=True, slots=True)
class Side:
    """One server: how to load it, which processes are its own, where it counts."""

    name: str
    generators: Generators
    pids: tuple[int, ...]
    ops: str = ""
    """URL of its ops port; empty = it has none."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One step against one side."""

    result: Result
    cpu_us: float
    """Microseconds of CPU per answered request."""
    rows_scored: float | None
    """Per request, as the server counts; None if it does not."""
    shed_share: float
    """Of the requests, those that were not decided, as the server counts; 0 if it does not."""
    stages_us: dict[str, float]
    """Mean time in each stage of a decision, by the server's own clock; empty if it has none."""
    client_core_busy: float
    """Share of time the core of client and store was not idle."""
    foreign: float
    """Share of the server's core that others took, a hypervisor too: noise in all the figures."""

    @property
    def client_saturated(self) -> bool:
        """The client had no more to give: the rate says nothing of the server."""
        return self.result.generator_saturated or self.client_core_busy > MAX_CORE_BUSY

    @property
    def broken(self) -> str:
        """Why this rate is not sustained; empty if it is."""
        if self.shed_share > MAX_SHED_SHARE:
            return f"{self.shed_share:.1%} shed"
        return broken(self.result, p99_ms=inf)


def measured(side: Side, step: Step, cores: Cores) -> Measured:
    """Run one step, watching the server's processes and both cores."""
    before = scrape(side.ops) if side.ops else {}
    times = psutil.cpu_times(percpu=True)
    watch = Watch(side.pids)
    result = side.generators.run(step)
    usage = watch.usage()
    server_busy, client_busy = (
        _busy(times[core], after) for core, after in _now(cores.server, cores.client)
    )
    rows, shed, stages = None, 0.0, {}
    if side.ops:
        after = scrape(side.ops)
        requests, scored = (
            total(after, name) - total(before, name)
            for name in ("bidder_requests_total", "bidder_rows_scored_total")
        )
        rows = scored / requests if requests else None
        shed = (_shed(after) - _shed(before)) / requests if requests else 0.0
        stages = _stages(before, after)
    cpu_us = usage.cpu_seconds / result.answered * 1e6 if result.answered else inf
    foreign = max(0.0, server_busy - usage.cores)
    return Measured(replace(result, usage=usage), cpu_us, rows, shed, stages, client_busy, foreign)


def _shed(samples: Mapping[str, float]) -> float:
    """Requests that were not decided."""
    return sum(
        count
        for name, count in samples.items()
        if name.startswith("bidder_no_bids_total{") and any(f'"{why}"' in name for why in SHED)
    )


def _stages(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """The means of the histogram `bidder_stage_seconds` between two scrapes, in microseconds."""
    found = {}
    for name, seconds in after.items():
        metric, _, labels = name.partition("{")
        if metric == "bidder_stage_seconds_sum":
            count = f"bidder_stage_seconds_count{{{labels}"
            if calls := after[count] - before.get(count, 0):
                stage = labels.removeprefix('stage="').rstrip('"}')
                found[stage] = (seconds - before.get(name, 0)) / calls * 1e6
    return found


def _now(*cores: int) -> list[tuple[int, Any]]:
    times = psutil.cpu_times(percpu=True)
    return [(core, times[core]) for core in cores]


def _busy(before: Any, after: Any) -> float:
    idle = (after.idle + after.iowait) - (before.idle + before.iowait)
    whole = sum(after[:8]) - sum(before[:8])
    return 1 - idle / whole if whole > 0 else 0.0


def sustained(side: Side, seconds: float, cores: Cores) -> tuple[float, list[Measured]]:
    """The highest rate sustained, in requests a second, and all trials; 0 if none was."""
    trials = [measured(side, Step(0, seconds), cores)]
    rate = trials[0].result.achieved_rps * FIRST_SHARE
    for _ in range(MAX_TRIALS):
        trials.append(measured(side, Step(rate, seconds), cores))
        if not trials[-1].broken:
            return rate, trials
        rate *= STEP_SHARE
    return 0.0, trials


def compare(
    bidder: Side,
    bare: Side,
    seconds: float,
    repeats: int,
    cores: Cores,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The figures of `build/bench.json`. Takes some ``(6 + 2 * repeats) * seconds``.

    What was not sustained in a repeat is left out of the medians if another repeat was."""
    rates, runs = {}, {}
    for side in (bare, bidder):
        rates[side.name], trials = sustained(side, seconds, cores)
        say(f"{side.name}: {rates[side.name]:,.0f} requests a second in {len(trials)} trials")
        runs[side.name] = [] if rates[side.name] else trials[-1:]
    for _ in range(repeats):
        for side in (bare, bidder):
            if rates[side.name]:
                step = Step(rates[side.name], seconds)
                runs[side.name].append(measured(side, step, cores))
                one = runs[side.name][-1]
                say(f"{side.name}: {one.cpu_us:.1f} us CPU, p99 {one.result.p99_ms:.1f} ms")
    highest = rates["bidder"] or runs["bidder"][-1].result.achieved_rps
    quiet = measured(bidder, Step(highest * QUIET_SHARE, seconds), cores)
    return _figures(runs["bidder"], runs["bare"], quiet)


def _figures(
    bidder: Sequence[Measured], bare: Sequence[Measured], quiet: Measured
) -> dict[str, Any]:
    fair = [[one for one in side if not one.broken] or side for side in (bidder, bare)]
    bidder_cpu, bare_cpu = (median(one.cpu_us for one in side) for side in fair)
    bidder_rps, bare_rps = (median(one.result.achieved_rps for one in side) for side in fair)
    saturated = any(one.client_saturated for one in (*bidder, *bare))
    rows = [one.rows_scored for one in bidder if one.rows_scored is not None]
    answered = sum(one.result.answered for one in bidder)
    return {
        "ratio": bare_cpu / bidder_cpu,
        "bidder_cpu_us": bidder_cpu,
        "bare_cpu_us": bare_cpu,
        "bidder_rps": bidder_rps,
        "bare_rps": bare_rps,
        "rps_ratio": None if saturated else bidder_rps / bare_rps,
        "bid_rate": sum(one.result.bids for one in bidder) / answered if answered else 0.0,
        "rows_scored": median(rows) if rows else None,
        "p99_ms": quiet.result.p99_ms,
        "p99_at_rps": quiet.result.asked_rps,
        "late_share": max(one.result.late_share for one in (*bidder, quiet)),
        "shed_share": max(one.shed_share for one in (*bidder, quiet)),
        "bidder_peak_rss_mb": max(
            one.result.usage.peak_rss_bytes / 1e6 for one in bidder if one.result.usage
        ),
        "stages_us": quiet.stages_us,
        "runs": {
            name: [_run(one) for one in side]
            for name, side in (("bidder", bidder), ("bare", bare), ("bidder_at_70", [quiet]))
        },
        "notes": _notes(bidder, bare, quiet, saturated),
    }


def _run(one: Measured) -> dict[str, Any]:
    result = one.result
    return {
        "asked_rps": result.asked_rps,
        "achieved_rps": result.achieved_rps,
        "cpu_us": one.cpu_us,
        "rows_scored": one.rows_scored,
        "shed_share": one.shed_share,
        "p50_ms": result.p50_ms,
        "p99_ms": result.p99_ms,
        "p999_ms": result.p999_ms,
        "late_share": result.late_share,
        "bid_rate": result.bid_rate,
        "statuses": {str(status): count for status, count in result.statuses.items()},
        "failed": result.failed,
        "client_core_busy": one.client_core_busy,
        "generator_lagged": result.generator_lagged,
        "foreign": one.foreign,
    }


def _notes(
    bidder: Sequence[Measured], bare: Sequence[Measured], quiet: Measured, saturated: bool
) -> list[str]:
    """Why the figures do not count; none if they do."""
    notes = []
    if saturated:
        notes.append("The client was saturated: the ratio of throughputs is void.")
    foreign = max(one.foreign for one in (*bidder, *bare, quiet))
    if foreign > MAX_FOREIGN:
        notes.append(
            f"Others took {foreign:.0%} of the server's core (the hypervisor too): measure again."
        )
    for name, side in (("bidder", bidder), ("bare", bare), ("bidder at 70 %", [quiet])):
        wrong = {one.broken for one in side} - {""}
        notes += [f"{name}: not sustained: {why}." for why in sorted(wrong)]
    if quiet.client_saturated:
        notes.append("bidder at 70 %: the client was saturated, so its p99 is the client's.")
    return notes
