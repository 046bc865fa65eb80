"""What do notices, pixels, clicks and conversion calls get? An answer, once the log has them.

Nothing is applied here: the event is committed to the log, and the applier does the rest. What
counts nothing is still answered politely, since the sender may be a browser in front of a person.
"""

from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import urlencode, urlsplit, urlunsplit

from bidder import metrics
from bidder.answering import Answerer, markup
from bidder.engine import Engine
from bidder.events.forgotten import Forgotten
from bidder.events.log import EventLog, LogUnavailable
from bidder.events.schema import ClickEvent, Notice
from bidder.metrics import Metrics
from bidder.notices.receive import Desk, Kind, Rejected, receive
from bidder.notices.tokens import Audience, Sealed, Tokens
from bidder.orders import Orders
from bidder.server.edge import Answer

PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
"""A transparent GIF of 1x1."""
_NO_STORE = {"Cache-Control": "no-store, max-age=0"}
_PIXEL_HEADERS = {**_NO_STORE, "Content-Type": "image/gif"}
CLICK_PARAMETER = "cid"
_FROM_BROWSERS: frozenset[Kind] = frozenset({"impression", "click", "conversion"})
NOTICES: Mapping[str, Kind] = {
    "/notice/win": "win",
    "/notice/loss": "loss",
    "/notice/billing": "billing",
    "/track/impression": "impression",
    "/track/click": "click",
    "/track/conversion": "conversion",
}


class Tracking:
    """The notice endpoints of one worker."""

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        answerer: Answerer,
        log: EventLog,
        cells: Metrics,
        wall: Callable[[], float],
        forgotten: Forgotten,
        orders: Orders,
    ) -> None:
        """`forgotten`: whom the log must no longer name, also where an old token still does."""
        self._engine = engine
        self._tokens = tokens
        self._answerer = answerer
        self._log = log
        self._metrics = cells
        self._wall = wall
        self._forgotten = forgotten
        self._orders = orders

    async def answer(
        self, kind: Kind, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Answer:
        """The answer to one notice. 503 asks for it again: it could not be logged.

        Exchanges send it again; browsers do not, and before a click's answer sits a person. So what
        a browser tells stays in memory until the disk takes it, and a click is redirected anyway.
        """
        serving = self._engine.serving
        names, rules = serving.catalogue.names, self._engine.policy.privacy
        desk = Desk(self._tokens, serving.exchanges_by_id, names, self._orders, rules)
        gpc = headers.get("Sec-GPC", "").strip() == "1"
        try:
            event = self._forgotten.anonymous(receive(kind, query, desk, self._wall(), gpc=gpc))
        except Rejected as rejected:
            self._metrics.inc(metrics.NOTICES, kind, rejected.outcome)
            return self._refused(kind, rejected.sealed)
        try:
            await self._log.commit(event)
        except LogUnavailable:
            self._metrics.inc(metrics.NOTICES, kind, "not_logged")
            if kind in _FROM_BROWSERS:
                self._log.append(event)
            if kind != "click":
                return Answer(503, headers={"Retry-After": "1"})
            return self._accepted(kind, event, query)
        self._metrics.inc(metrics.NOTICES, kind, "logged")
        return self._accepted(kind, event, query)

    def _accepted(self, kind: Kind, event: Notice, query: Mapping[str, str]) -> Answer:
        if kind == "click":
            sealed = self._tokens.open(query["t"], Audience.BROWSER)
            return _redirect(sealed.url, cast(ClickEvent, event).click_id)
        if kind == "win":
            return self._win(self._tokens.open(query["t"], Audience.EXCHANGE))
        return _plain(kind)

    def _refused(self, kind: Kind, sealed: Sealed | None) -> Answer:
        """A click that does not count still leads where its token says, and a win still has its
        markup; what is forged leads nowhere."""
        if kind == "click":
            return _redirect(sealed.url, "") if sealed is not None else Answer(400)
        if kind == "win" and sealed is not None:
            return self._win(sealed)
        return _plain(kind)

    def _win(self, sealed: Sealed) -> Answer:
        """The markup, for exchanges that take it from the win notice (§4.3.1); else nothing."""
        serving = self._engine.serving
        exchange = serving.exchanges_by_id.get(sealed.exchange)
        found = serving.creatives.get(sealed.creative)
        if exchange is None or exchange.markup != "win_notice" or found is None:
            return Answer(200)
        item, creative = found
        if creative.native is not None:
            return Answer(200)  # a native answer needs its request, which a notice does not carry
        urls = self._answerer.urls(sealed, exchange, secure=creative.secure)
        size = (creative.width, creative.height)
        body = markup(creative, item, size, "", creative.secure, urls, exchange)
        return Answer(200, body.encode(), {**_NO_STORE, "Content-Type": "text/html; charset=utf-8"})


def _plain(kind: Kind) -> Answer:
    if kind in ("impression", "conversion"):
        return Answer(200, PIXEL, _PIXEL_HEADERS)
    return Answer(200, headers=_NO_STORE)


def _redirect(url: str, click_id: str) -> Answer:
    """302 to the landing page, which is handed the click id beside its own parameters."""
    if click_id:
        parts = urlsplit(url)
        query = "&".join(filter(None, (parts.query, urlencode({CLICK_PARAMETER: click_id}))))
        url = urlunsplit(parts._replace(query=query))
    return Answer(302, headers={**_NO_STORE, "Location": url})
