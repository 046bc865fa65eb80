"""The report: equal to a slow and obvious count, and money counted as the budget counts it."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from fractions import Fraction
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.events.files import file_name
from bidder.events.keeping import compress
from bidder.events.rendering import render
from bidder.events.report import DIMENSIONS, Row, Table, report
from bidder.events.schema import (
    AnyEvent,
    BidEvent,
    BillingEvent,
    ClickEvent,
    ConversionEvent,
    ImpressionEvent,
    LossEvent,
    NoBidEvent,
    RequestsEvent,
    WinEvent,
    encode,
)

PARIS = ZoneInfo("Europe/Paris")
LINE_ITEMS = ["a/c/one", "a/c/two", "b/c/one"]


def store(directory: Path, files: Iterable[Iterable[AnyEvent]], writer: str = "w0") -> list[Path]:
    """Each inner list as one file of a writer: the first from before all bids, others after."""
    (directory / writer).mkdir(exist_ok=True)
    paths = []
    for n, events in enumerate(files, 1):
        paths.append(directory / writer / file_name(0.0 if n == 1 else 1_700_100_000.0, n))
        paths[-1].write_bytes(b"".join(map(encode, events)))
    return paths


def key_of(event: Any, by: tuple[str, ...], time: float, line_item: str = "") -> tuple[str, ...]:
    """The dimensions of an event, the obvious way."""
    path = (line_item or getattr(event, "line_item", "")).split("/")
    local = datetime.fromtimestamp(int(time), PARIS)
    known = {
        "hour": local.strftime("%Y-%m-%d %H:00"),
        "day": local.strftime("%Y-%m-%d"),
        "advertiser": path[0],
        "campaign": "/".join(path[:2]),
        "line_item": "/".join(path),
        "creative": "/".join([*path, getattr(event, "creative", "")]),
    }
    return tuple(known[name] if name in known else getattr(event, name, "") for name in by)


def slow_report(
    lines: list[AnyEvent], by: tuple[str, ...], since: float | None, until: float | None
) -> list[Row]:
    """What `report` must say, by going through the lines one by one in order of time."""

    def made(event: Any) -> int:
        return int(event.time if isinstance(event, (BidEvent, RequestsEvent)) else event.bid_time)

    kept = [
        event
        for event in sorted(lines, key=lambda event: event.time)
        if not isinstance(event, (NoBidEvent, LossEvent))
        and (since is None or made(event) >= since)
        and (until is None or made(event) < until)
    ]
    counts: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    requests: dict[Any, int] = defaultdict(int)
    eligible: dict[Any, int] = defaultdict(int)
    about: dict[str, Any] = {}
    for event in kept:
        if isinstance(event, BidEvent):
            about.setdefault(event.bid_id, event)
    done: set[tuple[str, ...]] = set()
    for event in kept:
        if isinstance(event, RequestsEvent):
            if ("requests", str(event.time), event.exchange) not in done:
                done.add(("requests", str(event.time), event.exchange))
                requests[key_of(event, by, event.time)] += event.requests
                for path, count in event.eligible.items():
                    eligible[key_of(event, by, event.time, path)] += count
            continue
        assert not isinstance(event, (NoBidEvent, LossEvent))
        bid = about.setdefault(event.bid_id, event)
        row = counts[(key_of(bid, by, made(bid)), bid.account_currency)]

        def once(*what: str, bid_id: str = event.bid_id) -> bool:
            fresh = (bid_id, *what) not in done
            done.add((bid_id, *what))
            return fresh

        bills = isinstance(event, BillingEvent)
        if isinstance(event, ImpressionEvent):
            row["impressions"] += once("impression")
            bills = event.bills
        if isinstance(event, BidEvent):
            row["bids"] += once("bid")
        if bills and once("money"):
            row["spend_micros"] += event.cost_micros  # type: ignore[union-attr]
        if bills or isinstance(event, WinEvent):
            row["wins"] += once("won")
        if isinstance(event, ClickEvent):
            row["clicks"] += once("click")
        sale = (getattr(event, "order", "") and event.line_item.partition("/")[0]) or event.bid_id
        if isinstance(event, ConversionEvent) and once("conversion", event.order, bid_id=sale):
            row["conversions"] += 1
            row["value_micros"] += event.value_micros
    asked_for = set(by) <= {"hour", "day", "exchange"}
    reached = set(by) <= {"hour", "day", "exchange", "advertiser", "campaign", "line_item"}
    silent = (set(requests) if asked_for else set()) | (set(eligible) if reached else set())
    for key in silent - {key for key, _ in counts}:
        counts[key, ""]
    names = ["bids", "wins", "impressions", "clicks", "conversions", "spend_micros", "value_micros"]
    return [
        Row(
            key,
            currency,
            requests[key] if asked_for else None,
            eligible[key] if reached else None,
            *(row[name] for name in names),
        )
        for (key, currency), row in sorted(counts.items())
    ]


@st.composite
def logs(draw: st.DrawFn, make: Any) -> list[AnyEvent]:
    """Lines of a few bids, with repeats, missing bids, two currencies; times are all different."""
    when = st.integers(1_699_990_000, 1_700_080_000)
    bids = [
        make(
            BidEvent,
            f"bid{n}",
            line_item=draw(st.sampled_from(LINE_ITEMS)),
            exchange=draw(st.sampled_from(["x", "y"])),
            account_currency=draw(st.sampled_from(["EUR", "USD"])),
            size=draw(st.sampled_from(["", "300x250"])),
            time=draw(when) + n / 1000,
        )
        for n in range(draw(st.integers(1, 5)))
    ]
    kinds = [BidEvent, WinEvent, LossEvent, BillingEvent, ImpressionEvent, ClickEvent]
    lines: list[AnyEvent] = []
    for n in range(draw(st.integers(0, 25))):
        bid = draw(st.sampled_from(bids))
        kind = draw(st.sampled_from([*kinds, ConversionEvent, RequestsEvent, NoBidEvent]))
        time = float(bid.time + draw(st.sampled_from([-1, 1])) + n / 64)
        money = {"cost_micros": draw(st.integers(0, 2**40))}
        special: dict[Any, dict[str, Any]] = {
            BillingEvent: {**money, "inferred": draw(st.booleans())},
            ImpressionEvent: {**money, "bills": draw(st.booleans())},
            ConversionEvent: {"order": draw(st.sampled_from(["", "o1"])), "value_micros": n},
        }
        if kind is BidEvent:
            lines.append(bid)
        elif kind is RequestsEvent:
            reached = draw(st.dictionaries(st.sampled_from(LINE_ITEMS), st.integers(0, 9)))
            lines.append(RequestsEvent(draw(when) + n / 64, bid.exchange, n, 1, reached))
        elif kind is NoBidEvent:
            lines.append(NoBidEvent(time, "r", bid.exchange, 1))
        else:
            same = {
                name: getattr(bid, name) for name in ("line_item", "exchange", "account_currency")
            }
            made = float(int(bid.time))
            fields = same | special.get(kind, {})
            lines.append(make(kind, bid.bid_id, time, bid_time=made, **fields))
    return lines


@given(
    data=st.data(),
    by=st.lists(st.sampled_from(DIMENSIONS), max_size=3, unique=True),
    since=st.none() | st.integers(1_699_990_000, 1_700_080_000),
    until=st.none() | st.integers(1_699_990_000, 1_700_080_000),
)
@settings(max_examples=30)
def test_the_report_equals_an_obvious_count(
    data: st.DataObject, by: list[str], since: int | None, until: int | None, make: Any
) -> None:
    lines = data.draw(logs(make))
    again = data.draw(st.lists(st.sampled_from(lines), max_size=5)) if lines else []
    cut = data.draw(st.integers(0, len(lines)))
    with TemporaryDirectory() as name:
        directory = Path(name)
        paths = store(directory, [lines[:cut], lines[cut:] + again])
        if data.draw(st.booleans()):
            compress(paths[:1])
        table = report(directory, by, since, until, zone="Europe/Paris")
    assert table.by == tuple(by)
    assert list(table.rows) == slow_report(lines + again, tuple(by), since, until)


def only(directory: Path, *by: str) -> Row:
    (row,) = report(directory, by).rows
    return row


@pytest.mark.parametrize("inferred_first", [True, False])
def test_the_first_billing_is_the_one_that_counts(
    tmp_path: Path, make: Any, inferred_first: bool
) -> None:
    first, second = (2.0, 3.0) if inferred_first else (3.0, 2.0)
    inferred = make(BillingEvent, time=first, cost_micros=2000, inferred=True)
    heard = make(BillingEvent, time=second, cost_micros=1500)
    store(tmp_path, [[heard]], "w0")
    store(tmp_path, [[inferred]], "w1")
    row = only(tmp_path)
    assert row.spend_micros == (2000 if inferred_first else 1500)
    assert row.wins == 1


def test_what_a_bid_says_goes_before_what_its_notices_say(tmp_path: Path, make: Any) -> None:
    win = make(WinEvent, time=999.5)  # by the clock of another worker, before the bid
    store(tmp_path, [[win, make(BidEvent, time=1000.0, size="300x250", country="FR")]])
    row = only(tmp_path, "size", "country")
    assert (row.key, row.bids, row.wins) == (("300x250", "FR"), 1, 1)


def test_of_two_lines_at_the_same_time_the_earlier_line_counts(tmp_path: Path, make: Any) -> None:
    lines = [make(BillingEvent, time=2.0, cost_micros=cost) for cost in (5, 1, 9)]
    store(tmp_path, [lines])
    assert only(tmp_path).spend_micros == 5


def test_currencies_are_never_added_and_sums_are_exact(tmp_path: Path, make: Any) -> None:
    large = 2**53 + 1  # no float holds it
    store(
        tmp_path,
        [
            [
                make(BillingEvent, "a", cost_micros=large, account_currency="EUR"),
                make(BillingEvent, "b", cost_micros=large, account_currency="EUR"),
                make(BillingEvent, "c", cost_micros=7, account_currency="NOK"),
            ]
        ],
    )
    rows = report(tmp_path, ["day"]).rows
    assert [(row.currency, row.spend_micros) for row in rows] == [("EUR", 2 * large), ("NOK", 7)]


def test_a_day_is_a_day_of_the_zone_also_when_the_clocks_change(tmp_path: Path, make: Any) -> None:
    midnight = datetime(2026, 10, 25, tzinfo=PARIS).timestamp()
    times = [midnight - 1, midnight, midnight + 25 * 3600 - 1, midnight + 25 * 3600]
    store(tmp_path, [[make(BidEvent, str(n), time=time) for n, time in enumerate(times)]])
    rows = report(tmp_path, ["day"], zone="Europe/Paris").rows
    assert [(row.key[0], row.bids) for row in rows] == [
        ("2026-10-24", 1), ("2026-10-25", 2), ("2026-10-26", 1),
    ]  # fmt: skip


def test_a_late_notice_belongs_to_the_day_of_its_bid(tmp_path: Path, make: Any) -> None:
    store(tmp_path, [[make(ConversionEvent, time=900_000.0, order="o", value_micros=3)]])
    assert [row.key for row in report(tmp_path, ["day"]).rows] == [("1970-01-01",)]
    assert report(tmp_path, ["day"], since=500_000.0).rows == ()


def test_torn_and_foreign_lines_cost_nothing(tmp_path: Path, make: Any) -> None:
    good = encode(make(WinEvent))
    folder = tmp_path / "odd [dir] *?" / "w0"
    folder.mkdir(parents=True)
    (folder / file_name(0.0, 1)).write_bytes(good + b'\x00\xff{"\n{"type":"win"}\n' + good[:40])
    (folder / file_name(0.0, 2)).write_bytes(b"")
    (folder / file_name(0.0, 3)).write_bytes(encode(make(WinEvent, "c")) + good[:-2])
    assert only(folder.parent).wins == 2


def test_no_log_and_an_empty_log(tmp_path: Path) -> None:
    assert report(tmp_path / "nowhere", ["day"]) == Table(("day",), ())
    store(tmp_path, [[]])
    assert report(tmp_path, []) == Table((), ())


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown dimension 'colour'; known: hour, day"):
        report(tmp_path, ["colour"])
    with pytest.raises(ValueError, match="unknown time zone"):
        report(tmp_path, ["day"], zone="Mars/Olympus")


def test_a_file_that_vanishes_after_listing(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = store(tmp_path, [[make(WinEvent)]])
    from bidder.events.report import log_files

    stale = [list(log_files(tmp_path))]
    compress([path])
    monkeypatch.setattr(
        "bidder.events.report.log_files",
        lambda directory: iter(stale.pop() if stale else list(log_files(directory))),
    )
    assert only(tmp_path).wins == 1


def test_rates() -> None:
    row = Row((), "EUR", 100, None, 10, 4, 2, 1, 1, 9_000, 18_000)
    assert row.win_rate == 0.4
    assert row.cpm == float(Fraction(9, 2))
    assert row.ctr == 0.5
    assert row.ecpc == row.ecpa == 0.009
    assert row.roas == 2.0
    nothing = Row((), "EUR", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert {nothing.win_rate, nothing.cpm, nothing.ctr, nothing.ecpc, nothing.roas} == {None}


def test_rendering() -> None:
    rows = (
        Row(("2026-11-21", "a/c/one"), "EUR", None, 7, 1000, 4, 2, 1, 0, 1_234_567, 0),
        Row(("2026-11-22", ""), "", None, 0, 0, 0, 0, 0, 0, 0, 0),
    )
    table = Table(("day", "line_item"), rows)
    shown = render(table)
    assert "1,000" in shown
    assert "1.23" in shown
    assert "40.0%" not in shown
    assert "0.4%" in shown
    first, second = csv.DictReader(StringIO(render(table, "csv")))
    assert first["spend"] == "1.234567"
    assert first["requests"] == ""
    assert second["line_item"] == second["cpm"] == ""
    records = json.loads(render(table, "json"))
    assert records[0]["line_item"] == "a/c/one"
    assert records[0]["win_rate"] == 0.004
    assert records[1]["ecpa"] is None
