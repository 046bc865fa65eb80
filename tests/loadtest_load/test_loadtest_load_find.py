"""The search against servers whose limit is known."""

from dataclasses import replace

import pytest

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


def test_nothing_is_carried() -> None:
    assert find(slow, 100, p99_ms=10).best is None


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (replace(fine(100), timeouts=1), "without an answer"),
        (replace(fine(100), late=1), "late"),
        (slow(100), "p99"),
        (replace(fine(100), achieved_rps=98), "achieved"),
    ],
)
def test_reasons(bad: Result, why: str) -> None:
    assert why in broken(bad, 10)
    assert broken(fine(100), 10) == ""
