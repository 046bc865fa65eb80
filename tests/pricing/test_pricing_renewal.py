"""When is a lease, or an advertiser's minute, renewed? Before a bid misses it, and not in vain."""

from bidder.pricing.leases import IDLE_SYNC_SECONDS, SYNC_SECONDS

COST = 10_000
"""What a hold of `desk_of` costs."""
TICK = 0.25


async def test_a_bid_that_leaves_no_room_for_another_asks_for_more(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=10**9))
    await desk.sync()
    assert not desk.account.due(desk.now)
    while desk.account.can_pay(COST, desk.now):
        assert desk.hold() is not None
    assert desk.account.due(desk.now)
    assert desk.books.hunger.is_set(), "before any bid was refused"
    desk.now += 0.05
    await desk.books.feed(desk.server, desk.now)
    assert not desk.books.hunger.is_set()
    assert desk.hold() is not None


async def test_only_who_starves_is_fed(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=10**9))
    await desk.sync()
    renewed = desk.account.renewed_at
    desk.now += 0.05
    desk.account.next_sync = desk.now  # due, but no bid found it empty
    await desk.books.feed(desk.server, desk.now)
    assert desk.account.renewed_at == renewed
    await desk.sync()
    assert desk.account.renewed_at == desk.now


async def test_what_is_bid_while_the_store_answers_is_made_good_at_once(
    server, desk_of, made
) -> None:
    desk = desk_of(made(daily_impressions=1000))
    await desk.sync()
    await desk.sync(IDLE_SYNC_SECONDS * 1.3)
    server.meanwhile = desk.hold_all
    await desk.sync(IDLE_SYNC_SECONDS * 1.3)
    server.meanwhile = lambda: None
    assert not desk.account.can_pay(COST, desk.now), "all that was granted is bid"
    assert desk.account.due(desk.now)
    await desk.sync(TICK)
    assert desk.hold() is not None


async def test_at_the_end_of_a_budget_the_store_is_not_asked_at_each_bid(
    server, desk_of, made
) -> None:
    desk = desk_of(made(daily_micros=4 * COST + COST // 2))
    assert len(await desk.drain(8)) == 4
    asked: list[int] = []
    server.meanwhile = lambda: asked.append(1)
    seconds = 5
    for _ in range(int(seconds / 0.05)):
        assert desk.hold() is None
        await desk.sync(0.05)
    assert 0 < len(asked) <= seconds / SYNC_SECONDS + 1


async def test_a_day_has_one_lease_even_if_the_clock_goes_back_over_midnight(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=10 * COST))
    await desk.sync()
    desk.hold()
    account, today, now = desk.account, desk.account.lease, desk.now
    account.turn(now + 86400)
    tomorrow = account.lease
    account.turn(now)
    assert account.lease is today
    account.turn(now + 86400)
    assert account.lease is tomorrow
    assert [lease.day for lease in account.past if lease.day] == [today.day]


async def test_a_quiet_advertiser_is_always_let_bid(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=10**9, per_minute=100 * COST))
    for start in (0.0, 0.1, 0.4, 0.9):
        await desk.sync(10 + start)
        for _ in range(200):
            await desk.sync(TICK)
            assert desk.books.funded(desk.now), desk.now


async def test_a_minute_that_one_bid_used_up_asks_for_more(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=10**9, per_minute=100 * COST))
    await desk.sync()
    minute = desk.books._minutes[desk.whole.advertisers[0].id32]
    assert not minute.due(desk.now)
    while minute.allows(COST, desk.now):
        assert minute.take(COST, desk.now)
    assert minute.due(desk.now)


async def test_who_could_not_pay_for_a_bid_steps_aside_until_it_can(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=4 * COST + COST // 2))
    assert len(await desk.drain(8)) == 4
    assert desk.account.lease.free_micros == COST // 2
    assert desk.hold() is None
    assert not desk.books.funded(desk.now)
    await desk.sync(1.0)
    assert not desk.books.funded(desk.now)
    assert desk.hold(cpm=COST * 1000 // 2) is not None  # one that costs as little as is left
    desk.now += 86400
    await desk.sync()
    assert desk.books.funded(desk.now)


async def test_an_advertiser_without_enough_for_a_bid_in_this_minute_steps_aside(
    desk_of, made
) -> None:
    desk = desk_of(made(daily_micros=10**9, per_minute=2 * COST + COST // 2))
    assert len(await desk.drain(3)) == 2
    assert not desk.books.funded(desk.now)
    await desk.sync(75.0)
    assert desk.books.funded(desk.now)
    assert desk.hold() is not None
