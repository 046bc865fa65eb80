"""Is the advertiser's minute kept, and used?"""

from bidder.ids import hash32
from bidder.pricing import counting
from bidder.store import keys

COST = 10_000
"""What a hold of `desk_of` costs."""


async def test_no_minute_commits_more_than_the_limit(desk_of, made) -> None:
    whole = made(daily_micros=10**9, per_minute=10 * COST)
    desks = [desk_of(whole, name) for name in ("one", "other")]
    times: list[float] = []
    for _ in range(300):
        for desk in desks:
            await desk.sync(0.5)
            times += [desk.now for _ in desk.hold_all()]
    for moment in times:
        assert sum(moment - 60 < time <= moment for time in times) <= 10
    assert len(times) >= 20, "and the limit is used"


async def test_what_is_lost_frees_the_minute(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=10**9, per_minute=4 * COST))
    held = await desk.drain(6)
    assert len(held) == 4
    for number, hold in enumerate(held):
        await counting.resolve(
            server, desk.campaign, number.to_bytes(12, "big"), hold, int(desk.now)
        )
    assert len(await desk.drain(8)) >= 3


async def test_what_is_not_sent_or_not_paid_for_frees_the_minute(desk_of, made) -> None:
    desk = desk_of(made(daily_micros=COST, per_minute=4 * COST))
    await desk.sync(1.0)
    hold = desk.hold()
    assert desk.hold() is None, "the day's budget is used up"
    desk.books.give_back(desk.item, hold, desk.now)
    assert len(await desk.drain(3)) == 1


async def test_a_minute_asks_only_for_what_it_may_need(server, desk_of, made) -> None:
    desk = desk_of(made(daily_micros=10**9, per_minute=4 * COST))
    await desk.sync()
    asked = []
    server.meanwhile = lambda: asked.append(1)
    desk.account.next_sync = desk.now + 10
    await desk.sync(1.0)
    assert asked == []
    await desk.sync(5.0)
    assert asked == [1]


async def test_an_unlimited_minute_asks_nothing(server, desk_of, made) -> None:
    minute = keys.campaign(hash32("adv"), "minute")
    await desk_of(made(daily_micros=10**9)).sync()
    assert not server.client.exists(minute)
    await desk_of(made(daily_micros=10**9, per_minute=COST)).sync()
    assert server.client.exists(minute)
