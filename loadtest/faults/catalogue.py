"""Which faults are there, and how is each brought about?

Each is an asynchronous context. It breaks something and keeps it broken until it is entered; from
then on nobody harms the bidder any more, and on leaving all is put right. Each makes sure that it
was felt (`Scene.sees`), since a fault that misses proves nothing. What the
bidder promises and what an operator does is in docs/faults.md.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from loadtest.faults import clients
from loadtest.faults.evidence import latest_time
from loadtest.faults.judging import STRICT, Allowed
from loadtest.faults.scene import DidNotBite, Scene
from models.promote import switch
from models.rollback import rollback

STALL_SECONDS, FLOW_SECONDS = 0.06, 0.04
"""A slow store: it stands still for so long, then works for so long."""
JUMP_SECONDS = 3600.0
_CONNECTIONS = 64
_FILL_BYTES = 1 << 16


@asynccontextmanager
async def store_killed(scene: Scene) -> AsyncIterator[None]:
    """The store's process is ended by SIGKILL."""
    os.kill(_pid(scene, "store"), signal.SIGKILL)
    yield
    await scene.sees("bidder_store_restarts_total")


@asynccontextmanager
async def store_hung(scene: Scene) -> AsyncIterator[None]:
    """The store's process stands still; its connections stay."""
    process = psutil.Process(_pid(scene, "store"))
    process.suspend()
    try:
        await scene.sees("bidder_breaker_open")
        await scene.last()
        yield
    finally:
        process.resume()


@asynccontextmanager
async def store_slow(scene: Scene) -> AsyncIterator[None]:
    """The store stands still for 60 ms of every 100, longer than the 25 ms a request waits."""
    process = psutil.Process(_pid(scene, "store"))

    async def stutter() -> None:
        try:
            while True:
                process.suspend()
                await asyncio.sleep(STALL_SECONDS)
                process.resume()
                await asyncio.sleep(FLOW_SECONDS)
        finally:
            process.resume()

    task = asyncio.create_task(stutter())
    try:
        await scene.last()
        await scene.sees("bidder_store_errors_total")
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def exchange_hangs_up(scene: Scene) -> AsyncIterator[None]:
    """Fifty times a second a connection is dropped in the middle of a request or an answer."""
    times = await clients.hang_up(scene.installation.port, scene.seconds, scene.random)
    if times < scene.seconds:
        raise DidNotBite(f"only {times} connections were dropped")
    scene.notes.append(f"{times} connections dropped")
    yield


@asynccontextmanager
async def slow_reader(scene: Scene) -> AsyncIterator[None]:
    """Ten connections ask on and on and never read an answer."""
    before = await asyncio.to_thread(_memory, scene)
    ended = await clients.never_read(scene.installation.port, scene.seconds + 6.0)
    grown = (await asyncio.to_thread(_memory, scene) - before) / 1e6
    scene.notes.append(f"{ended} of {clients.DEAF_CLIENTS} cut off, workers grew {grown:.0f} MB")
    if not ended:
        raise DidNotBite("no connection was cut off: the bidder's buffers hold all that was asked")
    yield


@asynccontextmanager
async def slow_loris(scene: Scene) -> AsyncIterator[None]:
    """Fifty connections send a request a byte at a time."""
    ended = await clients.never_finish(scene.installation.port, scene.seconds + 3.0)
    scene.notes.append(f"{ended} of {clients.SLOW_CLIENTS} cut off")
    if not ended:
        raise DidNotBite("no connection was cut off")
    yield


@asynccontextmanager
async def huge_body(scene: Scene) -> AsyncIterator[None]:
    """Bodies over the limit: announced, in endless chunks, and 200 MB packed into 200 kB."""
    statuses = await clients.send_too_much(scene.installation.port, scene.seconds)
    scene.notes.append(", ".join(f"{n} x {status}" for status, n in sorted(statuses.items())))
    if set(statuses) - {204, 400, 413} or not statuses[413]:  # 204: shed before it was looked at
        raise DidNotBite(f"not refused as they should be: {scene.notes[-1]}")
    yield


@asynccontextmanager
async def reload(scene: Scene) -> AsyncIterator[None]:
    """Campaign files are changed and reloaded, a good one and a bad one in turn."""
    path = scene.installation.campaigns
    good = path.read_text()
    loop, turn = asyncio.get_running_loop(), 0
    end = loop.time() + scene.seconds
    try:
        while loop.time() < end or turn < 2:
            bad = turn % 2 == 1
            changed = "max_cpm: six" if bad else f"max_cpm: 6.{turn:02d}"
            path.write_text(good.replace("max_cpm: 6.00", changed))
            status = await asyncio.to_thread(scene.installation.reload)
            if status != (422 if bad else 200):
                raise DidNotBite(f"a {'bad' if bad else 'good'} reload was answered with {status}")
            turn += 1
        yield
    finally:
        path.write_text(good)
    scene.notes.append(f"{(turn + 1) // 2} applied, {turn // 2} refused")


