"""Does the store know of all that was spent? The log, told to it again.

A store restored from a copy has forgotten the last billings, and leases that were taken since. So
every notice about money is applied once more (what is known is a duplicate, and changes nothing),
the cost of bids whose fate is open is set aside where no lease covers it, and then the counters
are compared with the log, to the micro. The people's part is left alone: it may have been erased.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from bidder.campaigns.catalogue import Campaign
from bidder.events.reading import read
from bidder.events.schema import (
    AnyEvent,
    BidEvent,
    BillingEvent,
    ImpressionEvent,
    LossEvent,
)
from bidder.money import impression_cost
from bidder.notices.applying import Applier
from bidder.pricing.counting import SEEN_SECONDS, reserve
from bidder.pricing.leases import day_of
from bidder.pricing.minutes import Scripts
from bidder.store import keys
from bidder.store.links import Links

REACH_SECONDS = SEEN_SECONDS - 86400
"""How far back the log can be told again: the store must still know what it has counted."""
BATCH = 500
_Money = BillingEvent | ImpressionEvent | LossEvent
"""What `_is_money` lets through."""


@dataclass(frozen=True, slots=True)
class Day:
    """One campaign's day of bids, in the log and in the store."""

    campaign: str
    """Path, or the 32-bit id of one that is gone."""
    day: str
    logged_micros: int
    logged_impressions: int
    counted_micros: int
    counted_impressions: int
    counted_before: int
    """Micros that the store knew of at first."""
    reserved_micros: int
    """Set aside for bids whose fate is open."""

    @property
    def agrees(self) -> bool:
        """The log and the store say the same."""
        return (self.logged_micros, self.logged_impressions) == (
            self.counted_micros,
            self.counted_impressions,
        )


@dataclass(slots=True)
class _Known:
    micros: int = 0
    impressions: int = 0


async def reconcile(
    log: Path,
    links: Links,
    scripts: Scripts,
    applier: Applier,
    campaigns: Iterable[Campaign],
    hold_seconds: Mapping[str, int],
    now: float,
) -> list[Day]:
    """Tell the store again what the log says since `REACH_SECONDS`, and compare.

    `hold_seconds` by exchange: how long after a bid its last notice may come. Days that began
    before the reach are told again, but not compared. Raises `StoreUnavailable`.
    """
    by_path = {campaign.path: campaign for campaign in campaigns}
    names = {campaign.id32: path for path, campaign in by_path.items()}
    logged, open_ = _read(log, by_path, hold_seconds, now)
    before = {place: await _counted(links, *place) for place in logged}
    events = iter(_notices(log, now))
    while batch := list(islice(events, BATCH)):
        await applier.apply(batch, now)
    found = []
    for place in sorted(logged.keys() | open_.keys()):
        owner, day = place
        cost, bids, until = open_.get(place, (0, 0, 0))
        reserved, _ = await reserve(scripts, owner, day, until, cost, bids, int(now))
        if place in logged:
            here, there = logged[place], await _counted(links, owner, day)
            found.append(
                Day(
                    names.get(owner, f"#{owner:08x}"),
                    day,
                    here.micros,
                    here.impressions,
                    there.micros,
                    there.impressions,
                    before[place].micros,
                    reserved,
                )
            )
    return found


def _notices(log: Path, now: float) -> Iterator[AnyEvent]:
    """The notices about money, without the people."""
    for event in read(log, now - REACH_SECONDS, wanted=_is_money):
        yield replace(cast(_Money, event), person="")


def _is_money(line: bytes) -> bool:
    return line.startswith((b'{"type":"billing"', b'{"type":"impression"', b'{"type":"loss"'))


def _read(
    log: Path, campaigns: Mapping[str, Campaign], hold_seconds: Mapping[str, int], now: float
) -> tuple[dict[tuple[int, str], _Known], dict[tuple[int, str], tuple[int, int, int]]]:
    """By campaign and day: what was billed, and cost, number and last end of bids still open."""
    billed: dict[str, None] = {}
    logged: dict[tuple[int, str], _Known] = defaultdict(_Known)
    open_bids: dict[str, tuple[tuple[int, str], int, int]] = {}
    oldest = now - REACH_SECONDS
    longest = max(hold_seconds.values(), default=0)
    for event in read(log, oldest, wanted=lambda line: _is_money(line) or line[9:12] == b"bid"):
        if isinstance(event, BidEvent):
            if event.time + longest > now:
                _open(event, campaigns, hold_seconds, now, open_bids)
            continue
        notice = cast(_Money, event)
        open_bids.pop(notice.bid_id, None)
        if isinstance(notice, LossEvent) or (
            isinstance(notice, ImpressionEvent) and not notice.bills
        ):
            continue
        if notice.bid_id not in billed:
            billed[notice.bid_id] = None
            if notice.bid_time >= oldest + 2 * 86400:
                place = logged[notice.ids[1], notice.day]
                place.micros += notice.cost_micros
                place.impressions += 1
    open_: dict[tuple[int, str], tuple[int, int, int]] = {}
    for owner, cost, until in open_bids.values():
        micros, bids, latest = open_.get(owner, (0, 0, 0))
        open_[owner] = (micros + cost, bids + 1, max(latest, until))
    return dict(logged), open_


def _open(
    bid: BidEvent,
    campaigns: Mapping[str, Campaign],
    hold_seconds: Mapping[str, int],
    now: float,
    found: dict[str, tuple[tuple[int, str], int, int]],
) -> None:
    """Note a bid of which something may still come."""
    campaign = campaigns.get(bid.line_item.rpartition("/")[0])
    until = int(bid.time) + hold_seconds.get(bid.exchange, 0)
    if campaign is not None and until > now:
        place = (campaign.id32, day_of(campaign, bid.time))
        cost = impression_cost(round(bid.price_cpm_micros * bid.rate))
        found[bid.bid_id] = (place, cost, until)


async def _counted(links: Links, campaign: int, day: str) -> _Known:
    """What the store has of a campaign's day."""
    fields = (f"spent:{day}", f"impressions:{day}")
    (row,) = await links.bulk([("HMGET", keys.campaign(campaign, "money"), *fields)])
    return _Known(*[int(value or 0) for value in row])


def render(days: Iterable[Day]) -> str:
    """The comparison as text."""
    lines = []
    for day in days:
        said = (
            "agrees"
            if day.agrees
            else (
                f"DIFFERS: the log has {day.logged_micros:,} micros and {day.logged_impressions:,} "
                f"impressions"
            )
        )
        told = day.counted_micros - day.counted_before
        lines.append(
            f"{day.day} {day.campaign}: {day.counted_micros:,} micros, "
            f"{day.counted_impressions:,} impressions, {said}"
            + (f"; {told:,} micros were unknown" if told else "")
            + (f"; {day.reserved_micros:,} set aside for open bids" if day.reserved_micros else "")
        )
    return "\n".join(lines) or "nothing was billed in the days that the log can be told again"
