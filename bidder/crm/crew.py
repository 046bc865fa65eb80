"""How do several processes read and write for one import?

Each understands portions of the files and writes slices of people, on links of its own; what joins
them, the numbers and who is linked with whom, stays with the one that started them. They are
spawned, never forked, and end with it, however it ends.
"""

import asyncio
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from bidder.crm.batch import Written
from bidder.crm.bulk import write
from bidder.crm.portions import Portion
from bidder.crm.sorting import Slice
from bidder.crm.taking import Piece, Taker
from bidder.crm.writing import Writer
from bidder.store.breaker import StoreUnavailable

Begin = Callable[[], tuple[Taker, AbstractAsyncContextManager[Writer]]]
"""Run by each process when it begins: what it reads with, and what it writes with."""
T = TypeVar("T")
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30


class Crew:
    """The processes of one import. Make it in the main thread, close it with `close`."""

    def __init__(self, size: int, begin: Begin) -> None:
        """`begin` must be picklable: it is run in each process."""
        self._size = size
        self._pool = ProcessPoolExecutor(
            size, multiprocessing.get_context("spawn"), _begin, (begin, os.getpid())
        )
        self._readers: dict[int, int] = {}

    def read(self, portions: Iterable[Portion]) -> Iterator[tuple[Portion, int, Piece]]:
        """Each portion in its order, who read it (from 0), and what it says.

        Raises what reading it raised, and `StoreUnavailable` when a process is gone.
        """
        ahead: deque[tuple[Portion, Future[tuple[int, Piece]]]] = deque()
        for portion in portions:
            ahead.append((portion, self._pool.submit(_read, portion)))
            if len(ahead) > self._size + 1:
                yield self._next(ahead)
        while ahead:
            yield self._next(ahead)

    async def write(self, people: Slice, now: int) -> Written:
        """As `bulk.write`."""
        try:
            return await asyncio.wrap_future(self._pool.submit(_write, people, now))
        except BrokenProcessPool as error:
            raise _gone(error) from None

    def close(self) -> None:
        """End the processes; what they have not begun is not done."""
        self._pool.shutdown(cancel_futures=True)

    def _next(
        self, ahead: deque[tuple[Portion, Future[tuple[int, Piece]]]]
    ) -> tuple[Portion, int, Piece]:
        portion, future = ahead.popleft()
        try:
            process, piece = future.result()
        except BrokenProcessPool as error:
            raise _gone(error) from None
        return portion, self._readers.setdefault(process, len(self._readers)), piece


def _gone(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"a process of the import ended (was memory short?); import again, it goes on: {error}"
    )


class _Duty:
    """What a process has while it lives."""

    def __init__(self, begin: Begin) -> None:
        self.loop = asyncio.new_event_loop()
        self.taker, self._opening = begin()
        self._writer: Writer | None = None

    async def write(self, people: Slice, now: int) -> Written:
        if self._writer is None:
            self._writer = await self._opening.__aenter__()
            await self._writer.spare_tombstones()
        return await write(self._writer, people, now)


_duty: _Duty | None = None


def _begin(begin: Begin, parent: int) -> None:
    global _duty
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us ends us
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if hasattr(libc, "mallopt"):  # columns come and go: keep their memory, it is used again
            libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    if os.getppid() != parent:
        os._exit(1)
    gc.disable()  # millions of values that all live on, and no circles among them
    _duty = _Duty(begin)


def _read(portion: Portion) -> tuple[int, Piece]:
    assert _duty is not None
    return os.getpid(), _duty.taker.read(portion)


def _write(people: Slice, now: int) -> Written:
    assert _duty is not None
    return _duty.loop.run_until_complete(_duty.write(people, now))
