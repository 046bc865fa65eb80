"""How does one trial go? Start, warm up, break, mend, wait for the bids, count everything."""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import psutil
import redis

from loadtest.bench.servers import NotReady
from loadtest.faults.catalogue import Fault
from loadtest.faults.evidence import Counted, Logged, read_counters, read_log
from loadtest.faults.installation import PEOPLE, Installation
from loadtest.faults.judging import (
    RECOVER_SECONDS,
    WINDOW_SECONDS,
    Row,
    Times,
    doubles,
    judge,
    losses,
)
from loadtest.faults.scene import DidNotBite, Scene
from loadtest.faults.traffic import Traffic, usual_share
from loadtest.faults.truth import Truth
from loadtest.load.usage import Watch

LOOK_SECONDS = 0.5
WARM_SECONDS = 10.0
BEFORE_SECONDS = 2.0
AFTER_SECONDS = 2.0
FINISH_SECONDS = 20.0
AGREE_SECONDS = 20.0
"""How long log and counters may take to agree, once nothing more comes."""
USUAL_SHARE = 0.8
"""A bidder with fewer of its usual bids than this, before anything is broken, proves nothing."""


class NothingToBreak(RuntimeError):
    """The bidder does not bid, even unbroken."""


async def trial(fault: Fault, *, rate: float, seconds: float, seed: int) -> tuple[Row, list[str]]:
    """The fault's row, and notes. Raises `NotReady`, `NothingToBreak` or `DidNotBite`."""
    with TemporaryDirectory(prefix="loadtest-faults-") as folder:
        installation = Installation(Path(folder), disk=fault.own_disk)
        traffic = Traffic(installation.port, rate, PEOPLE, Random(seed))
        try:
            await asyncio.to_thread(installation.start)
            await traffic.open()
            scene = Scene(installation, traffic, seconds, Random(seed + 1))
            times, foreign = await _watched(fault, scene)
            left = await traffic.finish(FINISH_SECONDS)
            logged, counted = await asyncio.to_thread(settled, installation, traffic.truth)
            if left:
                scene.notes.append(f"{left} notices were still not accepted at the end")
            row = judge(fault.name, traffic.truth, times, logged, counted, fault.allowed, foreign)
            return row, scene.notes
        except (NothingToBreak, DidNotBite) as problem:
            raise type(problem)(f"{problem}; it said: {installation.said[-1000:]}") from None
        finally:
            await traffic.close()
            await asyncio.to_thread(installation.stop)


async def _watched(fault: Fault, scene: Scene) -> tuple[Times, float]:
    """When what happened, and the share of all cores that neither the bidder nor we used: a
    neighbour that computes makes answers late, and nobody could say whose fault it was."""
    watch = Watch([scene.installation.pid, os.getpid()])
    before = psutil.cpu_times()

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(watch.sample)  # now and then: who dies between is not forgotten

    looking = asyncio.create_task(look())
    try:
        times = await _play(fault, scene)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    after, ours = psutil.cpu_times(), watch.usage()
    whole = sum(after[:8]) - sum(before[:8])
    idle = after.idle + after.iowait - before.idle - before.iowait
    return times, max(0.0, (whole - idle - ours.cpu_seconds) / whole) if whole > 0 else 0.0


async def _play(fault: Fault, scene: Scene) -> Times:
    """Warm up, break and mend; when all that was."""
    traffic = scene.traffic
    await _until_usual(traffic, USUAL_SHARE, WARM_SECONDS)
    if traffic.truth.asked and usual_share(traffic.truth.asked, *_lately(traffic)) < USUAL_SHARE:
        raise NothingToBreak("the bidder does not bid as it should before anything is broken")
    usual_from = traffic.now
    await asyncio.sleep(BEFORE_SECONDS)
    await scene.remember()
    broken = traffic.now
    async with fault.happens(scene):
        mended = traffic.now
    wanted = 0.9 * usual_share(traffic.truth.asked, usual_from, broken)
    await asyncio.sleep(AFTER_SECONDS)
    await _until_usual(traffic, wanted, 2 * RECOVER_SECONDS)
    return Times(usual_from, broken, mended, traffic.now)


def _lately(traffic: Traffic) -> tuple[float, float]:
    """The last window of which every answer should be in."""
    return traffic.now - 2 * WINDOW_SECONDS, traffic.now - WINDOW_SECONDS


async def _until_usual(traffic: Traffic, share: float, seconds: float) -> None:
    """Return when so many of the bids are the usual ones, or after `seconds`."""
    end = traffic.now + seconds
    while traffic.now < end:
        await asyncio.sleep(WINDOW_SECONDS)
        if usual_share(traffic.truth.asked, *_lately(traffic)) >= share:
            return


def settled(installation: Installation, truth: Truth) -> tuple[Logged, Counted]:
    """Log and counters, as soon as they agree with each other and with the senders; else as they
    stand after `AGREE_SECONDS`. Raises `NotReady` if the store does not answer by then."""
    end = time.monotonic() + AGREE_SECONDS
    while True:
        logged, counted = read_log(installation.events), None
        with suppress(redis.RedisError, OSError), installation.store() as store:
            counted = read_counters(store)
        over = time.monotonic() > end
        if counted is not None:
            wrong = losses(truth, logged, counted) or doubles(truth, logged, counted)
            if over or not (wrong or truth.bids - logged.bids):
                return logged, counted
        elif over:
            raise NotReady("the store does not answer")
        time.sleep(0.5)
