"""The judge of faults: each way in which a notice can go astray is found, and nothing else is."""

import struct
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import uvloop

from bidder import ids
from bidder.capping import Kind, Record
from loadtest.faults import command
from loadtest.faults.catalogue import FAULTS
from loadtest.faults.evidence import Counted, Logged, read_log
from loadtest.faults.judging import STRICT, Allowed, Row, Times, doubles, judge, losses, recovery
from loadtest.faults.run import trial
from loadtest.faults.traffic import TMAX_MS, usual_share
from loadtest.faults.truth import GAVE_UP, Asked, Told, Truth

TIMES = Times(usual_from=1.0, broken=3.0, mended=5.0, ended=10.0)
BIDS = [ids.to_text(ids.new_bid_id(1_800_000_000, Random(n))) for n in range(4)]
CLICKED = BIDS[0]


def key(bid: str) -> bytes:
    return ids.bid_key(ids.from_text(bid))


def asked(
    rate: int = 20, until: float = 10.0, dark: tuple[float, float] = (3.0, 5.5)
) -> list[Asked]:
    """Requests at a constant rate, with bids except while it is dark."""
    return [
        Asked(n / rate, 0.01, 204 if hidden else 200, not hidden, 0.0)
        for n in range(int(rate * until))
        for hidden in [dark[0] <= n / rate < dark[1]]
    ]


def healthy() -> tuple[Truth, Logged, Counted]:
    """Four bids, all billed and shown, one clicked; nothing missing, nothing twice."""
    truth, logged = Truth(asked=asked(), bids=set(BIDS)), Logged(bids=set(BIDS), people=set(BIDS))
    for kind, bids in (("billing", BIDS), ("impression", BIDS), ("click", [CLICKED])):
        for bid in bids:
            truth.told[kind, bid] = Told(sent=1, accepted=1)
            logged.lines[kind, bid] = 1
    logged.costs = {bid: {500} for bid in BIDS}
    counted = Counted(
        impressions=4,
        spent_micros=2000,
        pixels=4,
        clicks=1,
        ledger_impressions=Counter({key(bid): 1 for bid in BIDS}),
        ledger_clicks=Counter({key(CLICKED): 1}),
    )
    return truth, logged, counted


def row(truth: Truth, logged: Logged, counted: Counted, allowed: Allowed = STRICT) -> Row:
    return judge("a fault", truth, TIMES, logged, counted, allowed)


def test_a_bidder_that_keeps_its_promises() -> None:
    found = row(*healthy())
    assert found.broken == ()
    assert (found.lost, found.double, found.late, found.answers_5xx) == (0, 0, 0, 0)
    assert found.usual_before == 1.0
    assert found.usual_during == 0.0
    assert found.recover_seconds == pytest.approx(0.5, abs=0.11)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda t, log, c: log.lines.pop(("billing", BIDS[1])), "billing accepted, not in the log"),
        (lambda t, log, c: log.lines.pop(("click", CLICKED)), "click accepted, not in the log"),
        (lambda t, log, c: setattr(c, "impressions", 3), "billings in the log, not counted"),
        (lambda t, log, c: setattr(c, "spent_micros", 1500), "spend in micros, not counted"),
        (lambda t, log, c: setattr(c, "pixels", 3), "impressions in the log, not counted"),
        (lambda t, log, c: c.ledger_impressions.pop(key(BIDS[2])), "impressions not in a ledger"),
        (lambda t, log, c: c.ledger_clicks.clear(), "clicks not in a ledger"),
        (
            lambda t, log, c: t.told.update({("win", BIDS[0]): Told(sent=3, accepted=0)}),
            "win never accepted",
        ),
    ],
)
def test_whatever_is_lost_is_found(harm, words: str) -> None:  # type: ignore[no-untyped-def]
    given = healthy()
    harm(*given)
    found = row(*given)
    assert found.lost > 0
    assert any(words in promise for promise in found.broken), found.broken


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda t, log, c: setattr(c, "impressions", 5), "billings counted too often"),
        (lambda t, log, c: setattr(c, "clicks", 2), "clicks counted too often"),
        (lambda t, log, c: setattr(c, "spent_micros", 2500), "spend in micros, too much"),
        (lambda t, log, c: c.ledger_impressions.update([key(BIDS[0])]), "in a ledger twice"),
        (lambda t, log, c: c.ledger_clicks.update([key(BIDS[1])]), "in a ledger, not in the log"),
        (lambda t, log, c: t.told.pop(("impression", BIDS[0])), "in the log, never sent"),
        (lambda t, log, c: log.costs.update({BIDS[0]: {900}}), "billing at another price"),
    ],
)
def test_whatever_is_counted_twice_is_found(harm, words: str) -> None:  # type: ignore[no-untyped-def]
    given = healthy()
    harm(*given)
    found = row(*given)
    assert found.double > 0
    assert any(words in promise for promise in found.broken), found.broken


def test_a_repeated_line_or_an_unanswered_notice_is_no_fault() -> None:
    truth, logged, counted = healthy()
    logged.lines["billing", BIDS[0]] = 3  # the exchange repeats itself; it is counted once
    truth.told["impression", BIDS[1]] = Told(sent=2, accepted=1)  # the first got no answer
    assert row(truth, logged, counted).broken == ()


