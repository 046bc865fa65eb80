"""Which figures of a benchmark count? Only those of a rate that was truly carried."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.bench import measure
from loadtest.bench.measure import Measured
from loadtest.load.openloop import Tally
from loadtest.load.result import combine, report
from loadtest.load.usage import Usage
from loadtest.load.wire import Answer


def _one() -> Measured:
    tally = Tally()
    for number in range(1000):
        tally.sent += 1
        tally.answered(number / 1000, 0.001, 0.1, Answer(204, b"", True, False))
    result = combine([report(tally, 0, cpu_share=0.1, seconds=1.0)], 1000, 1.0)
    usage = Usage(cpu_seconds=1.0, elapsed=1.0, peak_rss_bytes=1)
    return Measured(replace(result, usage=usage), 1000.0, 3.0, 0.0, {}, 0.5, 0.0)


FINE = _one()
SHEDDING = replace(FINE, cpu_us=300.0, shed_share=0.2)


def test_a_rate_at_which_requests_are_shed_is_not_sustained() -> None:
    assert FINE.broken == ""
    assert SHEDDING.broken == "20.0% shed"


def test_what_was_not_sustained_is_left_out_of_the_medians_and_told() -> None:
    bare = replace(FINE, cpu_us=250.0)
    figures = measure._figures([FINE, SHEDDING, SHEDDING], [bare], FINE)
    assert figures["ratio"] == 0.25
    assert figures["shed_share"] == 0.2
    assert figures["notes"] == ["bidder: not sustained: 20.0% shed."]
    assert measure._figures([FINE], [bare], FINE)["notes"] == []


@pytest.mark.parametrize(
    ("quiet", "said"),
    [
        (replace(FINE, foreign=0.16), "Others took 16%"),
        (replace(FINE, client_core_busy=0.99), "its p99 is the client's"),
        (replace(FINE, result=replace(FINE.result, late=125)), "12.50% late"),
    ],
)
def test_the_step_whose_latency_is_told_is_judged_too(quiet: Measured, said: str) -> None:
    (note,) = measure._figures([FINE], [FINE], quiet)["notes"]
    assert said in note


def test_only_requests_that_were_not_decided_are_shed() -> None:
    samples = {
        'bidder_no_bids_total{exchange="bench",reason="overloaded"}': 3.0,
        'bidder_no_bids_total{exchange="bench",reason="insufficient_time"}': 2.0,
        'bidder_no_bids_total{exchange="bench",reason="below_floor"}': 50.0,
        "bidder_sheds_total": 3.0,
    }
    assert measure._shed(samples) == 5.0


def test_the_reasons_are_those_of_the_bidder() -> None:
    text = (Path(measure.__file__).parents[2] / "bidder" / "reasons.py").read_text()
    assert all(f"    {why.upper()} = " in text for why in measure.SHED)
