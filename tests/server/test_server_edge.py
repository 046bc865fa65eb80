"""The bid endpoint, whatever serves it: unpacking, headers, limits, and who is let in."""

import gzip
import zlib
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bidder import metrics
from bidder.engine import Decision, Engine
from bidder.exchanges.profile import Exchange
from bidder.metrics import Metrics
from bidder.openrtb.opportunity import Opportunity
from bidder.openrtb.request import InvalidRequest
from bidder.reasons import NoBid
from bidder.server.edge import Answer, Endpoint, Load, Request, inflate
from bidder.server.router import BID_PATH, Router
from bidder.server.tracking import Tracking
from bidder.settings import Limits

REQUEST = b'{"id":"r","imp":[{"id":"1","banner":{"w":300,"h":250}}]}'
BID = b'{"id":"r","seatbid":[{"bid":[]}]}'
LONG = BID + b" " * 2000
SECRET = "0123456789abcdef"
EXCHANGES = {
    "open": Exchange(name="open", margin_ms=10),
    "plain": Exchange(name="plain", gzip=False),
    "local": Exchange(name="local", loopback_only=True),
    "networks": Exchange(
        name="networks", allow_from=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    ),
    "secret": Exchange(name="secret", secret=SECRET),
    "both": Exchange(name="both", secret=SECRET, allow_from=(ip_network("192.0.2.0/24"),)),
}


class Headers(dict[str, str]):
    """Case-insensitive, as those of a request."""

    def __init__(self, **given: str) -> None:
        super().__init__({name.lower().replace("_", "-"): text for name, text in given.items()})

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class Bids:
    """Stands in for the engine: answers all with `body` after `seconds` on `clock`."""

    def __init__(self, body: bytes = BID, seconds: float = 0.0) -> None:
        self.serving = SimpleNamespace(exchanges=EXCHANGES)
        self.body = body
        self.now = 100.0
        self.seconds = seconds
        self.deadlines: list[float] = []

    async def respond(self, _: Opportunity, __: Exchange, deadline: float) -> Decision:
        self.deadlines.append(deadline)
        self.now += self.seconds
        return Decision(self.body, NoBid.UNKNOWN, 1)


class Edge:
    """An endpoint with its surroundings."""

    def __init__(self, engine: Bids | None = None, **limits: int) -> None:
        self.engine = engine or Bids()
        self.cells = Metrics()
        given = Limits(**limits)  # type: ignore[arg-type]
        self.load = Load(given)
        endpoint = Endpoint(
            cast(Engine, self.engine), given, self.load, self.cells, lambda: self.engine.now
        )
        self.router = Router(endpoint, cast(Tracking, None), self.cells)

    async def ask(
        self,
        body: bytes = REQUEST,
        headers: Mapping[str, str] | None = None,
        exchange: str = "open",
        secret: str = "",
        peer: str = "127.0.0.1",
    ) -> Answer:
        target = f"{BID_PATH}{exchange}/{secret}" if secret else f"{BID_PATH}{exchange}"
        return await self.router.answer(
            Request("POST", target, headers or Headers(), body, peer, self.engine.now)
        )


async def test_a_bid_is_200_with_json() -> None:
    answer = await Edge().ask()
    assert answer == Answer(200, BID, {"Content-Type": "application/json"})


async def test_a_request_may_name_its_host_in_the_target() -> None:
    """RFC 9112 §3.2.2."""
    edge = Edge()
    target = f"http://bid.example{BID_PATH}open?v=1"
    asked = Request("POST", target, Headers(), REQUEST, "127.0.0.1", edge.engine.now)
    assert (await edge.router.answer(asked)).status == 200
    for target in ("http://bid.example", f"/to?url=http://bid.example{BID_PATH}open"):
        assert (await edge.router.answer(replace(asked, target=target))).status == 404


async def test_no_bid_is_204_without_a_body() -> None:
    assert await Edge(Bids(b"")).ask() == Answer(204)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"nonsense", b"\xff", b'{"id":"r"}', b"null"])
async def test_what_is_no_request_is_400_with_an_empty_body(body: bytes) -> None:
    edge = Edge()
    assert await edge.ask(body) == Answer(400)
    assert edge.cells.get(metrics.NO_BIDS, "open", "invalid_request") == 1
    assert not edge.engine.deadlines


