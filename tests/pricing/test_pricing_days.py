"""When does a campaign's day begin and end, and what of yesterday's money is left in it?"""

from datetime import datetime

import pytest

from bidder.pricing import Books, counting
from bidder.pricing.leases import day_bounds, day_of

LASTS = 600
COST = 10_000
"""How long a hold of `desk_of` lasts, in seconds, and what it costs."""


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Paris", "2026-10-25", 25),
        ("Europe/Paris", "2026-03-29", 23),
        ("Europe/Paris", "2026-11-20", 24),
        ("America/Santiago", "2026-09-06", 23),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Asia/Kathmandu", "2026-11-20", 24),
    ],
)
def test_days_are_as_long_as_they_are(made, zone, day, hours) -> None:
    campaign = made(zone=zone).campaigns[0]
    begins, ends = day_bounds(campaign, day)
    assert (ends - begins) / 3600 == hours
    assert day_of(campaign, begins - 1) < day
    assert day_of(campaign, begins) == day_of(campaign, ends - 1) == day
    assert day_of(campaign, ends) > day


async def test_a_new_day_has_its_own_budget_from_its_first_second(server, desk_of, made) -> None:
    desk = desk_of(made(zone="Europe/Paris", daily_micros=3 * COST, total_micros=5 * COST))
    desk.now = at("2026-10-24T23:59:50+02:00")
    old = await desk.drain(9)
    assert {hold.day for hold in old} == {"2026-10-24"}
    desk.now = at("2026-10-25T00:00:00+02:00")
    assert desk.hold() is None, "the lease of yesterday ended"
    new = await desk.drain(4)
    assert [hold.day for hold in new] == ["2026-10-25"] * 2, "the total has room for two more"
    bid = (1).to_bytes(12, "big")
    await counting.resolve(server, desk.campaign, bid, old[0], int(desk.now))
    assert len(await desk.drain(8)) == 1, "yesterday's loss frees the total"
    desk.now += LASTS
    await desk.drain(1)
    assert desk.account.past == []


async def test_a_hold_of_yesterday_can_be_given_back(desk_of, made) -> None:
    desk = desk_of(made(zone="Europe/Paris", total_micros=COST))
    desk.now = at("2026-11-20T23:59:50+01:00")
    (hold,) = await desk.drain(1)
    desk.now = at("2026-11-21T00:00:00+01:00")
    await desk.sync(0)
    assert desk.hold() is None
    desk.books.give_back(desk.item, hold, desk.now)
    assert [hold.day for hold in await desk.drain(6)] == ["2026-11-21"]


def test_a_test_bid_holds_nothing(made) -> None:
    whole = made(zone="Europe/Paris")
    books = Books("worker", LASTS)
    books.adopt(whole)
    hold = books.nothing(whole.line_items[0], at("2026-11-20T23:30:00+00:00"))
    assert (hold.day, hold.cost_micros) == ("2026-11-21", 0)


async def test_a_lease_lasts_as_long_as_the_exchanges_now_need(desk_of, made) -> None:
    desk = desk_of(made(total_micros=9 * COST))
    await desk.sync()
    before = desk.account.lasts_until(desk.account.lease, desk.now)
    desk.books.hold_seconds = LASTS + 3600
    desk.books.adopt(desk.whole)
    assert desk.account.lasts_until(desk.account.lease, desk.now) == before + 3600
