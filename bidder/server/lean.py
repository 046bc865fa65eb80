"""How does HTTP reach the router, when each microsecond counts? By httptools on a bare protocol.

The same behaviour as `http.py` at a third of its cost: keep-alive and pipelining (answers in the
order asked), chunked bodies, `Expect: 100-continue`, HTTP/1.0, limits on head, body, connections
and patience, backpressure both ways, draining. One setting (`listen.edge`) chooses between them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from typing import Any, cast

import httptools

from bidder import metrics
from bidder.metrics import Metrics
from bidder.server.edge import Answer, Request
from bidder.server.router import Router
from bidder.settings import Limits

MAX_HEADERS = 100
LINGER_SECONDS = 1.0
MAX_PIPELINED = 16
"""Requests of one connection that may wait; more are left in the socket."""
SLICE_BYTES = 8192
"""Parsed at once: who sends a thousand small requests in one breath must not hold up the others."""
NO_BODY = (204, 304)
_STATUS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_CLOSE = b"Connection: close\r\n\r\n"
_KEEP = b"Connection: keep-alive\r\n\r\n"
"""Said always: HTTP/1.0 does not take it for granted."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@cache
def _spelt(name: str) -> bytes:
    """How the name of a header that we ask for is kept; there are few."""
    return name.lower().encode()


class Headers(Mapping[str, str]):
    """The headers of one request. Of a name that comes twice, the last counts."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def add(self, name: bytes, value: bytes) -> None:
        """One more header."""
        self._values[name.lower()] = value

    def but(self, name: bytes) -> bytes:
        """All of them as they are sent, except one."""
        lines = [b"%b: %b\r\n" % line for line in self._values.items() if line[0] != name]
        return b"".join(lines)

    def __getitem__(self, name: str) -> str:
        return self._values[_spelt(name)].decode("latin-1")

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping. Most of what is asked for is absent, and an exception costs more."""
        value = self._values.get(_spelt(name))
        return default if value is None else value.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._values)

    def __len__(self) -> int:
        return len(self._values)


