"""What may one worker still bid of one campaign's budget? Its lease, less what its bids may cost.

What is bid is *held* until a notice resolves it or nothing more can come. Holds are counted in
buckets of bid time, which lets a notice that reached another worker, or another host, release them:
the store adds up what is resolved per bucket, and `sync` reads it.

    free = leased - (held - resolved, over the buckets still alive)
"""

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from bidder.campaigns.catalogue import Campaign
from bidder.money import impression_cost

BUCKET_SECONDS = 16
LEASE_SECONDS = 20
"""A lease is used for this long after the sync that renewed it."""
SYNC_SECONDS = 0.5
IDLE_SYNC_SECONDS = 5.0
LOOKAHEAD_SECONDS = 3.0
"""A lease asks for what this many seconds of bidding at the recent rate would hold."""


class Hold(Struct, frozen=True):
    """Money set aside for one bid: sealed into its tokens, so that any notice can resolve it."""

    holder: str
    day: str
    """YYYY-MM-DD in the campaign's zone: the day whose budget pays."""
    cost_micros: int
    """The most it can cost, in micros of the advertiser's currency."""


class Bucket:
    """Bids of one stretch of time: what was held, and what the store says became of it."""

    __slots__ = ("bids", "billed", "held", "number", "resolved", "resolved_bids")

    def __init__(self, number: int) -> None:
        self.number = number
        self.held = self.bids = 0
        self.resolved = self.resolved_bids = self.billed = 0


class Holds:
    """The buckets of one account, oldest first."""

    def __init__(self) -> None:
        self.buckets: deque[Bucket] = deque()

    def add(self, cost: int, bids: int, now: float) -> None:
        """Hold `cost` more (or less, when a bid was not sent) in the bucket of `now`."""
        number = int(now) // BUCKET_SECONDS
        if not self.buckets or self.buckets[-1].number < number:
            self.buckets.append(Bucket(number))
        bucket = self.buckets[-1]
        bucket.held += cost
        bucket.bids += bids

    def resolve(self, rows: Mapping[int, Sequence[int]]) -> None:
        """Take in, by bucket number, the resolved micros and bids and the billed micros."""
        for bucket in self.buckets:
            if bucket.number in rows:
                bucket.resolved, bucket.resolved_bids, bucket.billed = rows[bucket.number]

    def forget(self, before: float) -> None:
        """Drop the buckets about which nothing more can come."""
        oldest = int(before) // BUCKET_SECONDS
        while self.buckets and self.buckets[0].number < oldest:
            self.buckets.popleft()

    def outstanding(self) -> tuple[int, int]:
        """Micros and bids that may still be billed."""
        return (
            sum(b.held - b.resolved for b in self.buckets),
            sum(b.bids - b.resolved_bids for b in self.buckets),
        )

    def committed(self, since: float) -> int:
        """Micros that bids made since then cost, or still may."""
        oldest = int(since) // BUCKET_SECONDS
        return sum(b.held - b.resolved + b.billed for b in self.buckets if b.number >= oldest)


class Account:
    """One campaign's money as one worker sees it. `hold_seconds`: how late a notice may come."""

    def __init__(self, campaign: Campaign, holder: str, hold_seconds: int) -> None:
        self.campaign = campaign
        self.holder = holder
        self.hold_seconds = hold_seconds
        self.dearest_micros = 0
        """What the dearest impression may cost: a lease leaves room for a few of these."""
        self.day = ""
        self.leased_micros = self.leased_impressions = 0
        self.valid_until = 0.0
        self.next_sync = 0.0
        self.spent_micros = self.spent_today_micros = 0
        """Over all workers, as of the last sync; likewise the impressions."""
        self.impressions = self.impressions_today = 0
        self.holds = Holds()
        self._outstanding = self._outstanding_bids = 0
        self._held_since_sync = 0
        self._synced_at = 0.0
        self._rate = 0.0

    def can_pay(self, cost_micros: int, now: float) -> bool:
        """Is there a lease, and is this much of it free?"""
        budget = self.campaign.budget
        if now >= self.valid_until:
            return False
        if budget.total_micros or budget.daily_micros:
            free = self.leased_micros - self._outstanding
            if free < cost_micros:
                return False
        if budget.total_impressions or budget.daily_impressions:
            return self.leased_impressions > self._outstanding_bids
        return True

    def hold(self, bid_cpm_micros: int, now: float) -> Hold | None:
        """Set aside what a bid of this CPM (advertiser's currency) can cost; None = no money."""
        cost = impression_cost(bid_cpm_micros)
        if not self.can_pay(cost, now):
            self.next_sync = now  # ask for more at once
            return None
        self._change(cost, 1, now)
        return Hold(self.holder, self.day, cost)

    def give_back(self, hold: Hold, now: float) -> None:
        """Undo a hold whose bid was never sent."""
        self._change(-hold.cost_micros, -1, now)

    def sync_arguments(self, now: float, closing: bool = False) -> list[bytes | str | int]:
        """What to ask of `budget.lua sync`; when closing, nothing free is asked for."""
        day = self.today(now)
        if day != self.day:
            # Yesterday's lease stays with the store until the last notice can have come.
            self.day, self.holds, self.valid_until = day, Holds(), 0.0
        self.holds.forget(now - self.hold_seconds)
        self._recount()
        elapsed = now - self._synced_at if self._synced_at else SYNC_SECONDS
        self._rate += 0.3 * (self._held_since_sync / max(elapsed, SYNC_SECONDS) - self._rate)
        dearest = max(self.dearest_micros, 1)
        want = 0 if closing else max(int(self._rate * LOOKAHEAD_SECONDS), 4 * dearest)
        budget = self.campaign.budget
        return [
            "sync",
            int(now),
            self.holder,
            day,
            LEASE_SECONDS + self.hold_seconds,
            budget.total_micros,
            budget.daily_micros,
            budget.total_impressions,
            budget.daily_impressions,
            self._outstanding,
            self._outstanding_bids,
            want,
            0 if closing else max(want // dearest, 4),
            *[bucket.number for bucket in self.holds.buckets],
        ]

    def synced(self, answer: Sequence[int], asked_at: float) -> None:
        """Take in what `budget.lua sync` returned."""
        self.leased_micros, self.leased_impressions = answer[0], answer[1]
        self.spent_micros, self.spent_today_micros = answer[2], answer[3]
        self.impressions, self.impressions_today = answer[4], answer[5]
        self.holds.resolve({answer[i]: answer[i + 1 : i + 4] for i in range(6, len(answer), 4)})
        self._recount()
        busy = self._held_since_sync > 0
        self._held_since_sync = 0
        self._synced_at = asked_at
        self.valid_until = asked_at + LEASE_SECONDS
        self.next_sync = asked_at + (SYNC_SECONDS if busy else IDLE_SYNC_SECONDS)

    def _change(self, cost: int, bids: int, now: float) -> None:
        self.holds.add(cost, bids, now)
        self._outstanding += cost
        self._outstanding_bids += bids
        self._held_since_sync += cost

    def _recount(self) -> None:
        self._outstanding, self._outstanding_bids = self.holds.outstanding()

    def today(self, now: float) -> str:
        """The day whose budget pays at `now`, YYYY-MM-DD in the campaign's zone."""
        zone = self.campaign.advertiser.zone
        return datetime.fromtimestamp(now, UTC).astimezone(zone).date().isoformat()
