"""How does the bidder fare on the simulated market, with these models? In process, by its clock.

The engine is the real one, on a real store: people are read, exposures claimed, notices received,
logged and applied as in service. Only time is the market's: requests of `WINDOW_SECONDS` are
decided together, then what was called is delivered, before the next are asked.
"""

import asyncio
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import exp
from pathlib import Path
from random import Random
from typing import cast
from urllib.parse import parse_qs, urlsplit

import uvloop
from msgspec import Struct
from msgspec.structs import replace

from bidder.answering import Answerer
from bidder.campaigns.catalogue import Catalogue, Creative
from bidder.campaigns.rates import load_rates
from bidder.capping import Parameters
from bidder.engine import Engine, Policy
from bidder.events.files import file_name
from bidder.events.forgotten import Forgotten
from bidder.events.log import EventLog
from bidder.events.schema import AnyEvent, Event, Notice, encode
from bidder.exchanges.profile import Exchange
from bidder.metrics import Metrics
from bidder.money import MICROS
from bidder.notices.applying import Applier
from bidder.notices.tokens import Tokens
from bidder.openrtb.opportunity import opportunity
from bidder.openrtb.request import decode
from bidder.orders import Orders
from bidder.people.loading import load as load_people
from bidder.pricing import Books
from bidder.pricing.market import NOTHING, Learnt
from bidder.scoring import features
from bidder.scoring.model import Scorer
from bidder.server.tracking import NOTICES, Tracking
from bidder.server.worker import policy
from bidder.serving import Serving
from bidder.settings import Settings, Tcf
from bidder.store.breaker import Breaker
from bidder.store.coalesce import Reader, Scripts
from bidder.store.connect import connect
from bidder.store.links import Links
from loadtest.exchange.delivery import Event as Call
from loadtest.exchange.market import Market, Request
from loadtest.world import World, load_world

WINDOW_SECONDS = 10.0
SETTLE_SECONDS = 3 * 86400
"""How long after the last request calls still come: the sales after that are not learnt from."""
PATIENCE_SECONDS = 30.0
"""The machine may be slow; what is measured here is not speed."""
EXCHANGE = "demo"
HERE = Path(__file__).parent
PROPORTIONAL, INTEGRAL, STEP, MOST_URGE = 10.0, 0.5, 0.03, 6.0
"""How the factor on values follows the plan; a share of the budget behind it is the error."""
DENSER_CLICKS, DENSER_SALES = 10.0, 10.0
"""In a trial clicks and sales are so many times likelier than in the world, so that the log of a
small market holds as many as that of a large one would. What makes them likelier stays the same."""


def dense(name: str) -> World:
    """The world of this name, with more clicks and sales."""
    world = load_world(name)
    truth = world.truth
    click, sale = truth.click, truth.sale
    more = replace(
        truth,
        click=replace(click, base=click.base * DENSER_CLICKS),
        sale=replace(sale, base=sale.base * DENSER_SALES),
    )
    return replace(world, truth=more)


class Outcome(Struct, frozen=True):
    """What a market came to. Sales are expected: the sum of the true chances of what was shown,
    which is what they are without their luck."""

    requests: int
    impressions: int
    spend: float
    expected_clicks: float
    expected_sales: float
    clicks: int
    sales: int

    @property
    def sales_per_euro(self) -> float:
        """The figure by which rounds are compared."""
        return self.expected_sales / self.spend if self.spend else 0.0


