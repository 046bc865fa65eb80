"""Is the money spread as it should be: over days of any length, noise, outages and few bids?"""

import itertools
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidder.campaigns import catalogue
from bidder.campaigns.catalogue import Flight
from bidder.pricing.curve import HOURS, PRIOR, Plan, Traffic, flight_share, open_hours
from bidder.pricing.leases import Spent, day_bounds
from bidder.pricing.pacing import (
    CATCH_UP,
    FRONT,
    Pacer,
    Target,
    ahead,
    day_targets,
    target_rate,
)

ALWAYS = frozenset(range(HOURS))
ZONES = st.sampled_from(["Europe/Paris", "America/New_York", "Asia/Kathmandu", "UTC"])
DAYS = st.dates(datetime(2026, 1, 1).date(), datetime(2027, 12, 31).date()).map(str)
LIMIT = st.one_of(st.just(0), st.integers(1, 10**9))


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def plan_of(made, day: str = "2026-11-20", hours=ALWAYS, **fields) -> Plan:
    return Plan(Traffic(), made(**fields).campaigns[0], hours, day)


# The curve


@given(zone=ZONES, day=DAYS, parts=st.lists(st.floats(0, 1), min_size=2, max_size=6))
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_plan_rises_from_nothing_to_all(made, zone, day, parts) -> None:
    campaign = made(zone=zone).campaigns[0]
    plan = Plan(Traffic(), campaign, ALWAYS, day)
    begins, ends = day_bounds(campaign, day)
    found = [plan.elapsed(begins + part * (ends - begins)) for part in sorted(parts)]
    assert found == sorted(found)
    assert plan.elapsed(begins - 9) == plan.elapsed(begins) == 0
    assert plan.elapsed(ends) == plan.elapsed(ends + 9) == pytest.approx(1)
    assert plan.open_seconds == ends - begins


def test_the_nights_are_quiet(made) -> None:
    plan = plan_of(made, zone="Europe/Paris")
    night = plan.elapsed(moment("2026-11-20T06:00+01:00"))
    evening = 1 - plan.elapsed(moment("2026-11-20T18:00+01:00"))
    assert night == pytest.approx(sum(PRIOR[:6]) / sum(PRIOR))
    assert evening > 3 * night


def test_only_open_hours_are_planned(made) -> None:
    hours = frozenset(day * 24 + hour for day in range(7) for hour in range(8, 20))
    plan = plan_of(made, hours=hours)
    assert plan.elapsed(moment("2026-11-20T08:00+00:00")) == 0
    assert plan.elapsed(moment("2026-11-20T20:00+00:00")) == 1
    assert plan.open_seconds == 12 * 3600


def test_a_flight_may_begin_and_end_in_the_day(made) -> None:
    start = datetime(2026, 11, 20, 10, 5, tzinfo=UTC)
    plan = plan_of(made, flights=(Flight(start, start + timedelta(hours=4)),))
    begins, ends = start.timestamp(), start.timestamp() + 4 * 3600
    assert plan.elapsed(begins) == 0
    assert plan.elapsed(begins + 60) > 0
    assert plan.elapsed(ends - 60) < 1
    assert plan.elapsed(ends) == pytest.approx(1)


@pytest.mark.parametrize(("hours", "spare"), [(4, 180), (1, 72)])
def test_the_money_is_due_a_little_before_the_end(made, hours: int, spare: int) -> None:
    start = datetime(2026, 11, 20, 10, 5, tzinfo=UTC)
    plan = plan_of(made, flights=(Flight(start, start + timedelta(hours=hours)),))
    begins, ends = start.timestamp(), start.timestamp() + hours * 3600
    assert plan.due(ends - spare) == pytest.approx(1)
    assert plan.due(ends - spare - 60) < 0.9999
    half = (begins + ends) / 2
    assert plan.elapsed(half) < plan.due(half) < plan.elapsed(half) + spare / (hours * 3600)


def test_a_day_without_traffic_is_over(made) -> None:
    plan = plan_of(made, hours=frozenset())
    assert plan.elapsed(moment("2026-11-20T12:00+00:00")) == 1
    assert target_rate(Target(100, 0, 1), plan, 0, 1, 0) == 0


def test_the_long_day_in_autumn_repeats_an_hour(made) -> None:
    plan = plan_of(made, day="2026-10-25", zone="Europe/Paris")
    begins = moment("2026-10-25T00:00+02:00")
    two, again = (
        plan.elapsed(begins + hour * 3600) - plan.elapsed(begins + (hour - 1) * 3600)
        for hour in (3, 4)
    )
    assert two == pytest.approx(again)


def test_what_was_counted_outweighs_the_prior() -> None:
    requests, hours = [100.0] * HOURS, [10.0] * HOURS
    requests[5] = 2000.0
    traffic = Traffic(requests, hours)
    assert traffic.weight(5, 5) > 10 * traffic.weight(6, 6)
    assert Traffic().weight(5, 5) == PRIOR[5]


