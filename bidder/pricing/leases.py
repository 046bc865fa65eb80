"""What may one worker still bid of one campaign's budget? What the store gave it and is not held.

What is bid is *held* until a notice resolves it or none can come any more. Holds are added up in
buckets by exchange and time of the bid, so that a notice that reached another worker, or another
host, frees them: the store adds up what became of each bucket (`store/lua/budget.lua`), takes that
into account when it grants, and tells the worker, which learns from it how late notices come.

Every day of a campaign has a lease of its own. Yesterday's is kept, with nothing free in it, until
its last notice can have come.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from math import ceil, exp
from typing import NamedTuple

from msgspec import Struct

from bidder.campaigns.catalogue import Campaign
from bidder.ids import hash32
from bidder.money import MICROS, impression_cost
from bidder.pricing.delays import BUCKET_SECONDS, YOUNG, Delays, Mark, Wins

LEASE_SECONDS = 20
"""A lease is used for this long after the sync that renewed it."""
SYNC_SECONDS, IDLE_SYNC_SECONDS = 0.5, 10.0
"""A lease is renewed at least so often while its campaign bids much, and while it does not."""
BIDS_A_SYNC = 8
"""In between: after so many of the dearest bids. A sync costs about as much as a bid."""
LOOKAHEAD_SECONDS = 2.5
"""A lease covers this many seconds of bidding beyond the next sync."""
YOUNG_BUCKETS = 2
RATE_SECONDS = 1.5
"""Over which the rate of bidding is averaged."""
BUSY_BIDS = 4
"""Whoever has bid lately keeps room for this many of the dearest bids; who has not, for one."""


class Hold(Struct, frozen=True):
    """Money set aside for one bid. Its parts travel in the bid's tokens: any notice resolves it."""

    holder: str
    day: str
    """YYYY-MM-DD in the campaign's zone: the day whose budget pays."""
    cost_micros: int
    """The most it can cost, in micros of the advertiser's currency."""
    bucket: str
    until: int
    """Seconds since the epoch: nothing that comes later frees it, for it has ended by itself."""


class Spent(NamedTuple):
    """What a campaign has cost over all workers, billed or shown, as the store last said."""

    micros: int = 0
    micros_today: int = 0
    impressions: int = 0
    impressions_today: int = 0


def bucket_name(bid_time: float, exchange: str) -> str:
    """The bucket of a bid made then, there."""
    return f"{int(bid_time) // BUCKET_SECONDS}:{exchange}"


def day_of(campaign: Campaign, now: float) -> str:
    """The day whose budget pays at `now`: YYYY-MM-DD in the campaign's zone."""
    return datetime.fromtimestamp(now, UTC).astimezone(campaign.advertiser.zone).date().isoformat()


def day_bounds(campaign: Campaign, day: str) -> tuple[float, float]:
    """When `day` begins and ends in the campaign's zone: 23 to 25 hours apart."""
    zone, begins = campaign.advertiser.zone, date.fromisoformat(day)
    ends = begins + timedelta(days=1)
    return (
        datetime.combine(begins, time(), zone).timestamp(),
        datetime.combine(ends, time(), zone).timestamp(),
    )


class Bucket:
    """Bids of a few seconds on one exchange: what was held, and what the store says came of it."""

    __slots__ = (
        "bids",
        "exchange",
        "held",
        "marks",
        "name",
        "number",
        "resolved",
        "resolved_bids",
        "shown",
        "until",
    )

    def __init__(self, number: int, exchange: str) -> None:
        self.number = number
        self.exchange = exchange
        self.name = f"{number}:{exchange}"
        self.held = self.bids = self.resolved = self.resolved_bids = self.shown = 0
        self.until = 0
        self.marks: list[Mark] = []

    @property
    def unresolved(self) -> int:
        """Micros of bids of which nothing was heard."""
        return self.held - self.resolved

    @property
    def unresolved_bids(self) -> int:
        """Bids of which nothing was heard."""
        return self.bids - self.resolved_bids


