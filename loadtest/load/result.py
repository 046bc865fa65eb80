"""What did a step show? The figures of all generators as one, and what they add up to.

Latencies are kept in HdrHistograms (microseconds, 3 significant digits, up to 60 s): one for the
step, and one of 2 digits for each of at most 120 windows of time, for the plots.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any, TypeVar

import numpy as np
from hdrh.histogram import HdrHistogram

from loadtest.load.openloop import Tally

K = TypeVar("K", int, str)

MAX_MICROS = 60_000_000
WINDOWS = 120
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
BUSY_SHARE = 0.9
LAGGED_SHARE = 0.01
FEW_BIDS = 0.2


@dataclass(frozen=True, slots=True)
class Report:
    """What one generator sends back after a step: its counts, and its histograms encoded."""

    sent: int
    unsent: int
    statuses: dict[int, int]
    bids: int
    late: int
    timeouts: int
    errors: dict[str, int]
    lagged: int
    worst_lag: float
    bytes_in: int
    cpu_share: float
    elapsed: float
    """Seconds from the step's start to its last answer."""
    histogram: bytes
    windows: tuple[bytes, ...]
    window_seconds: float


def report(tally: Tally, unsent: int, cpu_share: float, seconds: float) -> Report:
    """`tally` as values that travel. `seconds` is the length of the step."""
    latencies = np.frombuffer(tally.latencies, dtype=np.float64)
    due = np.frombuffer(tally.due, dtype=np.float64)
    width = max(1.0, ceil(max(seconds, 1.0) / WINDOWS))
    index = (due / width).astype(np.int64)
    count = max(1, ceil(seconds / width))
    windows = [latencies[index == i] for i in range(count)]
    return Report(
        sent=tally.sent,
        unsent=unsent,
        statuses=tally.statuses,
        bids=tally.bids,
        late=tally.late,
        timeouts=tally.timeouts,
        errors=tally.errors,
        lagged=tally.lagged,
        worst_lag=tally.worst_lag,
        bytes_in=tally.bytes_in,
        cpu_share=cpu_share,
        elapsed=tally.last_answer,
        histogram=histogram_of(latencies, 3).encode(),
        windows=tuple(histogram_of(one, 2).encode() for one in windows),
        window_seconds=width,
    )


def histogram_of(latencies: "np.ndarray[Any, np.dtype[np.float64]]", digits: int) -> HdrHistogram:
    """A histogram of latencies given in seconds."""
    histogram = HdrHistogram(1, MAX_MICROS, digits)
    micros = np.clip(np.rint(latencies * 1e6), 1, MAX_MICROS).astype(np.int64)
    for value, count in zip(*np.unique(micros, return_counts=True), strict=True):
        histogram.record_value(int(value), int(count))
    return histogram


