"""A whole decision in one process: the real engine on the real store, with a clock that stands."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bidder import capping
from bidder.answering import Answerer
from bidder.campaigns.catalogue import Catalogue
from bidder.campaigns.loading import load as load_campaigns
from bidder.capping import Record
from bidder.engine import Decision, Engine, Policy
from bidder.events.log import EventLog
from bidder.exchanges.profile import Exchange
from bidder.explain import SEED, Explainer, Explanation
from bidder.ids import hash32
from bidder.metrics import Metrics
from bidder.money import Rates
from bidder.notices.tokens import Tokens
from bidder.openrtb.opportunity import Opportunity, opportunity
from bidder.openrtb.request import decode
from bidder.people.loading import load as load_people
from bidder.pricing import Books
from bidder.privacy import Rules
from bidder.scoring.model import Scorer
from bidder.server.edge import Answer, Endpoint, Load, Request
from bidder.serving import Serving
from bidder.settings import Limits
from bidder.store import keys
from bidder.store.coalesce import Reader, Scripts
from bidder.store.links import Links

NOW = datetime(2026, 11, 18, 10, 30, tzinfo=UTC).timestamp()
"""A Wednesday."""
MODELS = Path(__file__).parents[2] / "models" / "demo"
DEMO = Exchange(name="demo", seat="demo", currency="EUR", auction=1)
PER_EURO = {"USD": 1.25, "GBP": 0.8, "JPY": 160.0}
"""Round numbers, so that expected prices can be worked out in the head."""
POLICY = Policy(
    privacy=Rules(vendor_id=1234),
    identifiers=("crm", "buyeruid", "*", "ifa"),
    ledger_seconds=86400,
    store_seconds=20.0,
    answer_seconds=0.0,
    no_bid_sample=0.0,
)
PATIENCE = 30.0

Json = dict[str, Any]


@cache
def scorer() -> Scorer:
    return Scorer.load(MODELS)


def catalogue_of(folder: Path, now: float = NOW) -> Catalogue:
    """What the campaign files in `folder` come to, warnings or not."""
    return load_campaigns(folder, now=datetime.fromtimestamp(now, UTC))[0]


@dataclass
class Scene:
    """One worker's engine over a catalogue."""

    serving: Serving
    exchange: Exchange
    engine: Engine
    books: Books
    links: Links
    cells: Metrics
    log: EventLog
    log_folder: Path
    now: float
    policy: Policy
    random: Random
    closed: bool = field(default=False)

    async def fund(self) -> int:
        """Lease every campaign's money; the mask of the line items that have some."""
        await self.books.sync(Scripts(self.links), self.now)
        funded = self.books.funded(self.now)
        self.serving.schedule.fund(funded)
        return funded

    async def decide(self, request: Json) -> Decision:
        """The decision about a request, with time in plenty, by the same chance as `explain`."""
        self.random.seed(SEED)
        deadline = asyncio.get_running_loop().time() + PATIENCE
        return await self.engine.decide(self.offer(request), self.exchange, deadline)

    async def explain(self, request: Json, reader: Reader | None = None) -> Explanation:
        """The same, explained."""
        funded = self.books.funded(self.now)
        explainer = Explainer(
            self.serving, self.policy, reader or Reader(self.links), funded, {}, self.now
        )
        return await explainer.explain(self.offer(request), self.exchange)

    def offer(self, request: Json) -> Opportunity:
        return opportunity(decode(json.dumps(request).encode()), self.exchange.name)

    async def post(self, body: bytes) -> Answer:
        """What the edge answers to a body."""
        clock = asyncio.get_running_loop().time
        limits = Limits()
        endpoint = Endpoint(self.engine, limits, Load(limits), self.cells, clock)
        return await endpoint.answer(
            self.exchange.name, "", Request("POST", "", {}, body, "127.0.0.1", clock() + PATIENCE)
        )

    async def ledger(self, person: str) -> bytes:
        """The ledger of a person id, as stored."""
        (found,) = await self.links.bulk([("GET", keys.ledger(person))])
        return found or b""

    async def know(self, *lines: Json) -> None:
        """Put people into the store, as `bidder people load` does; `ledger` adds to theirs."""
        records = [
            json.dumps({k: v for k, v in line.items() if k != "ledger"}).encode() for line in lines
        ]
        loaded = await load_people(self.links, records, self.now, Random(7))
        assert not loaded.bad
        for line in lines:
            for written in line.get("ledger", ()):
                source, value = line["ids"][0]
                (found,) = await self.links.bulk([("GET", keys.identifier(source, value))])
                await self._note(found.decode(), written)

    async def _note(self, person: str, written: Json) -> None:
        """One record: a path, and how many seconds ago; page and kind where they are given."""
        advertiser, campaign, item, creative = written["of"].split("/")
        at = int(self.now) - written["ago"]
        record = Record(
            time=at,
            kind=capping.Kind[written.get("kind", "impression").upper()],
            channel=capping.Channel[written.get("channel", "display").upper()],
            advertiser=hash32(advertiser),
            campaign=hash32(f"{advertiser}/{campaign}"),
            line_item=hash32(f"{advertiser}/{campaign}/{item}"),
            creative=hash32(f"{advertiser}/{campaign}/{item}/{creative}"),
            bid_key=hash32(json.dumps(written)).to_bytes(8, "big"),
            page=hash32(written["page"]) if "page" in written else 0,
        )
        wrote = await capping.record(
            Scripts(self.links), person, record, int(self.now), self.policy.ledger_seconds, False
        )
        assert wrote == "new"

    async def logged(self) -> list[Json]:
        """Close the log and read what was written into it."""
        await self.close()
        return [
            json.loads(line)
            for path in sorted(self.log_folder.rglob("*"))
            if path.is_file()
            for line in path.read_bytes().splitlines()
            if line.startswith(b"{")
        ]

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self.log.close()


