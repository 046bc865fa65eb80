"""How is load made by several processes at once? Spawned generators, one event loop each.

The parent tells every generator when the next step starts (CLOCK_MONOTONIC is one clock for all
processes of a machine) and which requests of it are its own: generator *k* of *n* sends requests
k, k + n, k + 2n...
"""

import asyncio
import gc
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from random import Random
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, urlsplit

import uvloop

from loadtest.load.bodies import EVERYONE, People, endless, message
from loadtest.load.connection import Pool
from loadtest.load.openloop import OpenLoop
from loadtest.load.result import Report, Result, combine, report
from loadtest.load.ticker import Ticker

PROGRESS_SECONDS = 0.5
_SWEEP_SECONDS = 0.05
_START_AHEAD_SECONDS = 0.1
_ENDLESS = 1 << 62


class GeneratorFailed(RuntimeError):
    """A generator could not do its work; the message says why."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What one generator needs to know for all its steps."""

    url: str
    bodies: Sequence[bytes]
    connections: int
    people: People
    timeout: float
    """Seconds after which an answer is no longer waited for."""
    seed: int
    index: int
    """Which generator this is, of `of`."""
    of: int


@dataclass(frozen=True, slots=True)
class Step:
    """`rate` requests a second (0: as fast as the connections allow) for `seconds`."""

    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Begin:
    """Parent to generator: run `step`, whose first request is due at `start` (perf_counter)."""

    step: Step
    start: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Generator to parent, twice a second: counts since the step began."""

    sent: int
    answered: int
    bids: int
    late: int
    failed: int
    recent: tuple[float, ...] = ()
    """At most 200 latencies, in seconds, of the last half second."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Generator to parent: all connections are open."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Generator to parent: it cannot go on."""

    why: str


def serve(orders: Orders, pipe: Pipe) -> None:
    """The body of a generator process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    gc.disable()  # a collection would stop the clock; nothing here makes cycles at any rate
    try:
        uvloop.run(_serve(orders, pipe))
    except (OSError, EOFError) as error:
        with suppress(OSError):
            pipe.send(Failed(str(error)))


async def _serve(orders: Orders, pipe: Pipe) -> None:
    url = urlsplit(orders.url)
    messages = [message(url, body) for body in orders.bodies]
    random = Random(orders.seed * 1000 + orders.index)
    source = endless(messages, orders.people, random, orders.index, orders.of)
    pool = Pool(*address(url), OpenLoop(0, 0, 0, source, time.perf_counter))
    await pool.open(orders.connections)
    pipe.send(Ready())
    loop = asyncio.get_running_loop()
    try:
        while (order := await loop.run_in_executor(None, pipe.recv)) is not None:
            pipe.send(await _step(pool, orders, order, source, pipe))
    finally:
        await pool.close()


async def _step(
    pool: Pool, orders: Orders, order: Begin, source: Iterator[tuple[bytes, float]], pipe: Pipe
) -> Report:
    rate, seconds = order.step.rate / orders.of, order.step.seconds
    interval = 1 / rate if rate else 0.0
    shift = interval * orders.index / orders.of
    requests = round(rate * seconds) if rate else _ENDLESS
    load = OpenLoop(order.start + shift, interval, requests, source, time.perf_counter)
    pool.begin(load)
    ticker = Ticker(asyncio.get_running_loop(), interval or 0.01, load.tick)
    cpu, end = time.process_time(), order.start + seconds
    await _until(pool, load, orders.timeout, pipe, lambda: time.perf_counter() >= end)
    cpu_share = (time.process_time() - cpu) / (time.perf_counter() - order.start)
    if rate:
        grace = time.perf_counter() + orders.timeout
        await _until(
            pool,
            load,
            orders.timeout,
            pipe,
            lambda: (load.all_sent and not pool.in_flight) or time.perf_counter() >= grace,
        )
    load.close()
    await _until(pool, load, orders.timeout, pipe, lambda: not pool.in_flight)
    ticker.close()
    return report(load.tally, load.write_off(), cpu_share, seconds)


async def _until(
    pool: Pool, load: OpenLoop, patience: float, pipe: Pipe, done: Callable[[], bool]
) -> None:
    """Let the loop run until `done`, giving up late answers and telling the parent."""
    told = time.perf_counter()
    seen = len(load.tally.latencies)
    while not done():
        await asyncio.sleep(_SWEEP_SECONDS)
        now = time.perf_counter()
        pool.sweep(now, patience)
        if now - told >= PROGRESS_SECONDS:
            pipe.send(_progress(load, seen))
            told, seen = now, len(load.tally.latencies)


def _progress(load: OpenLoop, seen: int) -> Progress:
    tally = load.tally
    stride = max(1, (len(tally.latencies) - seen) // 200)
    return Progress(
        sent=tally.sent,
        answered=sum(tally.statuses.values()),
        bids=tally.bids,
        late=tally.late,
        failed=tally.timeouts + sum(tally.errors.values()),
        recent=tuple(tally.latencies[seen::stride]),
    )


def address(url: SplitResult) -> tuple[str, int]:
    """Host and port of an ``http://`` URL. Raises `ValueError` for any other."""
    if url.scheme != "http" or not url.hostname:
        raise ValueError(f"{url.geturl()!r} is not an http:// URL")
    return url.hostname, url.port or 80


class Generators:
    """All generator processes, from the first connection to the last."""

    def __init__(
        self,
        url: str,
        bodies: Sequence[bytes],
        *,
        connections: int = 64,
        processes: int = 1,
        people: People = EVERYONE,
        timeout: float = 2.0,
        seed: int = 1,
    ) -> None:
        address(urlsplit(url))
        each = max(1, connections // processes)
        self._orders = [
            Orders(url, bodies, each, people, timeout, seed, index, processes)
            for index in range(processes)
        ]
        self._pipes: list[Pipe] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        for orders in self._orders:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(orders, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        try:
            for pipe in self._pipes:
                _receive(pipe)
        except GeneratorFailed:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def run(
        self, step: Step, on_progress: Callable[[Sequence[Progress]], None] | None = None
    ) -> Result:
        """Run one step to its end. Raises `GeneratorFailed` if a generator dies."""
        begin = Begin(step, time.perf_counter() + _START_AHEAD_SECONDS)
        for pipe in self._pipes:
            pipe.send(begin)
        latest = [Progress(0, 0, 0, 0, 0)] * len(self._pipes)
        reports: list[Report] = []
        waiting = dict(enumerate(self._pipes))
        while waiting:
            multiprocessing.connection.wait(list(waiting.values()))
            for index, pipe in list(waiting.items()):
                if not pipe.poll():
                    continue
                found = _receive(pipe)
                if isinstance(found, Report):
                    reports.append(found)
                    del waiting[index]
                elif isinstance(found, Progress):
                    latest[index] = found
            if on_progress is not None:
                on_progress(latest)
        return combine(reports, step.rate, step.seconds)

    def _stop(self) -> None:
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes:
            pipe.close()


def _receive(pipe: Pipe) -> object:
    try:
        found = pipe.recv()
    except (EOFError, OSError) as error:
        raise GeneratorFailed("a generator process died") from error
    if isinstance(found, Failed):
        raise GeneratorFailed(found.why)
    return found