class Lease:
    """One day's money of one campaign, as this worker may use it."""

    def __init__(self, day: str, delays: Delays, wins: Wins) -> None:
        self.day = day
        self._wins = wins
        self.free_micros = self.free_bids = 0
        self.buckets: dict[str, Bucket] = {}
        self._delays = delays
        self._ask_all_at = 0.0
        self._under_way: tuple[int, int] | None = None
        """Held, in micros and bids, since the sync that is under way began."""

    def hold(self, cost: int, now: float, exchange: str, until: int) -> str:
        """Take `cost` from what is free; the name of its bucket."""
        number = int(now) // BUCKET_SECONDS
        name = f"{number}:{exchange}"
        bucket = self.buckets.get(name)
        if bucket is None:
            bucket = self.buckets[name] = Bucket(number, exchange)
        bucket.until = max(bucket.until, until)
        self._change(bucket, cost, 1)
        return name

    def give_back(self, hold: Hold) -> None:
        """Undo a hold whose bid was never sent."""
        if hold.bucket in self.buckets:
            self._change(self.buckets[hold.bucket], -hold.cost_micros, -1)

    def ended(self, now: float) -> list[Bucket]:
        """Take out, and learn from, the buckets of which nothing more can come."""
        newest = int(now) // BUCKET_SECONDS
        over = [
            bucket
            for bucket in self.buckets.values()
            if bucket.until <= now or (not bucket.unresolved and bucket.number < newest)
        ]
        for bucket in over:
            del self.buckets[bucket.name]
            if bucket.marks:
                self._learn(bucket, now)
            else:
                self._wins.learn(bucket.exchange, bucket.held, bucket.shown, bucket.bids, now)
        return over

    def _learn(self, bucket: Bucket, now: float) -> None:
        """What became of a bucket since its last mark."""
        age = len(bucket.marks) - 1
        mark = bucket.marks[age]
        self._delays.learn(bucket.exchange, age, mark, bucket.shown, bucket.bids, now)

    def _mark(self, bucket: Bucket, now: float) -> None:
        """Note how a bucket stands at each age it has come to, and learn from it."""
        age = self._delays.age(bucket.exchange, bucket.number)
        while len(bucket.marks) <= age:
            if bucket.marks:
                self._learn(bucket, now)
            else:
                self._wins.learn(bucket.exchange, bucket.held, bucket.shown, bucket.bids, now)
            bucket.marks.append(Mark(bucket.unresolved, bucket.shown))

    def arguments(self, asked: Sequence[Bucket], over: Sequence[Bucket]) -> list[str | int]:
        """What is outstanding in the buckets not asked about, micros and bids; how many are asked
        about; of each its name, micros, bids and weight; then those to forget."""
        names = {bucket.name for bucket in asked}
        weights = self._weights()
        micros = bids = 0.0
        for bucket in self.buckets.values():
            if bucket.name not in names:
                micros += weights[bucket.name] * bucket.unresolved
                bids += weights[bucket.name] * bucket.unresolved_bids
        told: list[str | int] = [ceil(micros), ceil(bids), len(asked)]
        for bucket in asked:
            weight = ceil(weights[bucket.name] * MICROS)
            told += (bucket.name, bucket.held, bucket.bids, weight)
        return [*told, *[bucket.name for bucket in over]]

    def _weights(self) -> dict[str, float]:
        """By bucket, the share of what is unresolved in it that must stay held."""
        weights: dict[str, float] = {}
        young: dict[str, list[Bucket]] = {}
        for bucket in self.buckets.values():
            age = self._delays.age(bucket.exchange, bucket.number)
            if age == YOUNG:
                young.setdefault(bucket.exchange, []).append(bucket)
            else:
                life = bucket.until // BUCKET_SECONDS - bucket.number
                weights[bucket.name] = self._delays.weight(bucket.exchange, age, life)
        for exchange, buckets in young.items():
            unresolved = sum(bucket.unresolved for bucket in buckets)
            held = self._wins.held(exchange, unresolved, sum(b.unresolved_bids for b in buckets))
            share = held / unresolved if unresolved > 0 else 1.0
            weights.update({bucket.name: share for bucket in buckets})
        return weights

    def begin(self, want_micros: int, want_bids: int, now: float) -> list[Bucket]:
        """A sync begins: keep no more than is wanted. The buckets it asks about: the young ones,
        on which most notices come, and now and then all of them."""
        self.free_micros = min(self.free_micros, want_micros)
        self.free_bids = min(self.free_bids, want_bids)
        self._under_way = (0, 0)
        oldest = int(now) // BUCKET_SECONDS - YOUNG_BUCKETS
        if now >= self._ask_all_at:
            self._ask_all_at, oldest = now + IDLE_SYNC_SECONDS, 0
        return [bucket for bucket in self.buckets.values() if bucket.number >= oldest]

    def end(self) -> None:
        """The sync brought no answer: what was kept is still there."""
        self._under_way = None

    def synced(
        self, free: int, bids: int, asked: Sequence[Bucket], rows: Sequence[int], now: float
    ) -> None:
        """Take in what the store granted and, bucket by bucket, what became of the bids."""
        held, held_bids = self._under_way or (0, 0)
        self._under_way = None
        self.free_micros, self.free_bids = free - held, bids - held_bids
        for place, bucket in enumerate(asked):
            row = rows[3 * place : 3 * place + 3]
            bucket.resolved, bucket.resolved_bids, bucket.shown = row
            if bucket.resolved:
                self._delays.heard(bucket.exchange, bucket.number)
        for bucket in asked:
            self._mark(bucket, now)

    def _change(self, bucket: Bucket, cost: int, bids: int) -> None:
        bucket.held += cost
        bucket.bids += bids
        self.free_micros -= cost
        self.free_bids -= bids
        if self._under_way is not None:
            self._under_way = (self._under_way[0] + cost, self._under_way[1] + bids)