@pytest.mark.parametrize(
    ("requests", "hours"), [([1.0], [1.0]), ([1.0] * HOURS, []), ([-1.0] * HOURS, [1.0] * HOURS)]
)
def test_traffic_that_is_none_is_refused(requests, hours) -> None:
    with pytest.raises(ValueError, match="traffic"):
        Traffic(requests, hours)


def test_open_hours_are_those_of_any_active_line_item(made) -> None:
    (item,) = made(hours=frozenset({1, 2})).line_items
    from msgspec.structs import replace

    paused = replace(item, when=catalogue.When(frozenset({3})), active=False)
    by_person = replace(item, when=catalogue.When(frozenset({3}), "person"))
    assert open_hours([item, paused]) == {1, 2}
    assert open_hours([item, by_person]) == ALWAYS


def test_a_total_is_spread_over_the_days_of_the_flight(made) -> None:
    zone = ZoneInfo("Europe/Paris")
    start = datetime(2026, 10, 24, tzinfo=zone)
    campaign = made(
        zone="Europe/Paris", flights=(Flight(start, start + timedelta(days=4)),)
    ).campaigns[0]
    traffic = Traffic()
    spent = []
    left = 1000.0
    for day in ("2026-10-24", "2026-10-25", "2026-10-26", "2026-10-27"):
        today = Plan(traffic, campaign, ALWAYS, day).traffic
        share = flight_share(traffic, campaign, ALWAYS, day, today)
        assert share is not None
        spent.append(left * share)
        left -= left * share
    assert left == pytest.approx(0)
    assert max(spent) < 1.03 * min(spent)
    assert flight_share(traffic, made().campaigns[0], ALWAYS, "2026-10-24", 1.0) is None
    assert flight_share(traffic, campaign, ALWAYS, "2026-10-24", 0.0) == 0


# Targets


@given(LIMIT, LIMIT, st.integers(0, 10**9), st.integers(0, 10**9), st.one_of(
    st.none(), st.floats(0.01, 1)), st.sampled_from([0.0, FRONT]))  # fmt: skip
def test_no_target_is_beyond_a_limit(total, daily, before, today, share, front) -> None:
    budget = catalogue.Budget(total_micros=total, daily_micros=daily)
    spent = Spent(before + today, today, 10, 5)
    money, count = day_targets(budget, spent, share, front, 1000)
    assert count is None
    if money is None:
        assert not daily
        assert not total or share is None
        return
    assert money.budget >= 1
    assert not daily or money.budget <= daily
    assert not total or money.budget <= max(total - before, 1)


def test_impressions_have_a_target_of_their_own() -> None:
    budget = catalogue.Budget(daily_impressions=100, daily_micros=1000)
    money, count = day_targets(budget, Spent(50, 50, 5, 5), None, 0.0, 7)
    assert money == Target(1000, 50, 10)
    assert count == Target(100, 5, 1)
    assert day_targets(budget, Spent(), None, 0.0, 7)[0] == Target(1000, 0, 7)


def test_ahead_begins_faster_and_ends_with_all_of_it() -> None:
    assert ahead(0.5, 0.0) == 0.5
    assert ahead(0.5, FRONT) > 0.55
    assert ahead(0, FRONT) == 0
    assert ahead(1, FRONT) == 1


def test_the_rest_is_spread_over_the_rest_but_never_too_fast(made) -> None:
    plan = plan_of(made)
    noon = moment("2026-11-20T12:00+00:00")
    usual = target_rate(Target(100, 100 * plan.due(noon), 1), plan, noon - 2, noon, 0)
    behind = target_rate(Target(100, 0, 1), plan, noon - 2, noon, 0)
    assert usual < behind < CATCH_UP * usual * 1.01
    late = moment("2026-11-20T23:50+00:00")
    original = target_rate(Target(100, 100 * plan.due(late), 1), plan, late - 2, late, 0)
    assert target_rate(Target(100, 0, 1), plan, late - 2, late, 0) == pytest.approx(
        CATCH_UP * original
    )
    assert target_rate(Target(100, 0, 1), plan, noon, noon, 0) == 0


# The controller, in a market that answers to it


class Market:
    """Spends so much a second at full bids, less at lower ones; notices come up to a minute late.

    Spending falls with the square of the factor, as where more is won and each costs more.
    """

    def __init__(self, plan: Plan, budget: float, wanted: float, seed: int = 1) -> None:
        self.plan, self.budget, self.random = plan, budget, Random(seed)
        self.full = budget / wanted
        self.spent = self.known = 0.0
        self.late: dict[int, float] = {}
        self.wave = 1.0

    def second(self, now: float, factor: float, open_: bool = True) -> None:
        share = self.plan.elapsed(now + 1) - self.plan.elapsed(now)
        if int(now) % 600 == 0:
            self.wave = self.random.lognormvariate(0, 0.25)
        cost = self.full * share * factor**2 * self.wave if open_ else 0.0
        cost = min(cost, self.budget - self.spent)
        self.spent += cost
        heard = int(now) + self.random.randint(0, 60)
        self.late[heard] = self.late.get(heard, 0.0) + cost
        self.known += self.late.pop(int(now), 0.0)


