"""Figures of several generators as one, and the page made of them."""

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser
from random import Random

import orjson
import pytest

from loadtest.load.openloop import Tally
from loadtest.load.page import page
from loadtest.load.result import Report, Result, Usage, combine, report
from loadtest.load.wire import Answer

BID = Answer(200, b'{"price":1}', True, False)
VOID = {"meta", "img", "br", "link", "input", "hr"}


def one_report(latencies: list[float], seconds: float = 4.0, cpu: float = 0.2) -> Report:
    tally = Tally()
    for number, latency in enumerate(latencies):
        tally.sent += 1
        tally.answered(number * seconds / len(latencies), latency, 0.05, BID)
    return report(tally, 0, cpu, seconds)


def test_merged_percentiles_are_those_of_all_latencies() -> None:
    random = Random(5)
    latencies = [random.lognormvariate(-6, 0.7) for _ in range(9000)]
    result = combine([one_report(latencies[k::3]) for k in range(3)], 2250, 4.0)
    for name, percentile in (("p50_ms", 50), ("p90_ms", 90), ("p99_ms", 99), ("p999_ms", 99.9)):
        exact = sorted(latencies)[round(percentile / 100 * 9000) - 1] * 1e3
        assert getattr(result, name) == pytest.approx(exact, rel=2e-3, abs=2e-3)
    assert result.max_ms == pytest.approx(max(latencies) * 1e3, rel=2e-3)
    assert result.answered == result.sent == result.bids == 9000
    assert result.bid_rate == 1
    assert result.late == sum(latency > 0.05 for latency in latencies)
    assert result.achieved_rps == pytest.approx(2250, rel=0.01)
    assert [window.requests for window in result.windows] == [2250] * 4
    assert not result.generator_saturated


def test_a_busy_generator_says_so() -> None:
    result = combine([one_report([0.001]), one_report([0.001], cpu=0.97)], 1, 4.0)
    assert result.generator_saturated
    assert "bottleneck" in result.notes[0]


def test_a_generator_that_sends_late_says_so() -> None:
    late = replace(one_report([0.001] * 10), lagged=5, worst_lag=0.4)
    result = combine([late], 1, 4.0)
    assert result.generator_saturated
    assert "400.0 ms" in result.notes[0]


def test_nothing_answered_is_no_division_by_zero() -> None:
    result = combine([report(Tally(), 7, 0.0, 2.0)], 100, 2.0)
    assert (result.answered, result.unsent, result.failed, result.bid_rate) == (0, 7, 7, 0)


def test_json_is_json() -> None:
    result = combine([one_report([0.001, 0.2])], 1, 4.0)
    used = replace(result, usage=Usage(1.0, 4.0, 10**8, ((1, "python", 1.0, 10**8),)))
    values = json.loads(orjson.dumps(used.as_json()))
    assert values["usage"]["cores"] == 0.25
    assert values["statuses"] == {"200": 2}
    assert values["late_share"] == 0.5


class Balance(HTMLParser):
    """Fails on a tag that is closed but not open; keeps what was open at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [values[name] or "" for name in ("src", "href") if name in values]
        if tag == "img":
            assert values["alt"]
            self.images.append(values["src"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_valid_and_holds_all_it_needs() -> None:
    results: list[Result] = [
        replace(combine([one_report([0.001, 0.002, 0.2] * 20)], rate, 4.0), notes=("<slow> & so",))
        for rate in (100, 200)
    ]
    text = page("http://127.0.0.1:1/x?a=1&b=<2>", results, ["a note"])
    check = Balance()
    check.feed(text)
    check.close()
    assert check.open == []
    assert "&lt;slow&gt; &amp; so" in text
    assert all(link.startswith("data:") for link in check.links), "self-contained"
    assert len(check.images) == 4
    for image in check.images:
        assert b"<svg" in base64.b64decode(image.partition("base64,")[2])
