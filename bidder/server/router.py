"""Which endpoint answers this path? The one place where paths meet endpoints, for every edge.

An edge (`http.py` on aiohttp, `lean.py` on httptools) reads a request whole, within the limits, and
asks here. Nothing raised behind an endpoint reaches the wire: a bid request then gets a no-bid.
"""

from collections.abc import Mapping
from logging import getLogger
from urllib.parse import parse_qsl, unquote

from bidder import metrics
from bidder.metrics import Metrics
from bidder.server.edge import Answer, Endpoint, Request, echoing
from bidder.server.pages import PATHS, Pages, Visit
from bidder.server.tracking import NOTICES, Tracking
from bidder.server.visiting import Visiting, takes

BID_PATH = "/openrtb2/"

_log = getLogger(__name__)


class Router:
    """The endpoints of one worker."""

    def __init__(
        self,
        endpoint: Endpoint,
        tracking: Tracking,
        cells: Metrics,
        pages: Pages | None = None,
        visiting: Visiting | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._tracking = tracking
        self._pages = pages
        self._visiting = visiting
        self._metrics = cells

    async def answer(self, request: Request) -> Answer:
        """The answer; never raises."""
        path, _, query = _text(request.target).partition("?")
        is_bid = path.startswith(BID_PATH)
        try:
            if is_bid:
                name, answer = "bid", await self._bid(request, path)
            else:
                name, answer = await self._find(request, path, query)
        except Exception:
            _log.exception("a request could not be answered")
            name, answer = "failed", Answer(204 if is_bid else 503)
        self.count(name, answer.status)
        return echoing(answer, request.headers) if is_bid else answer

    def refuse(self, status: int, target: str, headers: Mapping[str, str]) -> Answer:
        """The answer to what could not be read whole: too large, cut, or no HTTP at all."""
        self.count("bid" if target.startswith(BID_PATH) else "unreadable", status)
        return echoing(Answer(status), headers)

    def count(self, name: str, status: int) -> None:
        """One more answer of an endpoint with this status."""
        self._metrics.inc(metrics.ANSWERS, name, str(status))

    async def _find(self, request: Request, path: str, query: str) -> tuple[str, Answer]:
        kind = NOTICES.get(path)
        if kind is not None:
            if request.method not in ("GET", "POST", "HEAD"):
                return path[1:], Answer(405, headers={"Allow": "GET, POST"})
            answer = await self._tracking.answer(kind, dict(parse_qsl(query)), request.headers)
            return path[1:], answer
        if path in PATHS and self._pages is not None:
            visit = Visit(request.method, path, query, request.headers, request.body)
            return path[1:], await self._pages.answer(visit)
        if takes(path) and self._visiting is not None:
            if request.method not in ("GET", "HEAD"):
                return "visit", Answer(405, headers={"Allow": "GET"})
            answer = await self._visiting.take(path, dict(parse_qsl(query)), request.headers)
            return "visit", answer
        return "other", Answer(404)

    async def _bid(self, request: Request, path: str) -> Answer:
        if request.method != "POST":
            return Answer(405, headers={"Allow": "POST"})
        exchange, _, secret = unquote(path[len(BID_PATH) :]).partition("/")
        return await self._endpoint.answer(exchange, secret, request)


def _text(target: str) -> str:
    """A target in which bytes that are no UTF-8 are no surrogates either; of a whole address
    (RFC 9112 §3.2.2), path and query."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.partition("://")[2].partition("/")[2]
    if target.isascii():
        return target
    return target.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