@asynccontextmanager
async def model_swap(scene: Scene) -> AsyncIterator[None]:
    """Other models are promoted, then rolled back."""
    root = scene.installation.models
    switch(root, scene.installation.second_models(), "promoted", datetime.now(UTC))
    await scene.sees("bidder_reloads_total", 1, result="applied")
    rollback(root, datetime.now(UTC))
    await scene.sees("bidder_reloads_total", 2, result="applied")
    yield


@asynccontextmanager
async def worker_killed(scene: Scene) -> AsyncIterator[None]:
    """One of the two workers is ended by SIGKILL."""
    os.kill(_pid(scene, "worker 0"), signal.SIGKILL)
    yield
    await scene.sees("bidder_worker_restarts_total")
    await scene.sees("bidder_workers", 0)


@asynccontextmanager
async def disk_full(scene: Scene) -> AsyncIterator[None]:
    """The file system of the log is filled to its last byte; else files may not grow."""
    mend: Callable[[], None]
    if scene.installation.own_disk:
        scene.notes.append("a tmpfs, full: ENOSPC")
        filler = scene.installation.events / "filler"
        await asyncio.to_thread(_fill, filler)
        mend = filler.unlink
    else:
        scene.notes.append("RLIMIT_FSIZE 0: EFBIG")
        mend = _forbid_growing(scene)
    try:
        await scene.sees("bidder_log_stalled")
        await scene.last()
        yield
    finally:
        mend()


@asynccontextmanager
async def clock_jump(scene: Scene) -> AsyncIterator[None]:
    """The time of day steps an hour ahead, and later back."""
    scene.installation.shift_clock(JUMP_SECONDS)
    try:
        await scene.last()
        latest = await asyncio.to_thread(latest_time, scene.installation.events)
        if latest < time.time() + JUMP_SECONDS / 2:
            raise DidNotBite("no event is dated as by the clock that was set")
        yield
    finally:
        scene.installation.shift_clock(0.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that breaks."""

    name: str
    happens: Callable[[Scene], AbstractAsyncContextManager[None]]
    allowed: Allowed = STRICT
    own_disk: bool = False

    @property
    def says(self) -> str:
        """What happens, in a sentence."""
        return (self.happens.__doc__ or "").strip()


FAULTS = (
    Fault("store-killed", store_killed),
    Fault("store-hung", store_hung),
    Fault("store-slow", store_slow),
    Fault("exchange-hangs-up", exchange_hangs_up),
    Fault("slow-reader", slow_reader),
    Fault("slow-loris", slow_loris),
    Fault("huge-body", huge_body),
    Fault("reload", reload),
    Fault("model-swap", model_swap),
    Fault("worker-killed", worker_killed, Allowed(connection_errors=_CONNECTIONS, unlogged_bids=5)),
    Fault("disk-full", disk_full, Allowed(notices_refused=True), own_disk=True),
    Fault("clock-jump", clock_jump),
)


def _pid(scene: Scene, name: str) -> int:
    try:
        return scene.installation.processes()[name]
    except KeyError:
        raise DidNotBite(f"the bidder has no {name}") from None


def _memory(scene: Scene) -> int:
    """Resident bytes of the workers."""
    return sum(
        psutil.Process(pid).memory_info().rss
        for name, pid in scene.installation.processes().items()
        if name.startswith("worker")
    )


def _fill(path: Path) -> None:
    """Write until the file system takes no more."""
    with path.open("wb", buffering=0) as file:
        for size in (_FILL_BYTES, 1):
            try:
                while file.write(bytes(size)):
                    continue
            except OSError:
                continue


def _forbid_growing(scene: Scene) -> Callable[[], None]:
    """Let no process of the bidder but the store write to a file; returns what lifts it."""
    processes = [
        psutil.Process(pid)
        for name, pid in scene.installation.processes().items()
        if name != "store"
    ]
    before = [process.rlimit(psutil.RLIMIT_FSIZE) for process in processes]
    for process, (_, hard) in zip(processes, before, strict=True):
        process.rlimit(psutil.RLIMIT_FSIZE, (0, hard))

    def lift() -> None:
        for process, limits in zip(processes, before, strict=True):
            process.rlimit(psutil.RLIMIT_FSIZE, limits)

    return lift
