"""Does the bidder answer in time, and without errors, under a modest load?"""

import asyncio
from time import perf_counter

import orjson

from .rules import Failed, Trial, bid_answer, rule
from .samples import Json, fresh
from .wire import BrokenAnswer, Connection, wire_seconds

_GROUP = "deadlines"
_CONNECTIONS = 8
_TRIES = 5


@rule(_GROUP, "no-time", "§3.2.1, nbr 15")
async def no_time(trial: Trial) -> None:
    """With no time left there is a no-bid, or a bid that comes in time for all that"""
    request, _ = await trial.bid()
    wire = await wire_seconds(trial.target)
    for milliseconds in (1, 5):
        taken = [await bid_seconds(trial, fresh(request, tmax=milliseconds)) for _ in range(_TRIES)]
        late = [seconds for seconds in taken if (seconds - wire) * 1000 > milliseconds]
        if len(late) > _TRIES // 2:
            best = f"the fastest after {min(late) * 1000:.1f} ms, of which {wire * 1000:.1f} wire"
            raise Failed(f"tmax {milliseconds}: {len(late)} of {_TRIES} bids too late, {best}")


async def bid_seconds(trial: Trial, request: Json) -> float:
    """How long a bid took on an open connection; 0 for a no-bid."""
    async with Connection(trial.target) as connection:
        began = perf_counter()
        answer = await connection.exchange(trial.target.post(orjson.dumps(request)))
        taken = perf_counter() - began
    return 0.0 if bid_answer(answer) is None else taken


@rule(_GROUP, "late", "§3.2.1; Google qualifies at 2 % late or less")
async def late(trial: Trial) -> None:
    """Answers come within `tmax`, at a constant rate that does not wait for them"""
    found = await load(trial)
    share = found.late / trial.load_requests
    if share > trial.max_late_share:
        raise Failed(f"{share:.1%} late of {trial.load_requests:,} at {trial.load_rate:g}/s")


@rule(_GROUP, "errors", "Google throttles above 15 % errors")
async def errors(trial: Trial) -> None:
    """Under load, answers are 200 or 204"""
    found = await load(trial)
    share = found.errors / trial.load_requests
    if share > trial.max_error_share:
        raise Failed(f"{share:.1%} errors of {trial.load_requests:,}; last: {found.last_error}")


class Load:
    """Counts of one run."""

    def __init__(self) -> None:
        self.late = 0
        self.errors = 0
        self.last_error = ""


async def load(trial: Trial) -> Load:
    """Send `load_requests` at `load_rate`; latency counts from when each should have been sent."""
    found = Load()
    began = perf_counter()
    due = iter(range(trial.load_requests))

    async def sender() -> None:
        connection: Connection | None = None
        for number in due:  # shared: each number goes to one sender
            intended = began + number / trial.load_rate
            await asyncio.sleep(max(intended - perf_counter(), 0))
            request = fresh(trial.requests[number % len(trial.requests)])
            try:
                if connection is None:
                    connection = await Connection(trial.target).__aenter__()
                answer = await connection.exchange(trial.target.post(orjson.dumps(request)))
            except BrokenAnswer as broken:
                found.errors += 1
                found.late += 1  # what never came is not in time either
                found.last_error = str(broken)
                connection = None
                continue
            if answer.status not in (200, 204):
                found.errors += 1
                found.last_error = f"status {answer.status}"
            found.late += (perf_counter() - intended) * 1000 > (request.get("tmax") or 100)
        if connection is not None:
            await connection.__aexit__()

    await asyncio.gather(*(sender() for _ in range(_CONNECTIONS)))
    return found
