"""What is measured? Every metric is declared once, here; each process counts in plain cells.

A worker bumps the cells of its own `Metrics` and sends `snapshot()` to the supervisor, which merges
the snapshots of all workers, dead ones too, and exposes them as one Prometheus page.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Literal, NamedTuple

LATENCY_BUCKETS = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.04,
                   0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0)  # fmt: skip
"""Seconds. Finer than 5 ms, because an exchange's whole budget may be 80 ms."""
SHARE_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


MAX_LINE_ITEMS = 1_000
OTHER = "other"


class Metric(NamedTuple):
    """One declared metric. Names carry their unit; counters end in `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    most: int = 0
    """Most values of the first label; the others count together as `OTHER`. 0 = any number."""


REQUESTS = Metric("bidder_requests_total", "counter", "Bid requests received.", ("exchange",))
BIDS = Metric("bidder_bids_total", "counter", "Bids sent.", ("exchange",))
NO_BIDS = Metric(
    "bidder_no_bids_total", "counter", "Requests without a bid, by reason.", ("exchange", "reason")
)
ANSWERS = Metric("bidder_answers_total", "counter", "HTTP answers.", ("endpoint", "status"))
STAGE_SECONDS = Metric(
    "bidder_stage_seconds", "histogram", "Time in each stage of a request (sampled).",
    ("stage",), LATENCY_BUCKETS,
)  # fmt: skip
REQUEST_SECONDS = Metric(
    "bidder_request_seconds", "histogram", "First byte of a bid request to its answer.",
    ("exchange",), LATENCY_BUCKETS,
)  # fmt: skip
LATE = Metric("bidder_late_answers_total", "counter", "Answers after the deadline.", ("exchange",))
SHEDS = Metric("bidder_sheds_total", "counter", "Requests shed with 204, by cause.", ("cause",))
ROWS_SCORED = Metric("bidder_rows_scored_total", "counter", "Candidates scored by the models.")
CANDIDATES_CUT = Metric(
    "bidder_candidates_cut_total", "counter", "Candidates beyond the limit per request."
)
STORE_ERRORS = Metric("bidder_store_errors_total", "counter", "Failed store calls.", ("call",))
BREAKER = Metric("bidder_breaker_open", "gauge", "1 while the store's breaker is open.")
NOTICES = Metric(
    "bidder_notices_total", "counter", "Notices received, by outcome.", ("kind", "outcome")
)
APPLIED = Metric("bidder_applied_total", "counter", "Notices applied.", ("kind", "outcome"))
APPLY_LAG = Metric("bidder_apply_lag_bytes", "gauge", "Log bytes not yet applied.")
SPEND = Metric("bidder_spend_micros_total", "counter", "Billed spend.", ("advertiser", "currency"))
LINE_ITEM = Metric(
    "bidder_line_item_total", "counter", "Events per line item (at most 1,000 line items).",
    ("line_item", "event"), (), MAX_LINE_ITEMS,
)  # fmt: skip
RELOADS = Metric("bidder_reloads_total", "counter", "Reloads, by result.", ("result",))
RELOAD_OK = Metric(
    "bidder_config_last_reload_successful", "gauge", "1 if the last reload was applied."
)
MODEL = Metric("bidder_model_info", "gauge", "1 for the model in service.", ("version",))
LOG_BYTES = Metric("bidder_log_bytes_total", "counter", "Bytes written to the event log.")
LOG_STALLED = Metric("bidder_log_stalled", "gauge", "1 while the event log cannot be written.")
LOG_LOST = Metric(
    "bidder_log_lost_lines_total", "counter", "Events dropped because the log's buffer was full."
)
WORKER_RESTARTS = Metric("bidder_worker_restarts_total", "counter", "Workers started again.")
STORE_RESTARTS = Metric("bidder_store_restarts_total", "counter", "Embedded stores started again.")
WORKERS = Metric("bidder_workers", "gauge", "Workers that are up.")
INTRUSIVENESS = Metric(
    "bidder_intrusiveness", "histogram", "Intrusiveness of the ads bid with.",
    ("advertiser",), SHARE_BUCKETS,
)  # fmt: skip

ALL = tuple(value for value in globals().copy().values() if isinstance(value, Metric))

Cell = tuple[str, tuple[str, ...]]


class Metrics:
    """The cells of one process. Labels are positional, in the order declared."""

    def __init__(self, shown: "Shown | None" = None) -> None:
        """`shown`: what bounded metrics show already, so that a series once shown stays."""
        self.values: dict[Cell, float] = {}
        self.histograms: dict[Cell, list[float]] = {}
        self._shown: Shown = {} if shown is None else shown

    def inc(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        cell = (metric.name, labels)
        if metric.most and cell not in self.values:
            cell = (metric.name, self._bounded(metric, labels))
        self.values[cell] = self.values.get(cell, 0) + by

    def _bounded(self, metric: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels, or those of all that have no series of their own."""
        shown = self._shown.setdefault(metric.name, set())
        if labels[0] in shown:
            return labels
        if len(shown) >= metric.most:
            return (OTHER, *labels[1:])
        shown.add(labels[0])
        return labels

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        self.values[metric.name, labels] = float(value)

    def clear(self, metric: Metric) -> None:
        """Forget every cell of a gauge, as when the version in its label changes."""
        for cell in [cell for cell in self.values if cell[0] == metric.name]:
            del self.values[cell]

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add one observation to a histogram."""
        cell = (metric.name, labels)
        row = self.histograms.get(cell)
        if row is None:
            row = self.histograms[cell] = [0.0] * (len(metric.buckets) + 2)
        row[bisect_left(metric.buckets, value)] += 1
        row[-1] += value

    def get(self, metric: Metric, *labels: str) -> float:
        """The value of one cell, 0 if never touched."""
        return self.values.get((metric.name, labels), 0)

    def snapshot(self) -> "Snapshot":
        """All cells, as plain values that msgpack can carry."""
        return (
            [(name, list(labels), value) for (name, labels), value in self.values.items()],
            [(name, list(labels), list(row)) for (name, labels), row in self.histograms.items()],
        )


Snapshot = tuple[list[tuple[str, list[str], float]], list[tuple[str, list[str], list[float]]]]
Shown = dict[str, set[str]]
"""Name of a bounded metric -> values of its first label that have a series of their own."""
NOTHING: Snapshot = ([], [])
_BY_NAME = {metric.name: metric for metric in ALL}


def lasting(snapshot: Snapshot) -> Snapshot:
    """What outlives a process: its counters and histograms. A gauge says how something is."""
    values, histograms = snapshot
    return [row for row in values if _BY_NAME[row[0]].kind != "gauge"], histograms


def merge(snapshots: Iterable[Snapshot], shown: Shown | None = None) -> Metrics:
    """The cells of several processes as one: counters and histograms add, gauges keep the top.

    `shown` is kept by the caller from one merge to the next, see `Metrics`.
    """
    merged = Metrics(shown)
    for values, histograms in snapshots:
        for name, labels, value in values:
            metric = _BY_NAME[name]
            if metric.kind == "counter":
                merged.inc(metric, *labels, by=value)
            else:
                merged.set(metric, max(merged.get(metric, *labels), value), *labels)
        for name, labels, row in histograms:
            cell = (name, tuple(labels))
            old = merged.histograms.get(cell)
            merged.histograms[cell] = (
                list(row) if old is None else [a + b for a, b in zip(old, row, strict=True)]
            )
    return merged
