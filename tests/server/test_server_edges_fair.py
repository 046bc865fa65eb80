"""Who asks a thousand things at once lets others in between, and gets every answer."""

import asyncio
from typing import Any

from bidder.metrics import Metrics
from bidder.server import lean
from bidder.server.edge import Answer, Request
from bidder.settings import Limits

GREEDY = 1000


class Router:
    """Answers at once, and remembers in which order it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request: Request) -> Answer:
        await self.gate.wait()
        self.asked.append(request.target)
        return Answer(200, request.target.encode())

    def refuse(self, status: int, target: str, headers: object) -> Answer:
        return Answer(status)


class Wire(asyncio.Transport):
    """Keeps what is written; paused or not, as the protocol says."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.reading = True
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def write(self, data: Any) -> None:
        self.said += bytes(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True


def post(target: str) -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()


def connect(server: lean.Server) -> tuple[Any, Wire]:
    protocol, wire = server(), Wire()
    protocol.connection_made(wire)
    return protocol, wire


def make() -> tuple[Router, lean.Server]:
    router = Router()
    limits = Limits(body_bytes=2000, connections=20)
    return router, lean.Server(router, limits, Metrics(), lambda: 1.0)  # type: ignore[arg-type]


async def settle(router: Router, count: int) -> None:
    async with asyncio.timeout(10):
        while len(router.asked) < count:
            await asyncio.sleep(0)


async def test_a_greedy_client_does_not_hold_up_a_modest_one() -> None:
    router, server = make()
    greedy, _ = connect(server)
    modest, wire = connect(server)
    greedy.data_received(b"".join(post(f"/greedy/{n}") for n in range(GREEDY)))
    modest.data_received(post("/modest"))
    await settle(router, GREEDY + 1)
    assert router.asked.index("/modest") < 5
    assert wire.said.endswith(b"/modest")


async def test_what_it_asked_in_one_breath_is_answered_whole_and_in_order() -> None:
    router, server = make()
    greedy, wire = connect(server)
    whole = b"".join(post(f"/{n}") for n in range(GREEDY))
    for cut in (whole[:50_001], whole[50_001:]):
        greedy.data_received(cut)
    await settle(router, GREEDY)
    assert router.asked == [f"/{n}" for n in range(GREEDY)]
    assert wire.said.count(b"HTTP/1.1 200 OK") == GREEDY
    assert wire.reading
    greedy.data_received(post("/later"))
    await settle(router, GREEDY + 1)
    assert router.asked[-1] == "/later"


async def test_little_is_parsed_before_it_can_be_answered() -> None:
    router, server = make()
    router.gate.clear()
    greedy, wire = connect(server)
    greedy.data_received(b"".join(post(f"/{n}") for n in range(GREEDY)))
    await asyncio.sleep(0)
    most = lean.MAX_PIPELINED + lean.SLICE_BYTES // len(post("/0"))
    assert len(greedy._waiting) <= most
    assert not wire.reading
    router.gate.set()
    await settle(router, GREEDY)


async def test_nonsense_behind_it_is_refused_after_it() -> None:
    router, server = make()
    greedy, wire = connect(server)
    greedy.data_received(b"".join(post(f"/{n}") for n in range(GREEDY)) + b"nonsense\r\n\r\n")
    await settle(router, GREEDY)
    async with asyncio.timeout(10):
        while b" 400 " not in wire.said:
            await asyncio.sleep(0)
    assert wire.said.count(b"HTTP/1.1 200 OK") == GREEDY
    assert wire.said.rindex(b" 200 ") < wire.said.index(b" 400 ")


async def test_a_client_that_hangs_up_after_its_last_word_is_answered() -> None:
    router, server = make()
    greedy, wire = connect(server)
    greedy.data_received(b"".join(post(f"/{n}") for n in range(GREEDY)))
    assert greedy.eof_received()
    await settle(router, GREEDY)
    async with asyncio.timeout(10):
        while not wire.closed:
            await asyncio.sleep(0)
    assert wire.said.count(b"HTTP/1.1 200 OK") == GREEDY
