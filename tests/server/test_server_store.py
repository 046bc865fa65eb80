"""The store is away, slow or back: answers stay in time and are no errors, and bids come again."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bidder.store.embedded import EmbeddedStore

Soon = Callable[..., Any]
REQUEST = json.loads((Path(__file__).parents[2] / "config/demo/request.json").read_bytes())
PEOPLE = 400
TMAX_MS = 120
RATE = 60
"""Requests a second: little enough for a busy machine."""
PAUSE_SECONDS = 0.25
"""The machine itself may stand still for so long, once; whoever asks then is late."""
BACK_SECONDS = 5.0


class Asked(NamedTuple):
    """One request of the load."""

    at: float
    seconds: float
    status: int
    known: bool
    """The bid is one that only a person we know gets."""


class Load:
    """Requests by people we know at a constant rate, on a few connections, until cancelled."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._number = 0
        self.asked: list[Asked] = []

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._send(place)) for place in range(6)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        for found in done:
            if not isinstance(found, asyncio.CancelledError):
                raise AssertionError(f"a connection was lost: {found!r}")

    async def _send(self, place: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        due = time.monotonic() + place / RATE
        try:
            while True:
                await asyncio.sleep(max(due - time.monotonic(), 0))
                due += len(self._tasks) / RATE
                self.asked.append(await self._ask(reader, writer))
        finally:
            writer.close()
            await writer.wait_closed()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked:
        self._number += 1
        user = {"buyeruid": f"person-{self._number % PEOPLE}"}
        body = json.dumps({**REQUEST, "tmax": TMAX_MS, "user": user}).encode()
        began = time.monotonic()
        writer.write(
            b"POST /openrtb2/demo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        writer.write(body)
        head = await reader.readuntil(b"\r\n\r\n")
        took = time.monotonic() - began
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        answer = await reader.readexactly(length)
        return Asked(began, took, int(head[9:12]), b"shop/wide/known" in answer)

    async def until(self, what: Callable[[Asked], bool], since: float, seconds: float) -> Asked:
        """The first such answer to a request sent since then."""
        async with asyncio.timeout(seconds):
            while True:
                for one in self.asked:
                    if one.at >= since and what(one):
                        return one
                await asyncio.sleep(0.02)

    def judge(self, name: str) -> None:
        """No errors and nothing out of proportion; says how long it took."""
        assert {one.status for one in self.asked} <= {200, 204}
        took = sorted(one.seconds * 1000 for one in self.asked)
        late = sum(one > TMAX_MS for one in took)
        print(
            f"\n{name}: {len(took)} answers, p50 {took[len(took) // 2]:.1f} ms, "
            f"p99 {took[int(len(took) * 0.99)]:.1f} ms, max {took[-1]:.1f} ms, "
            f"{late} later than {TMAX_MS} ms"
        )
        assert took[-1] < 10 * TMAX_MS
        assert late <= len(took) / 20 + RATE * PAUSE_SECONDS


class Store(EmbeddedStore):
    """A store that is killed and started again, always by one thread: it dies with who started it
    (see `bidder.store.embedded`), and a test's event loop must not wait for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._starter = ThreadPoolExecutor(1)

    def start(self, timeout_seconds: float = 60.0) -> None:
        self._starter.submit(super().start, timeout_seconds).result()

    def close(self) -> None:
        """The end of it."""
        self.stop()
        self._starter.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """A store of the tests' own."""
    made = Store(tmp_path_factory.mktemp("store"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def bidder(bidders: Callable[..., Any], server: EmbeddedStore) -> Any:
    """A bidder on that store, with people."""
    server.start()
    made = bidders(f"workers: 1\ndrain: 1s\nstore: {{url: '{server.url}'}}\n")
    lines = [
        {
            "ids": [["buyeruid.demo", f"person-{number}"]],
            "profile": {"segments": {"visitor": "-1d"}, "first_seen": "-9d"},
        }
        for number in range(PEOPLE)
    ]
    people = made.config / "demo" / "people.jsonl"
    people.write_text("\n".join(map(json.dumps, lines)) + "\n")
    made.start()
    return made


def is_known(one: Asked) -> bool:
    return one.known


def is_unknown(one: Asked) -> bool:
    return not one.known


async def test_a_killed_store(bidder: Any, server: EmbeddedStore, soon: Soon) -> None:
    async with Load(bidder.port) as load:
        await load.until(is_known, 0, 10)
        server.kill()
        try:
            killed = time.monotonic()
            await load.until(is_unknown, killed, 2)
            await asyncio.sleep(0.5)  # a few dozen requests with the breaker open
            assert not any(one.known for one in load.asked if one.at > killed)
        finally:
            await asyncio.to_thread(server.start)
        back = time.monotonic()
        first = await load.until(is_known, back, 2 * BACK_SECONDS)
        assert first.at - back < BACK_SECONDS
    load.judge("store killed")
    await asyncio.to_thread(soon, lambda: bidder.metric("bidder_store_errors_total") > 0, 5)


async def test_a_stopped_store(bidder: Any, server: EmbeddedStore, soon: Soon) -> None:
    async with Load(bidder.port) as load:
        await load.until(is_known, 0, 10)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            stopped = time.monotonic()
            await load.until(is_unknown, stopped, 2)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(soon, lambda: bidder.metric("bidder_breaker_open") == 1, 5)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        back = time.monotonic()
        first = await load.until(is_known, back, 2 * BACK_SECONDS)
        assert first.at - back < BACK_SECONDS
    load.judge("store stopped")
    after = [one for one in load.asked if stopped - 0.1 < one.at < stopped + 0.2]
    print(f"in flight or next when it stopped: {max(one.seconds for one in after) * 1000:.1f} ms")
    await asyncio.to_thread(soon, lambda: bidder.metric("bidder_breaker_open") == 0, 5)


def test_notices_wait_for_the_store(bidder: Any, server: EmbeddedStore, soon: Soon) -> None:
    """They are logged and answered while it is away, and applied once when it is back."""

    def a_bid() -> Any:
        answer = bidder.post({**REQUEST, "user": {"buyeruid": "person-399"}})
        return answer.status == 200 and answer.bid()

    bid = soon(a_bid)
    before = bidder.metric("bidder_applied_total", kind="billing", outcome="new")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            assert bidder.call(bid["burl"], 1.0).status == 200
    finally:
        os.kill(server.pid, signal.SIGCONT)
    soon(lambda: bidder.metric("bidder_applied_total", kind="billing", outcome="new") == before + 1)
    soon(lambda: bidder.metric("bidder_applied_total", kind="billing", outcome="duplicate") >= 2)


def test_a_reload_while_the_store_is_away(bidder: Any, server: EmbeddedStore, soon: Soon) -> None:
    server.kill()
    try:
        soon(lambda: bidder.metric("bidder_breaker_open") == 1)
        assert bidder.reload().status == 200
    finally:
        server.start()
    soon(lambda: b"shop/wide/known" in bidder.post(
        {**REQUEST, "user": {"buyeruid": "person-398"}}).body)  # fmt: skip


def test_a_start_without_a_store(
    bidders: Callable[..., Any], bidder: Any, server: EmbeddedStore, soon: Soon
) -> None:
    """It answers 204 until there is one, then bids; what was stopped stays so from the first."""
    assert bidder.run("stop", "shop/wide/known").returncode == 0
    server.stop()
    early = bidders(f"workers: 1\ndrain: 1s\nstore: {{url: '{server.url}'}}\n")
    early.launch(seed=False)
    soon(early.is_ready)
    person = {**REQUEST, "user": {"buyeruid": "person-1"}}
    assert [early.post(person).status for _ in range(5)] == [204] * 5
    server.start()
    answer = soon(lambda: (given := early.post(person)).status == 200 and given, BACK_SECONDS)
    assert b"shop/wide/anyone" in answer.body
    for _ in range(20):
        assert b"shop/wide/known" not in early.post(person).body
    assert early.run("start", "shop/wide/known").returncode == 0
    soon(lambda: b"shop/wide/known" in early.post(person).body, 5)