class Connection(asyncio.Protocol):
    """One connection: parses what comes, answers in order."""

    def __init__(self, server: "Server") -> None:
        # Of the connection
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._serving: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._unread = b""
        """Came with the bytes at which reading was paused."""
        self._ending = False
        """Nothing more is read; what waits is answered, then the connection closes."""
        self._last_words: Answer | None = None
        # Of the request that is being read
        self.first_byte = 0.0
        """On the server's clock; 0 when nothing of a request is there."""
        self.last_byte = server.clock()
        self._target = b""
        self._headers = Headers()
        self._body: list[bytes] = []
        self._head_bytes = self._body_bytes = 0

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._server.opened(self)

    def eof_received(self) -> bool:
        """The client sends no more, but may still read: what it asked is answered."""
        self._ending = True
        return self._serving is not None

    def connection_lost(self, error: Exception | None) -> None:
        self._ending = True
        self._transport = None
        self._writable.set()
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        self.last_byte = self._server.clock()
        self.first_byte = self.first_byte or self.last_byte
        if self._paused or len(data) > SLICE_BYTES:
            self._unread += data
            self._read_on()
        else:
            self._feed(data)

    def _read_on(self) -> None:
        """Parse what came, as far as there is room for the requests in it."""
        while self._unread and not self._paused and self._last_words is None:
            piece, self._unread = self._unread[:SLICE_BYTES], self._unread[SLICE_BYTES:]
            self._feed(piece)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._stay(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.status if isinstance(cause, _TooMuch) else 400)

    def _stay(self, rest: bytes) -> None:
        """Read the request on as if it had not offered another protocol, which is how one declines
        (RFC 9110 §7.8). Java's own client offers h2c with its first request."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(400)
            return
        version = self._parser.get_http_version().encode()
        head = b"%b %b HTTP/%b\r\n" % (method, self._target, version)
        self._parser = httptools.HttpRequestParser(self)
        self._feed(b"%b%b\r\n%b" % (head, self._headers.but(b"upgrade"), rest))

    # What the parser says

    def on_message_begin(self) -> None:
        self.first_byte = self.first_byte or self.last_byte
        self._target, self._headers, self._body = b"", Headers(), []
        self._head_bytes = self._body_bytes = 0

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._grow_head(len(part), 414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.add(name, value)
        self._grow_head(len(name) + len(value), 431)
        if len(self._headers) > MAX_HEADERS:
            raise _TooMuch(431)

    def on_headers_complete(self) -> None:
        length = self._headers.get("Content-Length", "0")
        if length.isdigit() and int(length) > self._server.limits.body_bytes:
            raise _TooMuch(413)
        if self._transport and self._headers.get("Expect", "").lower() == "100-continue":
            self._transport.write(_CONTINUE)

    def on_body(self, part: bytes) -> None:
        self._body.append(part)
        self._body_bytes += len(part)
        if self._body_bytes > self._server.limits.body_bytes:
            raise _TooMuch(413)

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # its body is still to come: see `_stay`
        request = Request(
            self._parser.get_method().decode("latin-1"),
            self._target.decode("utf-8", "replace"),
            self._headers,
            b"".join(self._body),
            self._peer,
            self.first_byte,
        )
        self.first_byte = 0.0  # what follows in the same bytes begins a request of its own
        self._waiting.append((request, self._parser.should_keep_alive()))
        if self._serving is None:
            self._serving = self._server.loop.create_task(self._serve())
        elif len(self._waiting) >= MAX_PIPELINED and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()

    # What we say

    async def _serve(self) -> None:
        """Answer what waits, in order, then rest until there is more."""
        try:
            while self._waiting:
                request, keep_alive = self._waiting.popleft()
                answer = await self._server.router.answer(request)
                last = not keep_alive or self._server.draining
                self._write(answer, last=last, head=request.method == "HEAD")
                if last:
                    self._waiting.clear()
                    self._close()
                    return
                if self._paused and self._transport and len(self._waiting) < MAX_PIPELINED:
                    self._paused = False
                    self._read_on()
                    if not self._paused:
                        self._transport.resume_reading()
                await self._writable.wait()
                if self._waiting:  # who asks many things at once must let others in between
                    await asyncio.sleep(0)
        finally:
            self._serving = None
        if self._ending:
            self._say_last()

    def _write(self, answer: Answer, *, last: bool, head: bool = False) -> None:
        if self._transport is None:
            return
        parts = [_STATUS[answer.status], self._server.date()]
        for name, value in answer.headers.items():
            parts.append(f"{name}: {value}\r\n".encode("latin-1", "replace"))
        if answer.status not in NO_BODY:
            parts.append(b"Content-Length: %d\r\n" % len(answer.body))
        parts.append(_CLOSE if last else _KEEP)
        if not head and answer.status not in NO_BODY:
            parts.append(answer.body)
        self._transport.write(b"".join(parts))

    def _refuse(self, status: int) -> None:
        """Answer what cannot be read, after what was asked before it, and end the connection."""
        self._ending = True
        target = self._target.decode("utf-8", "replace")
        answer = self._server.router.refuse(status, target, self._headers)
        self._last_words = answer
        if self._serving is None:
            self._say_last()

    def _say_last(self) -> None:
        """Say why it ends here, and stay until it is read: closing on bytes that nobody took would
        reset the connection, and the answer with it."""
        if self._last_words is None or self._transport is None:
            self._close()
            return
        self._write(self._last_words, last=True)
        self._server.loop.call_later(LINGER_SECONDS, self._close)

    def _grow_head(self, size: int, status: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._server.limits.header_bytes:
            raise _TooMuch(status)

    def _close(self) -> None:
        self._ending = True
        if self._transport is not None:
            self._transport.close()

    # What the server asks

    def end(self) -> None:
        """Close now if nothing is under way, else after the answer."""
        if self._serving is None:
            self._close()

    def cut(self) -> None:
        """Close now, whatever is under way."""
        self._ending = True
        if self._transport is not None:
            self._transport.abort()

    def is_stuck(self, sending_since: float, idle_since: float) -> bool:
        """Has it been sending one request, or nothing at all, since before these times?"""
        if self.first_byte:
            return self.first_byte < sending_since
        if self._serving is not None:
            return not self._writable.is_set() and self.last_byte < sending_since
        return self.last_byte < idle_since


class _TooMuch(Exception):
    """A limit was passed; `status` answers it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Refusal(asyncio.Protocol):
    """One connection too many: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Server:
    """Serves what the router answers; hand it to `loop.create_server`."""

    def __init__(
        self, router: Router, limits: Limits, cells: Metrics, clock: Callable[[], float]
    ) -> None:
        self.router = router
        self.limits = limits
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.draining = False
        self._metrics = cells
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._date = b""
        self._dated = -1

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        if len(self._connections) >= self.limits.connections:
            self._metrics.inc(metrics.SHEDS, "connections")
            return Refusal()
        return Connection(self)

    def opened(self, connection: Connection) -> None:
        """A connection is there."""
        self._connections.add(connection)
        self._empty.clear()

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def date(self) -> bytes:
        """The Date header (RFC 9110 §6.6.1), made once a second."""
        second = int(self.clock())
        if second != self._dated:
            self._dated = second
            self._date = f"Date: {formatdate(usegmt=True)}\r\n".encode()
        return self._date

    def cut_slow_senders(self) -> None:
        """Close the connections that take too long to send, to read, or to ask again."""
        now = self.clock()
        sending, idle = now - self.limits.request_seconds, now - self.limits.keep_alive
        for connection in [c for c in self._connections if c.is_stuck(sending, idle)]:
            connection.cut()

    async def shutdown(self, timeout_seconds: float) -> None:
        """Answer what is under way, then close every connection; cut those that take longer."""
        self.draining = True
        for connection in list(self._connections):
            connection.end()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._empty.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.cut()
