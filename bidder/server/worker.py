"""What does one worker process do? It serves the shared port until its supervisor says drain.

Everything with a lifetime is made here and handed down: store, log, books, engine, server. Beside
the requests run a few periodic tasks, each of which may fail and is tried again.
"""

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random, SystemRandom

import uvloop

from bidder import metrics, settings
from bidder.answering import Answerer
from bidder.crm import setup
from bidder.crm.rights.consent import rules
from bidder.engine import Engine, Policy
from bidder.events.forgotten import Forgotten
from bidder.events.log import EventLog, LogUnavailable
from bidder.events.schema import RequestsEvent
from bidder.metrics import Metrics
from bidder.notices.tokens import Tokens, numbered
from bidder.orders import Orders
from bidder.pricing import Books, Pacing
from bidder.server import http, huge_pages, lean, loading
from bidder.server.control import Cells, Channel, Drain, FromSupervisor, Ready, Reload, Reloaded
from bidder.server.edge import Endpoint, Load
from bidder.server.intake import host_of
from bidder.server.loading import CannotLoad
from bidder.server.pages import Pages
from bidder.server.pages_session import Seals
from bidder.server.people_ops import desk_of
from bidder.server.router import Router
from bidder.server.tracking import Tracking
from bidder.server.visiting import FLUSH_SECONDS, Visiting
from bidder.serving import Serving
from bidder.settings import Settings
from bidder.store import keys
from bidder.store.breaker import Breaker, StoreUnavailable
from bidder.store.coalesce import Reader, ScriptError, Scripts
from bidder.store.connect import connect
from bidder.store.links import Links

LAG_SECONDS = 0.05
"""How often the loop's lag is measured."""
BACKLOG = 1024
"""Connections that the kernel keeps until we accept them."""
EDGES: Mapping[str, type[http.Server | lean.Server]] = {
    "lean": lean.Server,
    "aiohttp": http.Server,
}
COLLECT_EVERY = 10_000
"""Objects that live on before the youngest are looked through, some 1 ms; Python's own is 700,
which is once in a few requests and some 4 % of their cost."""
FEED_SECONDS = 0.01
"""Between two rounds of renewing leases at once: those that came meanwhile go together."""
FINISH_SECONDS = 3.0
"""How long a request may still take when we are told to end, and again until it is given up."""

_logger = logging.getLogger(__name__)