def test_an_inferred_billing_costs_the_bid_and_counts_once() -> None:
    truth, logged, counted = healthy()
    logged.costs[BIDS[0]] = {500, 700}
    logged.inferred.add(BIDS[0])
    logged.lines["billing", BIDS[0]] = 2
    for spent in (2000, 2200):  # whichever came first
        counted.spent_micros = spent
        assert row(truth, logged, counted).broken == ()
    counted.spent_micros = 2201
    assert doubles(truth, logged, counted) == {"spend in micros, too much": 1}
    counted.spent_micros = 1999
    assert losses(truth, logged, counted) == {"spend in micros, not counted": 1}


def test_late_answers_count_from_when_they_were_due() -> None:
    truth, logged, counted = healthy()
    slow = TMAX_MS / 1000 + 0.001
    truth.asked[:5] = [one._replace(seconds=slow) for one in truth.asked[:5]]
    truth.asked[5] = truth.asked[5]._replace(seconds=2.0, status=GAVE_UP)
    truth.asked[6] = truth.asked[6]._replace(seconds=slow, lag=0.05)
    found = row(truth, logged, counted)
    assert (found.late, found.sender_late) == (6, 1)
    assert found.broken == ("6 of 200 answers came after tmax",)
    busy = judge("a fault", truth, TIMES, logged, counted, STRICT, foreign=0.3)
    assert busy.late == 6
    assert busy.broken == ()


def test_what_a_fault_excuses_is_excused_and_no_more() -> None:
    truth, logged, counted = healthy()
    truth.problems["request: connection lost"] = 3
    truth.refused["billing 503"] = 2
    logged.bids.discard(BIDS[3])
    assert len(row(truth, logged, counted).broken) == 3
    excused = Allowed(connection_errors=3, unlogged_bids=1, notices_refused=True)
    assert row(truth, logged, counted, excused).broken == ()
    truth.refused["billing 500"] = 1
    truth.asked[0] = truth.asked[0]._replace(status=500)
    found = row(truth, logged, counted, excused)
    assert found.answers_5xx == 1
    assert len(found.broken) == 2


def test_bids_that_do_not_come_back() -> None:
    truth, logged, counted = healthy()
    truth.asked = asked(dark=(3.0, 10.0))
    found = row(truth, logged, counted)
    assert found.recover_seconds is None
    assert found.broken == ("the bids did not come back",)
    assert recovery(asked(dark=(3.0, 5.0)), TIMES) == 0.0
    assert usual_share([], 0.0, 1.0) == 0.0


def test_the_log_is_read_without_the_bidder(tmp_path: Path) -> None:
    folder = tmp_path / "worker-0"
    folder.mkdir()
    lines = [
        b'{"type":"bid","bid_id":"b1"}',
        b'{"type":"billing","bid_id":"b1","cost_micros":500,"person":"p"}',
        b'{"type":"billing","bid_id":"b1","cost_micros":500,"person":"p"}',
        b'{"type":"requests","exchange":"demo"}',
        b'{"type":"click","bid',
    ]
    (folder / "20260101T000000-000001.jsonl").write_bytes(b"\n".join(lines))
    found = read_log(tmp_path)
    assert found.bids == {"b1"}
    assert found.lines == {("billing", "b1"): 2}
    assert found.costs == {"b1": {500}}
    assert found.people == {"b1"}
    assert found.torn == 1
    assert read_log(tmp_path, bids=False).bids == set()


def test_ledgers_are_counted_record_by_record() -> None:
    from loadtest.faults.evidence import _read_ledger

    def record(kind: Kind, bid: str) -> bytes:
        return Record(1_800_000_000, kind, 1, 2, 3, 4, key(bid)).pack()

    header = struct.pack("<BxHIII", 1, 0, 1, 0, 0)
    records = [
        record(Kind.IMPRESSION, BIDS[0]),
        record(Kind.CLICK, BIDS[0]),
        record(Kind.RESERVATION, BIDS[1]),
    ]
    found = Counted()
    _read_ledger(found, header + b"".join(records))
    _read_ledger(found, None)
    assert found.ledger_impressions == {key(BIDS[0]): 1}
    assert found.ledger_clicks == {key(BIDS[0]): 1}
    assert found.folded == 0


def test_every_fault_is_in_the_docs_and_says_what_it_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
    for fault in FAULTS:
        assert f"`{fault.name}`" in page, fault.name
        assert fault.says.endswith("."), fault.name
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_an_unknown_fault_is_refused_with_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    from loadtest.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(["faults", "--only", "earthquake"])
    assert ended.value.code == 2
    assert "store-killed" in capsys.readouterr().err
    assert command.faults.__doc__


@pytest.mark.skipif(sys.platform != "linux", reason="faults are brought about as Linux does")
@pytest.mark.xdist_group("server_crash")
def test_a_killed_worker_loses_nothing() -> None:
    """A real bidder, a real SIGKILL; how late its answers were says more of this machine."""
    fault = next(one for one in FAULTS if one.name == "worker-killed")
    found, _ = uvloop.run(trial(fault, rate=40, seconds=1.0, seed=1))
    assert found.requests > 100
    assert found.notices > 50
    assert (found.lost, found.double, found.answers_5xx) == (0, 0, 0)
    assert found.recover_seconds is not None
