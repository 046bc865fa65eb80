"""What changes when a notice has been logged? The person's ledger and the campaign's money.

The applier follows the log from a saved offset and runs idempotent scripts, so a crash between the
log and the store loses nothing, and reading a line again changes nothing.
"""

import asyncio
from collections.abc import Callable, Iterable
from logging import getLogger
from math import ceil

from bidder import capping, ids, metrics
from bidder.capping import Channel, Kind, Record
from bidder.capping.claim import Scripts
from bidder.capping.ledger import MAX_HOLD_SECONDS
from bidder.events.schema import (
    AnyEvent,
    BillingEvent,
    ClickEvent,
    ConversionEvent,
    ImpressionEvent,
    LossEvent,
    Notice,
    encode,
)
from bidder.metrics import Metrics
from bidder.money import impression_cost
from bidder.notices.receive import inferred_billing
from bidder.pricing import Hold
from bidder.pricing import counting as money
from bidder.pricing.leases import bucket_name
from bidder.store.coalesce import ScriptError

_log = getLogger(__name__)


class Applier:
    """Applies logged notices to the store. `ledger_seconds`: how long a ledger outlives its last
    write; `billing_seconds` by exchange name: how long after an impression its billing may come."""

    def __init__(
        self,
        scripts: Scripts,
        cells: Metrics,
        ledger_seconds: int,
        billing_seconds: dict[str, int],
        on_refused: Callable[[Notice, str], None] = lambda event, problem: None,
    ) -> None:
        """`on_refused` is told of each notice that the store refuses, and why."""
        self._scripts = scripts
        self._metrics = cells
        self._ledger_seconds = ledger_seconds
        self.billing_seconds = billing_seconds
        self._on_refused = on_refused

    async def apply(self, events: Iterable[AnyEvent], now: float) -> None:
        """Apply these events, in any order among themselves.

        Raises `StoreUnavailable`: then all of them may be applied again. An event that the store
        refuses would stop all that come behind it: it is counted as failed, told to `on_refused`,
        and stays in the log.
        """
        await asyncio.gather(*[self._one(e, int(now)) for e in events if isinstance(e, Notice)])

    async def _one(self, event: Notice, now: int) -> None:
        kind = str(event.__struct_config__.tag)
        try:
            outcome = await self._count(event, now)
            self._metrics.inc(metrics.APPLIED, kind, outcome)
            if outcome != "duplicate":
                self._metrics.inc(metrics.LINE_ITEM, event.line_item, kind)
            await self._follow_up(event, now)
        except ScriptError as problem:
            self._metrics.inc(metrics.APPLIED, kind, "failed")
            _log.error("%s of bid %s cannot be applied: %s", kind, event.bid_id, problem)
            self._on_refused(event, str(problem))

    async def _count(self, event: Notice, now: int) -> str:
        """What makes the event new or a duplicate."""
        if isinstance(event, BillingEvent):
            return await self._billed(event, event.cost_micros, now)
        if isinstance(event, ImpressionEvent):
            return await self._once(event, "pixels", now)
        if isinstance(event, LossEvent):
            return await self._lost(event, now)
        if isinstance(event, ClickEvent):
            return await self._once(event, "clicks", now)
        if isinstance(event, ConversionEvent):
            return await self._once(event, "conversions", now, event.order or event.bid_id)
        return "noted"

    async def _follow_up(self, event: Notice, now: int) -> None:
        """The rest, of a duplicate too: a crash may have come between."""
        if isinstance(event, BillingEvent):
            await self._write(event, Kind.IMPRESSION, now)
        elif isinstance(event, ImpressionEvent):
            await self._write(event, Kind.IMPRESSION, now)
            if event.bills:
                await self._billed(event, event.cost_micros, now)
            else:
                await self._await_billing(event, now)
        elif isinstance(event, ClickEvent):
            await self._write(event, Kind.CLICK, now)
        elif isinstance(event, ConversionEvent):
            await self._write(event, Kind.CONVERSION, now)

    async def _billed(self, event: Notice, cost: int, now: int) -> str:
        hold = _hold(event)
        outcome = await money.bill(
            self._scripts,
            event.ids[1],
            ids.from_text(event.bid_id),
            hold,
            cost,
            now,
        )  # fmt: skip
        if outcome == "new":
            advertiser = event.line_item.partition("/")[0]
            self._metrics.inc(metrics.SPEND, advertiser, event.account_currency, by=cost)
        return outcome

    async def _await_billing(self, event: ImpressionEvent, now: int) -> str:
        due = int(event.time) + self.billing_seconds.get(event.exchange, 3600)
        return await money.await_billing(
            self._scripts, event.ids[1], ids.from_text(event.bid_id), due,
            encode(inferred_billing(event)), _hold(event), now,
        )  # fmt: skip

    async def _lost(self, event: LossEvent, now: int) -> str:
        bid_id = ids.from_text(event.bid_id)
        if event.person:
            await capping.release(
                self._scripts, event.person, ids.bid_key(bid_id), now, self._ledger_seconds
            )
        return await money.resolve(self._scripts, event.ids[1], bid_id, _hold(event), now)

    async def _once(self, event: Notice, kind: str, now: int, sale: str = "") -> str:
        bid_id, hold = ids.from_text(event.bid_id), _hold(event)
        return await money.count_once(self._scripts, event.ids[1], bid_id, kind, hold, now, sale)

    async def _write(self, event: Notice, kind: Kind, now: int) -> str:
        """Write to the person's ledger; empty where there is no person."""
        if not event.person:
            return ""
        advertiser, campaign, line_item, creative = event.ids
        # Rounded up: the ledger has whole seconds, and no window may end before its time is over.
        time = ceil(event.time)
        what = Record(
            time=time,
            kind=kind,
            channel=Channel.DISPLAY,
            advertiser=advertiser,
            campaign=campaign,
            line_item=line_item,
            creative=creative,
            page=event.page,
            measured=event.measure,
            hold=min(max(time - int(event.bid_time), 0), MAX_HOLD_SECONDS),
            bid_key=ids.bid_key(ids.from_text(event.bid_id)),
        )
        return await capping.record(self._scripts, event.person, what, now, self._ledger_seconds)


def _hold(event: Notice) -> Hold:
    """The money set aside for the bid, as `pricing` had held it."""
    cost = impression_cost(round(event.bid_cpm_micros * event.rate))
    return Hold(
        holder=event.hold,
        day=event.day,
        cost_micros=cost,
        bucket=bucket_name(event.bid_time, event.exchange),
        until=int(event.hold_until),
    )
