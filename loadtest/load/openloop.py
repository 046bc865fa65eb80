"""When is each request sent, and how long did its answer take? The open loop, free of sockets.

Request *i* of a step is due at ``start + i / rate``, whatever happened to those before it. If every
connection is busy then, it waits, and the wait counts: latency runs from the time a request was
due, so a server that stalls cannot hide it by holding the generator up (coordinated omission).
What is never answered counts too, with its wait until it was given up: leaving it out would flatter
the tail. Clock and connections are passed in.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from loadtest.load.wire import Answer

LAG_SECONDS = 0.002
"""A request sent later than this though a connection was free: the generator's own fault."""


class Line(Protocol):
    """A connection with at most one request in flight."""

    due: float
    sent: float
    tmax: float
    free_since: float

    def send(self, data: bytes) -> None:
        """Write one request."""


class Tally:
    """What one generator saw during one step."""

    def __init__(self) -> None:
        self.sent = 0
        self.statuses: dict[int, int] = {}
        self.bids = 0
        self.late = 0
        """Answers after their tmax, and requests that have one and were never answered."""
        self.timeouts = 0
        self.errors: dict[str, int] = {}
        self.lagged = 0
        self.worst_lag = 0.0
        self.bytes_in = 0
        self.due = array("d")
        """Seconds from the start of the step, one for each latency."""
        self.latencies = array("d")
        """Seconds from due to answered, or to lost or given up."""
        self.last_answer = 0.0
        """Seconds from the start of the step."""

    def answered(self, due: float, latency: float, tmax: float, answer: Answer) -> None:
        """Count one answer."""
        self.due.append(due)
        self.latencies.append(latency)
        self.last_answer = due + latency
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        self.bytes_in += len(answer.body)
        if answer.is_bid:
            self.bids += 1
        if tmax and latency > tmax:
            self.late += 1

    def gave_up(self, due: float, latency: float, tmax: float) -> None:
        """Count one time-out."""
        self.timeouts += 1
        self.unanswered(due, latency, tmax)

    def failed(self, due: float, latency: float, tmax: float, kind: str) -> None:
        """Count one request that the connection lost."""
        self.errors[kind] = self.errors.get(kind, 0) + 1
        self.unanswered(due, latency, tmax)

    def unanswered(self, due: float, latency: float, tmax: float) -> None:
        """Keep how long one request waited in vain: late, if it has a tmax."""
        self.due.append(due)
        self.latencies.append(latency)
        if tmax:
            self.late += 1


class OpenLoop:
    """One generator's part of one step: `requests` of them, `interval` seconds apart from `start`.

    An `interval` of 0 makes each due as soon as a connection is free: the closed loop by which a
    server's capacity is found.
    """

    def __init__(
        self,
        start: float,
        interval: float,
        requests: int,
        source: Iterator[tuple[bytes, float]],
        clock: Callable[[], float],
    ) -> None:
        self.start = start
        self.interval = interval
        self.requests = requests
        self.tally = Tally()
        self.free: deque[Line] = deque()
        self._source = source
        self._clock = clock
        self._open = True

    def close(self) -> None:
        """Send nothing from now on."""
        self._open = False

    def write_off(self) -> int:
        """Count the requests that were due and have not been sent, each with its wait until now.
        Returns how many; to be called once, when nothing is in flight: a million take seconds."""
        if not self.interval:
            return 0
        sent, now = self.tally.sent, self._clock() - self.start
        unsent = min(self.requests, int(now / self.interval) + 1) - sent
        for number, (_, tmax) in enumerate(islice(self._source, unsent), sent):
            due = number * self.interval
            self.tally.unanswered(due, now - due, tmax)
        return unsent

    @property
    def all_sent(self) -> bool:
        """Nothing is left to send."""
        return self.tally.sent >= self.requests

    def tick(self) -> None:
        """Send all that is due, as far as connections are free, the longest idle first."""
        free, tally = self.free, self.tally
        while free and self._open and tally.sent < self.requests:
            now = self._clock()
            due = self.start + tally.sent * self.interval if self.interval else now
            if due > now or now < self.start:
                return
            line = free.popleft()
            lag = now - (due if due > line.free_since else line.free_since)
            if lag > LAG_SECONDS:
                tally.lagged += 1
            if lag > tally.worst_lag:
                tally.worst_lag = lag
            data, line.tmax = next(self._source)
            line.due = due
            line.sent = now
            tally.sent += 1
            line.send(data)

    def freed(self, line: Line) -> None:
        """A connection is there to be used."""
        line.free_since = self._clock()
        self.free.append(line)
        self.tick()

    def lost(self, line: Line) -> None:
        """An idle connection is gone."""
        if line in self.free:
            self.free.remove(line)

    def answered(self, line: Line, answer: Answer) -> None:
        """The request on `line` is answered."""
        due = line.due
        self.tally.answered(due - self.start, self._clock() - due, line.tmax, answer)

    def gave_up(self, line: Line) -> None:
        """The request on `line` took longer than anyone waits."""
        self.tally.gave_up(line.due - self.start, self._clock() - line.due, line.tmax)

    def failed(self, line: Line, kind: str) -> None:
        """The connection was lost, or made no sense, with a request in flight."""
        self.tally.failed(line.due - self.start, self._clock() - line.due, line.tmax, kind)