@pytest.mark.parametrize(
    ("engine", "body", "headers", "status"),
    [
        (Bids(), REQUEST, {}, 200),
        (Bids(b""), REQUEST, {}, 204),
        (Bids(), b"{", {}, 400),
        (Bids(), REQUEST, {"exchange": "nobody"}, 404),
        (Bids(), REQUEST, {"peer": "192.0.2.1", "exchange": "local"}, 404),
    ],
)
async def test_every_answer_echoes_the_version(
    engine: Bids, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = await Edge(engine).ask(body, Headers(x_openrtb_version="2.6"), **headers)
    assert answer.status == status
    assert answer.headers["x-openrtb-version"] == "2.6"


async def test_a_shed_request_echoes_the_version_too() -> None:
    edge = Edge(in_flight=1)
    edge.load.in_flight = 1
    answer = await edge.ask(headers=Headers(x_openrtb_version="2.5"))
    assert answer == Answer(204, headers={"x-openrtb-version": "2.5"})


@pytest.mark.parametrize("version", ["2.6\r\nx-evil: 1", "\udcff", "é", "9" * 33, "\x00", ""])
async def test_a_version_that_is_no_header_is_not_echoed(version: str) -> None:
    answer = await Edge().ask(headers=Headers(x_openrtb_version=version))
    assert "x-openrtb-version" not in answer.headers


async def test_the_deadline_counts_from_the_first_byte() -> None:
    edge = Edge()
    body = REQUEST[:-1] + b',"tmax":80}'
    await edge.ask(body)
    assert edge.engine.deadlines == [pytest.approx(100.0 + 0.070)]


async def test_latency_and_lateness_are_counted() -> None:
    edge = Edge(Bids(seconds=0.080))
    await edge.ask()
    assert edge.cells.get(metrics.LATE, "open") == 0
    edge.engine.seconds = 0.091  # tmax 100 less 10 for the network
    await edge.ask()
    assert edge.cells.get(metrics.LATE, "open") == 1
    row = edge.cells.histograms["bidder_request_seconds", ("open",)]
    assert row[-1] == pytest.approx(0.171)
    assert edge.cells.get(metrics.REQUESTS, "open") == 2


@pytest.mark.parametrize(
    ("in_flight", "lag", "cause"),
    [(0, 0.0, ""), (9, 0.0, ""), (10, 0.0, "in_flight"), (0, 0.050, "loop_lag"), (0, 0.030, "")],
)
async def test_overload_is_shed_early(in_flight: int, lag: float, cause: str) -> None:
    edge = Edge(in_flight=10, loop_lag_ms=40)
    edge.load.in_flight, edge.load.lag_seconds = in_flight, lag
    answer = await edge.ask()
    assert answer.status == (204 if cause else 200)
    assert edge.cells.get(metrics.SHEDS, cause) == bool(cause)
    assert edge.cells.get(metrics.NO_BIDS, "open", "overloaded") == bool(cause)
    assert edge.load.in_flight == in_flight


LETS_IN = [
    ("local", "127.0.0.1", "", True),
    ("local", "127.8.9.1", "", True),
    ("local", "::1", "", True),
    ("local", "::ffff:127.0.0.1", "", True),
    ("local", "192.0.2.1", "", False),
    ("local", "", "", False),
    ("local", "not an address", "", False),
    ("networks", "192.0.2.255", "", True),
    ("networks", "192.0.3.0", "", False),
    ("networks", "2001:db8::1", "", True),
    ("networks", "::ffff:192.0.2.1", "", True),
    ("networks", "2001:db9::1", "", False),
    ("networks", "127.0.0.1", "", False),
    ("secret", "192.0.2.1", SECRET, True),
    ("secret", "192.0.2.1", "", False),
    ("secret", "192.0.2.1", SECRET + "0", False),
    ("secret", "192.0.2.1", "é", False),
    ("both", "192.0.2.1", SECRET, True),
    ("both", "192.0.3.1", SECRET, False),
    ("both", "192.0.2.1", "", False),
    ("open", "192.0.2.1", "", True),
    ("open", "192.0.2.1", "surprise", False),
    ("nobody", "127.0.0.1", "", False),
]


@pytest.mark.parametrize(("exchange", "peer", "secret", "allowed"), LETS_IN)
async def test_who_is_let_in(exchange: str, peer: str, secret: str, allowed: bool) -> None:
    edge = Edge()
    answer = await edge.ask(exchange=exchange, peer=peer, secret=secret)
    assert answer.status == (200 if allowed else 404)
    assert edge.cells.get(metrics.REQUESTS, exchange) == allowed


GZIP = [
    ("gzip", True),
    ("GZIP", True),
    ("x-gzip", True),
    ("deflate, gzip;q=1.0, *;q=0.5", True),
    ("gzip;q=0.001", True),
    ("gzip ; q=0.5", True),
    ("gzip;foo=bar;q=1", True),
    ("*", True),
    ("br;q=1,*;q=0.1", True),
    ("", False),
    ("identity", False),
    ("br, deflate", False),
    ("gzip;q=0", False),
    ("gzip;q=0.000", False),
    ("gzip;Q=0", False),
    ("gzip;q=", False),
    ("gzip;q=nan", False),
    ("gzip;q=x, *", False),
    ("gzip;q=0, *;q=1", False),
    ("*;q=0", False),
    ("gzipped", False),
    (";;,,;q=1,", False),
]


@pytest.mark.parametrize(("accepted", "taken"), GZIP)
async def test_answers_are_packed_for_who_can_unpack_them(accepted: str, taken: bool) -> None:
    answer = await Edge(Bids(LONG)).ask(headers=Headers(accept_encoding=accepted))
    assert answer.headers.get("Content-Encoding") == ("gzip" if taken else None)
    assert (gzip.decompress(answer.body) if taken else answer.body) == LONG


async def test_short_answers_and_refusing_exchanges_get_them_plain() -> None:
    asks = Headers(accept_encoding="gzip")
    assert (await Edge(Bids(BID)).ask(headers=asks)).body == BID
    assert (await Edge(Bids(LONG)).ask(headers=asks, exchange="plain")).body == LONG


def packed(body: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (REQUEST, None),
        (REQUEST, ""),
        (REQUEST, "identity"),
        (gzip.compress(REQUEST, mtime=0), "gzip"),
        (gzip.compress(REQUEST, mtime=0), " GZip "),
        (gzip.compress(REQUEST, mtime=0), "x-gzip"),
        (gzip.compress(REQUEST, mtime=0), None),
        (gzip.compress(REQUEST, mtime=0), "identity"),
        (packed(REQUEST, 15), "deflate"),
        (packed(REQUEST, -15), "deflate"),
        (gzip.compress(REQUEST[:9], mtime=0) + gzip.compress(REQUEST[9:], mtime=0), "gzip"),
        (gzip.compress(REQUEST, mtime=0) + gzip.compress(b"", mtime=0), None),
    ],
)
async def test_requests_come_packed(body: bytes, encoding: str | None) -> None:
    headers = Headers(content_encoding=encoding) if encoding is not None else Headers()
    assert inflate(body, headers, 1000) == REQUEST
    assert (await Edge().ask(body, headers)).status == 200


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (REQUEST, "gzip"),
        (b"nonsense", "gzip"),
        (b"", "gzip"),
        (b"\x1f\x8b", "gzip"),
        (b"\x1f\x8bnonsense", "gzip"),
        (b"\x1f\x8bnonsense", None),
        (gzip.compress(REQUEST, mtime=0)[:-1], "gzip"),
        (gzip.compress(REQUEST, mtime=0)[:30], "gzip"),
        (gzip.compress(REQUEST, mtime=0)[:-8] + bytes(8), "gzip"),
        (gzip.compress(REQUEST, mtime=0) + b"more", "gzip"),
        (gzip.compress(REQUEST, mtime=0) + gzip.compress(b"{}", mtime=0), "gzip"),
        (gzip.compress(gzip.compress(REQUEST, mtime=0), mtime=0), "gzip"),
        (gzip.compress(REQUEST, mtime=0) + gzip.compress(b"", mtime=0)[:-1], "gzip"),
        (gzip.compress(REQUEST, mtime=0) + gzip.compress(b"", mtime=0) * 20, "gzip"),
        (REQUEST, "deflate"),
        (b"", "deflate"),
        (REQUEST, "br"),
        (REQUEST, "gzip, identity"),
    ],
)
async def test_what_is_not_what_it_says_is_400(body: bytes, encoding: str | None) -> None:
    headers = Headers(content_encoding=encoding) if encoding is not None else Headers()
    assert (await Edge().ask(body, headers)).status == 400


