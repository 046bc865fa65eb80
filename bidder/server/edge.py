"""What does one HTTP request to the bid endpoint get? Status, headers and body, whatever serves it.

OpenRTB 2.6 §2: POST; 200 with bids, 204 without, 400 with an empty body for what is no request.
This file knows no HTTP library: `http.py` feeds it from aiohttp.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from bidder import metrics
from bidder.engine import Engine
from bidder.metrics import Metrics
from bidder.openrtb.opportunity import opportunity
from bidder.openrtb.request import InvalidRequest, decode
from bidder.reasons import NoBid
from bidder.settings import Limits

VERSION_HEADER = "x-openrtb-version"
_VERSION = re.compile(r"[ -~]{1,32}")
"""What is echoed of it: nothing that would break a header."""
GZIP_FROM_BYTES = 860
"""Shorter answers fit one packet anyway."""
GZIP_MAGIC = b"\x1f\x8b"
MAX_MEMBERS = 8
"""Of one gzip, which is a series of them (RFC 1952 §2.2)."""
_PLAIN = ("", "identity")


class Answer(Struct, frozen=True, gc=False):
    """An HTTP answer; 204, 400 and the like have no body."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Request(Struct, frozen=True, gc=False):
    """One HTTP request, read whole."""

    method: str
    target: str
    """Path and query, as sent."""
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

    async def answer(self, exchange_name: str, secret: str, asked: Request) -> Answer:
        """The answer to one bid request, never later than the exchange's limit. `secret` is what
        follows the exchange's name in the path."""
        exchange = self._engine.serving.exchanges.get(exchange_name)
        if exchange is None or not exchange.admits(asked.peer, secret):
            return Answer(404)
        self._metrics.inc(metrics.REQUESTS, exchange.name)
        excess = self._load.excess()
        if excess:
            self._metrics.inc(metrics.SHEDS, excess)
            self._no_bid(exchange.name, NoBid.OVERLOADED)
            return Answer(204)
        try:
            body = inflate(asked.body, asked.headers, self._limits.inflated_bytes)
            offer = opportunity(decode(body), exchange.name)
        except InvalidRequest:
            self._no_bid(exchange.name, NoBid.INVALID_REQUEST)
            return Answer(400)
        deadline = exchange.deadline(asked.arrival, offer.tmax_ms)
        self._load.in_flight += 1
        try:
            decision = await self._engine.respond(offer, exchange, deadline)
        finally:
            self._load.in_flight -= 1
        self._time(exchange.name, asked.arrival, deadline)
        if not decision.body:
            return Answer(204)
        headers = {"Content-Type": "application/json"}
        if exchange.gzip and len(decision.body) >= GZIP_FROM_BYTES and _takes_gzip(asked.headers):
            headers["Content-Encoding"] = "gzip"
            return Answer(200, _gzip(decision.body), headers)
        return Answer(200, decision.body, headers)

    def _no_bid(self, exchange: str, reason: NoBid) -> None:
        self._metrics.inc(metrics.NO_BIDS, exchange, reason.name.lower())

    def _time(self, exchange: str, arrival: float, deadline: float) -> None:
        now = self._clock()
        self._metrics.observe(metrics.REQUEST_SECONDS, now - arrival, exchange)
        if now > deadline:
            self._metrics.inc(metrics.LATE, exchange)


def echoing(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """`answer` with the request's ``x-openrtb-version`` (§2.5), whatever its status."""
    version = headers.get(VERSION_HEADER)
    if not version or not _VERSION.fullmatch(version):
        return answer
    return replace(answer, headers={**answer.headers, VERSION_HEADER: version})


def inflate(body: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    """The body, unpacked if it is gzip, said so or not, or deflate (§2.4).

    Raises `InvalidRequest` if it is not what it says, or unpacks to more than `limit` bytes.
    """
    encoding = headers.get("Content-Encoding")
    packed = body.startswith(GZIP_MAGIC)
    if encoding is None and not packed:
        return body
    encoding = (encoding or "").strip().lower()
    if encoding in _PLAIN and not packed:
        return body
    if packed:
        wbits = 31
    elif encoding == "deflate":
        # RFC 9110 §8.4.1.2: in the zlib format, which some senders leave out.
        wbits = 15 if int.from_bytes(body[:2], "big") % 31 == 0 else -15
    else:
        raise InvalidRequest(f"the body is not in the content encoding {encoding!r}")
    plain, rest = _unpacked(body, wbits, limit, limit)
    for _ in range(MAX_MEMBERS - 1):
        if not rest.startswith(GZIP_MAGIC):
            break
        more, rest = _unpacked(rest, 31, limit - len(plain), limit)
        plain += more
    if rest:
        raise InvalidRequest("the body is followed by something else")
    return plain


def _unpacked(body: bytes, wbits: int, room: int, limit: int) -> tuple[bytes, bytes]:
    """The first packed member of `body`, unpacked into what `room` is left, and what follows it."""
    unpacker = zlib.decompressobj(wbits)
    try:
        plain = unpacker.decompress(body, room + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body cannot be unpacked: {error}") from None
    if len(plain) > room:
        raise InvalidRequest(f"the body unpacks to more than {limit} bytes")
    if not unpacker.eof:
        raise InvalidRequest("the body is cut")
    return plain, unpacker.unused_data


def _takes_gzip(headers: Mapping[str, str]) -> bool:
    return _accepts_gzip(headers.get("Accept-Encoding", ""))


@lru_cache(maxsize=256)
def _accepts_gzip(accepted: str) -> bool:
    """Whether ``Accept-Encoding`` (RFC 9110 §12.5.3) gives gzip a quality above zero."""
    qualities = {}
    for one in accepted.lower().split(","):
        name, *parameters = [part.strip() for part in one.split(";")]
        qualities[name] = 1.0
        for key, _, value in (parameter.partition("=") for parameter in parameters):
            if key.strip() == "q":
                qualities[name] = _quality(value)
    wildcard = qualities.get("*", 0.0)
    return qualities.get("gzip", qualities.get("x-gzip", wildcard)) > 0


def _quality(text: str) -> float:
    """Zero if it is none: what we cannot read, the client does not want."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(body) + packer.flush()
