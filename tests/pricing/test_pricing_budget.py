"""Leases, holds and the advertiser's minute: one rule a test, on one server and on a Cluster."""

from datetime import UTC, datetime

import pytest

from bidder.campaigns import catalogue
from bidder.pricing import counting
from bidder.pricing.budget import money_keys, remains
from bidder.pricing.leases import IDLE_SYNC_SECONDS, LEASE_SECONDS, bucket_name, day_of
from bidder.store.breaker import StoreUnavailable

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
LASTS = 600
CPM = 10_000_000
COST = 10_000


async def test_no_lease_no_bid(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=100_000))
    assert desk.hold() is None
    assert desk.books.funded(desk.now) == 0
    await desk.sync()
    assert desk.books.funded(desk.now) == 1
    assert desk.hold() is not None


async def test_a_lease_asks_for_more_at_once_when_it_is_used_up(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=10**9))
    await desk.sync()
    desk.hold_all()
    assert await desk.books.sync(server, desk.now) == 1
    assert len(desk.hold_all()) > 1
    desk.now += 0.1
    before = desk.account.lease.free_micros
    assert await desk.books.sync(server, desk.now) == 1
    assert desk.account.lease.free_micros > before


async def test_a_quiet_account_is_not_asked_for(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=10**9))
    await desk.sync()
    assert await desk.books.sync(server, desk.now + 1) == 0
    assert await desk.books.sync(server, desk.now + 2 * IDLE_SYNC_SECONDS) == 1


@pytest.mark.parametrize(
    "budget",
    [
        {"daily_micros": 20 * COST},
        {"total_micros": 20 * COST},
        {"daily_impressions": 20},
        {"total_impressions": 20},
        {"daily_micros": 25 * COST, "total_impressions": 20},
    ],
)
async def test_all_of_a_budget_and_no_more(desk_of, made, budget) -> None:
    whole = made(**budget)
    one, other = desk_of(whole, "one"), desk_of(whole, "other")
    held = []
    for _ in range(30):
        for desk in (one, other):
            await desk.sync(1.0)
            held += desk.hold_all()
    assert len(held) == 20


async def test_without_a_budget_there_is_no_end(desk_of, made) -> None:
    desk = desk_of(made())
    await desk.sync()
    assert len([desk.hold() for _ in range(500)]) == 500


async def test_a_bid_that_was_not_sent_gives_its_money_back(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=COST))
    await desk.sync()
    hold = desk.hold()
    assert hold is not None
    assert desk.hold() is None
    desk.books.give_back(desk.item, hold, desk.now)
    assert desk.hold() == hold


async def test_a_hold_of_another_day_cannot_be_given_back_here(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=COST))
    await desk.sync()
    hold = desk.hold()
    desk.account.give_back(type(hold)(hold.holder, "2020-01-01", COST, hold.bucket, 0))
    desk.account.lease.give_back(type(hold)(hold.holder, hold.day, COST, "0:demo", 0))
    assert desk.account.lease.free_micros == 0


async def test_what_is_lost_can_be_bid_again_once(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=3 * COST))
    held = await desk.drain()
    assert len(held) == 3
    bid = (1).to_bytes(12, "big")
    for outcome in ("new", "duplicate", "duplicate"):
        assert outcome == await counting.resolve(server, desk.campaign, bid, held[0], int(desk.now))
    assert len(await desk.drain()) == 1


async def test_a_loss_after_the_hold_ended_changes_nothing(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=3 * COST))
    held = await desk.drain()
    late = int(desk.now) + LASTS + 60
    assert await counting.resolve(server, desk.campaign, bytes(12), held[0], late) == "duplicate"


async def test_a_cheaper_win_frees_the_difference(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=2 * COST))
    held = await desk.drain()
    assert await desk.bill(held[0], 1, cost=1) == "new"
    assert await desk.bill(held[0], 1, cost=1) == "duplicate"
    assert await desk.drain() == []
    assert await desk.bill(held[1], 2, cost=COST - 1) == "new"
    assert len(await desk.drain()) == 1
    assert desk.account.spent.micros == COST
    assert desk.account.spent.impressions == 2


