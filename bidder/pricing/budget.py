"""Is there money for this bid? The books of one worker: an account for every campaign.

The store keeps what is spent and what is leased to whom (`store/lua/budget.lua`, its only writer).
A worker bids from its leases alone, so a store that is away costs at most what was leased.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol, cast

from bidder.campaigns.catalogue import Advertiser, Budget, Campaign, Catalogue, LineItem
from bidder.money import impression_cost
from bidder.pricing.leases import Account, Hold, Holds
from bidder.pricing.value import highest
from bidder.store import keys

COUNTERS_SECONDS = 400 * 86400
"""How long a campaign's counters outlive its last billing."""
SEEN_SECONDS = 40 * 86400
"""How long a notice is known to have been counted: longer than any token lives."""
MINUTE_SECONDS = 60


class Scripts(Protocol):
    """Whatever runs the store's Lua scripts by name."""

    def run(
        self, name: str, keys: Sequence[str], args: Sequence[bytes | str | int]
    ) -> Awaitable[object]:
        """What the script returned."""


def money_keys(campaign: int, holder: str, day: str) -> list[str]:
    """The keys of `budget.lua` for a campaign (32-bit id), a holder and the day of a bid."""
    return [
        keys.campaign(campaign, "money"),
        keys.campaign(campaign, "leases"),
        keys.campaign(campaign, f"holds:{holder}"),
        keys.campaign(campaign, f"seen:{day}"),
        keys.campaign(campaign, "unbilled"),
        keys.campaign(campaign, "events"),
    ]


class Books:
    """All accounts of one worker. `holder` names this process, so that its leases can be told.

    `hold_seconds` is how late the last notice of a bid may come; `workers` how many processes share
    the advertisers' limits per minute, each taking an equal part.
    """

    def __init__(self, holder: str, hold_seconds: int, workers: int) -> None:
        self.holder = holder
        self.accounts: dict[int, Account] = {}
        self._hold_seconds = hold_seconds
        self._workers = workers
        self._minutes: dict[int, Holds] = {}
        self._masks: dict[int, int] = {}

    def adopt(self, catalogue: Catalogue) -> None:
        """Keep the books of these campaigns: those known go on where they are."""
        known, self.accounts = self.accounts, {}
        for campaign in catalogue.campaigns:
            account = known.get(campaign.id32)
            if account is None:
                account = Account(campaign, self.holder, self._hold_seconds)
            account.campaign, account.dearest_micros = campaign, 0
            self.accounts[campaign.id32] = account
        self._minutes = {a.id32: self._minutes.get(a.id32, Holds()) for a in catalogue.advertisers}
        self._masks = dict.fromkeys(self.accounts, 0)
        for item in catalogue.line_items:
            account = self.accounts[item.campaign.id32]
            account.dearest_micros = max(account.dearest_micros, impression_cost(highest(item)))
            self._masks[item.campaign.id32] |= 1 << item.index

    def funded(self, now: float) -> int:
        """The mask of the line items whose campaign can pay for some bid."""
        mask = 0
        for owner, bits in self._masks.items():
            account = self.accounts[owner]
            if account.can_pay(1, now) and self._minute_allows(account.campaign.advertiser, 1, now):
                mask |= bits
        return mask

    def hold(self, line_item: LineItem, bid_cpm_micros: int, now: float) -> Hold | None:
        """Set aside what a bid of this CPM (advertiser's currency) can cost; None = no money."""
        advertiser = line_item.campaign.advertiser
        cost = impression_cost(bid_cpm_micros)
        if not self._minute_allows(advertiser, cost, now):
            return None
        hold = self.accounts[line_item.campaign.id32].hold(bid_cpm_micros, now)
        if hold is not None and advertiser.max_spend_per_minute_micros:
            self._minutes[advertiser.id32].add(cost, 1, now)
        return hold

    def give_back(self, line_item: LineItem, hold: Hold, now: float) -> None:
        """Undo a hold whose bid was never sent."""
        self.accounts[line_item.campaign.id32].give_back(hold, now)
        advertiser = line_item.campaign.advertiser
        if advertiser.max_spend_per_minute_micros:
            self._minutes[advertiser.id32].add(-hold.cost_micros, -1, now)

    def nothing(self, line_item: LineItem, now: float) -> Hold:
        """The hold of a bid that can never cost anything (`test=1`)."""
        account = self.accounts[line_item.campaign.id32]
        return Hold(self.holder, account.today(now), 0)

    async def sync(self, scripts: Scripts, now: float) -> int:
        """Renew the leases that are due; how many. Raises what `scripts` raises."""
        due = [account for account in self.accounts.values() if account.next_sync <= now]
        await self._sync(scripts, due, now, closing=False)
        return len(due)

    async def close(self, scripts: Scripts, now: float) -> None:
        """Give back what is leased and not outstanding, before the process ends."""
        await self._sync(scripts, self.accounts.values(), now, closing=True)

    async def _sync(
        self, scripts: Scripts, accounts: Iterable[Account], now: float, closing: bool
    ) -> None:
        asked = []
        for account in accounts:
            arguments = account.sync_arguments(now, closing)
            names = money_keys(account.campaign.id32, account.holder, account.day)
            asked.append((account, scripts.run("budget", names, arguments)))
        answers = await asyncio.gather(*[answer for _, answer in asked], return_exceptions=True)
        for (account, _), answer in zip(asked, answers, strict=True):
            if not isinstance(answer, BaseException):
                account.synced(cast(Sequence[int], answer), now)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    def _minute_allows(self, advertiser: Advertiser, cost: int, now: float) -> bool:
        limit = advertiser.max_spend_per_minute_micros
        if not limit:
            return True
        holds = self._minutes[advertiser.id32]
        holds.forget(now - MINUTE_SECONDS)
        return holds.committed(now - MINUTE_SECONDS) + cost <= limit // self._workers


