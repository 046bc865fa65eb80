"""Who starts, watches and ends everything? The supervisor: store, workers, ops port, applier.

It owns the ops port. SIGHUP reloads; SIGTERM turns unready, keeps answering for `drain` seconds and
then drains; SIGINT drains at once; a second signal ends everything now.
"""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from bidder import metrics, settings
from bidder.crm import setup
from bidder.crm.rights.spreading import LATE_SECONDS, spread
from bidder.events.forgotten import Forgotten
from bidder.events.log import EventLog, LogUnavailable
from bidder.events.refused import noting
from bidder.metrics import Metrics
from bidder.notices.applying import Applier
from bidder.server import people_ops
from bidder.server.applying import KEEP_SECONDS, SWEEP_SECONDS, Follower
from bidder.server.intake import (
    MERGES_SECONDS,
    POLL_SECONDS,
    REFRESH_SECONDS,
    Intake,
    host_of,
)
from bidder.server.loading import (
    CannotLoad,
    hold_seconds,
    in_service,
    models_identity,
    published,
    published_exchanges,
    published_names,
    put_into_service,
)
from bidder.server.ops import Outcome, application, bears
from bidder.server.selling import Seller
from bidder.server.workers import Workers
from bidder.settings import Settings, ops_token
from bidder.store.breaker import Breaker, StoreUnavailable
from bidder.store.coalesce import ScriptError, Scripts
from bidder.store.connect import connect
from bidder.store.embedded import EmbeddedStore, EmbeddedStoreError
from bidder.store.links import Links
from bidder.yamlfiles import InvalidFile

LONGEST_DRAIN_SECONDS = 10.0
"""Whatever `drain` says: 25 seconds are all there is, store and log included."""
MODELS_SECONDS = 2.0
"""How often we look whether other models were put into service."""
REVIVE_SECONDS = 0.5
"""How often we look whether the embedded store still runs."""
SPREAD_SECONDS = 5.0
"""How often the store is asked whom other hosts were told to forget."""
FOLLOWING_SECONDS = 1.0
"""The longest that applying the log waits for the store."""
PATIENCE_SECONDS = 10.0
"""The longest a call about people waits for the store."""
_TRANSIENT = (StoreUnavailable, ScriptError, LogUnavailable, EmbeddedStoreError, OSError)
"""What a periodic task survives: it is counted, said, and tried again."""


