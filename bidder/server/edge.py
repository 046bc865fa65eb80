"""What does one HTTP request to the bid endpoint get? Status, headers and body, whatever serves it.

OpenRTB 2.6 §2: POST; 200 with bids, 204 without, 400 with an empty body for what is no request.
This file knows no HTTP library: `http.py` feeds it from aiohttp.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bidder import metrics
from bidder.engine import Engine
from bidder.metrics import Metrics
from bidder.openrtb.opportunity import opportunity
from bidder.openrtb.request import InvalidRequest, decode
from bidder.settings import Limits

VERSION_HEADER = "x-openrtb-version"
GZIP_FROM_BYTES = 860
"""Shorter answers fit one packet anyway."""
GZIP_MAGIC = b"\x1f\x8b"


class Answer(NamedTuple):
    """An HTTP answer; 204, 400 and the like have no body."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Question(NamedTuple):
    """An HTTP request to the bid endpoint."""

    exchange: str
    secret: str
    """What follows the exchange's name in the path."""
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes
    peer: str
    """The client's IP address."""
    arrival: float
    """When the first byte came, on the engine's clock."""


class Load:
    """How busy this worker is: requests under way, and how late its loop runs."""

    def __init__(self, limits: Limits) -> None:
        self.in_flight = 0
        self.lag_seconds = 0.0
        self._limits = limits

    def excess(self) -> str:
        """What is too much, or empty."""
        if self.in_flight >= self._limits.in_flight:
            return "in_flight"
        if self.lag_seconds * 1000 > self._limits.loop_lag_ms:
            return "loop_lag"
        return ""


class Endpoint:
    """``POST /openrtb2/{exchange}`` of one worker."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        load: Load,
        cells: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._load = load
        self._metrics = cells
        self._clock = clock

    async def answer(self, asked: Question) -> Answer:
        """The answer to one bid request; never raises, never later than the exchange's limit."""
        exchange = self._engine.serving.exchanges.get(asked.exchange)
        if exchange is None or not exchange.admits(asked.peer, asked.secret):
            return Answer(404)
        self._metrics.inc(metrics.REQUESTS, exchange.name)
        excess = self._load.excess()
        if excess:
            self._metrics.inc(metrics.SHEDS, excess)
            return Answer(204)
        try:
            body = inflate(asked.body, asked.headers, self._limits.inflated_bytes)
            offer = opportunity(decode(body), exchange.name)
        except InvalidRequest:
            return Answer(400)
        deadline = exchange.deadline(asked.arrival, offer.tmax_ms)
        self._load.in_flight += 1
        try:
            decision = await self._engine.respond(offer, exchange, deadline)
        finally:
            self._load.in_flight -= 1
        self._time(exchange.name, asked.arrival, deadline)
        version = asked.headers.get(VERSION_HEADER)
        headers = {VERSION_HEADER: version} if version else {}
        if not decision.body:
            return Answer(204, headers=headers)
        headers["Content-Type"] = "application/json"
        if exchange.gzip and len(decision.body) >= GZIP_FROM_BYTES and _takes_gzip(asked.headers):
            headers["Content-Encoding"] = "gzip"
            return Answer(200, _gzip(decision.body), headers)
        return Answer(200, decision.body, headers)

    def _time(self, exchange: str, arrival: float, deadline: float) -> None:
        now = self._clock()
        self._metrics.observe(metrics.REQUEST_SECONDS, now - arrival, exchange)
        if now > deadline:
            self._metrics.inc(metrics.LATE, exchange)


def inflate(body: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    """The body, unpacked if it is gzip or deflate (§2.4), said so or not.

    Raises `InvalidRequest` if it cannot be, or unpacks to more than `limit` bytes.
    """
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    packed = body.startswith(GZIP_MAGIC)
    if not packed and encoding in ("identity", "", "gzip"):
        return body  # some senders announce gzip and send it plain
    if not packed and encoding != "deflate":
        raise InvalidRequest(f"content encoding {encoding!r} is not known")
    unpacker = zlib.decompressobj(wbits=31 if packed else 15)
    try:
        plain = unpacker.decompress(body, limit)
    except zlib.error as error:
        raise InvalidRequest(f"the body cannot be unpacked: {error}") from None
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise InvalidRequest(f"the body is cut, or unpacks to more than {limit} bytes")
    return plain


def _takes_gzip(headers: Mapping[str, str]) -> bool:
    accepted = headers.get("Accept-Encoding", "").replace(" ", "").lower().split(",")
    return any(
        name in ("gzip", "*") and quality not in ("q=0", "q=0.0")
        for name, _, quality in (one.partition(";") for one in accepted)
    )


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(body) + packer.flush()