def remains(budget: Budget, counters: Sequence[int]) -> bool:
    """Is anything left of every limit? `counters`: spent micros in all and today, impressions
    in all and today."""
    limits = (
        budget.total_micros,
        budget.daily_micros,
        budget.total_impressions,
        budget.daily_impressions,
    )
    return all(not limit or used < limit for limit, used in zip(limits, counters, strict=True))


async def bill(
    scripts: Scripts, campaign: int, bid_id: bytes, bucket: int, hold: Hold, cost: int, now: int
) -> str:
    """Count one billed impression: "new" or "duplicate". Frees the hold, spends the cost."""
    arguments: list[bytes | str | int] = [
        "bill", now, bid_id, hold.day, hold.holder, bucket, hold.cost_micros, cost,
        SEEN_SECONDS, COUNTERS_SECONDS,
    ]  # fmt: skip
    return await _run(scripts, campaign, hold, arguments)


async def resolve(
    scripts: Scripts, campaign: int, bid_id: bytes, bucket: int, hold: Hold, now: int
) -> str:
    """Free the hold of a bid that lost: "new" or "duplicate"."""
    arguments: list[bytes | str | int] = [
        "resolve", now, bid_id, hold.holder, bucket, hold.cost_micros, SEEN_SECONDS,
    ]  # fmt: skip
    return await _run(scripts, campaign, hold, arguments)


async def count_once(
    scripts: Scripts, campaign: int, bid_id: bytes, kind: str, hold: Hold, now: int
) -> str:
    """Count a click or conversion of a bid (`kind` names the counter): "new" or "duplicate"."""
    return await _run(scripts, campaign, hold, ["once", now, bid_id, kind, SEEN_SECONDS])


async def await_billing(
    scripts: Scripts, campaign: int, bid_id: bytes, due: int, event: bytes, hold: Hold, now: int
) -> str:
    """Remember an impression whose billing notice is not here: `event` is logged when it is due."""
    arguments: list[bytes | str | int] = ["await", now, bid_id, due, event, SEEN_SECONDS]
    return await _run(scripts, campaign, hold, arguments)


async def overdue(scripts: Scripts, campaign: Campaign, now: int, most: int) -> list[bytes]:
    """The events of impressions whose billing notice did not come in time."""
    names = money_keys(campaign.id32, "", "")
    answer = await scripts.run("budget", names, ["due", now, most])
    return [event for event in cast(list[bytes | None], answer) if event]


async def _run(
    scripts: Scripts, campaign: int, hold: Hold, arguments: Sequence[bytes | str | int]
) -> str:
    names = money_keys(campaign, hold.holder, hold.day)
    answer = await scripts.run("budget", names, arguments)
    return answer.decode() if isinstance(answer, bytes) else str(answer)
