"""The open loop on a clock of its own: nothing here depends on the machine."""

from collections.abc import Iterator
from itertools import repeat

import numpy as np
import pytest

from loadtest.load.openloop import OpenLoop
from loadtest.load.result import combine, report
from loadtest.load.wire import Answer

BID = Answer(200, b'{"price":1}', keep_alive=True, compressed=False)
NO_BID = Answer(204, b"", keep_alive=True, compressed=False)


class FakeLine:
    """A connection whose answers the test decides about."""

    def __init__(self) -> None:
        self.due = self.sent = self.tmax = self.free_since = 0.0
        self.waiting = False

    def send(self, data: bytes) -> None:
        assert not self.waiting, "one request in flight at most"
        self.waiting = True


class Simulation:
    """Steps of 1 ms; the server answers after 2 ms, but not at all while it stalls."""

    def __init__(self, rate: float, requests: int, lines: int, tmax: float = 0.1) -> None:
        self.now = 0.0
        source: Iterator[tuple[bytes, float]] = repeat((b"request", tmax))
        self.load = OpenLoop(0.0, 1 / rate if rate else 0.0, requests, source, lambda: self.now)
        self.lines = [FakeLine() for _ in range(lines)]
        for line in self.lines:
            self.load.freed(line)

    def run(self, seconds: float, stall: tuple[float, float] = (9e9, 9e9)) -> None:
        for millisecond in range(round(self.now * 1000), round((self.now + seconds) * 1000)):
            self.now = millisecond / 1000
            self.load.tick()
            if stall[0] <= self.now < stall[1]:
                continue
            for line in self.lines:
                if line.waiting and self.now - line.sent >= 0.002 - 1e-9:
                    line.waiting = False
                    self.load.answered(line, BID)
                    self.load.freed(line)


def test_all_is_sent_at_the_rate_and_answered() -> None:
    simulation = Simulation(rate=200, requests=200, lines=4)
    simulation.run(1.1)
    tally = simulation.load.tally
    assert simulation.load.all_sent
    assert tally.statuses == {200: 200}
    assert tally.bids == 200
    assert max(tally.latencies) == pytest.approx(0.002, abs=0.0011)
    assert list(tally.due) == pytest.approx([i / 200 for i in range(200)])
    assert simulation.load.write_off() == 0


def test_a_stall_shows_in_every_request_that_was_due_in_it() -> None:
    """Coordinated omission: four connections wait, and yet all 300 requests show the wait."""
    simulation = Simulation(rate=1000, requests=1000, lines=4)
    simulation.run(2.0, stall=(0.5, 0.8))
    latencies = np.array(simulation.load.tally.latencies)
    assert len(latencies) == 1000
    assert latencies.max() == pytest.approx(0.3, abs=0.005)
    # Those due at the start of the stall waited 300 ms, those at its end nearly none, and the
    # backlog is worked off at twice the rate: as many again wait on average half as long.
    assert (latencies > 0.1).sum() >= 200
    assert simulation.load.tally.late == (latencies > 0.1).sum()


def test_a_wait_for_a_connection_is_latency_but_not_the_generators_lag() -> None:
    simulation = Simulation(rate=1000, requests=100, lines=1)
    simulation.run(1.0)
    tally = simulation.load.tally
    assert max(tally.latencies) > 0.05
    assert tally.lagged == 0


def test_a_late_wake_up_is_the_generators_own_lag() -> None:
    simulation = Simulation(rate=100, requests=100, lines=50)
    simulation.run(0.1)
    simulation.now = 0.3  # the loop slept through 200 ms
    simulation.load.tick()
    assert simulation.load.tally.lagged >= 18
    assert simulation.load.tally.worst_lag == pytest.approx(0.2, abs=0.011)


def test_what_was_due_and_never_sent_is_counted() -> None:
    simulation = Simulation(rate=1000, requests=500, lines=2)
    simulation.run(0.5, stall=(0.0, 9e9))
    assert simulation.load.tally.sent == 2
    simulation.load.close()
    simulation.run(0.5)
    assert simulation.load.tally.sent == 2, "closed: nothing more goes out"
    assert simulation.load.write_off() == 498


def test_what_was_never_sent_is_late_and_keeps_its_wait() -> None:
    simulation = Simulation(rate=1000, requests=500, lines=2)
    simulation.run(0.5, stall=(0.0, 9e9))
    simulation.load.close()
    simulation.now = 2.0
    assert simulation.load.write_off() == 498
    tally = simulation.load.tally
    assert list(tally.due) == pytest.approx([i / 1000 for i in range(2, 500)])
    assert list(tally.latencies) == pytest.approx([2.0 - due for due in tally.due])
    assert tally.late == 498
    result = combine([report(tally, 498, cpu_share=0.1, seconds=0.5)], 1000, 0.5)
    assert (result.failed, result.late_share) == (498, 498 / 500), "of all that were due"
    assert result.p50_ms == pytest.approx(1750, rel=0.01)


def test_what_was_never_sent_without_a_tmax_is_not_late() -> None:
    simulation = Simulation(rate=1000, requests=500, lines=2, tmax=0.0)
    simulation.run(0.5, stall=(0.0, 9e9))
    simulation.load.close()
    assert simulation.load.write_off() == 498
    assert simulation.load.tally.late == 0


def test_what_was_never_answered_does_not_stretch_the_time_of_the_answers() -> None:
    simulation = Simulation(rate=1000, requests=1000, lines=4)
    simulation.run(1.0, stall=(0.5, 9e9))
    simulation.load.close()
    simulation.now = 3.0
    unsent = simulation.load.write_off()
    result = combine([report(simulation.load.tally, unsent, 0.1, seconds=1.0)], 1000, 1.0)
    assert result.achieved_rps == result.answered / 1.0


def test_time_outs_keep_their_latency_and_are_late() -> None:
    simulation = Simulation(rate=10, requests=1, lines=1)
    simulation.run(0.01, stall=(0.0, 9e9))
    simulation.now = 2.0
    simulation.load.gave_up(simulation.lines[0])
    tally = simulation.load.tally
    assert (tally.timeouts, tally.late, list(tally.latencies)) == (1, 1, [2.0])


def test_the_closed_loop_sends_as_soon_as_a_line_is_free() -> None:
    simulation = Simulation(rate=0, requests=10**9, lines=4)
    simulation.run(0.1)
    assert simulation.load.tally.sent == pytest.approx(4 * 50, abs=8)
    assert simulation.load.write_off() == 0


def test_statuses_and_lost_lines_are_counted() -> None:
    simulation = Simulation(rate=1000, requests=3, lines=3)
    simulation.run(0.001)
    simulation.now = 0.01
    simulation.load.tick()
    first, second, third = simulation.lines
    simulation.load.answered(first, NO_BID)
    simulation.load.answered(second, BID)
    simulation.load.failed(third, "connection lost")
    tally = simulation.load.tally
    assert tally.statuses == {204: 1, 200: 1}
    assert tally.errors == {"connection lost": 1}
    assert tally.bids == 1
    assert list(tally.latencies) == pytest.approx([0.01, 0.009, 0.008])
    assert tally.late == 1, "the lost one will never be answered"
