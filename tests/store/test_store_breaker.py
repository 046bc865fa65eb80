"""The breaker as a state machine, on a clock that the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.store.breaker import Breaker, StoreUnavailable


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def broken(clock: Clock) -> Breaker:
    breaker = Breaker(clock, limit=3, first_pause_seconds=0.5, longest_pause_seconds=2.0)
    for _ in range(3):
        breaker.failed()
    return breaker


def test_opens_after_failures_in_a_row(clock: Clock) -> None:
    breaker = Breaker(clock, limit=3)
    breaker.failed()
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    breaker.failed()
    breaker.guard()
    breaker.failed()
    with pytest.raises(StoreUnavailable):
        breaker.guard()


def test_probes_once_per_pause_and_closes_on_an_answer(clock: Clock) -> None:
    breaker = broken(clock)
    assert breaker.pause_left() == 0.5
    assert not breaker.probe_due()
    clock.now += 0.5
    assert breaker.probe_due()
    assert not breaker.probe_due(), "one probe at a time"
    breaker.probed(answered=True)
    breaker.guard()
    assert not breaker.probe_due()


def test_pauses_double_up_to_the_longest(clock: Clock) -> None:
    breaker = broken(clock)
    pauses = []
    for _ in range(5):
        pauses.append(breaker.pause_left())
        clock.now += breaker.pause_left()
        assert breaker.probe_due()
        breaker.probed(answered=False)
    assert pauses == [0.5, 1.0, 2.0, 2.0, 2.0]


def test_a_store_that_answers_probes_alone_is_asked_less_and_less(clock: Clock) -> None:
    breaker = broken(clock)
    clock.now += 0.5
    assert breaker.probe_due()
    breaker.probed(answered=True)
    for _ in range(3):
        breaker.failed()
    assert breaker.pause_left() == 1.0
    clock.now += 1.0
    assert breaker.probe_due()
    breaker.probed(answered=True)
    breaker.succeeded()
    for _ in range(3):
        breaker.failed()
    assert breaker.pause_left() == 0.5, "an answer in between forgives"


def test_late_answers_do_not_close_it(clock: Clock) -> None:
    breaker = broken(clock)
    breaker.succeeded()
    assert breaker.is_open


def test_tells_of_each_change_once(clock: Clock) -> None:
    breaker = Breaker(clock, limit=1, first_pause_seconds=0.5)
    changes: list[bool] = []
    breaker.on_change.append(changes.append)
    breaker.failed()
    breaker.failed()
    clock.now += 1
    assert breaker.probe_due()
    breaker.probed(answered=False)
    clock.now += 1
    assert breaker.probe_due()
    breaker.probed(answered=True)
    breaker.probed(answered=True)
    assert changes == [True, False]


@given(st.lists(st.sampled_from(["failed", "succeeded", "wait", "good", "bad"]), max_size=60))
def test_is_open_exactly_as_the_history_says(steps: list[str]) -> None:
    """Against the plain rule: open from the third failure in a row to the next answered probe."""
    clock = Clock()
    breaker = Breaker(clock, limit=3, first_pause_seconds=0.5, longest_pause_seconds=2.0)
    row, is_open = 0, False
    for step in steps:
        if step == "wait":
            clock.now += 2.0
        elif step == "failed":
            breaker.failed()
            row += 1
            is_open = is_open or row >= 3
        elif step == "succeeded":
            breaker.succeeded()
            row = row if is_open else 0
        elif breaker.probe_due():
            breaker.probed(answered=step == "good")
            if step == "good":
                row, is_open = 0, False
        assert breaker.is_open == is_open
        assert breaker.pause_left() <= 2.0
