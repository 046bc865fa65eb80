"""Cells: counting, bounding, and adding up what several processes counted."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder import metrics
from bidder.metrics import ALL, MAX_LINE_ITEMS, OTHER, Metrics, Shown, lasting, merge


def test_names_are_declared_once_and_carry_their_unit() -> None:
    names = [metric.name for metric in ALL]
    assert len(set(names)) == len(names)
    for metric in ALL:
        assert re.fullmatch(r"bidder_[a-z_]+", metric.name), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.help.endswith("."), metric.name
        assert bool(metric.buckets) == (metric.kind == "histogram"), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets))


def test_latency_starts_at_a_quarter_of_a_millisecond() -> None:
    assert metrics.REQUEST_SECONDS.buckets[0] == 0.00025
    assert metrics.STAGE_SECONDS.buckets[0] == 0.00025


def test_counters_add_and_gauges_are_set() -> None:
    cells = Metrics()
    cells.inc(metrics.REQUESTS, "demo")
    cells.inc(metrics.REQUESTS, "demo", by=2)
    cells.inc(metrics.REQUESTS, "other")
    cells.set(metrics.WORKERS, 3)
    cells.set(metrics.WORKERS, 2)
    assert cells.get(metrics.REQUESTS, "demo") == 3
    assert cells.get(metrics.REQUESTS, "other") == 1
    assert cells.get(metrics.REQUESTS, "nobody") == 0
    assert cells.get(metrics.WORKERS) == 2


def test_clearing_a_gauge_forgets_all_its_labels() -> None:
    cells = Metrics()
    cells.set(metrics.MODEL, 1, "old")
    cells.set(metrics.WORKERS, 1)
    cells.clear(metrics.MODEL)
    assert cells.values == {("bidder_workers", ()): 1.0}


@given(st.lists(st.floats(0, 2), max_size=50))
def test_a_histogram_counts_each_value_in_one_bucket(values: list[float]) -> None:
    cells = Metrics()
    for value in values:
        cells.observe(metrics.REQUEST_SECONDS, value, "demo")
    row = cells.histograms.get(("bidder_request_seconds", ("demo",)))
    if not values:
        assert row is None
        return
    assert row is not None
    bounds = (*metrics.REQUEST_SECONDS.buckets, float("inf"))
    lower = -1.0
    for bound, count in zip(bounds, row, strict=False):
        assert count == sum(lower < value <= bound for value in values)
        lower = bound
    assert row[-1] == pytest.approx(sum(values))


Counts = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=9)


@given(st.lists(Counts, max_size=4))
def test_merging_adds_what_each_counted(processes: list[list[tuple[str, int]]]) -> None:
    snapshots, total = [], {"a": 0, "b": 0}
    for process in processes:
        cells = Metrics()
        for label, by in process:
            cells.inc(metrics.REQUESTS, label, by=by)
            cells.observe(metrics.REQUEST_SECONDS, by / 100, label)
            total[label] += by
        snapshots.append(cells.snapshot())
    merged = merge(snapshots)
    for label, count in total.items():
        assert merged.get(metrics.REQUESTS, label) == count
        row = merged.histograms.get(("bidder_request_seconds", (label,)))
        seen = sum(one[0] == label for process in processes for one in process)
        assert (sum(row[:-1]) if row else 0) == seen


def test_a_merged_gauge_is_the_highest() -> None:
    snapshots = []
    for value in (0, 1, 0):
        cells = Metrics()
        cells.set(metrics.BREAKER, value)
        snapshots.append(cells.snapshot())
    assert merge(snapshots).get(metrics.BREAKER) == 1


def test_merging_changes_no_snapshot() -> None:
    cells = Metrics()
    cells.observe(metrics.REQUEST_SECONDS, 0.1, "demo")
    snapshot = cells.snapshot()
    merge([snapshot, snapshot])
    assert snapshot == cells.snapshot()


def test_the_dead_leave_counts_and_no_state() -> None:
    """A worker killed with its breaker open must not show an open breaker for ever."""
    cells = Metrics()
    cells.inc(metrics.REQUESTS, "demo", by=7)
    cells.observe(metrics.REQUEST_SECONDS, 0.1, "demo")
    cells.set(metrics.BREAKER, 1)
    cells.set(metrics.MODEL, 1, "v1")
    left = merge([lasting(cells.snapshot())])
    assert left.get(metrics.REQUESTS, "demo") == 7
    assert left.histograms == cells.histograms
    assert left.get(metrics.BREAKER) == 0
    assert ("bidder_model_info", ("v1",)) not in left.values


def line_items(cells: Metrics) -> dict[str, float]:
    """What each line item's `bid` series says."""
    name = metrics.LINE_ITEM.name
    return {labels[0]: value for (owner, labels), value in cells.values.items() if owner == name}


def test_a_thousand_line_items_have_a_series_and_the_others_share_one() -> None:
    cells = Metrics()
    for turn in range(2):
        for number in range(MAX_LINE_ITEMS + 500):
            cells.inc(metrics.LINE_ITEM, f"line-{number}", "bid")
        found = line_items(cells)
        assert len(found) == MAX_LINE_ITEMS + 1
        assert found["line-0"] == turn + 1
        assert found[OTHER] == 500 * (turn + 1)


def test_another_event_of_a_shown_line_item_is_shown() -> None:
    cells = Metrics()
    for number in range(MAX_LINE_ITEMS + 1):
        cells.inc(metrics.LINE_ITEM, f"line-{number}", "bid")
    cells.inc(metrics.LINE_ITEM, "line-5", "click")
    cells.inc(metrics.LINE_ITEM, f"line-{MAX_LINE_ITEMS}", "click")
    assert cells.get(metrics.LINE_ITEM, "line-5", "click") == 1
    assert cells.get(metrics.LINE_ITEM, OTHER, "click") == 1


def test_all_workers_together_show_a_thousand_and_none_ever_goes_back() -> None:
    one, two = Metrics(), Metrics()
    shown: Shown = {}
    before: dict[str, float] = {}
    for step in range(1, 5):
        for number in range(step * 300):
            one.inc(metrics.LINE_ITEM, f"a-{number}", "bid")
            two.inc(metrics.LINE_ITEM, f"b-{number}", "bid")
        after = line_items(merge([two.snapshot(), one.snapshot()][:: (-1) ** step], shown))
        assert len(after) <= MAX_LINE_ITEMS + 1
        assert all(after.get(name, 0) >= value for name, value in before.items())
        assert sum(after.values()) == 2 * sum(300 * n for n in range(1, step + 1))
        before = after