class Worker:
    """One process's share of the traffic."""

    def __init__(
        self,
        index: int,
        state: Path,
        store_url: str,
        channel: Channel[FromSupervisor],
    ) -> None:
        """`state`: the folder in which stands what serves."""
        self._index = index
        self._state = state
        self._channel = channel
        published = loading.in_service(state)
        self._settings = settings.in_service(published)
        self._metrics = Metrics()
        self._loop = asyncio.get_running_loop()
        self._draining = asyncio.Event()
        self._load = Load(self._settings.limits)
        self._counted: dict[str, tuple[float, float]] = {}
        self._stops: frozenset[str] | None = None
        """None until they could be read: nothing is bid before."""
        self._clock = precise(self._loop)

        self._client = connect(store_url)
        breaker = Breaker(self._loop.time)
        self._metrics.set(metrics.BREAKER, 0)
        breaker.on_change.append(lambda is_open: self._metrics.set(metrics.BREAKER, is_open))
        self._links = Links(
            self._client,
            breaker,
            timeout_seconds=2 * self._settings.store.timeout_ms / 1000,
            on_error=lambda call: self._metrics.inc(metrics.STORE_ERRORS, call),
        )
        self._reader, self._scripts = Reader(self._links), Scripts(self._links)
        log = self._settings.log
        self._log = EventLog(
            self._settings.state_dir / "events" / f"worker-{index}",
            rotate_bytes=log.rotate_bytes,
            rotate_seconds=log.rotate_every,
        )
        self._forgotten = Forgotten(self._settings.state_dir / "events")
        self._forgotten.refresh()
        self._start_serving(published)

    def _start_serving(self, published: Path) -> None:
        given, serving = self._settings, loading.serving(published)
        masters = numbered(settings.token_keys(given.state_dir))
        tokens = Tokens(masters, current=next(iter(masters)))
        answerer = Answerer(tokens, given.base_url)
        holder = f"{self._index}-{SystemRandom().getrandbits(32):08x}"
        self._books = Books(holder, loading.longest_hold_seconds(serving.exchanges))
        self._pacing = Pacing(self._books)
        self._adopt(serving)
        self._engine = Engine(
            serving,
            policy(given),
            self._books,
            self._reader,
            self._scripts,
            answerer,
            self._log,
            self._metrics,
            Random(SystemRandom().getrandbits(128)),
            time.time,
            self._clock,
        )
        self._engine.paces = self._pacing.paces
        self._announce(serving)
        endpoint = Endpoint(self._engine, given.limits, self._load, self._metrics, self._clock)
        tracking = Tracking(
            self._engine,
            tokens,
            answerer,
            self._log,
            self._metrics,
            time.time,
            self._forgotten,
            Orders(settings.order_key(given.state_dir)),
        )
        self._visiting = self._browsers(published)
        router = Router(endpoint, tracking, self._metrics, self._pages(tokens), self._visiting)
        edge = EDGES[given.listen.edge]
        self._server = edge(router, given.limits, self._metrics, self._clock)

    def _browsers(self, published: Path) -> Visiting:
        return Visiting(
            self._links,
            host_of(self._settings),
            setup.pseudonyms(self._settings),
            policy(self._settings).privacy,
            loading.partners(published),
            lambda: {each.id: each.domain for each in self._engine.serving.catalogue.advertisers},
            settings.login_key(),
            SystemRandom(),
            time.time,
        )

    def _pages(self, tokens: Tokens) -> Pages:
        given = self._settings
        return Pages(
            desk_of(given, self._links, self._scripts),
            tokens,
            Seals(settings.token_keys(given.state_dir)),
            lambda: self._engine.serving.catalogue,
            given.rights,
            given.base_url,
            self._load.excess,
            time.time,
        )

    async def run(self) -> None:
        """Serve until told to drain, then finish what is under way."""
        listen = self._settings.listen
        await self._before_first_request()
        shared = _shared_socket(listen.host, listen.port)
        acceptor = await self._loop.create_server(self._server, sock=shared, backlog=BACKLOG)
        self._channel.send(Ready())
        tasks = [
            asyncio.create_task(self._every(seconds, what))
            for seconds, what in (
                (0.25, self._sync_books),
                (FEED_SECONDS, self._feed_books),
                (1.0, self._read_stops),
                (1.0, self._report),
                (1.0, self._learn_forgotten),
                (FLUSH_SECONDS, self._visiting.flush),
                (min(5.0, self._settings.limits.request_seconds / 2), self._cut_slow),
                (10.0, self._log_requests),
            )
        ]
        tasks.append(asyncio.create_task(self._watch_lag()))
        tasks.append(asyncio.create_task(self._listen()))
        try:
            await self._draining.wait()
        finally:
            acceptor.close()
            await self._server.shutdown(FINISH_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()

    async def _before_first_request(self) -> None:
        """Leases and stops must be known before anything is bid. Without a store: later."""
        try:
            await self._links.ping()
            await self._read_stops()
            await self._sync_books()
            while self._pacing.step(time.time(), 0):
                pass  # unpaced, a campaign would begin with a burst
        except StoreUnavailable:
            self._engine.serving.schedule.fund(0)
        # What is loaded now lives as long as we do: the collector need not look at it again. What
        # a request makes goes with it, circles apart, so it need not look often either.
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_EVERY)
        huge_pages.gather()

    async def _close(self) -> None:
        try:
            await self._log_requests()
            await self._books.close(self._scripts, time.time())
        except (StoreUnavailable, ScriptError) as problem:
            _logger.warning("leases are left to end by themselves: %s", problem)
        try:
            await self._log.close()
        except LogUnavailable as problem:
            _logger.error("events are lost: %s", problem)
        await self._report()
        await self._channel.drain()
        await self._links.aclose()
        await self._client.aclose()

    async def _listen(self) -> None:
        async for message in self._channel.messages():
            if isinstance(message, Drain):
                break
            if isinstance(message, Reload):
                await self._reload()
        self._draining.set()

    async def _reload(self) -> None:
        """Swap in a new `Serving`, or keep the old one and say why."""
        try:
            published = loading.in_service(self._state)
            given = settings.in_service(published)
            partners = await asyncio.to_thread(loading.partners, published)
            serving = await asyncio.to_thread(loading.serving, published)
        except (CannotLoad, OSError, ValueError) as problem:
            self._channel.send(Reloaded(problem=str(problem)))
            return
        self._settings = given
        self._engine.policy = policy(given)
        self._visiting.partners = partners
        self._adopt(serving)
        serving.schedule.stop(self._stops or ())
        self._engine.serving = serving
        self._fund(time.time())
        self._announce(serving)
        await asyncio.to_thread(huge_pages.gather)
        self._channel.send(Reloaded(model=serving.scorer.version))

    def _adopt(self, serving: Serving) -> None:
        self._books.hold_seconds = loading.longest_hold_seconds(serving.exchanges)
        self._books.adopt(serving.catalogue)
        self._pacing.adopt(serving.catalogue, serving.traffic)

    def _announce(self, serving: Serving) -> None:
        self._metrics.clear(metrics.MODEL)
        self._metrics.set(metrics.MODEL, 1, serving.scorer.version)

    async def _every(self, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await what()
            except StoreUnavailable:
                continue  # counted where it happened; the next turn tries again
            except Exception:
                _logger.exception("trying again")

    async def _learn_forgotten(self) -> None:
        self._forgotten.refresh()

    async def _sync_books(self) -> None:
        now = time.time()
        try:
            await self._books.sync(self._scripts, now)
        finally:
            exchanges = self._engine.serving.exchanges
            self._pacing.step(now, sum(self._metrics.get(metrics.REQUESTS, n) for n in exchanges))
            self._fund(now)

    async def _feed_books(self) -> None:
        """Renew at once the leases that a bid found or left empty: a quiet campaign has but one
        bid's. Who may bid is left to `_sync_books`: with a thousand campaigns that costs more than
        a bid."""
        await self._books.hunger.wait()
        await self._books.feed(self._scripts, time.time())

    def _fund(self, now: float) -> None:
        """Let those bid that have money, once it is known who was stopped."""
        funded = self._books.funded(now) if self._stops is not None else 0
        self._engine.serving.schedule.fund(funded)

    async def _read_stops(self) -> None:
        found = await self._links.bulk([("SMEMBERS", keys.STOPS)])
        self._stops = frozenset(path.decode() for path in found[0])
        self._engine.serving.schedule.stop(self._stops)

    async def _watch_lag(self) -> None:
        """How much later than asked the loop wakes us: the time a request waits to be seen."""
        while True:
            due = self._loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._load.lag_seconds = self._loop.time() - due

    async def _cut_slow(self) -> None:
        self._server.cut_slow_senders()

    async def _report(self) -> None:
        written = self._log.written_bytes
        self._metrics.inc(metrics.LOG_BYTES, by=written - self._metrics.get(metrics.LOG_BYTES))
        lost = self._log.lost_lines
        self._metrics.inc(metrics.LOG_LOST, by=lost - self._metrics.get(metrics.LOG_LOST))
        self._metrics.set(metrics.LOG_STALLED, self._log.stalled)
        self._channel.send(Cells(self._metrics.snapshot()))

    async def _log_requests(self) -> None:
        """How many requests came since the last time, for the report."""
        for name in self._engine.serving.exchanges:
            requests = self._metrics.get(metrics.REQUESTS, name)
            bids = self._metrics.get(metrics.BIDS, name)
            before = self._counted.get(name, (0.0, 0.0))
            if requests != before[0]:
                self._counted[name] = (requests, bids)
                more = (int(requests - before[0]), int(bids - before[1]))
                self._log.append(RequestsEvent(time.time(), name, *more))


def main(index: int, state: Path, store_url: str, control: int) -> None:
    """The worker process; `control` is the file descriptor of its end of the pair."""

    async def run() -> None:
        channel: Channel[FromSupervisor] = await Channel.open(
            socket.socket(fileno=control), FromSupervisor
        )
        worker = Worker(index, state, store_url, channel)
        await worker.run()

    logging.basicConfig(level=logging.WARNING, format=f"worker {index}: %(message)s")
    uvloop.run(run())


def precise(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The loop's clock in full: uvloop's own counts whole milliseconds of the same clock."""
    return time.monotonic if abs(loop.time() - time.monotonic()) < 0.1 else loop.time


def policy(given: Settings) -> Policy:
    """What the settings say of deciding."""
    return Policy(
        privacy=rules(given),
        identifiers=given.identifiers,
        ledger_seconds=given.retention.ledger,
        store_seconds=given.store.timeout_ms / 1000,
        answer_seconds=given.answer_ms / 1000,
        no_bid_sample=given.log.no_bid_sample,
    )


def _shared_socket(host: str, port: int) -> socket.socket:
    """A listening socket that other workers may share: the kernel spreads connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    shared = socket.socket(family, socket.SOCK_STREAM)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind((host, port))
    return shared