Build = Callable[..., Awaitable[Scene]]


@pytest.fixture(scope="session")
def breaches() -> Callable[[Json, Json, dict[str, float]], list[str]]:
    """What an answer breaks of its request: the independent checker."""
    path = Path(__file__).with_name("checker.py")
    spec = importlib.util.spec_from_file_location("engine_checker", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[Json, Json, dict[str, float]], list[str]] = module.breaches
    return found


@pytest.fixture
async def build(links: Links, tmp_path: Path) -> AsyncIterator[Build]:
    """Makes a scene of a catalogue; money is leased, nobody is known."""
    scenes: list[Scene] = []

    async def make(
        catalogue: Catalogue,
        *,
        exchange: Exchange = DEMO,
        now: float = NOW,
        per_euro: dict[str, float] = PER_EURO,
        policy: Policy = POLICY,
        stops: Sequence[str] = (),
    ) -> Scene:
        rates = Rates("EUR", date.fromtimestamp(now), per_euro)
        serving = Serving(catalogue, {exchange.name: exchange}, scorer(), rates)
        books = Books("test", 3600)
        books.adopt(catalogue)
        cells, loop = Metrics(), asyncio.get_running_loop()
        folder = tmp_path / f"log{len(scenes)}"
        random = Random(SEED)
        log = EventLog(folder)
        engine = Engine(
            serving,
            policy,
            books,
            Reader(links),
            Scripts(links),
            Answerer(Tokens({0: bytes(32)}, 0), "https://bid.example"),
            log,
            cells,
            random,
            lambda: now,
            loop.time,
        )
        scene = Scene(
            serving, exchange, engine, books, links, cells, log, folder, now, policy, random
        )
        scenes.append(scene)
        serving.schedule.stop(stops)
        await scene.fund()
        return scene

    yield make
    for scene in scenes:
        await scene.close()
