"""Both edges keep the same promises on the wire, so that one setting can choose between them."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bidder import metrics
from bidder.metrics import Metrics
from bidder.server import http, lean
from bidder.server.edge import Answer, Request
from bidder.settings import Limits

LIMITS = Limits(
    body_bytes=2000, header_bytes=1500, connections=20, request_seconds="5s", keep_alive="30s"
)


class Echo:
    """Answers with what it was asked; stands where the router stands."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.refused: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        await self.gate.wait()
        if request.target == "/nothing":
            return Answer(204, headers={"X-Kind": "none"})
        if request.target == "/large":
            return Answer(200, b"x" * 3_000_000)
        body = f"{request.method} {request.target} ".encode() + request.body
        return Answer(200, body, {"Content-Type": "text/plain"})

    def refuse(self, status: int, target: str, headers: object) -> Answer:
        self.refused.append(status)
        return Answer(status)

    def count(self, name: str, status: int) -> None:
        self.refused.append(status)


class Wire:
    """A server on a port of its own, and raw connections to it."""

    def __init__(self, echo: Echo, server: Any, port: int, clock: list[float], cells: Metrics):
        self.echo, self.server, self.port, self.clock, self.cells = echo, server, port, clock, cells

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def talk(self, *parts: bytes) -> bytes:
        """Everything the server says to these bytes, sent one part after the other."""
        reader, writer = await self.open()
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            said = await reader.read()
        await _leave(writer)
        return said


@pytest.fixture(params=["http", "lean"])
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    module = {"http": http, "lean": lean}[request.param]
    echo, clock, cells = Echo(), [100.0], Metrics()
    server = module.Server(echo, LIMITS, cells, lambda: clock[0])
    acceptor = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    port = acceptor.sockets[0].getsockname()[1]
    yield Wire(echo, server, port, clock, cells)
    acceptor.close()
    echo.gate.set()
    await server.shutdown(1.0)


def post(
    target: str = "/a", body: bytes = b"hello", extra: str = "", version: str = "1.1"
) -> bytes:
    head = f"POST {target} HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def close(request: bytes) -> bytes:
    return request.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n", 1)


async def test_a_request_is_read_whole(wire: Wire) -> None:
    said = await wire.talk(close(post("/a?b=c", b"body", "X-Odd: caf\xe9\r\n")))
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\n\r\nPOST /a?b=c body")
    (asked,) = wire.echo.asked
    assert asked.peer == "127.0.0.1"
    assert asked.headers.get("x-ODD") is not None
    assert asked.headers.get("absent") is None
    assert asked.arrival == 100.0


async def test_no_content_has_no_body_and_no_length(wire: Wire) -> None:
    said = await wire.talk(close(post("/nothing")))
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 204 ")
    assert b"content-length" not in head.lower()
    assert b"x-kind: none" in head.lower()
    assert b"\r\ndate: " in head.lower()
    assert body == b""


async def test_keep_alive_answers_one_after_the_other(wire: Wire) -> None:
    reader, writer = await wire.open()
    for number in range(3):
        writer.write(post(f"/{number}"))
        assert f"POST /{number} hello".encode() in await _answer(reader)
    await _leave(writer)
    assert len(wire.echo.asked) == 3


async def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    many = 40
    together = b"".join(post(f"/{n}") for n in range(many - 1)) + close(post(f"/{many - 1}"))
    said = await wire.talk(together)
    places = [said.index(f"POST /{n} hello".encode()) for n in range(many)]
    assert places == sorted(places)


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_any_cut_of_the_bytes_reads_the_same(wire: Wire, size: int) -> None:
    raw = close(post("/cut", b"0123456789"))
    said = await wire.talk(*[raw[i : i + size] for i in range(0, len(raw), size)])
    assert said.endswith(b"POST /cut 0123456789")


async def test_chunked_bodies(wire: Wire) -> None:
    raw = (
        b"POST /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"
    )
    assert (await wire.talk(raw)).endswith(b"POST /c abcdefg")


async def test_packed_bodies_arrive_as_they_were_sent(wire: Wire) -> None:
    packed = gzip.compress(b"{}")
    await wire.talk(close(post("/z", packed, "Content-Encoding: gzip\r\n")))
    assert wire.echo.asked[0].body == packed


async def test_http_1_0_closes_unless_asked_to_stay(wire: Wire) -> None:
    reader, writer = await wire.open()
    writer.write(post("/old", version="1.0"))
    async with asyncio.timeout(5):
        said = await reader.read()  # to the end of the connection
    await _leave(writer)
    assert said.endswith(b"POST /old hello")
    reader, writer = await wire.open()
    for _ in range(2):
        writer.write(post("/old", extra="Connection: keep-alive\r\n", version="1.0"))
        assert b"connection: keep-alive" in (await _answer(reader)).lower()
    await _leave(writer)