class Supervisor:
    """The whole bidder on this host, from start to end."""

    def __init__(
        self,
        config: Path,
        given: Settings,
        store_url: str,
        embedded: EmbeddedStore | None = None,
    ) -> None:
        """`embedded`: the store behind the URL, if it is a child of ours. Its owner stops it."""
        self._config = config
        self._settings = given
        self._store_url = store_url
        self._embedded = embedded
        self._metrics = Metrics()
        self._workers = Workers(given.workers, store_url, given.state_dir, self._metrics)
        self._applier: Applier | None = None
        self._intake: Intake | None = None
        self._seller: Seller | None = None
        self._draining = False
        self._stop = asyncio.Event()
        self._grace_over = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[Outcome]] = set()

    async def run(self, announce: Callable[[], None]) -> None:
        """Serve until a signal says stop. `announce` is called when all workers are ready.

        Raises `CannotLoad` or `WorkerDied` if it cannot start.
        """
        models_moved = self._model_watcher()
        await self._compile(self._settings)
        self._metrics.set(metrics.RELOAD_OK, 1)
        self._handle_signals()
        async with AsyncExitStack() as stack:
            async with self._reloading:  # a reload waits for what has to learn of it
                follower = await self._start_following(stack)
                await self._start_ops(stack)
            tasks = [
                self._often("billing what nobody billed", SWEEP_SECONDS, follower.sweep),
                self._often(
                    "keeping the log", KEEP_SECONDS, lambda: asyncio.to_thread(follower.keep)
                ),
                self._often("watching the models", MODELS_SECONDS, models_moved),
                self._often("reviving the store", REVIVE_SECONDS, self._revive_store),
            ]
            try:
                await self._workers.start()
                announce()
                await self._workers.until(self._stop.wait())
                await self._grace_over.wait()  # unready already: exchanges notice, we answer on
            finally:
                self._draining = True
                await self._workers.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def reload(self) -> Outcome:
        """Check the configuration, then have every worker load it. If one cannot, all go back."""
        async with self._reloading:
            before = in_service(self._settings.state_dir)
            try:
                wanted, waiting = settings.adopted(self._settings, settings.load(self._config))
                await self._compile(wanted)
            except InvalidFile as found:
                return self._reloaded(Outcome([str(problem) for problem in found.problems]))
            except CannotLoad as problem:
                return self._reloaded(Outcome([str(problem)]))
            problems = await self._workers.reload()
            if problems:
                put_into_service(before)
                await self._workers.reload()
                return self._reloaded(Outcome(problems))
            self._settings = wanted
            await self._adopt()
            return self._reloaded(Outcome(waiting=waiting))

    async def _compile(self, given: Settings) -> None:
        """Put the configuration into service, for the workers to load: in a process that takes its
        memory along.

        Raises `CannotLoad` with what that process says.
        """
        command = [sys.executable, "-m", "bidder", "compile", "--config", str(self._config)]
        compiling = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        _, said = await compiling.communicate(given.model_dump_json().encode())
        if compiling.returncode:
            raise CannotLoad(said.decode(errors="replace").strip())

    def _reloaded(self, outcome: Outcome) -> Outcome:
        self._metrics.set(metrics.RELOAD_OK, not outcome.problems)
        self._metrics.inc(metrics.RELOADS, "refused" if outcome.problems else "applied")
        for problem in outcome.problems:
            print(f"reload refused, the old configuration stays:\n{problem}", file=sys.stderr)
        for name in outcome.waiting:
            print(f"reloaded; {name} changed: applies at the next start", file=sys.stderr)
        return outcome

    def _is_ready(self) -> bool:
        return not self._draining and self._workers.serving > 0

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def reload() -> None:
            task = loop.create_task(self.reload())
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

        def stop(grace_seconds: float) -> None:
            if self._draining:
                self._workers.hurry.set()
                self._grace_over.set()
                return
            self._draining = True
            self._workers.let_go()
            loop.call_later(grace_seconds, self._grace_over.set)
            self._stop.set()

        loop.add_signal_handler(signal.SIGHUP, reload)
        grace = min(self._settings.drain, LONGEST_DRAIN_SECONDS)
        loop.add_signal_handler(signal.SIGTERM, stop, grace)
        loop.add_signal_handler(signal.SIGINT, stop, 0.0)

    def _links(self, stack: AsyncExitStack, timeout_seconds: float) -> Links:
        """A way to the store of their own, for as long as `stack` lasts."""
        client = connect(self._store_url)
        stack.push_async_callback(client.aclose)
        clock = asyncio.get_running_loop().time
        links = Links(client, Breaker(clock), timeout_seconds=timeout_seconds)
        stack.push_async_callback(links.aclose)
        return links

    async def _start_following(self, stack: AsyncExitStack) -> Follower:
        """The task that applies what is logged; it ends after the workers have."""
        links = self._links(stack, FOLLOWING_SECONDS)
        events = self._settings.state_dir / "events"
        events.mkdir(parents=True, exist_ok=True)
        own_log = EventLog(events / "supervisor")
        stack.push_async_callback(own_log.close)
        lasts = hold_seconds(published_exchanges(self._settings))
        ledger_seconds = self._settings.retention.ledger
        applier = self._applier = Applier(
            Scripts(links), self._metrics, ledger_seconds, lasts, noting(events)
        )
        follower = Follower(events, applier, links, own_log, self._metrics, self._settings.log.keep)
        following = asyncio.create_task(follower.follow())

        async def end() -> None:
            follower.end()
            await following

        stack.push_async_callback(end)
        return follower

    async def _revive_store(self) -> None:
        """In this thread, the main one: the store lives as long as the thread that started it."""
        if self._embedded is not None and self._embedded.revive():
            self._metrics.inc(metrics.STORE_RESTARTS)
            print("the embedded store had ended; started again", file=sys.stderr)

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
            self._workers.cells,
            token,
            [*await self._people_calls(stack, token), *await self._crm_calls(stack, token)],
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, listen.ops_host, listen.ops_port).start()

    async def _people_calls(self, stack: AsyncExitStack, token: str) -> list[web.RouteDef]:
        """The calls about people, and the task that tells this host whom to forget."""
        links = self._links(stack, PATIENCE_SECONDS)
        desk = people_ops.desk_of(self._settings, links, Scripts(links))
        forgotten = Forgotten(self._settings.state_dir / "events")

        async def learn() -> None:
            await spread(links, forgotten, time.time(), self._forget_seconds())

        stack.callback(self._often("learning whom to forget", SPREAD_SECONDS, learn).cancel)
        return people_ops.routes(desk, self._names, lambda request: bears(request, token))

    def _forget_seconds(self) -> float:
        """For how long the log may still hold, or get, lines about somebody."""
        return self._settings.log.keep + LATE_SECONDS

    async def _crm_calls(self, stack: AsyncExitStack, token: str) -> list[web.RouteDef]:
        """The calls of the CRM, and the tasks that write what comes in about people."""
        links = self._links(stack, PATIENCE_SECONDS)
        log = EventLog(self._settings.state_dir / "events" / "crm")
        stack.push_async_callback(log.close)
        catalogue = await asyncio.to_thread(published, self._settings)
        advertisers = {each.id32: each.id for each in catalogue.advertisers}
        segments = setup.segments(in_service(self._settings.state_dir))
        self._seller = Seller(catalogue, log)
        intake = self._intake = Intake(
            links, self._settings, host_of(self._settings), segments, advertisers, self._seller
        )
        await intake.look_for_keys()
        for aim, seconds, what in (
            ("writing visits", POLL_SECONDS, intake.drain),
            ("judging consent", POLL_SECONDS, intake.obey),
            ("ending merges", MERGES_SECONDS, intake.end_merges),
            ("refreshing people", REFRESH_SECONDS, intake.refresh),
        ):
            stack.callback(self._often(aim, seconds, what).cancel)
        return intake.routes(lambda request: bears(request, token))

    async def _adopt(self) -> None:
        """Let what bills and what writes people know of the configuration that was just applied."""
        if self._applier is None or self._intake is None or self._seller is None:
            return
        # Of an exchange that is gone, notices may still come.
        self._applier.billing_seconds |= hold_seconds(published_exchanges(self._settings))
        catalogue = await asyncio.to_thread(published, self._settings)
        self._seller.adopt(catalogue)
        self._intake.writer.advertisers = {each.id32: each.id for each in catalogue.advertisers}
        self._intake.writer.segments = setup.segments(in_service(self._settings.state_dir))

    def _names(self) -> Mapping[int, str]:
        """Advertisers, campaigns and ads by 32-bit id."""
        return published_names(self._settings)

    def _often(
        self, aim: str, seconds: float, what: Callable[[], Awaitable[None]]
    ) -> asyncio.Task[None]:
        """A task that does `what` again and again; `aim` is what a failure is said of."""
        return asyncio.create_task(self._every(aim, seconds, what))

    async def _every(self, aim: str, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await what()
            except _TRANSIENT as problem:
                self._metrics.inc(metrics.STORE_ERRORS, "supervisor")
                print(f"{aim}: {problem}; trying again", file=sys.stderr)
