"""How does one keep-alive connection carry requests, one at a time? On raw asyncio sockets."""

import asyncio
import socket
from contextlib import suppress
from typing import Protocol, cast

from loadtest.load.openloop import Line
from loadtest.load.wire import Answer, BadAnswer, parse

_RETRY_SECONDS = 0.05


class Load(Protocol):
    """Who uses the connections, and is told what becomes of each; such as an `OpenLoop`."""

    def freed(self, line: Line) -> None:
        """A connection is there to be used."""

    def lost(self, line: Line) -> None:
        """An idle connection is gone."""

    def answered(self, line: Line, answer: Answer) -> None:
        """The request on `line` is answered."""

    def gave_up(self, line: Line) -> None:
        """The request on `line` took longer than anyone waits."""

    def failed(self, line: Line, kind: str) -> None:
        """The connection was lost, or made no sense, with a request in flight."""


class Connection(asyncio.Protocol):
    """One connection to the server, made again when it is lost. A `Line` of the open loop."""

    def __init__(self, pool: "Pool") -> None:
        self.due = self.sent = self.tmax = self.free_since = 0.0
        self.busy = False
        self._pool = pool
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def send(self, data: bytes) -> None:
        """Write one request."""
        self.busy = True
        if self._transport is not None:
            self._transport.write(data)

    def give_up(self) -> None:
        """Wait no longer for the answer."""
        self._end()
        self._pool.load.gave_up(self)

    def abort(self) -> None:
        """Close at once, without a word."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not instances of it
        found: socket.socket | None = transport.get_extra_info("socket")
        if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pool.up(self)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        self._read(data, ended=False)

    def _read(self, data: bytes, ended: bool) -> None:
        if not self.busy:  # an answer nobody asked for: 408 before closing, as a rule
            self.abort()
            return
        try:
            answer = parse(data, ended)
        except BadAnswer:
            self._end()
            self._pool.load.failed(self, "bad answer")
            return
        if answer is None:
            self._buffer = data
            return
        self._buffer = b""
        self.busy = False
        self._pool.load.answered(self, answer)
        if answer.keep_alive:
            self._pool.load.freed(self)
        else:
            self.abort()

    def eof_received(self) -> bool:
        if self.busy:
            self._read(self._buffer, ended=True)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self.busy:
            self.busy = False
            self._pool.load.failed(self, "connection lost")
        self._buffer = b""
        self._pool.down(self)

    def _end(self) -> None:
        self.busy = False
        self._buffer = b""
        self.abort()


class Pool:
    """All connections of one generator process, kept up for as long as it lives."""

    def __init__(self, host: str, port: int, load: Load) -> None:
        self.load = load
        """The step that answers belong to; exchanged between steps, when nothing is in flight."""
        self.connections: list[Connection] = []
        self._host, self._port = host, port
        self._up: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self, count: int) -> None:
        """Open `count` connections, at most 64 at a time. Raises `OSError` if one is refused."""
        self.connections = [Connection(self) for _ in range(count)]
        for at in range(0, count, 64):
            await asyncio.gather(*(self._connect(c) for c in self.connections[at : at + 64]))

    def begin(self, load: Load) -> None:
        """Serve another step."""
        self.load = load
        for connection in self.connections:
            if connection in self._up:
                load.freed(connection)

    def sweep(self, now: float, timeout: float) -> None:
        """Give up what was sent more than `timeout` seconds ago."""
        for connection in self.connections:
            if connection.busy and now - connection.sent > timeout:
                connection.give_up()

    @property
    def in_flight(self) -> int:
        """Requests without an answer so far."""
        return sum(connection.busy for connection in self.connections)

    async def close(self) -> None:
        """Close everything."""
        self._closing = True
        for connection in self.connections:
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: connection, self._host, self._port)

    def up(self, connection: Connection) -> None:
        """`connection` is there."""
        self._up.add(connection)
        self.load.freed(connection)

    def down(self, connection: Connection) -> None:
        """`connection` is gone: it comes back as soon as the server lets it."""
        self._up.discard(connection)
        self.load.lost(connection)
        if not self._closing:
            task = asyncio.get_running_loop().create_task(self._again(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _again(self, connection: Connection) -> None:
        while not self._closing:
            with suppress(OSError):
                await self._connect(connection)
                return
            await asyncio.sleep(_RETRY_SECONDS)
