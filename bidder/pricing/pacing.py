"""How eagerly may a campaign bid now, so that its money lasts the day, and no longer?

Each limit of a budget has a dual multiplier: values are divided by 1 + mu, and mu moves by what is
spent beyond the target (Balseiro and Gur 2019; here log(1 + mu), which has no unit). The target is
solved again at every step, from the money and the traffic that are left, so errors and outages are
made good over the rest of the day and not at once. Around it stands a proportional-integral guard
on the day's curve: it answers at once to the present rate of spending, leans against a lead over
the curve, and stops bidding when the lead is too large.

The multiplier belongs to a budget, so all line items of a campaign share it: then the last euro of
each buys as much, which is what makes the dual optimal. A multiplier per line item would be right
only if line items had budgets of their own; in the catalogue, campaigns have them.
"""

from collections.abc import Hashable, Iterator
from itertools import islice
from math import exp
from typing import NamedTuple

from bidder.campaigns.catalogue import Budget, Campaign, Catalogue, LineItem
from bidder.pricing.budget import Books
from bidder.pricing.curve import Plan, Traffic, flight_share, open_hours
from bidder.pricing.leases import Account, Spent, day_of

STEP_SECONDS = 2.0
AT_ONCE = 50
"""Campaigns that are stepped in one go: bids wait meanwhile."""
DEEPEST = 6.0
"""The lowest factor is exp(-6), one four-hundredth."""
FRONT = 0.25
"""`ahead`: the first moment of the day is spent on at 1.25 times the average, the last at 0.75."""
CATCH_UP = 2.0
"""Never spend faster than so many times the original plan: what is then left, stays."""
SLOWEST_SECONDS, QUICKEST_SECONDS, PARTS_OF_DAY = 900.0, 150.0, 96
"""How long spending double the target takes to lower bids by the factor e: a 96th of the day."""
LEAST_EVENTS = 30
"""It takes at least so many impressions: a campaign that buys few must not jump at each."""
RATE_SECONDS = 90.0
"""Over which the present rate of spending is averaged."""
PROPORTIONAL = 0.35
LEAD, LEAN, STOP = 0.004, 60.0, 0.02
"""Of the day's budget: the guard leans in beyond a lead of LEAD, and stops at STOP beyond it."""
AGREE = 0.02
"""Per step, how far a worker moves to the multiplier that another left in the store."""
MICRO = 1_000_000


class Target(NamedTuple):
    """One limit of one day: what may be spent in it, and what has been."""

    budget: float
    spent: float
    grain: float
    """What one impression takes of it."""


class Pacer:
    """One limit's multiplier. Amounts are in any unit: micros, or impressions."""

    def __init__(self, depth: float = 0.0) -> None:
        self.depth = depth
        """log(1 + mu)"""
        self._rate = -1.0
        self._at = 0.0
        self._spent = 0.0
        self._day = ""

    def step(self, target: Target, plan: Plan, now: float, front: float, idle: bool) -> float:
        """The factor on values from `now` on. `idle`: no requests have come, so nothing is learnt
        from there being no spend."""
        if self._day != plan.day or now <= self._at:
            self._day, self._at, self._spent = plan.day, now, target.spent
            return self._factor(target, plan, now, front)
        elapsed, rate = now - self._at, target_rate(target, plan, self._at, now, front)
        spent = target.spent - self._spent
        self._at, self._spent = now, target.spent
        if idle and spent <= 0:
            return self._factor(target, plan, now, front)
        part = 1 - exp(-elapsed / RATE_SECONDS)
        self._rate += part * (spent / elapsed - self._rate) if self._rate >= 0 else spent / elapsed
        if rate > 0:
            error = (spent / elapsed - rate) / rate
            leading = self._lead(target, plan, now, front) > LEAD
            if error > 0 or not leading:  # the guard's silence says nothing about the market
                change = max(error, -1.0) * elapsed / self._seconds(target, plan, rate)
                self.depth = min(max(self.depth + change, 0.0), DEEPEST)
        return self._factor(target, plan, now, front, rate)

    def agree(self, remembered: float) -> None:
        """Move towards what the other workers found."""
        self.depth += AGREE * (remembered - self.depth)

    def _factor(
        self, target: Target, plan: Plan, now: float, front: float, rate: float = 0.0
    ) -> float:
        lead = self._lead(target, plan, now, front) - LEAD
        if lead > STOP:
            return 0.0
        depth = self.depth + max(lead, 0.0) * LEAN
        if rate > 0 and self._rate >= 0:
            depth += PROPORTIONAL * min(max(self._rate / rate - 1, -1.0), 3.0)
        return exp(-min(max(depth, 0.0), DEEPEST))

    def _lead(self, target: Target, plan: Plan, now: float, front: float) -> float:
        """Spent beyond the day's curve, as a share of its budget."""
        grains = 2 * target.grain / target.budget
        return target.spent / target.budget - ahead(plan.due(now), front) - grains

    def _seconds(self, target: Target, plan: Plan, rate: float) -> float:
        usual = min(max(plan.open_seconds / PARTS_OF_DAY, QUICKEST_SECONDS), SLOWEST_SECONDS)
        return max(usual, LEAST_EVENTS * target.grain / rate)


def ahead(elapsed: float, front: float) -> float:
    """The share of a budget to be spent when this share of the traffic is over."""
    return elapsed * (1 + front * (1 - elapsed))


