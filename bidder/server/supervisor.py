"""Who starts, watches and ends everything? The supervisor: store, workers, ops port, applier.

It spawns workers (never forks), restarts those that die, and owns the ops port. SIGHUP reloads;
SIGTERM turns unready, keeps answering for `drain` seconds, then drains; SIGINT drains at once; a
second signal ends everything now.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import web

from bidder import metrics
from bidder.campaigns.catalogue import Campaign
from bidder.crm import setup
from bidder.crm.rights.spreading import spread
from bidder.events.forgotten import Forgotten
from bidder.events.log import EventLog, LogUnavailable
from bidder.exchanges.loading import load as load_exchanges
from bidder.metrics import NOTHING, Metrics, Shown, Snapshot, lasting, merge
from bidder.notices.applying import Applier
from bidder.server import people_ops
from bidder.server.applying import KEEP_SECONDS, SWEEP_SECONDS, Follower
from bidder.server.control import (
    Cells,
    Channel,
    Drain,
    FromWorker,
    Ready,
    Reload,
    Reloaded,
)
from bidder.server.intake import (
    MERGES_SECONDS,
    POLL_SECONDS,
    REFRESH_SECONDS,
    Intake,
    host_of,
)
from bidder.server.loading import (
    CannotLoad,
    models_identity,
    published,
    published_campaigns,
    published_names,
)
from bidder.server.ops import application, bears
from bidder.server.selling import Seller
from bidder.settings import Settings, ops_token
from bidder.store.breaker import Breaker, StoreUnavailable
from bidder.store.coalesce import ScriptError, Scripts
from bidder.store.connect import connect
from bidder.store.links import Links

RESTART_SECONDS = 0.5
"""Pause before a dead worker is started again; doubled up to the longest while it keeps dying."""
LONGEST_RESTART_SECONDS = 10.0
READY_SECONDS = 60.0
LONGEST_DRAIN_SECONDS = 10.0
"""Whatever `drain` says: 25 seconds are all there is, store and log included."""
END_SECONDS = 8.0
"""How long a draining worker may take before it is killed."""
HURRY_SECONDS = 1.0
"""The same after a second signal."""
USUAL_EXP_SECONDS = 300
MODELS_SECONDS = 2.0
"""How often we look whether other models were put into service."""
SPREAD_SECONDS = 5.0
"""How often the store is asked whom other hosts were told to forget."""
PATIENCE_SECONDS = 10.0
"""The longest a call about people waits for the store."""


class WorkerDied(RuntimeError):
    """A worker ended before it was ready; its own message says why."""


class Process:
    """One worker process as the supervisor sees it."""

    def __init__(self, index: int, config: Path, store_url: str) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "bidder", "worker", str(index)]
        command += ["--config", str(config), "--store", store_url]
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
        self.channel: Channel[FromWorker] | None = None

    async def watch(self) -> None:
        """Take in what it says, until it is gone."""
        self.channel = await Channel.open(self._end, FromWorker)
        async for message in self.channel.messages():
            if isinstance(message, Ready):
                self.ready.set()
            elif isinstance(message, Cells):
                self.cells = message.snapshot
            elif self.reloaded is not None and not self.reloaded.done():
                self.reloaded.set_result(message)
        self.channel.close()
        await asyncio.to_thread(self.process.wait)
        self.ended.set()
        if self.reloaded is not None and not self.reloaded.done():
            self.reloaded.set_result(Reloaded())  # whoever comes in its place loads what is new

    @property
    def serves(self) -> bool:
        """It is up, as far as we know."""
        return self.ready.is_set() and not self.ended.is_set()

    def tell(self, message: Reload | Drain) -> None:
        """Say something to it."""
        if self.channel is not None:
            self.channel.send(message)


class Supervisor:
    """The whole bidder on this host, from start to end."""

    def __init__(self, config: Path, given: Settings, store_url: str) -> None:
        self._config = config
        self._settings = given
        self._store_url = store_url
        self._campaigns: tuple[Campaign, ...] = ()
        self._workers: dict[int, Process] = {}
        self._buried: Snapshot = NOTHING
        """What workers that ended had counted: counters never go back."""
        self._shown: Shown = {}
        self._metrics = Metrics()
        self._intake: Intake | None = None
        self._seller: Seller | None = None
        self._draining = False
        self._stop = asyncio.Event()
        self._grace_over = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[list[str]]] = set()

    async def run(self, announce: Callable[[], None]) -> None:
        """Serve until a signal says stop. `announce` is called when all workers are ready.

        Raises `CannotLoad` or `WorkerDied` if it cannot start.
        """
        await self._compile()
        self._metrics.set(metrics.RELOAD_OK, 1)
        self._handle_signals()
        async with AsyncExitStack() as stack:
            follower = await self._start_following(stack)
            await self._start_ops(stack)
            keepers = [
                asyncio.create_task(self._keep_running(index))
                for index in range(self._settings.workers)
            ]
            tasks = [
                asyncio.create_task(self._every(SWEEP_SECONDS, self._sweeper(follower))),
                asyncio.create_task(
                    self._every(KEEP_SECONDS, lambda: asyncio.to_thread(follower.keep))
                ),
                asyncio.create_task(self._every(MODELS_SECONDS, self._model_watcher())),
            ]
            try:
                await self._until_ready(keepers)
                announce()
                await self._until(self._stop.wait(), keepers)
                await self._drain()
            finally:
                self._draining = True
                await self._end_workers()
                for task in [*keepers, *tasks]:
                    task.cancel()
                await asyncio.gather(*keepers, *tasks, return_exceptions=True)

    async def reload(self) -> list[str]:
        """Check the configuration, then have every worker load it. What was wrong, if anything."""
        async with self._reloading:
            try:
                await self._compile()
            except CannotLoad as problem:
                return self._reloaded([str(problem)])
            answers = []
            for worker in self._workers.values():
                if worker.serves:
                    worker.reloaded = asyncio.get_running_loop().create_future()
                    answers.append(worker.reloaded)
                    worker.tell(Reload())
            try:
                async with asyncio.timeout(READY_SECONDS):
                    problems = [a.problem for a in await asyncio.gather(*answers) if a.problem]
            except TimeoutError:
                problems = ["a worker did not answer"]
            if not problems:
                await self._adopt()
            return self._reloaded(problems)

    async def _compile(self) -> None:
        """Lay the configuration ready for the workers, in a process that takes its memory along.

        Raises `CannotLoad` with what that process says.
        """
        command = [sys.executable, "-m", "bidder", "compile", "--config", str(self._config)]
        compiling = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
        _, said = await compiling.communicate()
        if compiling.returncode:
            raise CannotLoad(said.decode(errors="replace").strip())
        self._campaigns = published_campaigns(self._settings)

    def _reloaded(self, problems: list[str]) -> list[str]:
        self._metrics.set(metrics.RELOAD_OK, not problems)
        self._metrics.inc(metrics.RELOADS, "refused" if problems else "applied")
        for problem in problems:
            print(f"reload refused, the old configuration stays:\n{problem}", file=sys.stderr)
        return problems

    def _is_ready(self) -> bool:
        return not self._draining and any(worker.serves for worker in self._workers.values())

    def _cells(self) -> Metrics:
        alive = [worker.cells for worker in self._workers.values()]
        serving = sum(worker.serves for worker in self._workers.values())
        self._metrics.set(metrics.WORKERS, serving)
        return merge([self._buried, *alive, self._metrics.snapshot()], self._shown)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def reload() -> None:
            task = loop.create_task(self.reload())
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

        def stop(grace_seconds: float) -> None:
            if self._draining:
                self._hurry.set()
                self._grace_over.set()
                return
            self._draining = True
            loop.call_later(grace_seconds, self._grace_over.set)
            self._stop.set()

        loop.add_signal_handler(signal.SIGHUP, reload)
        grace = min(self._settings.drain, LONGEST_DRAIN_SECONDS)
        loop.add_signal_handler(signal.SIGTERM, stop, grace)
        loop.add_signal_handler(signal.SIGINT, stop, 0.0)

    async def _drain(self) -> None:
        """Unready already: answer on while the exchanges notice, then let the workers finish."""
        await self._grace_over.wait()
        await self._end_workers()

    async def _end_workers(self) -> None:
        """Wait for the workers to end; kill those that do not."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.tell(Drain())
        ended: asyncio.Future[Any] = asyncio.gather(*[worker.ended.wait() for worker in workers])
        hurry: asyncio.Future[Any] = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait([ended, hurry], timeout=END_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await asyncio.wait([ended], timeout=HURRY_SECONDS)
        hurry.cancel()
        for worker in workers:
            if not worker.ended.is_set():
                worker.process.kill()
        await ended

    async def _until_ready(self, keepers: list["asyncio.Task[None]"]) -> None:
        """Return when every worker is ready. Raises `WorkerDied`, or what ended a keeper."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._until(self._all_ready(), keepers)
        except TimeoutError:
            raise WorkerDied(f"not ready within {READY_SECONDS:.0f} seconds") from None

    async def _until(
        self, what: Coroutine[Any, Any, object], keepers: list["asyncio.Task[None]"]
    ) -> None:
        """Return when `what` has. Raises what ended a keeper before."""
        waiting = asyncio.ensure_future(what)
        try:
            await asyncio.wait([waiting, *keepers], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await asyncio.gather(*[keeper for keeper in keepers if keeper.done()])
        finally:
            waiting.cancel()

    async def _all_ready(self) -> None:
        await asyncio.sleep(0)  # lets every keeper start its worker
        await asyncio.gather(*[worker.ready.wait() for worker in self._workers.values()])

    async def _keep_running(self, index: int) -> None:
        """Start worker `index`, and again whenever it dies. The first start must succeed."""
        pause, first = RESTART_SECONDS, True
        while True:
            worker = self._workers[index] = Process(index, self._config, self._store_url)
            await worker.watch()
            self._buried = merge([self._buried, lasting(worker.cells)], self._shown).snapshot()
            worker.cells = NOTHING
            if self._draining:
                return
            if first and not worker.ready.is_set():
                raise WorkerDied(f"worker {index} ended with status {worker.process.returncode}")
            pause = RESTART_SECONDS if worker.ready.is_set() else pause * 2
            first = False
            self._metrics.inc(metrics.WORKER_RESTARTS)
            await asyncio.sleep(min(pause, LONGEST_RESTART_SECONDS))

    async def _start_following(self, stack: AsyncExitStack) -> Follower:
        """The task that applies what is logged; it ends after the workers have."""
        client = connect(self._store_url)
        stack.push_async_callback(client.aclose)
        links = Links(client, Breaker(asyncio.get_running_loop().time), timeout_seconds=1.0)
        stack.push_async_callback(links.aclose)
        scripts = Scripts(links)
        events = self._settings.state_dir / "events"
        events.mkdir(parents=True, exist_ok=True)
        own_log = EventLog(events / "supervisor")
        stack.push_async_callback(own_log.close)
        exchanges = load_exchanges(self._config / "exchanges", os.environ)
        billing = {
            name: exchange.notice_lag_seconds + USUAL_EXP_SECONDS
            for name, exchange in exchanges.items()
        }
        applier = Applier(scripts, self._metrics, self._settings.retention.ledger, billing)
        follower = Follower(
            events, applier, scripts, own_log, self._metrics, self._settings.log.keep
        )
        following = asyncio.create_task(follower.follow())

        async def end() -> None:
            follower.end()
            await following

        stack.push_async_callback(end)
        return follower

    def _sweeper(self, follower: Follower) -> Callable[[], Awaitable[None]]:
        async def sweep() -> None:
            await follower.sweep(self._campaigns)

        return sweep

    def _model_watcher(self) -> Callable[[], Awaitable[None]]:
        """Reloads when a promotion or a rollback has moved what the settings name as models."""
        seen = models_identity(self._config, self._settings)

        async def watch() -> None:
            nonlocal seen
            found = models_identity(self._config, self._settings)
            if found != seen:
                seen = found
                await self.reload()

        return watch

    async def _start_ops(self, stack: AsyncExitStack) -> None:
        listen = self._settings.listen
        token = ops_token()
        app = application(
            self._is_ready,
            self.reload,
            self._cells,
            token,
            [*await self._people_calls(stack, token), *await self._crm_calls(stack, token)],
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, listen.ops_host, listen.ops_port).start()

    async def _people_calls(self, stack: AsyncExitStack, token: str) -> list[web.RouteDef]:
        """The calls about people, and the task that tells this host whom to forget."""
        client = connect(self._store_url)
        stack.push_async_callback(client.aclose)
        clock = asyncio.get_running_loop().time
        links = Links(client, Breaker(clock), timeout_seconds=PATIENCE_SECONDS)
        stack.push_async_callback(links.aclose)
        desk = people_ops.desk_of(self._settings, links, Scripts(links))
        forgotten = Forgotten(self._settings.state_dir / "events")

        async def learn() -> None:
            await spread(links, forgotten)

        learning = asyncio.create_task(self._every(SPREAD_SECONDS, learn))
        stack.callback(learning.cancel)
        return people_ops.routes(desk, self._names, lambda request: bears(request, token))

    async def _crm_calls(self, stack: AsyncExitStack, token: str) -> list[web.RouteDef]:
        """The calls of the CRM, and the tasks that write what comes in about people."""
        client = connect(self._store_url)
        stack.push_async_callback(client.aclose)
        clock = asyncio.get_running_loop().time
        links = Links(client, Breaker(clock), timeout_seconds=PATIENCE_SECONDS)
        stack.push_async_callback(links.aclose)
        log = EventLog(self._settings.state_dir / "events" / "crm")
        stack.push_async_callback(log.close)
        catalogue = await asyncio.to_thread(published, self._settings)
        advertisers = {each.id32: each.id for each in catalogue.advertisers}
        segments = setup.segments(self._config)
        self._seller = Seller(catalogue, log)
        intake = self._intake = Intake(
            links, self._settings, host_of(self._settings), segments, advertisers, self._seller
        )
        for seconds, what in (
            (POLL_SECONDS, intake.drain),
            (MERGES_SECONDS, intake.end_merges),
            (REFRESH_SECONDS, intake.refresh),
        ):
            stack.callback(asyncio.create_task(self._every(seconds, what)).cancel)
        return intake.routes(lambda request: bears(request, token))

    async def _adopt(self) -> None:
        """Let what writes people know of the configuration that was just applied."""
        if self._intake is None or self._seller is None:
            return
        catalogue = await asyncio.to_thread(published, self._settings)
        self._seller.adopt(catalogue)
        self._intake.writer.advertisers = {each.id32: each.id for each in catalogue.advertisers}
        self._intake.writer.segments = setup.segments(self._config)

    def _names(self) -> Mapping[int, str]:
        """Advertisers, campaigns and ads by 32-bit id."""
        return published_names(self._settings)

    async def _every(self, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await what()
            except (StoreUnavailable, ScriptError, LogUnavailable, OSError) as problem:
                self._metrics.inc(metrics.STORE_ERRORS, "supervisor")
                print(f"{problem}; trying again", file=sys.stderr)