@dataclass(frozen=True, slots=True)
class Usage:
    """What the bidder's processes used during a step."""

    cpu_seconds: float
    elapsed: float
    peak_rss_bytes: int
    processes: tuple[tuple[int, str, float, int], ...] = ()
    """(pid, name, CPU seconds, peak RSS in bytes)."""

    @property
    def cores(self) -> float:
        """Cores kept busy, on average."""
        return self.cpu_seconds / self.elapsed if self.elapsed > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of a step, by when requests were due. Latencies in milliseconds."""

    second: float
    requests: int
    """Those without an answer too."""
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Result:
    """One step, all generators together. Latencies in milliseconds, from when requests were due
    until they were answered, lost or given up."""

    asked_rps: float
    """0: as fast as the connections allow (closed loop)."""
    achieved_rps: float
    seconds: float
    sent: int
    unsent: int
    answered: int
    statuses: dict[int, int]
    bids: int
    bid_rate: float
    late: int
    """Answers after their tmax, and requests that have one and were never answered or sent."""
    timeouts: int
    errors: dict[str, int]
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    mean_ms: float
    bytes_in: int
    generator_cpu: float
    """Share of a core kept busy by the busiest generator."""
    generator_lagged: float
    """Share of requests sent over 2 ms late though a connection was free."""
    windows: tuple[Window, ...]
    distribution: tuple[tuple[float, float], ...]
    """(percentile, milliseconds), for the plot."""
    usage: Usage | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def late_share(self) -> float:
        """What was late or never answered, of all requests that were due."""
        due = self.sent + self.unsent
        return self.late / due if due else 0.0

    @property
    def failed(self) -> int:
        """Requests without any answer."""
        return self.timeouts + self.unsent + sum(self.errors.values())

    @property
    def generator_saturated(self) -> bool:
        """The generator was the bottleneck: the figures say more of it than of the server."""
        return self.generator_cpu > BUSY_SHARE or self.generator_lagged > LAGGED_SHARE

    def as_json(self) -> dict[str, Any]:
        """Plain values: every field, and those that follow from them."""
        values = asdict(self)
        values["statuses"] = {str(status): count for status, count in self.statuses.items()}
        values["late_share"] = self.late_share
        values["generator_saturated"] = self.generator_saturated
        if self.usage is not None:
            values["usage"]["cores"] = self.usage.cores
        return values


def combine(reports: Sequence[Report], asked_rps: float, seconds: float) -> Result:
    """The reports of all generators of one step as one result."""
    whole = _merged([one.histogram for one in reports], 3)
    sent = sum(one.sent for one in reports)
    statuses = _sum(one.statuses for one in reports)
    answered = sum(statuses.values())
    bids = sum(one.bids for one in reports)
    lagged = sum(one.lagged for one in reports) / sent if sent else 0.0
    p50, p90, p99, p999 = (_ms(whole.get_value_at_percentile(p)) for p in PERCENTILES)
    busiest = max(one.cpu_share for one in reports)
    return Result(
        asked_rps=asked_rps,
        achieved_rps=answered / max([seconds, *(one.elapsed for one in reports)]),
        seconds=seconds,
        sent=sent,
        unsent=sum(one.unsent for one in reports),
        answered=answered,
        statuses=dict(sorted(statuses.items())),
        bids=bids,
        bid_rate=bids / answered if answered else 0.0,
        late=sum(one.late for one in reports),
        timeouts=sum(one.timeouts for one in reports),
        errors=_sum(one.errors for one in reports),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=_ms(whole.get_max_value()),
        mean_ms=_ms(whole.get_mean_value()),
        bytes_in=sum(one.bytes_in for one in reports),
        generator_cpu=busiest,
        generator_lagged=lagged,
        windows=_windows(reports),
        distribution=_distribution(whole),
        notes=(
            *_notes(busiest, lagged, max(one.worst_lag for one in reports)),
            *_few(bids, answered),
        ),
    )


def _notes(busiest: float, lagged: float, worst_lag: float) -> tuple[str, ...]:
    notes = []
    if busiest > BUSY_SHARE:
        notes.append(
            f"The generator is the bottleneck: one of its processes kept {busiest:.0%} of a core "
            "busy. Use more --processes, or another machine."
        )
    if lagged > LAGGED_SHARE:
        notes.append(
            f"The generator is the bottleneck: {lagged:.1%} of the requests left over 2 ms after "
            f"they could have (worst {worst_lag * 1e3:.1f} ms)."
        )
    return tuple(notes)


def _few(bids: int, answered: int) -> Iterable[str]:
    if answered and bids < FEW_BIDS * answered:
        yield (
            f"Only {bids / answered:.1%} of the answers are bids, and a no-bid is cheap. Are "
            "people capped or budgets spent? Send bodies of more people (--bodies, --people)."
        )


def _ms(micros: float) -> float:
    return round(float(micros) / 1000, 3)


def _merged(encoded: Iterable[bytes], digits: int) -> HdrHistogram:
    whole = HdrHistogram(1, MAX_MICROS, digits)
    for one in encoded:
        whole.decode_and_add(one)
    return whole


def _sum(parts: Iterable[dict[K, int]]) -> dict[K, int]:
    total: dict[K, int] = {}
    for part in parts:
        for key, count in part.items():
            total[key] = total.get(key, 0) + count
    return total


def _windows(reports: Sequence[Report]) -> tuple[Window, ...]:
    width = reports[0].window_seconds
    windows = []
    for index, encoded in enumerate(zip(*(one.windows for one in reports), strict=True)):
        merged = _merged(encoded, 2)
        windows.append(
            Window(
                second=index * width,
                requests=merged.get_total_count(),
                p50_ms=_ms(merged.get_value_at_percentile(50)),
                p99_ms=_ms(merged.get_value_at_percentile(99)),
                max_ms=_ms(merged.get_max_value()),
            )
        )
    return tuple(windows)


def _distribution(whole: HdrHistogram) -> tuple[tuple[float, float], ...]:
    points = [0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99, 99.999]
    return tuple((point, _ms(whole.get_value_at_percentile(point))) for point in points)