async def test_holds_end_when_nothing_more_can_come(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=2 * COST))
    assert len(await desk.drain()) == 2
    assert await desk.drain() == []
    desk.now += LASTS
    assert len(await desk.drain()) == 2


async def test_a_billing_after_the_hold_ended_is_counted_all_the_same(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=2 * COST))
    held = await desk.drain()
    desk.now += LASTS
    again = await desk.drain()
    for number, hold in enumerate([*held, *again]):
        assert await desk.bill(hold, number) == "new"
    assert await desk.drain() == []
    assert desk.account.spent.micros_today == 4 * COST


async def test_an_impression_owes_its_cost_until_it_is_billed(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=2 * COST))
    held = await desk.drain()
    bid = (7).to_bytes(12, "big")

    async def seen() -> str:
        return await counting.await_billing(
            server, desk.campaign, bid, int(NOW) + 900, b"event", held[0], int(desk.now)
        )

    assert [await seen(), await seen()] == ["new", "duplicate"]
    await desk.sync()
    assert desk.account.spent.micros_today == COST
    assert desk.account.spent.impressions_today == 1
    desk.now += LASTS
    assert len(await desk.drain()) == 1
    assert await desk.bill(held[0], 7, cost=COST // 2) == "new"
    assert await seen() == "duplicate"
    await desk.sync()
    assert desk.account.spent.micros == COST // 2
    assert desk.account.spent.impressions == 1


async def test_overdue_billings_are_handed_out_until_they_are_billed(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=2 * COST))
    (hold, _) = await desk.drain()
    campaign, due = desk.campaign, int(desk.now) + 100
    await counting.await_billing(
        server, campaign, (7).to_bytes(12, "big"), due, b"event", hold, int(desk.now)
    )
    assert await counting.overdue(server, campaign, due - 1, 10) == []
    assert await counting.overdue(server, campaign, due, 10) == [b"event"]
    assert await counting.overdue(server, campaign, due + 1, 10) == []
    assert await counting.overdue(server, campaign, due + 61, 10) == [b"event"]
    await desk.bill(hold, 7)
    assert await counting.overdue(server, campaign, due + 999, 10) == []


async def test_clicks_and_orders_count_once(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=COST))
    (hold,) = await desk.drain()
    for kind, sale in (("clicks", ""), ("conversions", "a"), ("conversions", "b")):
        for bid_id, outcome in ((b"bid", "new"), (b"bid" if not sale else b"other", "duplicate")):
            assert outcome == await counting.count_once(
                server, desk.campaign, bid_id, kind, hold, int(NOW), sale
            )
    money = server.client.hgetall(money_keys(desk.campaign, "", "")[0])
    assert money[b"clicks"] == b"1"
    assert money[b"conversions"] == b"2"


async def test_the_dead_give_back_when_their_last_notice_can_have_come(desk_of, made) -> None:
    whole = made(daily_micros=4 * COST)
    dead, heir = desk_of(whole, "dead"), desk_of(whole, "heir")
    held = await dead.drain()
    assert len(held) == 4
    heir.now = dead.now
    assert await heir.drain(5) == []
    await dead.bill(held[0], 1)
    heir.now = dead.now + LASTS - 1
    assert await heir.drain(1) == []
    heir.now = dead.now + LASTS + LEASE_SECONDS
    assert len(await heir.drain()) == 3


async def test_who_ends_gives_back_what_is_free(server, desk_of, made) -> None:
    whole = made(daily_micros=4 * COST)
    ending, heir = desk_of(whole, "ending"), desk_of(whole, "heir")
    await ending.sync()
    assert ending.hold() is not None
    await ending.books.close(server, ending.now)
    assert ending.hold() is None
    assert len(await heir.drain()) == 3


async def test_who_was_silent_too_long_has_nothing(desk_of, made) -> None:
    whole = made(daily_micros=4 * COST)
    desk = desk_of(whole)
    await desk.sync()
    desk.now += LEASE_SECONDS
    assert desk.hold() is None
    assert desk.books.funded(desk.now) == 0
    heir = desk_of(whole, "heir")
    heir.now = desk.now + LASTS + LEASE_SECONDS
    assert len(await heir.drain()) == 4
    desk.now = heir.now
    assert await desk.drain() == []