def deliver(plan: Plan, begins: float, ends: float, wanted: float, front: float, closed=None):
    """(share spent, mean deviation from the plan, spend of every five minutes) of one day."""
    market, pacer, factor = Market(plan, 1e9, wanted), Pacer(), 0.0
    off, fives = [], []
    for now in range(int(begins), int(ends)):
        open_ = not (closed and closed[0] <= now < closed[1])
        if now % 5 == 0:
            target = Target(market.budget, market.known, 1000)
            factor = pacer.step(target, plan, now, front, not open_)
        market.second(now, factor, open_)
        off.append(abs(market.spent / market.budget - ahead(plan.elapsed(now), front)))
        if now % 300 == 0:
            fives.append(market.spent / market.budget)
    rates = [b - a for a, b in itertools.pairwise(fives)]
    return market.spent / market.budget, sum(off) / len(off), rates


@pytest.mark.parametrize(
    ("day", "wanted", "front"),
    [
        ("2026-11-20", 0.1, 0.0),
        ("2026-11-20", 0.5, FRONT),
        ("2026-10-25", 0.5, 0.0),
        ("2026-03-29", 0.5, FRONT),
    ],
)
def test_a_day_is_delivered_as_planned(made, day, wanted, front) -> None:
    whole = made(zone="Europe/Paris")
    plan = Plan(Traffic(), whole.campaigns[0], ALWAYS, day)
    begins, ends = day_bounds(whole.campaigns[0], day)
    spent, off, _ = deliver(plan, begins, ends, wanted, front)
    assert 0.99 <= spent <= 1.0
    assert off < 0.015


def test_a_flight_that_ends_at_noon_is_spent_by_noon(made) -> None:
    start = datetime(2026, 11, 20, 8, tzinfo=UTC)
    whole = made(flights=(Flight(start, start + timedelta(hours=4)),))
    plan = Plan(Traffic(), whole.campaigns[0], ALWAYS, "2026-11-20")
    spent, off, _ = deliver(plan, start.timestamp(), start.timestamp() + 4 * 3600, 0.5, 0.0)
    assert spent > 0.985
    assert off < 0.02


def test_after_an_outage_there_is_no_burst(made) -> None:
    plan = plan_of(made)
    begins = moment("2026-11-20T00:00+00:00")
    closed = (begins + 9 * 3600, begins + 13 * 3600)
    spent, _, rates = deliver(plan, begins, begins + 86400, 0.4, 0.0, closed)
    usual = max(
        plan.elapsed(begins + 300 * (i + 1)) - plan.elapsed(begins + 300 * i) for i in range(288)
    )
    assert spent > 0.985
    assert max(rates) < 2.6 * usual


def test_an_outage_at_the_end_is_not_made_good_in_minutes(made) -> None:
    plan = plan_of(made)
    begins = moment("2026-11-20T00:00+00:00")
    closed = (begins + 20 * 3600, begins + 23.8 * 3600)
    spent, _, rates = deliver(plan, begins, begins + 86400, 0.2, 0.0, closed)
    assert spent < 0.9
    assert max(rates[-3:]) < 3 * max(rates[:230])


def test_too_far_ahead_is_silent(made) -> None:
    plan = plan_of(made)
    noon = moment("2026-11-20T12:00+00:00")
    planned = plan.elapsed(noon)
    pacer = Pacer(0.0)
    assert pacer.step(Target(1e6, 1e6 * (planned + 0.1), 1), plan, noon, 0.0, False) == 0
    assert pacer.step(Target(1e6, 1e6 * planned, 1), plan, noon + 2, 0.0, False) > 0


def test_the_silence_of_the_guard_teaches_nothing(made) -> None:
    plan = plan_of(made)
    noon = moment("2026-11-20T12:00+00:00")
    pacer, spent = Pacer(1.0), 1e6 * (plan.elapsed(noon) + 0.1)
    for now in range(0, 600, 2):
        assert pacer.step(Target(1e6, spent, 1), plan, noon + now, 0.0, False) == 0
    assert pacer.depth == 1.0


def test_outside_its_hours_a_campaign_learns_nothing(made) -> None:
    plan = plan_of(made, hours=frozenset(day * 24 + hour for day in range(7) for hour in range(6)))
    pacer = Pacer(1.0)
    noon = moment("2026-11-20T12:00+00:00")
    for now in range(0, 600, 2):
        pacer.step(Target(1e6, 1e3, 1), plan, noon + now, 0.0, False)
    assert pacer.depth == 1.0


def test_silence_in_an_outage_teaches_nothing(made) -> None:
    plan = plan_of(made)
    noon = moment("2026-11-20T12:00+00:00")
    idle, busy = Pacer(1.0), Pacer(1.0)
    for now in range(0, 600, 2):
        target = Target(1e9, 1e9 * 0.2, 1000)
        idle.step(target, plan, noon + now, 0.0, True)
        busy.step(target, plan, noon + now, 0.0, False)
    assert idle.depth == 1.0
    assert busy.depth < 0.7
