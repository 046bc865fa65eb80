"""Is there money for this bid? The books of one worker: an account for every campaign.

The store keeps what is spent and what is leased to whom (`store/lua/budget.lua`, its only writer).
A worker bids from its leases alone, so a store that is away costs at most what was leased.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import cast

from bidder.campaigns.catalogue import Budget, Catalogue, LineItem
from bidder.money import impression_cost
from bidder.pricing.delays import BUCKET_SECONDS, Delays
from bidder.pricing.leases import (
    Account,
    Bucket,
    Hold,
    Lease,
    Spent,
    day_of,
)
from bidder.pricing.minutes import Minutes, Scripts
from bidder.pricing.value import highest
from bidder.store import keys

AT_ONCE = 8
"""Leases that are renewed side by side: more in one go, and bids would wait for them. A thousand
would time out themselves."""
FIXED_ANSWER = 7
"""What `sync` answers before the rows of the buckets."""


def money_keys(campaign: int, holder: str, day: str, bucket: str = "", sale: str = "") -> list[str]:
    """The keys of `budget.lua` for a campaign (32-bit id), a holder, a day and bucket of bids.

    `sale` stands for one conversion.
    """
    return [
        keys.campaign(campaign, "money"),
        keys.campaign(campaign, "leases"),
        keys.campaign(campaign, f"holds:{holder}:{day}"),
        keys.campaign(campaign, f"done:{bucket}"),
        keys.campaign(campaign, f"seen:{day}"),
        keys.campaign(campaign, "unbilled"),
        keys.campaign(campaign, "events"),
        keys.campaign(campaign, f"sale:{sale}"),
    ]


class Books:
    """All accounts of one worker. `holder` names this process, so that its leases can be told.

    `hold_seconds` is how late the last notice of a bid may usually come: `adopt` applies it.
    """

    def __init__(self, holder: str, hold_seconds: int) -> None:
        self.holder = holder
        self.accounts: dict[int, Account] = {}
        """By the campaign's 32-bit id."""
        self.hold_seconds = hold_seconds
        self._delays = Delays()
        self._minutes: dict[int, Minutes] = {}
        self.hunger = asyncio.Event()
        """Set as soon as a bid found no money, or left none for another: time to `feed`."""
        self._hungry: set[Account | Minutes] = set()
        self._shares: list[tuple[Account, Minutes, int]] = []
        """Of each campaign: what pays for it, and the mask of its line items."""

    def adopt(self, catalogue: Catalogue) -> None:
        """Keep the books of these campaigns: those known go on where they are."""
        known, self.accounts = self.accounts, {}
        self._fed()
        for campaign in catalogue.campaigns:
            account = known.get(campaign.id32)
            if account is None:
                account = Account(campaign, self.holder, self.hold_seconds, self._delays)
            account.hold_seconds = self.hold_seconds
            account.adopt(campaign)
            self.accounts[campaign.id32] = account
        minutes = {a.id32: self._minutes.get(a.id32) or Minutes(a) for a in catalogue.advertisers}
        for advertiser in catalogue.advertisers:
            minutes[advertiser.id32].advertiser = advertiser
        self._minutes = minutes
        masks = dict.fromkeys(self.accounts, 0)
        for item in catalogue.line_items:
            dearest = impression_cost(highest(item))
            account = self.accounts[item.campaign.id32]
            account.dearest_micros = max(account.dearest_micros, dearest)
            minute = minutes[item.campaign.advertiser.id32]
            minute.dearest_micros = max(minute.dearest_micros, dearest)
            masks[item.campaign.id32] |= 1 << item.index
        self._shares = [
            (account, minutes[account.campaign.advertiser.id32], masks[owner])
            for owner, account in self.accounts.items()
        ]

    def funded(self, now: float) -> int:
        """The mask of the line items whose campaign can pay for some bid. One whose last bid could
        not be paid comes back with the money for it: who wins here and cannot pay silences the
        others."""
        mask = 0
        allowing = {m for m in self._minutes.values() if m.allows(m.needed_micros, now)}
        for account, minute, bits in self._shares:
            if minute in allowing and account.can_pay(account.needed_micros, now):
                mask |= bits
        return mask

    def hold(
        self, line_item: LineItem, bid_cpm_micros: int, now: float, exchange: str, seconds: int
    ) -> Hold | None:
        """Set aside what a bid of this CPM (advertiser's currency) can cost; None = no money.

        `seconds`: how long after the bid a notice of it may come from `exchange`.
        """
        minute = self._minutes[line_item.campaign.advertiser.id32]
        cost = impression_cost(bid_cpm_micros)
        taken = minute.take(cost, now)
        if minute.due(now):
            self._starves(minute)
        if not taken:
            return None
        account = self.accounts[line_item.campaign.id32]
        hold = account.hold(bid_cpm_micros, now, exchange, seconds)
        if hold is None:
            minute.give_back(cost, now)
        if account.due(now):
            self._starves(account)
        return hold

    def give_back(self, line_item: LineItem, hold: Hold, now: float) -> None:
        """Undo a hold whose bid was never sent."""
        self.accounts[line_item.campaign.id32].give_back(hold)
        self._minutes[line_item.campaign.advertiser.id32].give_back(hold.cost_micros, now)

    def nothing(self, line_item: LineItem, now: float) -> Hold:
        """The hold of a bid that can never cost anything (`test=1`)."""
        return Hold(self.holder, day_of(line_item.campaign, now), 0, "", 0)

    async def sync(self, scripts: Scripts, now: float) -> int:
        """Renew the leases that are due; how many. Raises what `scripts` raises."""
        self._fed()
        due = [account for account in self.accounts.values() if account.due(now)]
        minutes = [minute for minute in self._minutes.values() if minute.due(now)]
        await self._ask(scripts, [*due, *minutes], now)
        return len(due)

    async def feed(self, scripts: Scripts, now: float) -> None:
        """Renew what is hungry, without looking at all the rest. Raises what `scripts` raises."""
        await self._ask(scripts, [each for each in self._fed() if each.due(now)], now)

    def _starves(self, one: Account | Minutes) -> None:
        self._hungry.add(one)
        self.hunger.set()

    def _fed(self) -> set[Account | Minutes]:
        """Those that starve: from here on they are seen to."""
        hungry, self._hungry = self._hungry, set()
        self.hunger.clear()
        return hungry

    async def _ask(self, scripts: Scripts, due: Sequence[Account | Minutes], now: float) -> None:
        await _all(
            [
                partial(self._sync, scripts, each, now)
                if isinstance(each, Account)
                else partial(each.sync, scripts, now)
                for each in due
            ]
        )

    async def close(self, scripts: Scripts, now: float) -> None:
        """Give back what is leased and not outstanding, before the process ends."""
        accounts = self.accounts.values()
        await _all([partial(self._sync, scripts, each, now, closing=True) for each in accounts])

    async def _sync(
        self, scripts: Scripts, account: Account, now: float, closing: bool = False
    ) -> None:
        if account.syncing or not (closing or account.due(now)):
            return  # it was renewed since this round began
        account.syncing = True
        try:
            account.turn(now)
            want = account.wants(now, closing)
            await self._renew(scripts, account, account.lease, now, want)
            for lease in list(account.past):
                await self._renew(scripts, account, lease, now, (0, 0))
                if not lease.buckets:
                    account.past.remove(lease)
        finally:
            account.syncing = False

    async def _renew(
        self, scripts: Scripts, account: Account, lease: Lease, now: float, want: tuple[int, int]
    ) -> None:
        if not lease.day:
            return
        over, budget = lease.ended(now), account.campaign.budget
        asked = lease.begin(*want, now)
        current = lease is account.lease
        arguments: list[str | int] = [
            "sync", int(now), account.holder, lease.day, account.lasts_until(lease, now),
            budget.total_micros, budget.daily_micros,
            budget.total_impressions, budget.daily_impressions,
            max(lease.free_micros, 0), max(lease.free_bids, 0), *want, account.dearest_micros,
            account.pace if current else "", *lease.arguments(asked, over),
        ]  # fmt: skip
        names = money_keys(account.campaign.id32, account.holder, lease.day)
        try:
            answer = cast(list[int], await scripts.run("budget", names, arguments))
        except BaseException:
            lease.end()
            raise
        before = [bucket.resolved - bucket.shown for bucket in asked]
        lease.synced(answer[0], answer[1], asked, answer[FIXED_ANSWER:], now)
        self._free_minutes(account, asked, before)
        if current:
            remembered = cast(bytes, answer[6]).decode()
            account.synced((answer[0], answer[1]), Spent(*answer[2:6]), remembered, now)

    def _free_minutes(
        self, account: Account, asked: Sequence[Bucket], before: Sequence[int]
    ) -> None:
        """Of the advertiser's minute, hand back what is lost."""
        minute = self._minutes.get(account.campaign.advertiser.id32)
        if minute is None or not minute.limited:
            return
        for bucket, lost in zip(asked, before, strict=True):
            minute.give_back(bucket.resolved - bucket.shown - lost, bucket.number * BUCKET_SECONDS)


async def _all(tasks: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do all of them, `AT_ONCE` at a time, then raise the first failure, if any."""
    failed: BaseException | None = None
    for first in range(0, len(tasks), AT_ONCE):
        under_way = [task() for task in tasks[first : first + AT_ONCE]]
        for answer in await asyncio.gather(*under_way, return_exceptions=True):
            if isinstance(answer, BaseException):
                failed = failed or answer
    if failed is not None:
        raise failed


def remains(budget: Budget, counters: Iterable[int]) -> bool:
    """Is anything left of every limit? `counters`: spent micros in all and today, impressions
    in all and today."""
    limits = (
        budget.total_micros,
        budget.daily_micros,
        budget.total_impressions,
        budget.daily_impressions,
    )
    return all(not limit or used < limit for limit, used in zip(limits, counters, strict=True))
