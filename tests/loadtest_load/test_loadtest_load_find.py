"""The search against servers whose limit is known."""

from dataclasses import replace

import pytest

from loadtest.load.command import _verdict
from loadtest.load.find import broken, find
from loadtest.load.openloop import Tally
from loadtest.load.result import Result, combine, report
from loadtest.load.wire import Answer


def _one() -> Result:
    tally = Tally()
    for number in range(1000):
        tally.sent += 1
        tally.answered(number / 1000, 0.001, 0.1, Answer(204, b"", True, False))
    return combine([report(tally, 0, cpu_share=0.1, seconds=1.0)], 1000, 1.0)


ONE = _one()


def fine(rate: float) -> Result:
    return replace(ONE, asked_rps=rate, achieved_rps=rate)


def slow(rate: float) -> Result:
    return replace(fine(rate), p99_ms=50.0)


@pytest.mark.parametrize("limit", [37.0, 500.0, 730.0, 5100.0])
def test_it_ends_within_the_precision(limit: float) -> None:
    found = find(lambda rate: fine(rate) if rate <= limit else slow(rate), 500, p99_ms=10)
    assert found.best is not None
    assert limit * 0.94 <= found.best.asked_rps <= limit
    assert not found.limited_by_generator


def test_one_hiccup_is_forgiven() -> None:
    hiccups = iter([True])
    found = find(
        lambda rate: slow(rate) if next(hiccups, False) or rate > 1000 else fine(rate), 500, 10
    )
    assert found.best is not None
    assert found.best.asked_rps > 900


def test_a_generator_at_its_limit_ends_the_search() -> None:
    def trial(rate: float) -> Result:
        return fine(rate) if rate < 1500 else replace(slow(rate), generator_cpu=0.99)

    found = find(trial, 500, p99_ms=10)
    assert found.limited_by_generator
    assert found.best is not None
    assert found.best.asked_rps == 1000


def test_a_first_rate_too_high_for_the_generator_is_halved_until_one_is_carried() -> None:
    def trial(rate: float) -> Result:
        return fine(rate) if rate < 300 else replace(slow(rate), generator_cpu=0.99)

    found = find(trial, 1000, p99_ms=10)
    assert found.best is not None
    assert found.best.asked_rps == 250
    assert _verdict(found, 10).startswith("At least 250 requests a second")
    assert "generator" in _verdict(found, 10)


def test_a_generator_that_cannot_send_at_all_is_not_the_bidders_fault() -> None:
    found = find(lambda rate: replace(slow(rate), generator_lagged=0.5), 100, p99_ms=10)
    assert found.best is None
    assert "the generator is the bottleneck" in _verdict(found, 10)
    assert "carried" not in _verdict(found, 10)


def test_nothing_is_carried() -> None:
    found = find(slow, 100, p99_ms=10)
    assert found.best is None
    assert _verdict(found, 10).endswith("p99 50.0 ms.")


def bidding(rate: float, bid_rate: float) -> Result:
    return replace(fine(rate), bid_rate=bid_rate)


@pytest.mark.parametrize("start", [100, 500, 8000])
def test_a_bidder_that_sheds_carries_no_more_than_it_bids_on(start: float) -> None:
    """Whatever is above 700 a second is answered 204, and fast."""
    found = find(lambda rate: bidding(rate, 0.8 * min(1, 700 / rate)), start, p99_ms=10)
    assert found.best is not None
    assert 0.94 * 700 <= found.best.asked_rps <= 700 / 0.95
    assert "bids where 80.0% are usual" in found.why


def test_people_who_reach_their_caps_during_the_search_are_not_blamed_on_the_bidder() -> None:
    asked = 0.0

    def trial(rate: float) -> Result:
        nonlocal asked
        asked += rate
        return bidding(rate, 0.8 * 1000 / (1000 + asked)) if rate <= 5000 else slow(rate)

    found = find(trial, 500, p99_ms=10)
    assert found.best is not None
    assert found.best.asked_rps > 4700


def test_the_first_trial_is_a_quiet_one() -> None:
    found = find(lambda rate: fine(rate) if rate < 900 else slow(rate), 800, p99_ms=10)
    assert [trial.asked_rps for trial in found.trials[:2]] == [200, 800]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (replace(fine(100), timeouts=1), "without an answer"),
        (replace(fine(100), late=1), "late"),
        (slow(100), "p99"),
        (replace(fine(100), achieved_rps=98), "achieved"),
        (replace(fine(100), statuses={200: 1, 500: 2, 503: 1000}), "2 x 500, 1,000 x 503"),
        (replace(fine(100), bid_rate=0.62), "62.0% bids where 80.0% are usual"),
    ],
)
def test_reasons(bad: Result, why: str) -> None:
    assert why in broken(bad, 10, 0.8)
    assert broken(bidding(100, 0.77), 10, 0.8) == ""
    assert broken(fine(100), 10) == "", "nothing is known of the usual bid rate"
