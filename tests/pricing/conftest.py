"""Campaigns and catalogues as small as a test needs, and scripts run on a real server at once."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import redis

import bidder.store
from bidder.campaigns import catalogue
from bidder.ids import hash32
from bidder.pricing import Books, counting
from bidder.pricing.leases import Account, Hold
from bidder.store.breaker import StoreUnavailable
from bidder.store.embedded import EmbeddedStore

LUA = Path(bidder.store.__file__).parent / "lua"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
LASTS = 600
CPM = 10_000_000
COST = CPM // 1000


class Server:
    """Runs scripts on a real server, without waiting. `lose` makes answers vanish."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.lose = False
        self.meanwhile: Callable[[], None] = lambda: None
        """Called between the script's run and its answer."""
        self._scripts = {
            path.stem: client.register_script(path.read_text()) for path in LUA.glob("*.lua")
        }

    async def run(
        self, name: str, keys: Sequence[str], args: Sequence[Any], deadline: float | None = None
    ) -> Any:
        answer = self._scripts[name](keys=list(keys), args=list(args))
        self.meanwhile()
        if self.lose:
            raise StoreUnavailable("the answer was lost")
        return answer


@pytest.fixture(params=["single", "cluster"])
def server(request: pytest.FixtureRequest, store_server: EmbeddedStore) -> Iterator[Server]:
    """A server, emptied: a single one, then a Cluster."""
    client: Any
    if request.param == "single":
        client = redis.Redis(unix_socket_path=str(store_server.socket_path))
    else:
        host, port = request.getfixturevalue("cluster_url").rpartition("/")[2].split(":")
        client = redis.RedisCluster(host=host, port=int(port))
    client.flushall()
    yield Server(client)
    client.close()


def make_catalogue(
    zone: str = "UTC",
    per_minute: int = 0,
    flights: tuple[catalogue.Flight, ...] = (),
    hours: frozenset[int] = frozenset(range(168)),
    max_cpm: int = 10_000_000,
    **budget: Any,
) -> catalogue.Catalogue:
    """One advertiser with one campaign with one line item."""
    advertiser = catalogue.Advertiser(
        id="adv", id32=hash32("adv"), domain="adv.example", currency="EUR", zone=ZoneInfo(zone),
        max_cpm_micros=0, max_spend_per_minute_micros=per_minute,
    )  # fmt: skip
    campaign = catalogue.Campaign(
        id="camp", path="adv/camp", id32=hash32("adv/camp"), advertiser=advertiser,
        flights=flights, budget=catalogue.Budget(**budget),
    )  # fmt: skip
    item = catalogue.LineItem(
        index=0, id="item", path="adv/camp/item", id32=hash32("adv/camp/item"), campaign=campaign,
        audience=catalogue.Audience(), where=catalogue.Where(), when=catalogue.When(hours),
        bid=catalogue.Bid(max_cpm), goal=catalogue.Goal("cpm", max_cpm), caps=(),
        intrusiveness=catalogue.Intrusiveness(), creatives=(), unknown_people="serve",
    )  # fmt: skip
    return catalogue.Catalogue(
        version="1", line_items=(item,), campaigns=(campaign,), advertisers=(advertiser,), names={}
    )


def with_budget(whole: catalogue.Catalogue, **budget: Any) -> catalogue.Catalogue:
    """The same catalogue after the trader changed the budget."""
    replace = msgspec.structs.replace
    campaign = replace(whole.campaigns[0], budget=catalogue.Budget(**budget))
    item = replace(whole.line_items[0], campaign=campaign)
    return replace(whole, campaigns=(campaign,), line_items=(item,))


class Desk:
    """One worker at its books."""

    def __init__(self, server: Server, whole: catalogue.Catalogue, name: str) -> None:
        self.server, self.whole, self.now = server, whole, NOW
        self.books = Books(name, LASTS)
        self.books.adopt(whole)
        self.item = whole.line_items[0]
        self.campaign = whole.campaigns[0].id32

    @property
    def account(self) -> Account:
        return self.books.accounts[self.campaign]

    async def sync(self, forward: float = 10.0) -> None:
        self.now += forward
        await self.books.sync(self.server, self.now)

    def hold(self, cpm: int = CPM) -> Hold | None:
        return self.books.hold(self.item, cpm, self.now, "demo", LASTS)

    def hold_all(self) -> list[Hold]:
        held = []
        while (hold := self.hold()) is not None:
            held.append(hold)
        return held

    async def drain(self, rounds: int = 40) -> list[Hold]:
        """All the bids that the store ever allows."""
        held: list[Hold] = []
        for _ in range(rounds):
            await self.sync(1.0)
            held += self.hold_all()
        return held

    async def bill(self, hold: Hold, bid: int, cost: int = COST) -> str:
        return await counting.bill(
            self.server, self.campaign, bid.to_bytes(12, "big"), hold, cost, int(self.now)
        )


@pytest.fixture
def desk_of(server: Server) -> Callable[..., Desk]:
    """Opens the books of one more worker on `server`: `desk_of(whole, name="worker")`."""
    return lambda whole, name="worker": Desk(server, whole, name)


@pytest.fixture
def made() -> Callable[..., catalogue.Catalogue]:
    """`make_catalogue`."""
    return make_catalogue


@pytest.fixture
def changed() -> Callable[..., catalogue.Catalogue]:
    """`with_budget`."""
    return with_budget