def target_rate(target: Target, plan: Plan, since: float, now: float, front: float) -> float:
    """What to spend per second between these moments, given what is left at the latter."""
    before, after = (ahead(plan.due(at), front) for at in (since, now))
    if after >= 1 or now <= since:
        return 0.0
    share = (after - before) / (now - since)
    left = max(target.budget - target.spent, 0.0) / (1 - after)
    return share * min(left, CATCH_UP * target.budget)


class Pacing:
    """The factors of all campaigns of one worker, by the campaign's 32-bit id."""

    def __init__(self, books: Books) -> None:
        self.paces: dict[int, float] = {}
        """What multiplies values; 0 = do not bid now. Campaigns without a pace are not in it. It
        stays the same dict."""
        self._books = books
        self._traffic = Traffic()
        self._hours: dict[int, frozenset[int]] = {}
        self._plans: dict[Hashable, tuple[Plan, float | None]] = {}
        self._pacers: dict[int, tuple[Pacer, Pacer]] = {}
        self._stepped_at: dict[int, float] = {}
        self._counted_at = 0.0
        self._requests = -1.0
        self._idle = False

    def adopt(self, catalogue: Catalogue, traffic: Traffic) -> None:
        """Pace these campaigns: those known go on where they are."""
        items: dict[int, list[LineItem]] = {campaign.id32: [] for campaign in catalogue.campaigns}
        for item in catalogue.line_items:
            items[item.campaign.id32].append(item)
        self._traffic = traffic
        self._hours = {owner: open_hours(below) for owner, below in items.items()}
        self._plans.clear()
        self._pacers = {owner: self._pacers[owner] for owner in items if owner in self._pacers}
        for owner in self.paces.keys() - items.keys():
            del self.paces[owner]
        self._stepped_at.clear()

    def step(self, now: float, requests: float) -> int:
        """Work out anew the factors of campaigns whose books were renewed since their last step,
        and say of how many. `requests`: how many have ever come."""
        if not 0 <= now - self._counted_at < STEP_SECONDS:
            self._idle = requests == self._requests
            self._counted_at, self._requests = now, requests
        stepped = list(islice(self._due(now), AT_ONCE))
        for owner in stepped:
            self._stepped_at[owner] = now
            factor = self._campaign(owner, self._books.accounts[owner], now, self._idle)
            if factor is None:
                self.paces.pop(owner, None)
            else:
                self.paces[owner] = factor
        return len(stepped)

    def _due(self, now: float) -> Iterator[int]:
        """Whose books were renewed since their last step, some time ago. (Clocks may be set back.)

        Of a thousand campaigns few are due, four times a second: what tells most of them is first.
        """
        stepped = self._stepped_at
        for owner, account in self._books.accounts.items():
            stepped_at = stepped.get(owner, 0.0)
            if account.renewed_at <= stepped_at <= now or account.valid_until <= now:
                continue
            if not 0 <= now - stepped_at < STEP_SECONDS:
                yield owner

    def _campaign(self, owner: int, account: Account, now: float, idle: bool) -> float | None:
        campaign = account.campaign
        if campaign.budget.pacing == "asap":
            return None
        plan, share = self._plan(owner, campaign, now)
        front = FRONT if campaign.budget.pacing == "ahead" else 0.0
        targets = day_targets(campaign.budget, account.spent, share, front, account.dearest_micros)
        if not any(targets):
            return None
        pacers = self._pacers.get(owner)
        if pacers is None:
            depth = float(account.remembered) / MICRO if account.remembered else 0.0
            pacers = self._pacers[owner] = (Pacer(depth), Pacer(depth))
        active = [(p, target) for p, target in zip(pacers, targets, strict=True) if target]
        if account.remembered:
            for pacer, _ in active:
                pacer.agree(float(account.remembered) / MICRO)
        account.pace = str(int(max(pacer.depth for pacer, _ in active) * MICRO))
        return min(pacer.step(target, plan, now, front, idle) for pacer, target in active)

    def _plan(self, owner: int, campaign: Campaign, now: float) -> tuple[Plan, float | None]:
        """Its day; worked out once for all campaigns that have the same."""
        hours, day = self._hours[owner], day_of(campaign, now)
        alike = (campaign.flights, campaign.advertiser.zone, hours)
        known = self._plans.get(alike)
        if known is None or known[0].day != day:
            plan = Plan(self._traffic, campaign, hours, day)
            share = flight_share(self._traffic, campaign, hours, day, plan.traffic)
            known = self._plans[alike] = (plan, share)
        return known


def day_targets(
    budget: Budget, spent: Spent, share: float | None, front: float, dearest_micros: int
) -> tuple[Target | None, Target | None]:
    """What money and impressions are to be used today; None = as much as there is.

    `share`: today's of the traffic that is left in the flights; a total is spread by it.
    """
    micros, impressions = spent.micros_today, spent.impressions_today
    grain = micros / impressions if impressions else float(dearest_micros)
    money = _today(budget.total_micros, budget.daily_micros, spent.micros - micros, share, front)
    count = _today(
        budget.total_impressions, budget.daily_impressions, spent.impressions - impressions, share,
        front,
    )  # fmt: skip
    return (
        Target(money, micros, grain) if money is not None else None,
        Target(count, impressions, 1.0) if count is not None else None,
    )


def _today(
    total: int, daily: int, spent_before: int, share: float | None, front: float
) -> float | None:
    """Today's part of one limit, above 0."""
    limits = [float(daily)] if daily else []
    if total:
        left = max(total - spent_before, 0)
        if share is not None:
            limits.append(left * min(share * (1 + front), 1.0))
        elif daily:
            limits.append(float(left))
    return max(min(limits), 1.0) if limits else None