class Trial:
    """Serves markets one after the other on one store. `state`: where its log goes, if anywhere."""

    def __init__(
        self,
        store_url: str,
        catalogue: Catalogue,
        exchange: Exchange,
        intrusion: Parameters | None = None,
    ) -> None:
        self._url = store_url
        self.intrusion = intrusion
        self.catalogue = catalogue
        self.exchange = exchange
        self.settings = Settings(tcf=Tcf(vendor_id=1234))

    def serve(
        self,
        market: Market,
        models: "Scorer | Oracle",
        seed: int,
        budget: float,
        log: Path | None = None,
        learnt: Learnt = NOTHING,
    ) -> Outcome:
        """Play a market to its end, spending `budget` (in the world's currency) evenly over it.

        `log` is the folder of a writer of the event log; `learnt` is known of prices.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._serve(market, models, seed, budget, log, learnt))

    async def _serve(
        self,
        market: Market,
        models: "Scorer | Oracle",
        seed: int,
        budget: float,
        log: Path | None,
        learnt: Learnt,
    ) -> Outcome:
        client = connect(self._url, timeout_seconds=PATIENCE_SECONDS)
        loop = asyncio.get_running_loop()
        links = Links(client, Breaker(loop.time), timeout_seconds=PATIENCE_SECONDS)
        try:
            await client.flushdb()
            diary = Diary(log, market.start)
            session = _Session(self, market, models, Random(seed), links, diary, budget, learnt)
            await session.play()
            diary.close(market.start)
        finally:
            await links.aclose()
            await client.aclose()
        tally = market.tally
        return Outcome(
            tally.requests, tally.impressions, tally.invoice_in(market.world) / MICROS,
            tally.expected_clicks, tally.expected_sales, tally.clicks, tally.sales,
        )  # fmt: skip


class Diary:
    """The event log of a trial: lines kept until the end, notices to be applied."""

    stalled = False

    def __init__(self, folder: Path | None, start: float) -> None:
        self.notices: list[AnyEvent] = []
        self._folder = folder
        self._lines: list[bytes] = []

    def append(self, event: Event) -> None:
        """Write the event down."""
        if self._folder is not None:
            self._lines.append(encode(event))

    async def commit(self, event: Notice) -> None:
        """The same, for an event that must be applied."""
        self.append(event)
        self.notices.append(event)  # type: ignore[arg-type]

    def close(self, start: float) -> None:
        """Lay the file down."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / file_name(start, 1)).write_bytes(b"".join(self._lines))


