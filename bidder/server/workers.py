"""How do the workers live? Spawned, started again when they die, told to reload, and ended.

They are never forked. Each says what it counted once a second; what the dead had counted is kept.
"""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from bidder import metrics
from bidder.metrics import NOTHING, Metrics, Shown, Snapshot, lasting, merge
from bidder.server.control import Cells, Channel, Drain, FromWorker, Ready, Reload, Reloaded

RESTART_SECONDS = 0.5
"""Pause before a dead worker is started again; doubled up to the longest while it keeps dying."""
LONGEST_RESTART_SECONDS = 10.0
READY_SECONDS = 60.0
END_SECONDS = 8.0
"""How long a draining worker may take before it is killed."""
HURRY_SECONDS = 1.0
"""The same after a second signal."""


class WorkerDied(RuntimeError):
    """A worker ended before it was ready; its own message says why."""


class Process:
    """One worker process as seen from outside."""

    def __init__(self, index: int, store_url: str, state: Path) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "bidder", "worker", str(index)]
        command += ["--state", str(state), "--store", store_url]
        command += ["--control", str(theirs.fileno())]
        with theirs:
            # A session of its own: Ctrl-C in the terminal reaches the supervisor alone.
            self.process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), start_new_session=True
            )
        self.index = index
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.reloaded: asyncio.Future[Reloaded] | None = None
        self.cells: Snapshot = NOTHING
        self._end = ours
        self._channel: Channel[FromWorker] | None = None
        self._unsaid: list[Reload | Drain] = []
        """What it was told before there was a channel."""

    async def watch(self) -> None:
        """Take in what it says, until it is gone."""
        channel = self._channel = await Channel.open(self._end, FromWorker)
        try:
            for unsaid in self._unsaid:
                channel.send(unsaid)
            async for message in channel.messages():
                self._take(message)
        finally:
            channel.close()  # if it is still there, it sees this, and drains
            await asyncio.to_thread(self.process.wait)
            self.ended.set()
            self._answer(Reloaded())  # whoever comes in its place loads what is new

    def _take(self, message: FromWorker) -> None:
        if isinstance(message, Ready):
            self.ready.set()
        elif isinstance(message, Cells):
            self.cells = message.snapshot
        else:
            self._answer(message)

    def _answer(self, reloaded: Reloaded) -> None:
        if self.reloaded is not None and not self.reloaded.done():
            self.reloaded.set_result(reloaded)

    @property
    def serves(self) -> bool:
        """It is up, as far as we know."""
        return self.ready.is_set() and not self.ended.is_set()

    def tell(self, message: Reload | Drain) -> None:
        """Say something to it. While it starts, it hears it as soon as it listens."""
        if self._channel is None:
            self._unsaid.append(message)
        else:
            self._channel.send(message)


class Workers:
    """All workers of this host. `cells` are the supervisor's own metrics."""

    def __init__(self, count: int, store_url: str, state: Path, cells: Metrics) -> None:
        """`state`: the folder in which stands what serves."""
        self._count = count
        self._store_url = store_url
        self._state = state
        self._metrics = cells
        self._workers: dict[int, Process] = {}
        self._buried: Snapshot = NOTHING
        """What workers that ended had counted: counters never go back."""
        self._shown: Shown = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._ending = False
        self.hurry = asyncio.Event()
        """Set: those that still drain are killed."""

    @property
    def serving(self) -> int:
        """How many are up."""
        return sum(worker.serves for worker in self._workers.values())

    def cells(self) -> Metrics:
        """What all of them counted, the dead included, and the supervisor."""
        self._metrics.set(metrics.WORKERS, self.serving)
        alive = [worker.cells for worker in self._workers.values()]
        return merge([self._buried, *alive, self._metrics.snapshot()], self._shown)

    async def start(self) -> None:
        """Return when all are ready. Raises `WorkerDied`, or what else went wrong."""
        self._keepers = [asyncio.create_task(self._keep(index)) for index in range(self._count)]
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self.until(self._all_ready())
        except TimeoutError:
            raise WorkerDied(f"not ready within {READY_SECONDS:.0f} seconds") from None

    async def until(self, what: Coroutine[Any, Any, object]) -> None:
        """Return when `what` has. Raises what ended the keeping of a worker, if that is first."""
        waiting = asyncio.ensure_future(what)
        try:
            await asyncio.wait([waiting, *self._keepers], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await asyncio.gather(*[keeper for keeper in self._keepers if keeper.done()])
        finally:
            waiting.cancel()

    async def reload(self) -> list[str]:
        """Have each load what is laid ready. What was wrong, if anything.

        One that only starts may have read what was there before, so it is told too.
        """
        answers = []
        for worker in self._workers.values():
            if not worker.ended.is_set():
                worker.reloaded = asyncio.get_running_loop().create_future()
                answers.append(worker.reloaded)
                worker.tell(Reload())
        try:
            async with asyncio.timeout(READY_SECONDS):
                return [a.problem for a in await asyncio.gather(*answers) if a.problem]
        except TimeoutError:
            return ["a worker did not answer"]

    def let_go(self) -> None:
        """From here on those that end are not started again."""
        self._ending = True

    async def drain(self) -> None:
        """Let them finish; kill those that do not."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.tell(Drain())
        ended: asyncio.Future[Any] = asyncio.gather(*[worker.ended.wait() for worker in workers])
        hurry: asyncio.Future[Any] = asyncio.ensure_future(self.hurry.wait())
        await asyncio.wait([ended, hurry], timeout=END_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await asyncio.wait([ended], timeout=HURRY_SECONDS)
        hurry.cancel()
        for worker in workers:
            if not worker.ended.is_set():
                worker.process.kill()
        await ended

    async def close(self) -> None:
        """Drain them, and start none again."""
        self._ending = True
        await self.drain()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _all_ready(self) -> None:
        await asyncio.sleep(0)  # lets every keeper start its worker
        await asyncio.gather(*[worker.ready.wait() for worker in self._workers.values()])

    async def _keep(self, index: int) -> None:
        """Start worker `index`, and again whenever it dies. The first start must succeed."""
        pause, first = RESTART_SECONDS, True
        while True:
            worker = Process(index, self._store_url, self._state)
            self._workers[index] = worker
            await worker.watch()
            self._buried = merge([self._buried, lasting(worker.cells)], self._shown).snapshot()
            worker.cells = NOTHING
            if self._ending:
                return
            if first and not worker.ready.is_set():
                raise WorkerDied(f"worker {index} ended with status {worker.process.returncode}")
            pause = RESTART_SECONDS if worker.ready.is_set() else pause * 2
            first = False
            self._metrics.inc(metrics.WORKER_RESTARTS)
            await asyncio.sleep(min(pause, LONGEST_RESTART_SECONDS))
            if self._ending:
                return
