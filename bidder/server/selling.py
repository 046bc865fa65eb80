"""Which ad brought this purchase? What the CRM reports as sold becomes conversions in the log.

The ledger says what the person clicked and saw; `bidder.notices.attribution` decides. A purchase
told of twice makes the same event twice, and readers count it once.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from bidder import ids
from bidder.campaigns.catalogue import Advertiser, Catalogue
from bidder.capping import Channel, Kind, Ledger, Record
from bidder.capping.ledger import MAX_HOLD_SECONDS
from bidder.crm.activity import opened
from bidder.events.log import EventLog
from bidder.events.schema import ConversionEvent
from bidder.notices.attribution import Contact, Credit, Windows, attribute
from bidder.orders import written


class _Item(Struct, frozen=True):
    """What a conversion says of its line item."""

    path: str
    id32: int
    campaign: int
    advertiser: Advertiser
    windows: Windows
    creatives: dict[int, str]


class Seller:
    """Attributes purchases with the windows of the catalogue in service."""

    def __init__(self, catalogue: Catalogue, log: EventLog) -> None:
        self._log = log
        self.adopt(catalogue)

    def adopt(self, catalogue: Catalogue) -> None:
        """Use another catalogue from now on; it is not kept."""
        self._items = {
            item.id32: _Item(
                path=item.path,
                id32=item.id32,
                campaign=item.campaign.id32,
                advertiser=item.campaign.advertiser,
                windows=Windows(item.goal.click_window_seconds, item.goal.view_window_seconds),
                creatives={creative.id32: creative.id for creative in item.creatives},
            )
            for item in catalogue.line_items
        }

    async def sold(self, person: str, raw: bytes, purchases: Sequence[bytes]) -> None:
        """Log a conversion for each purchase that an ad gets the credit for.

        `raw` is the person's ledger. Raises `LogUnavailable`: nothing may be taken as done then.
        """
        try:
            records = Ledger(raw, 0).records()
        except ValueError:
            return  # of a layout that is not known
        for purchase in purchases:
            row = opened(purchase)
            advertiser, time = int(row["advertiser"][0]), int(row["time"][0])
            credit = attribute(contacts(records, advertiser), time, self._windows)
            if credit is not None:
                # Sales without an order number are told apart by their time.
                order = written(int(row["reference"][0]))
                order = order or f"{ids.to_text(credit.contact.bid)}-{time:x}"
                event = self._event(person, time, order, int(row["value"][0]), credit, records)
                await self._log.commit(event)

    def _windows(self, line_item: int) -> Windows | None:
        item = self._items.get(line_item)
        return item.windows if item is not None else None

    def _event(
        self,
        person: str,
        time: int,
        order: str,
        value_micros: int,
        credit: Credit,
        records: Iterable[Record],
    ) -> ConversionEvent:
        bid_id, item = credit.contact.bid, self._items[credit.contact.line_item]
        creative = next(r.creative for r in records if r.bid_key == ids.bid_key(bid_id))
        made = ids.bid_time(bid_id)
        day = datetime.fromtimestamp(made, UTC).astimezone(item.advertiser.zone).date()
        return ConversionEvent(
            time=float(time),
            bid_id=ids.to_text(bid_id),
            exchange="",
            line_item=item.path,
            creative=item.creatives.get(creative, ""),
            bid_time=float(made),
            bid_cpm_micros=0,
            currency=item.advertiser.currency,
            account_currency=item.advertiser.currency,
            rate=1.0,
            hold="",
            ids=(item.advertiser.id32, item.campaign, item.id32, creative),
            person=person,
            measure=True,
            day=day.isoformat(),
            order=order,
            value_micros=value_micros,
            kind=credit.contact.touch,
        )


def contacts(records: Iterable[Record], advertiser: int) -> list[Contact]:
    """The clicks and views of one advertiser's ads (its 32-bit id) in a ledger, as far as they may
    be measured.

    A bid's id begins with its time, which the records tell by how long after it they came; where
    that was too long for the record of a click, the view of the same bid tells it.
    """
    records = list(records)
    made = {r.bid_key: r.time - r.hold for r in records if r.hold < MAX_HOLD_SECONDS}
    return [
        Contact(
            time=record.time,
            touch="click" if record.kind == Kind.CLICK else "view",
            line_item=record.line_item,
            bid=max(made.get(record.bid_key, record.time - record.hold), 0).to_bytes(4, "big")
            + record.bid_key,
        )
        for record in records
        if record.advertiser == advertiser
        and record.channel == Channel.DISPLAY
        and record.kind in (Kind.CLICK, Kind.IMPRESSION)
        and record.measured
    ]
