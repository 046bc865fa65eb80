"""Does the report on intrusiveness count what the log says?"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bidder.campaigns.catalogue import Intrusiveness
from bidder.events.forgotten import Forgotten
from bidder.events.intrusiveness import Band, Exposed, plot, render, report
from bidder.events.schema import (
    BidEvent,
    BillingEvent,
    ClickEvent,
    ConversionEvent,
    Event,
    ImpressionEvent,
    NoBidEvent,
    encode,
)

Make = Callable[..., Any]
COSTS = {"lumen/winter/basket": Intrusiveness(ceiling=0.7, cost_cpm_micros=2_000_000)}


@pytest.fixture
def log(tmp_path: Path) -> Callable[[list[Event]], Path]:
    def write(events: list[Event]) -> Path:
        folder = tmp_path / "events" / "w0"
        folder.mkdir(parents=True)
        file = folder / "19700101T000000-000001.jsonl"
        file.write_bytes(b"".join(map(encode, events)))
        return tmp_path / "events"

    return write


def _events(make: Make) -> list[Event]:
    events: list[Event] = []
    for number, felt in enumerate((0.0, 0.2, 0.4, 0.6, 0.8, 1.0)):
        who = {"bid_id": f"b{number}", "person": "ann" if number < 4 else "ben"}
        events.append(make(BidEvent, intrusiveness=felt, **who))
        if number < 5:
            events += [make(ImpressionEvent, **who)] * 2
            events += [make(BillingEvent, cost_micros=3000, time=2000, **who)]
            events += [make(BillingEvent, cost_micros=9000, time=2001, **who)]
    events += [make(ClickEvent, bid_id="b1"), make(ClickEvent, bid_id="b1")]
    events += [make(ConversionEvent, bid_id="b1", order=o) for o in ("x", "x", "y")]
    silent = {"lumen/winter/basket": 548, "lumen/winter/visit": 541, "harbor/books/new": 548}
    events.append(make(NoBidEvent, request_id="r", reason=548, weight=100.0, line_items=silent))
    events.append(make(NoBidEvent, request_id="r", reason=548, weight=20.0, line_items=silent))
    return events


def test_what_was_felt_and_by_whom(make: Make, log: Callable[[list[Event]], Path]) -> None:
    found = report(log(_events(make)), COSTS)
    winter, harbor = sorted(found.campaigns, key=lambda row: row.campaign, reverse=True)
    assert (winter.campaign, winter.currency) == ("lumen/winter", "EUR")
    assert (winter.bids, winter.impressions, winter.conversions) == (6, 5, 2)
    assert winter.spend_micros == 15_000, "the first billing of each"
    assert winter.mean == pytest.approx(0.4)
    assert winter.quantiles == pytest.approx((0.08, 0.4, 0.72, 0.792))
    assert winter.above == pytest.approx((0.6, 0.4, 0.2, 0.0))
    assert winter.silenced == 120
    assert winter.taken_off_cpm_micros == pytest.approx(1_000_000)
    assert winter.value_cpm_micros == pytest.approx(2_700_000), "in the advertiser's currency"
    assert winter.spend_forgone_micros == pytest.approx(120 * 15_000 / 6)
    assert winter.conversions_forgone == pytest.approx(40)
    assert (harbor.campaign, harbor.bids, harbor.silenced) == ("harbor/books", 0, 120)
    assert harbor.spend_forgone_micros == harbor.conversions_forgone == 0
    assert found.bands == (
        Band(0.0, 1, 0, 0), Band(0.2, 1, 1, 2), Band(0.4, 1, 0, 0), Band(0.6, 1, 0, 0),
        Band(0.8, 1, 0, 0),
    )  # fmt: skip
    assert found.people == (
        Exposed("ann", 4, pytest.approx(0.3), 0.6),
        Exposed("ben", 1, pytest.approx(0.8), 0.8),
    )


def test_times_bound_what_is_counted(make: Make, log: Callable[[list[Event]], Path]) -> None:
    events = log(_events(make))
    assert report(events, {}, since=1001).campaigns == ()
    assert report(events, {}, until=1000).campaigns == ()
    inside = report(events, {}, since=1000, until=1001).campaigns
    assert {row.impressions for row in inside} == {0, 5}


def test_it_can_be_read_and_seen(
    make: Make, log: Callable[[list[Event]], Path], tmp_path: Path
) -> None:
    found = report(log(_events(make)), COSTS)
    text = render(found)
    assert "the ceiling silenced about 120 requests" in text
    assert "cost_cpm took 1.00 CPM off a bid worth 2.70" in text
    assert "ben" in text
    picture = tmp_path / "new" / "felt.png"
    plot(found, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_nobody_is_listed_of_whom_the_log_no_longer_speaks(
    make: Make, log: Callable[[list[Event]], Path]
) -> None:
    events = log(_events(make))
    Forgotten(events).add(["ann"])
    found = report(events, COSTS)
    assert [each.person for each in found.people] == ["ben"]
    assert {row.impressions for row in found.campaigns} == {0, 5}, "what was shown still counts"


def test_an_empty_log_says_so(tmp_path: Path) -> None:
    assert render(report(tmp_path, {})) == "nothing was bid"
