"""How do many requests share some connections without one hiding another's delay?

A lane takes requests when they are due and sends each on the first free connection, first come
first sent. Latency counts from when a request was due, so a bidder that stalls cannot make its
tester wait (coordinated omission).
"""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from loadtest.load.connection import Pool
from loadtest.load.openloop import Line
from loadtest.load.wire import Answer

BROKEN = ("connection lost", "bad answer")
"""What may go wrong that is not slowness, in the words of `loadtest.load.connection`."""
Heard = Callable[[Answer | None, str, float], None]
"""Called with the answer, or None and what went wrong, and the seconds since it was due."""


class Call(NamedTuple):
    """One HTTP request."""

    due: float
    data: bytes
    heard: Heard


class Lane:
    """The connections to one server. What `loadtest.load.connection.Pool` reports to."""

    def __init__(self, host: str, port: int, connections: int, patience_seconds: float) -> None:
        self._pool = Pool(host, port, self)
        self._connections = connections
        self._patience = patience_seconds
        self._free: deque[Line] = deque()
        self._waiting: deque[Call] = deque()
        self._sent: dict[Line, Call] = {}

    async def open(self) -> None:
        """Open the connections. Raises `OSError` if one is refused."""
        await self._pool.open(self._connections)

    async def close(self) -> None:
        """Close them."""
        await self._pool.close()

    def put(self, call: Call) -> None:
        """Send it as soon as a connection is free."""
        self._waiting.append(call)
        self._send()

    def sweep(self) -> None:
        """Give up what takes too long; to be called a few times a second."""
        now = time.perf_counter()
        self._pool.sweep(now, self._patience)
        while self._waiting and now - self._waiting[0].due > self._patience:
            call = self._waiting.popleft()
            call.heard(None, "never sent", now - call.due)

    @property
    def busy(self) -> int:
        """Calls sent or waiting."""
        return len(self._sent) + len(self._waiting)

    def _send(self) -> None:
        while self._waiting and self._free:
            line, call = self._free.popleft(), self._waiting.popleft()
            line.due, line.sent = call.due, time.perf_counter()
            self._sent[line] = call
            line.send(call.data)

    def freed(self, line: Line) -> None:
        """A connection is there to be used."""
        self._free.append(line)
        self._send()

    def lost(self, line: Line) -> None:
        """An idle connection is gone."""
        if line in self._free:
            self._free.remove(line)

    def answered(self, line: Line, answer: Answer) -> None:
        """The call on `line` is answered."""
        self._end(line, answer, "")

    def gave_up(self, line: Line) -> None:
        """The call on `line` took longer than anyone waits."""
        self._end(line, None, "time-out")

    def failed(self, line: Line, kind: str) -> None:
        """The connection was lost, or made no sense, with a call in flight."""
        self._end(line, None, kind)

    def _end(self, line: Line, answer: Answer | None, problem: str) -> None:
        call = self._sent.pop(line)
        call.heard(answer, problem, time.perf_counter() - call.due)