class Account:
    """One campaign's money as one worker sees it.

    `hold_seconds`: how late a notice may come where nothing is held yet to tell it from.
    """

    def __init__(self, campaign: Campaign, holder: str, hold_seconds: int, delays: Delays) -> None:
        self.holder = holder
        self.spent = Spent()
        self._wins = Wins()
        self.lease = Lease("", delays, self._wins)
        self.past: list[Lease] = []
        """Leases of days gone by whose notices may still come."""
        self.valid_until = 0.0
        self.renewed_at = 0.0
        """When the store was last asked for it and answered."""
        self.pace = ""
        """What pacing wants to be remembered, for a worker that comes anew; empty = nothing."""
        self.remembered = ""
        self.bids = 0
        """Held so far; never falls."""
        self.syncing = False
        self.hold_seconds = hold_seconds
        self._delays = delays
        self._own_pace = 0.8 + 0.4 * (hash32(f"{holder} {campaign.id32}") / 2**32)
        """Accounts that began together must not ask together for ever."""
        self._demand = 0
        self._rate = 0.0
        self._wanted = (0, 0)
        self._scarce = False
        """The store had less than we wanted, so others wait for what we do not use."""
        self._asked_at = 0.0
        self.adopt(campaign)

    def adopt(self, campaign: Campaign) -> None:
        """Go on with this version of the campaign; the store is asked anew."""
        budget = campaign.budget
        self.campaign = campaign
        self.dearest_micros = 1
        """What the dearest impression may cost."""
        self.needed_micros = 1
        """What the last bid needed, if it could not be paid: less than that is of no use."""
        self.next_sync = 0.0
        self._limits_money = bool(budget.total_micros or budget.daily_micros)
        self._limits_bids = bool(budget.total_impressions or budget.daily_impressions)

    def can_pay(self, cost_micros: int, now: float) -> bool:
        """Is there a lease, and is this much of it free?"""
        if now >= self.valid_until:
            return False
        lease = self.lease
        if self._limits_money and lease.free_micros < cost_micros:
            return False
        return not self._limits_bids or lease.free_bids > 0

    def hold(self, bid_cpm_micros: int, now: float, exchange: str, seconds: int) -> Hold | None:
        """Set aside what a bid of this CPM (advertiser's currency) can cost; None = no money.

        `seconds`: how long after it a notice of the bid may come from `exchange`.
        """
        cost = impression_cost(bid_cpm_micros)
        self._demand += cost
        if not self.can_pay(cost, now):
            self.needed_micros = cost
            self._hurry(now)
            return None
        self.needed_micros = 1
        self.bids += 1
        until = int(now) + seconds
        bucket = self.lease.hold(cost, now, exchange, until)
        if not self.can_pay(self.dearest_micros, now):
            self._hurry(now)  # before the next bid finds it empty
        return Hold(self.holder, self.lease.day, cost, bucket, until)

    def _hurry(self, now: float) -> None:
        """Ask for more at once; twice a second where there was less than we wanted."""
        earliest = self._asked_at + SYNC_SECONDS if self._scarce else now
        self.next_sync = min(self.next_sync, earliest)

    def due(self, now: float) -> bool:
        """Is it time to renew? Also if the next time lies so far ahead that the clock must have
        been set back since it was planned."""
        return not now < self.next_sync <= now + 2 * IDLE_SYNC_SECONDS

    def give_back(self, hold: Hold) -> None:
        """Undo a hold whose bid was never sent."""
        for lease in (self.lease, *self.past):
            if lease.day == hold.day:
                lease.give_back(hold)

    def turn(self, now: float) -> None:
        """Go on with the lease of the day that it is. A day has one lease, even if the clock is set
        back over midnight."""
        day = day_of(self.campaign, now)
        if day != self.lease.day:
            leases = {lease.day: lease for lease in (*self.past, self.lease)}
            self.lease = leases.get(day) or Lease(day, self._delays, self._wins)
            self.past = [lease for each, lease in leases.items() if each != day]
            self.valid_until = 0.0
            self.needed_micros = 1
        if now >= self.valid_until:
            # The store may have given to others what we had; only what it says now is ours.
            self.lease.free_micros = self.lease.free_bids = 0

    def wants(self, now: float, closing: bool) -> tuple[int, int]:
        """Micros and bids to have free: a few seconds of the dearest bids, at least one."""
        elapsed = max(now - self._asked_at, SYNC_SECONDS) if self._asked_at else SYNC_SECONDS
        self._rate += (1 - exp(-elapsed / RATE_SECONDS)) * (self._demand / elapsed - self._rate)
        least = BUSY_BIDS if self._demand else 1
        self._asked_at, self._demand = now, 0
        if closing:
            return 0, 0
        bids = ceil(self._rate * (self._pause() + LOOKAHEAD_SECONDS) / self.dearest_micros)
        self._wanted = max(bids, least) * self.dearest_micros, max(bids, least)
        return self._wanted

    def _pause(self) -> float:
        """Seconds to the next sync, unless a bid needs it sooner."""
        if self._rate <= 1:
            return IDLE_SYNC_SECONDS * self._own_pace
        seconds = BIDS_A_SYNC * self.dearest_micros / self._rate
        return min(max(seconds, SYNC_SECONDS), IDLE_SYNC_SECONDS) * self._own_pace

    def lasts_until(self, lease: Lease, now: float) -> int:
        """When the last notice of what `lease` covers can have come, and a little more."""
        latest = max((bucket.until for bucket in lease.buckets.values()), default=0)
        if lease is self.lease:
            latest = max(latest, int(now) + self.hold_seconds)
        return latest + LEASE_SECONDS

    def synced(
        self, granted: tuple[int, int], spent: Spent, remembered: str, asked_at: float
    ) -> None:
        """The store has renewed today's lease: `granted` micros and bids, of which some are bid
        by now."""
        self.spent, self.remembered, self.renewed_at = spent, remembered, asked_at
        _, ends = day_bounds(self.campaign, self.lease.day)
        self.valid_until = min(asked_at + LEASE_SECONDS, ends)
        self._scarce = any(got < wanted for got, wanted in zip(granted, self._wanted, strict=True))
        pause = SYNC_SECONDS if self._scarce and self._rate > 1 else self._pause()
        self.next_sync = min(asked_at + pause, ends)
        if not self._scarce and not self.can_pay(self.dearest_micros, asked_at):
            self.next_sync = asked_at  # what was granted is bid already
