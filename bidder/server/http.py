"""How does HTTP reach the endpoints? One aiohttp server per worker, routed by hand.

A low-level server without an Application: the paths are few, and a router costs as much as decoding
a bid request. Limits on body, headers, connections and slow senders are set here.
"""

import asyncio
from collections.abc import Callable
from logging import getLogger
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from bidder import metrics
from bidder.metrics import Metrics
from bidder.server.edge import Answer, Endpoint, Question, echoing
from bidder.server.tracking import NOTICES, Tracking
from bidder.settings import Limits

BID_PATH = "/openrtb2/"
MAX_HEADERS = 100

_log = getLogger(__name__)


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
        self._server.count("unreadable", status)
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
        endpoint: Endpoint,
        tracking: Tracking,
        limits: Limits,
        cells: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.clock = clock
        """In seconds; finer than uvloop's own, which counts whole milliseconds."""
        self._endpoint = endpoint
        self._tracking = tracking
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

    def cut_slow_senders(self) -> None:
        """Close the connections that have been sending one request for too long."""
        oldest = self.clock() - self._limits.request_seconds
        for connection in self.connections:
            if isinstance(connection, Connection) and 0 < connection.first_byte < oldest:
                connection.force_close()

    def count(self, endpoint: str, status: int) -> None:
        """One more answer with this status."""
        self._metrics.inc(metrics.ANSWERS, endpoint, str(status))

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
        path, _, query = _text(request.raw_path).partition("?")
        try:
            if path.startswith(BID_PATH):
                endpoint, answer = "bid", await self._bid(request, connection, path, arrival)
            elif path in NOTICES:
                connection.received()
                endpoint, answer = path[1:], await self._notice(request, path, query)
            else:
                connection.received()
                endpoint, answer = "other", Answer(404)
        except Exception:
            _log.exception("a request could not be answered")
            endpoint, answer = "failed", Answer(204 if path.startswith(BID_PATH) else 503)
        self.count(endpoint, answer.status)
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async def _bid(
        self, request: BaseRequest, connection: Connection, path: str, arrival: float
    ) -> Answer:
        if request.method != "POST":
            connection.received()
            return echoing(Answer(405, headers={"Allow": "POST"}), request.headers)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return echoing(Answer(413), request.headers)
        except (web.RequestPayloadError, ConnectionError):
            return echoing(Answer(400), request.headers)
        finally:
            connection.received()  # no slow sender any more
        exchange, _, secret = unquote(path[len(BID_PATH) :]).partition("/")
        peer = request.remote or ""
        return await self._endpoint.answer(
            Question(exchange, secret, request.headers, body, peer, arrival)
        )

    async def _notice(self, request: BaseRequest, path: str, query: str) -> Answer:
        if request.method not in ("GET", "POST", "HEAD"):
            return Answer(405, headers={"Allow": "GET, POST"})
        return await self._tracking.answer(NOTICES[path], dict(parse_qsl(query)))


def _text(path: str) -> str:
    """A path in which bytes that are no UTF-8 are no surrogates either: those cannot be encoded."""
    if path.isascii():
        return path
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
