"""Is money freed when experience says that no notice will come, and only then?"""

from datetime import UTC, datetime

import pytest

from bidder.money import impression_cost
from bidder.pricing import Books, counting
from bidder.pricing.budget import money_keys
from bidder.pricing.delays import (
    AGES,
    BUCKET_SECONDS,
    YOUNG,
    YOUNG_CAUTION,
    Delays,
    Mark,
    Wins,
)

LIFE = 30
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
LASTS = 900


def experienced(late: int, buckets: int = 40) -> Delays:
    """Of 1,000 micros without notice in 10 bids at each age, `late` were shown by the next."""
    delays = Delays()
    for _ in range(buckets):
        for age in range(len(AGES)):
            delays.learn("demo", age, Mark(1000, 500), 500 + late, 10, 0.0)
    return delays


def test_a_bucket_is_as_old_as_what_was_heard_since() -> None:
    delays = Delays()
    assert delays.age("demo", 100) == YOUNG
    delays.heard("demo", 100 + AGES[0] - 1)
    assert delays.age("demo", 100) == YOUNG
    delays.heard("demo", 100 + AGES[0])
    delays.heard("demo", 100)
    assert delays.age("demo", 100) == 0
    delays.heard("demo", 100 + 10 * AGES[-1])
    assert delays.age("demo", 100) == len(AGES) - 1
    assert delays.age("other", 100) == YOUNG


def test_nothing_is_known_from_one_bucket() -> None:
    assert Delays().weight("demo", 0, LIFE) == 1
    assert experienced(0, buckets=1).weight("demo", 0, LIFE) == 1


def test_what_never_came_late_is_hardly_held_and_the_more_the_older() -> None:
    weights = [experienced(0).weight("demo", age, 1000) for age in range(len(AGES))]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] < 0.2
    assert weights[-1] < 0.03


def test_what_came_late_stays_held_twice_over() -> None:
    assert experienced(20).weight("demo", 3, LIFE) > 2 * 0.02
    assert experienced(1000).weight("demo", 3, LIFE) == 1


def test_what_cannot_come_any_more_does_not_count() -> None:
    delays = experienced(50)
    assert delays.weight("demo", 0, AGES[1]) < delays.weight("demo", 0, AGES[3])


def test_an_age_not_reached_yet_is_taken_to_be_like_the_one_before() -> None:
    delays = Delays()
    for _ in range(500):
        delays.learn("demo", 0, Mark(1000, 0), 0, 10, 0.0)
    assert 0 < delays.weight("demo", 2, LIFE) <= 1
    assert delays.weight("demo", 0, LIFE) < 0.05


def test_experience_fades() -> None:
    delays = experienced(500)
    for _ in range(40):
        for age in range(len(AGES)):
            delays.learn("demo", age, Mark(1000, 0), 0, 10, 5 * 86_400.0)
    assert delays.weight("demo", 3, LIFE) < 0.1


def test_a_bucket_without_open_money_teaches_nothing() -> None:
    delays = Delays()
    for _ in range(9):
        delays.learn("demo", 0, Mark(0, 5), 5, 3, 0.0)
    assert delays.weight("demo", 0, LIFE) == 1


def test_young_money_is_held_in_full_until_wins_are_known() -> None:
    wins = Wins()
    assert wins.held("demo", 1000, 10) == 1000
    wins.learn("demo", 0, 0, 0, NOW)
    assert wins.held("demo", 1000, 10) == 1000
    wins.learn("demo", 100_000, 5000, 1000, NOW)
    assert wins.held("demo", 1000, 10) == 1000
    assert wins.held("demo", 0, 0) == 0


def test_many_young_bids_are_held_for_several_times_what_is_usually_won() -> None:
    wins = Wins()
    for _ in range(20):
        wins.learn("demo", 100_000, 5000, 1000, NOW)
    assert YOUNG_CAUTION * 0.05 < wins.held("demo", 1_000_000, 10_000) / 1_000_000 < 0.25
    assert wins.held("demo", 1000, 1) == 1000, "one bid may well be won"
    assert wins.held("other", 1000, 10) == 1000


def test_wins_follow_the_last_minutes() -> None:
    wins = Wins()
    for _ in range(20):
        wins.learn("demo", 100_000, 1000, 1000, NOW)
    for _ in range(5):
        wins.learn("demo", 100_000, 50_000, 1000, NOW + 3600)
    assert wins.held("demo", 100_000, 10_000) == 100_000


# On a store: an exchange that says nothing of what is lost


class Trade:
    """Ten bids a second; one in ten is billed within half a minute, of the others nothing comes."""

    def __init__(self, server, whole) -> None:
        self.server, self.whole, self.now = server, whole, NOW
        self.books = Books("worker", LASTS)
        self.books.adopt(whole)
        self.number = 0
        self.due: list[tuple[float, bytes, object]] = []
        self.told = True

    async def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            await self.books.sync(self.server, self.now)
            for _ in range(10):
                self.bid()
            for when, bid_id, hold in [row for row in self.due if row[0] <= self.now]:
                self.due.remove((when, bid_id, hold))
                await counting.bill(
                    self.server, self.whole.campaigns[0].id32, bid_id, hold,
                    hold.cost_micros, int(self.now),
                )  # fmt: skip

    def bid(self) -> None:
        item = self.whole.line_items[0]
        hold = self.books.hold(item, 1_000_000, self.now, "quiet", LASTS)
        self.number += 1
        if hold is not None and self.number % 10 == 0 and self.told:
            self.due.append((self.now + self.number % 30, self.number.to_bytes(12, "big"), hold))

    def leased(self) -> int:
        """Micros that the store keeps for this worker."""
        row = self.server.client.hvals(money_keys(self.whole.campaigns[0].id32, "", "")[1])
        return int(row[0].split()[0])


@pytest.fixture
def trade(server, made) -> Trade:
    return Trade(server, made(daily_micros=10**9))


async def test_an_exchange_that_is_silent_on_losses_does_not_freeze_the_budget(trade) -> None:
    await trade.run(1500)
    silent = 0.9 * 10 * LASTS * impression_cost(1_000_000)
    young = 10 * (AGES[0] + 2) * BUCKET_SECONDS * impression_cost(1_000_000)
    assert trade.leased() < 0.35 * silent
    assert trade.leased() < young


async def test_when_nothing_is_heard_at_all_what_will_be_won_stays_held(trade) -> None:
    await trade.run(600)
    before, trade.told = trade.leased(), False
    trade.due.clear()
    await trade.run(240)
    won = 0.1 * 240 * 10 * impression_cost(1_000_000)
    assert trade.leased() - before > 3 * won