@dataclass
class _Session:
    """One market and one bidder, while it is played."""

    trial: Trial
    market: Market
    models: "Scorer | Oracle"
    random: Random
    links: Links
    diary: Diary
    budget: float
    learnt: Learnt
    urge: float = 0.0
    """Logarithm of the factor on values, as far as it was learnt."""
    now: float = 0.0
    calls: list[tuple[float, int, Call]] = field(default_factory=list)
    count: int = 0

    async def play(self) -> None:
        """From the first request to the last call."""
        await self._start()
        for window in self._windows():
            await self._deliver(window[0].time)
            await self._ask(window)
        await self._deliver(self.market.end + SETTLE_SECONDS)

    async def _start(self) -> None:
        trial, loop = self.trial, asyncio.get_running_loop()
        self.now = self.market.start
        await load_people(self.links, self.market.crm(), self.now, self.random)
        exchange = trial.exchange
        rates = load_rates(HERE.parent / "config/rates.yaml")
        # The oracle is no `Scorer`, but answers as one.
        models = cast(Scorer, self.models)
        self.serving = Serving(
            trial.catalogue, {EXCHANGE: exchange}, models, rates, trial.intrusion, self.learnt
        )
        tokens = Tokens({0: bytes(32)}, current=0)
        answerer = Answerer(tokens, "http://127.0.0.1:1")
        scripts, cells = Scripts(self.links), Metrics()
        self.scripts = scripts
        self.books = Books("trial", exchange.notice_lag_seconds + 300)
        self.books.adopt(trial.catalogue)
        # The diary is no `EventLog`, with its thread and its disk, but takes what one takes.
        log = cast(EventLog, self.diary)
        self.engine = Engine(
            self.serving, _patient(policy(trial.settings)), self.books, Reader(self.links),
            scripts, answerer, log, cells, self.random, lambda: self.now, loop.time,
        )  # fmt: skip
        nobody = Forgotten(Path("/nonexistent"))
        self.tracking = Tracking(
            self.engine, tokens, answerer, log, cells, lambda: self.now, nobody, Orders(bytes(32))
        )
        lag = {EXCHANGE: exchange.notice_lag_seconds + 300}
        self.applier = Applier(scripts, cells, trial.settings.retention.ledger, lag)

    def _windows(self) -> Iterator[list[Request]]:
        """Requests of people the CRM knows; of the others no line item would say anything."""
        window: list[Request] = []
        while (request := self.market.next_request()) is not None:
            if not self.market.people.known[request.view.person]:
                self.market.answer(request, None)
                continue
            if window and request.time - window[0].time > WINDOW_SECONDS:
                yield window
                window = []
            window.append(request)
        if window:
            yield window

    async def _ask(self, window: list[Request]) -> None:
        self.now = window[0].time
        self._pace()
        await self.books.sync(self.scripts, self.now)
        self.serving.schedule.fund(self.books.funded(self.now))
        for request, body in zip(
            window, await asyncio.gather(*map(self._bid, window)), strict=True
        ):
            self._put(self.market.answer(request, body))

    def _pace(self) -> None:
        """One factor on all values, so that whatever models serve, the same money is spent."""
        market = self.market
        spent = market.tally.invoice_in(market.world) / MICROS / self.budget
        behind = (self.now - market.start) / (market.end - market.start) - spent
        self.urge += min(max(behind * INTEGRAL, -STEP), STEP)
        factor = exp(min(self.urge + behind * PROPORTIONAL, MOST_URGE)) if spent < 1 else 0.0
        self.engine.paces = dict.fromkeys(self.books.accounts, factor)

    async def _bid(self, request: Request) -> bytes | None:
        _asked.set((self.market, request))
        offer = opportunity(decode(request.body), EXCHANGE)
        until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        decision = await self.engine.decide(offer, self.trial.exchange, until)
        return decision.body or None

    async def _deliver(self, until: float) -> None:
        """Make the calls that fall before `until`, in their order, and apply what they tell."""
        while self.calls and self.calls[0][0] <= until:
            call = heappop(self.calls)[2]
            self.now = max(self.now, call.time)
            parts = urlsplit(call.url)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            answer = await self.tracking.answer(NOTICES[parts.path], query, {})
            if call.click is not None:
                self._put(self.market.redirected(call, answer.headers.get("Location")))
        notices, self.diary.notices = self.diary.notices, []
        if notices:
            await self.applier.apply(notices, self.now)

    def _put(self, calls: list[Call]) -> None:
        for call in calls:
            self.count += 1
            heappush(self.calls, (call.time, self.count, call))


class Oracle:
    """Scores as the world itself would: the best that any model can say."""

    version = "oracle"

    def __init__(self, catalogue: Catalogue) -> None:
        self._creatives: dict[int, tuple[str, Creative]] = {
            creative.id32 % features.BUCKETS: (item.campaign.advertiser.domain, creative)
            for item in catalogue.line_items
            for creative in item.creatives
        }

    def score(self, row: features.Row, advertiser: str = "") -> tuple[float, float]:
        """The true chances of the creative in the row, for whoever asks now."""
        market, request = _asked.get()
        domain, creative = self._creatives[int(row[_CREATIVE])]
        size = f"{creative.width}x{creative.height}"
        ad = market.truth.ad(domain, creative.path, size)
        view = request.view
        kind = market.people.device(view.person, view.device).kind
        chance = market.truth.chance(view.person, ad, view.publisher.category, kind, request.time)
        return chance.click, chance.sale

    def score_with_views(
        self, row: features.Row, advertiser: str = ""
    ) -> tuple[float, float, float]:
        """The same; sales that follow no click are not caused by one impression in this world."""
        return *self.score(row, advertiser), 0.0


_CREATIVE = features.NAMES.index("creative")
_asked: ContextVar[tuple[Market, Request]] = ContextVar("asked")


def _patient(policy: Policy) -> Policy:
    return replace(policy, store_seconds=PATIENCE_SECONDS, answer_seconds=0.0, no_bid_sample=0.0)