def test_the_inflated_size_is_capped_to_the_byte() -> None:
    body = b" " * 5000
    for wbits, encoding in ((31, "gzip"), (15, "deflate")):
        headers = Headers(content_encoding=encoding)
        assert inflate(packed(body, wbits), headers, 5000) == body
        with pytest.raises(InvalidRequest, match="more than 4999 bytes"):
            inflate(packed(body, wbits), headers, 4999)
    both = packed(body[:3000], 31) + packed(body[3000:], 31)
    assert inflate(both, headers, 5000) == body
    with pytest.raises(InvalidRequest, match="more than"):
        inflate(both, headers, 4999)


def test_a_bomb_costs_no_more_memory_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self.real = real(wbits)

        def decompress(self, body: bytes, most: int) -> bytes:
            asked.append(most)
            return self.real.decompress(body, most)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    bomb = gzip.compress(bytes(20_000_000))
    assert len(bomb) < 20_000
    with pytest.raises(InvalidRequest):
        inflate(bomb, Headers(content_encoding="gzip"), 1_048_576)
    assert asked == [1_048_577]


@given(st.binary(max_size=200), st.sampled_from([None, "gzip", "deflate", "identity", "zstd", ""]))
def test_unpacking_returns_or_refuses(body: bytes, encoding: str | None) -> None:
    headers = Headers(content_encoding=encoding) if encoding is not None else Headers()
    with suppress(InvalidRequest):
        assert len(inflate(body, headers, 100_000)) <= 100_000


@given(st.data())
def test_a_damaged_body_is_refused_or_read_as_it_was(data: st.DataObject) -> None:
    whole = gzip.compress(REQUEST, mtime=0)
    at = data.draw(st.integers(0, len(whole)))
    rest = data.draw(st.binary(max_size=4)) + whole[at + data.draw(st.integers(0, 4)) :]
    with suppress(InvalidRequest):
        damaged = whole[:at] + data.draw(st.sampled_from([rest, b""]))
        assert inflate(damaged, Headers(content_encoding="gzip"), 1000) == REQUEST
