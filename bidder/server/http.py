"""How does HTTP reach the router? By aiohttp: the edge that takes anything HTTP may bring.

A low-level server without an Application: the paths are few, and a router of patterns costs as much
as decoding a bid request. Limits on body, headers, connections and slow senders are set here.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from bidder import metrics
from bidder.metrics import Metrics
from bidder.server.edge import Request
from bidder.server.router import Router
from bidder.settings import Limits

MAX_HEADERS = 100
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(RequestHandler):
    """One connection. Knows when the first byte of the request under way came."""

    __slots__ = ("_server", "first_byte", "last_byte")

    def __init__(self, server: "Server", **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self.first_byte = 0.0
        """On the server's clock; 0 between requests."""
        self.last_byte = 0.0

    def data_received(self, data: bytes) -> None:
        self.last_byte = self._server.clock()
        self.first_byte = self.first_byte or self.last_byte
        super().data_received(data)

    def received(self) -> None:
        """The request is all here: what comes now, or waits behind it, is another one."""
        self.first_byte = self.last_byte if self._messages else 0.0

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP: an empty answer, counted and not logged, and the connection ends."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        self.received()
        self._server.router.count("unreadable", status)
        answer = web.Response(status=status)
        answer.force_close()
        return answer


class Refusal(asyncio.Protocol):
    """One connection too many: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Server(web.Server):
    """Serves bid requests and notices; hand it to `loop.create_server`."""

    def __init__(
        self,
        router: Router,
        limits: Limits,
        cells: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.clock = clock
        """In seconds; finer than uvloop's own, which counts whole milliseconds."""
        self.router = router
        self._limits = limits
        self._metrics = cells
        super().__init__(self._handle, request_factory=self._request)
        self._options = {
            "access_log": None,
            "auto_decompress": False,  # `edge.inflate` does it, within limits
            "keepalive_timeout": limits.keep_alive,
            "lingering_time": 1.0,
            "max_line_size": limits.header_bytes,
            "max_field_size": limits.header_bytes,
            "max_headers": MAX_HEADERS,
        }

    def __call__(self) -> Any:
        """The protocol of a new connection."""
        if len(self._connections) >= self._limits.connections:
            self._metrics.inc(metrics.SHEDS, "connections")
            return Refusal()
        return Connection(self, loop=self._loop, **self._options)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 # aiohttp's
        """Close what is idle, answer what is under way, then close that too."""
        self.pre_shutdown()
        await super().shutdown(timeout)

    def cut_slow_senders(self) -> None:
        """Close the connections that have been sending one request for too long."""
        oldest = self.clock() - self._limits.request_seconds
        for connection in self.connections:
            if isinstance(connection, Connection) and 0 < connection.first_byte < oldest:
                connection.force_close()

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
        return BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            self._loop,
            client_max_size=self._limits.body_bytes,
        )

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        arrival = connection.first_byte or connection.last_byte
        target, headers = request.raw_path, request.headers
        whole = False
        try:
            if headers.get("Expect", "").lower() == "100-continue":
                await request.writer.write(CONTINUE)
            body = await request.read()
            whole = True
        except web.HTTPRequestEntityTooLarge:
            answer = self.router.refuse(413, target, headers)
        except (web.RequestPayloadError, ConnectionError):
            answer = self.router.refuse(400, target, headers)
        else:
            connection.received()  # no slow sender any more
            peer = request.remote or ""
            answer = await self.router.answer(
                Request(request.method, target, headers, body, peer, arrival)
            )
        response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        if not whole:
            response.force_close()  # what is left of it is not the next request
        return response
