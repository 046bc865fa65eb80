"""Several workers, lost, late and repeated notices, deaths and midnights: never a micro too much.

The model is the exchange's own list of what it will bill. Bids are won or lost at once, notices
come whenever they like before the hold of their bid ends, and whatever the order, the wins of a day
may not exceed its budget, nor all wins the total.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidder.campaigns.catalogue import Catalogue
from bidder.money import impression_cost
from bidder.pricing import Books, Hold, counting
from bidder.store.breaker import StoreUnavailable

# Half a minute before a Paris midnight.
START = datetime(2026, 10, 24, 21, 59, 30, tzinfo=UTC).timestamp()
LASTS = 48
"""Shorter than the youngest age at which holds are trusted to be lost: nothing is a guess here."""
DAILY, TOTAL = 1_000_000, 1_200_000


class Won(NamedTuple):
    bid_id: bytes
    hold: Hold
    cost: int
    made: float


class World:
    """The exchange, the workers and the clock."""

    def __init__(self, server, catalogue: Catalogue, seed: int) -> None:
        self.server, self.catalogue, self.random = server, catalogue, Random(seed)
        self.now = START
        self.number = 0
        self.workers = [self.fresh() for _ in range(3)]
        self.won: list[Won] = []
        self.bids: list[tuple[bytes, Hold, float]] = []
        self.billed = 0
        self.refused = 0
        self.losses = 0.1

    def fresh(self) -> Books:
        self.number += 1
        books = Books(f"worker-{self.number}", LASTS)
        books.adopt(self.catalogue)
        return books

    @property
    def campaign(self) -> int:
        return self.catalogue.campaigns[0].id32

    def bid(self, worker: int, cpm: int) -> None:
        item = self.catalogue.line_items[0]
        books = self.workers[worker]
        hold = books.hold(item, cpm * 1000, self.now, "demo", LASTS)
        if hold is None:
            self.refused += 1
            return
        fate = self.random.random()
        if fate < 0.1:
            books.give_back(item, hold, self.now)
            return
        bid_id = self.random.randbytes(12)
        if fate < 0.7:
            cost = impression_cost(int(cpm * 1000 * self.random.choice([1.0, 1.0, 0.5])))
            self.won.append(Won(bid_id, hold, cost, self.now))
        elif fate < 0.95:
            self.bids.append((bid_id, hold, self.now))

    async def sync(self, worker: int, lose: bool, bids: list[int]) -> None:
        self.server.lose = lose
        self.server.meanwhile = lambda: [self.bid(worker, cpm) for cpm in bids]
        try:
            await self.workers[worker].sync(self.server, self.now)
        except StoreUnavailable:
            assert lose
        self.server.lose, self.server.meanwhile = False, lambda: None

    async def notice(self, place: int, kind: str) -> None:
        """Something is said of a win, or of a loss."""
        now = int(self.now)
        if kind == "loss":
            if self.bids:
                bid_id, hold, _ = self.bids[place % len(self.bids)]
                await counting.resolve(self.server, self.campaign, bid_id, hold, now)
            return
        if not self.won:
            return
        won = self.won[place % len(self.won)]
        if kind == "pixel":
            await counting.await_billing(
                self.server, self.campaign, won.bid_id, now + 999, b"event", won.hold, now
            )
        else:
            await self.bill(won)

    async def bill(self, won: Won) -> None:
        now = int(self.now)
        await counting.bill(self.server, self.campaign, won.bid_id, won.hold, won.cost, now)

    async def tick(self, seconds: float) -> None:
        """Time passes; every win is billed before the last second of its hold."""
        for won in self.won[self.billed :]:
            if self.now + seconds >= won.hold.until:
                await self.bill(won)
                self.billed += 1
        self.now += seconds

    def check(self) -> None:
        by_day = Counter[str]()
        for won in self.won:
            by_day[won.hold.day] += won.cost
        assert all(cost <= DAILY for cost in by_day.values()), by_day
        assert by_day.total() <= TOTAL


STEPS = st.one_of(
    st.tuples(st.just("tick"), st.floats(0.1, 15)),
    st.tuples(st.just("tick"), st.just(30.0)),
    st.tuples(st.just("bid"), st.integers(0, 2), st.integers(1, 10_000)),
    st.tuples(st.just("burst"), st.integers(0, 2), st.integers(1, 12)),
    st.tuples(
        st.just("sync"),
        st.integers(0, 2),
        st.sampled_from([False, False, False, True]),
        st.lists(st.integers(1, 10_000), max_size=8),
    ),
    st.tuples(st.just("notice"), st.integers(0, 999), st.sampled_from(["bill", "pixel", "loss"])),
    st.tuples(st.just("kill"), st.integers(0, 2)),
)


async def play(world: World, steps: list) -> None:
    for step in steps:
        name, *how = step
        if name == "tick":
            await world.tick(how[0])
        elif name == "bid":
            world.bid(*how)
        elif name == "burst":
            for _ in range(how[1]):
                world.bid(how[0], 10_000)
        elif name == "sync":
            await world.sync(*how)
        elif name == "notice":
            await world.notice(*how)
        else:
            world.workers[how[0]] = world.fresh()
        world.check()
    await settle(world)


async def settle(world: World) -> None:
    """All is told; then what the store says is what was won, and the rest can be spent."""
    for won in world.won[world.billed :]:
        await world.bill(won)
    for bid_id, hold, _ in world.bids:
        await counting.resolve(world.server, world.campaign, bid_id, hold, int(world.now))
    world.now += 3 * LASTS
    books = world.fresh()
    await books.sync(world.server, world.now)
    account = books.accounts[world.campaign]
    today = [won.cost for won in world.won if won.hold.day == account.lease.day]
    assert account.spent.micros == sum(won.cost for won in world.won)
    assert account.spent.micros_today == sum(today)
    assert account.spent.impressions == len(world.won)
    left = min(TOTAL - account.spent.micros, DAILY - account.spent.micros_today)
    assert account.lease.free_micros == min(left, account.dearest_micros)


@given(steps=st.lists(STEPS, max_size=60), seed=st.integers(0, 999))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_day_and_no_total_is_overspent(
    server, made: Callable[..., Catalogue], steps: list, seed: int
) -> None:
    server.client.flushall()
    whole = made(zone="Europe/Paris", daily_micros=DAILY, total_micros=TOTAL)
    asyncio.run(play(World(server, whole, seed), steps))


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_spends_all_and_no_more(server, made: Callable[..., Catalogue], seed: int) -> None:
    """Demand without end, deaths, and a third of all notices said twice."""
    whole = made(zone="Europe/Paris", daily_micros=DAILY, total_micros=TOTAL)
    world = World(server, whole, seed)
    world.losses = 0.3

    async def run() -> None:
        for turn in range(1200):
            world.bid(turn % 3, world.random.randint(4_000, 10_000))
            if turn % 2 == 0:
                lose = world.random.random() < 0.1
                await world.sync(world.random.randrange(3), lose, [9_000] * 3)
            for _ in range(2):
                kind = world.random.choice(["bill", "pixel", "loss"])
                await world.notice(world.random.randrange(10**6), kind)
            if turn % 150 == 149:
                world.workers[world.random.randrange(3)] = world.fresh()
            await world.tick(0.25)
            world.check()
        await settle(world)

    asyncio.run(run())
    spent = Counter[str]()
    for won in world.won:
        spent[won.hold.day] += won.cost
    first, last = sorted(spent)
    assert spent[first] > 0
    left = min(TOTAL - spent.total(), DAILY - spent[last])
    assert left < 3 * 10_000  # each of three workers may keep what one impression costs
