"""What happens when the store is killed, stopped, restarted, or slow."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import hiredis
import pytest

from bidder.store.breaker import Breaker, StoreUnavailable
from bidder.store.coalesce import Reader, Scripts
from bidder.store.connect import Client, connect
from bidder.store.embedded import EmbeddedStore
from bidder.store.links import Links


@pytest.fixture
def server(new_server: Callable[..., EmbeddedStore]) -> EmbeddedStore:
    return new_server()


@pytest.fixture
async def client(server: EmbeddedStore) -> AsyncIterator[Client]:
    found = connect(server.url)
    yield found
    await found.aclose()


@pytest.fixture
async def frail(client: Client) -> AsyncIterator[Links]:
    """Links with short patience, that probe often."""
    breaker = Breaker(time.monotonic, first_pause_seconds=0.02, longest_pause_seconds=0.05)
    links = Links(client, breaker, timeout_seconds=0.1, connect_seconds=0.1)
    await links.ping()
    yield links
    await links.aclose()


async def until_back(links: Links) -> None:
    changed = asyncio.Event()
    links.breaker.on_change.append(lambda is_open: None if is_open else changed.set())
    if links.breaker.is_open:
        async with asyncio.timeout(10):
            await changed.wait()


async def break_it(reader: Reader, links: Links) -> None:
    """Read until the breaker opens."""
    async with asyncio.timeout(10):
        while not links.breaker.is_open:
            with pytest.raises(StoreUnavailable):
                await reader.get_many(["k"])


async def test_a_stopped_server_is_noticed_and_comes_back(
    frail: Links, client: Client, server: EmbeddedStore
) -> None:
    failed: list[str] = []
    frail.on_error = failed.append
    reader = Reader(frail)
    await client.set("k", "v")
    os.kill(server.pid, signal.SIGSTOP)
    calls = []
    for _ in range(6):  # six ticks, six commands: enough to open the breaker
        calls.append(asyncio.ensure_future(reader.get_many(["k"])))
        await asyncio.sleep(0)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert failed == ["read"] * 6
    assert frail.breaker.is_open
    assert frail.only is not None
    assert frail.only._session is None, "a connection of unknown state is not used again"
    assert not frail.only._backlog
    os.kill(server.pid, signal.SIGCONT)
    await until_back(frail)
    assert await reader.get_many(["k"]) == [b"v"]


async def test_deadlines_hold_while_the_server_is_stopped(
    frail: Links, server: EmbeddedStore
) -> None:
    loop = asyncio.get_running_loop()
    frail.only._timeout = 60.0  # type: ignore[union-attr]  # only the deadline can end it
    reader, scripts = Reader(frail), Scripts(frail)
    os.kill(server.pid, signal.SIGSTOP)
    long = asyncio.ensure_future(reader.get_many(["k"], loop.time() + 60))
    for call in (
        reader.get_many(["k"], loop.time() + 0.02),
        scripts.run(next(iter(scripts._scripts)), ["{k}"], [], loop.time() + 0.02),
    ):
        with pytest.raises(StoreUnavailable, match="deadline"):
            await call
    assert not long.done(), "who has more time waits on"
    os.kill(server.pid, signal.SIGCONT)
    assert await long == [None]


async def test_a_killed_and_restarted_server(frail: Links, server: EmbeddedStore) -> None:
    reader = Reader(frail)
    assert await reader.get_many(["k"]) == [None]
    os.kill(server.pid, signal.SIGKILL)
    await break_it(reader, frail)
    server.kill()  # it is dead: this waits for the process to be gone
    server.start()
    await until_back(frail)
    assert await reader.get_many(["k"]) == [None]


async def test_a_connection_closed_in_between_is_opened_anew(frail: Links, client: Client) -> None:
    reader = Reader(frail)
    assert frail.only is not None
    await reader.get_many(["k"])
    lost, told = asyncio.Event(), frail.only._lost
    frail.only._session._on_lost = lambda: (told(), lost.set())  # type: ignore[union-attr, func-returns-value]
    await client.client_kill_filter(_type="normal", skipme=True)
    async with asyncio.timeout(10):
        await lost.wait()
    assert await reader.get_many(["k"]) == [None]
    assert not frail.breaker.is_open


async def test_a_loop_that_stalled_does_not_blame_the_store(frail: Links) -> None:
    reader = Reader(frail)
    call = asyncio.ensure_future(reader.get_many(["k"]))
    await asyncio.sleep(0)  # the call is made
    await asyncio.sleep(0)  # and sent
    time.sleep(0.3)  # noqa: ASYNC251  # three times the timeout, and the reply is in the socket
    assert await call == [None]
    assert not frail.breaker.failures


async def test_a_store_that_cannot_serve_counts_as_down(
    frail: Links, client: Client, tmp_path: Path
) -> None:
    """Out of memory: commands are answered, with errors."""
    await client.config_set("maxmemory", 1)
    (tmp_path / "write.lua").write_text("return redis.call('SET', KEYS[1], ARGV[1])")
    scripts = Scripts(frail, tmp_path)
    for _ in range(5):
        with pytest.raises(StoreUnavailable, match="OOM"):
            await scripts.run("write", ["k"], ["v"])
    assert frail.breaker.is_open


@pytest.mark.parametrize("several", [1, 5])
async def test_refused_replies_count_though_they_come_together(
    frail: Links, client: Client, several: int
) -> None:
    await client.config_set("maxmemory", 1)
    commands = [("SET", "k", "v"), ("GET", "k")] * several
    for _ in range(5 // several):
        assert not frail.breaker.is_open
        with pytest.raises(StoreUnavailable, match="OOM"):
            await frail.bulk(commands)
    assert frail.breaker.is_open


async def test_what_comes_together_and_is_served_closes_the_count(frail: Links) -> None:
    frail.breaker.failed()
    with pytest.raises(hiredis.ReplyError):  # of the command, not of the server
        await frail.bulk([("SET", "k", "v"), ("LPUSH", "k", "v")])
    assert not frail.breaker.failures


async def test_nothing_is_left_waiting_after_close(client: Client, server: EmbeddedStore) -> None:
    links = Links(client, Breaker(time.monotonic), timeout_seconds=60.0)
    reader = Reader(links)
    await links.ping()
    os.kill(server.pid, signal.SIGSTOP)
    call = asyncio.ensure_future(reader.get_many(["k"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await links.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await call
    os.kill(server.pid, signal.SIGCONT)


async def test_no_server_at_all(tmp_path: Path) -> None:
    client = connect(f"unix://{tmp_path}/nobody.sock")
    links = Links(client, Breaker(time.monotonic, limit=2))
    with pytest.raises(StoreUnavailable, match="cannot connect"):
        await links.ping()
    with pytest.raises(StoreUnavailable, match="cannot connect"):
        await Reader(links).get_many(["k"])
    assert links.breaker.is_open
    await links.aclose()
    await client.aclose()