async def test_expect_continue(wire: Wire) -> None:
    reader, writer = await wire.open()
    head, _, body = post("/wait", b"later", "Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    writer.write(body)
    assert b"POST /wait later" in await _answer(reader)
    await _leave(writer)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_another_protocol_is_declined_by_answering(wire: Wire, size: int) -> None:
    """RFC 9110 §7.8. Java's own client offers h2c with its first request, which had 400 for it."""
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    chunked = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + offer.encode()
    chunked += b"\r\n6\r\nsecond\r\n0\r\n\r\n"
    reader, writer = await wire.open()
    for raw in (post("/u", b"first", offer), chunked, post("/v", b"third")):
        for start in range(0, len(raw), size):
            writer.write(raw[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            await reader.readuntil(raw.split(b" ")[1] + b" ")
            await reader.readexactly(5 if raw is not chunked else 6)
    await _leave(writer)
    assert [asked.body for asked in wire.echo.asked] == [b"first", b"second", b"third"]


async def test_a_body_over_the_limit_is_413(wire: Wire) -> None:
    said = await wire.talk(post("/big", b"x" * 2001))
    assert said.startswith(b"HTTP/1.1 413 ")
    assert wire.echo.refused == [413]
    assert wire.echo.asked == []


async def test_a_chunked_body_over_the_limit_is_413(wire: Wire) -> None:
    head = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"400\r\n" + b"x" * 0x400 + b"\r\n"
    said = await wire.talk(head + chunk * 3)
    assert said.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nHost: x\r\nBroken header\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_400_and_ends_the_connection(wire: Wire, raw: bytes) -> None:
    said = await wire.talk(raw)
    assert said.startswith(b"HTTP/1.1 400 ") or said.startswith(b"HTTP/1.0 400 ")
    assert wire.echo.asked == []


async def test_headers_over_the_limit_are_refused(wire: Wire) -> None:
    said = await wire.talk(post("/h", extra="X-Long: " + "y" * 1600 + "\r\n"))
    assert said.split(b" ")[1] in (b"400", b"431")
    said = await wire.talk(post("/h", extra="".join(f"X{n}: 1\r\n" for n in range(120))))
    assert said.split(b" ")[1] in (b"400", b"431")
    assert wire.echo.asked == []


async def test_a_slow_sender_is_cut_and_others_are_not(wire: Wire) -> None:
    slow_reader, slow = await wire.open()
    slow.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Le")
    await _until(lambda: _is_sending(wire))
    idle_reader, idle = await wire.open()
    idle.write(post("/idle"))
    await _answer(idle_reader)
    wire.clock[0] += LIMITS.request_seconds + 1
    wire.server.cut_slow_senders()
    async with asyncio.timeout(5):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await slow_reader.readexactly(1)
    idle.write(post("/again"))
    assert b"POST /again" in await _answer(idle_reader)
    await _leave(slow, idle)


async def test_one_connection_too_many_is_refused(wire: Wire) -> None:
    held = [await wire.open() for _ in range(LIMITS.connections)]
    for reader, writer in held:
        writer.write(post("/hold"))
        await _answer(reader)
    reader, writer = await wire.open()
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    assert wire.cells.get(metrics.SHEDS, "connections") == 1
    await _leave(writer, *[held_writer for _, held_writer in held])


async def test_a_slow_reader_gets_all_of_a_large_answer(wire: Wire) -> None:
    reader, writer = await wire.open()
    writer.write(close(post("/large")))
    size = 0
    async with asyncio.timeout(10):
        while piece := await reader.read(8192):
            size += len(piece)
            await asyncio.sleep(0)
    await _leave(writer)
    assert size > 3_000_000


async def test_hanging_up_while_an_answer_is_made_hurts_nobody(wire: Wire) -> None:
    wire.echo.gate.clear()
    _, leaving = await wire.open()
    leaving.write(post("/gone"))
    await _until(lambda: len(wire.echo.asked) == 1)
    leaving.transport.abort()
    wire.echo.gate.set()
    assert (await wire.talk(close(post("/next")))).endswith(b"POST /next hello")


async def test_draining_finishes_what_is_under_way(wire: Wire) -> None:
    wire.echo.gate.clear()
    reader, writer = await wire.open()
    writer.write(post("/last"))
    await _until(lambda: len(wire.echo.asked) == 1)
    idle_reader, idle = await wire.open()
    await _until(lambda: len(wire.server._connections) == 2)
    ending = asyncio.create_task(wire.server.shutdown(5.0))
    await asyncio.sleep(0)
    wire.echo.gate.set()
    async with asyncio.timeout(5):
        assert (await reader.read()).endswith(b"POST /last hello")
        assert await idle_reader.read() == b""
        await ending
    await _leave(writer, idle)


async def test_head_has_the_length_and_not_the_body(wire: Wire) -> None:
    said = await wire.talk(b"HEAD /h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(b"\r\n\r\n")
    assert b"content-length: 8" in said.lower()


async def _leave(*writers: asyncio.StreamWriter) -> None:
    """Close, and wait until the sockets are closed."""
    for writer in writers:
        writer.close()
    for writer in writers:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _is_sending(wire: Wire) -> bool:
    connections = wire.server._connections
    return any(connection.first_byte for connection in connections)


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """One answer with a length."""
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        return head + await reader.readexactly(length)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)