async def test_bids_while_the_store_is_asked_are_not_given_twice(server, desk_of, made) -> None:
    """What is bid between question and answer comes out of the answer."""
    desk = desk_of(made(daily_micros=6 * COST))
    await desk.sync()
    desk.hold()
    held = []
    desk.account.next_sync = 0.0
    await desk.sync(1.0)
    assert desk.account.lease.free_micros == 5 * COST
    server.meanwhile = lambda: held.append(desk.hold())
    desk.account.next_sync = 0.0
    await desk.sync(1.0)
    server.meanwhile = lambda: None
    assert len(held) == 1
    held += desk.hold_all()
    other = desk_of(desk.whole, "other")
    other.now = desk.now
    both = len(held) + 1 + len(await other.drain(8)) + len(await desk.drain(8))
    assert both == 6


async def test_a_lost_answer_costs_nothing(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=4 * COST))
    await desk.sync()
    server.lose = True
    with pytest.raises(StoreUnavailable):
        await desk.sync()
    assert len(desk.hold_all()) == 1
    with pytest.raises(StoreUnavailable):
        await desk.books.close(server, desk.now)
    server.lose = False
    assert len(await desk.drain()) == 3


async def test_two_syncs_at_once_are_one(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=4 * COST))
    desk.account.syncing = True
    await desk.sync()
    assert desk.hold() is None


async def test_a_lower_budget_holds_at_once(desk_of, made, changed) -> None:
    desk = desk_of(made(daily_micros=10**9))
    await desk.sync()
    desk.books.adopt(changed(desk.whole, daily_micros=2 * COST))
    assert len(await desk.drain()) == 2


async def test_campaigns_that_are_gone_have_no_account(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=COST, per_minute=COST))
    await desk.sync()
    desk.books.adopt(catalogue.Catalogue("", (), (), (), {}))
    assert desk.books.accounts == {}
    assert desk.books.funded(desk.now) == 0


async def test_the_pace_is_remembered_for_who_comes_anew(desk_of, made) -> None:
    whole = made(daily_micros=10**9)
    one, other = desk_of(whole, "one"), desk_of(whole, "other")
    one.account.pace = "123"
    await one.sync()
    assert one.account.remembered == ""
    await other.sync()
    assert other.account.remembered == "123"


async def test_a_hold_is_in_the_bucket_of_its_notices(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=COST))
    (hold,) = await desk.drain(1)
    assert hold.bucket == bucket_name(float(int(desk.now)), "demo")
    assert hold.until == int(desk.now) + LASTS


@pytest.mark.parametrize(
    ("budget", "counters", "left"),
    [
        ({}, (9, 9, 9, 9), True),
        ({"total_micros": 9}, (9, 0, 0, 0), False),
        ({"daily_micros": 9}, (9, 8, 0, 0), True),
        ({"total_impressions": 9}, (0, 0, 9, 0), False),
        ({"daily_impressions": 9}, (0, 0, 9, 9), False),
    ],
)
def test_remains(budget, counters, left) -> None:
    assert remains(catalogue.Budget(**budget), counters) is left


async def test_an_unknown_operation_is_an_error(server, made) -> None:
    import redis

    with pytest.raises(redis.ResponseError, match="unknown operation nonsense"):
        await server.run("budget", money_keys(1, "a", "b"), ["nonsense", 0])


async def test_reserve_adds_what_is_not_leased(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=6 * COST))
    await desk.sync()
    assert desk.hold() is not None
    day, until = day_of(desk.whole.campaigns[0], desk.now), int(desk.now) + 999
    leased, bids = 1 * COST, 1
    for _ in range(2):
        missing = await counting.reserve(
            server, desk.campaign, day, until, 3 * COST + leased, 3 + bids, int(desk.now)
        )
        assert missing == (3 * COST, 3)
    assert len(await desk.drain()) == 2
