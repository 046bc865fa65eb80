"""One sale, told of by the landing page and by the CRM: it counts once; its number is not kept."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import cast

import pytest

from bidder import ids
from bidder.campaigns.catalogue import LineItem
from bidder.campaigns.loading import load
from bidder.capping import Kind, Record
from bidder.capping.ledger import MAX_HOLD_SECONDS
from bidder.crm import activity
from bidder.events.log import EventLog
from bidder.events.reading import read
from bidder.events.report import report
from bidder.events.schema import ConversionEvent
from bidder.metrics import Metrics
from bidder.notices.applying import Applier
from bidder.notices.receive import Desk, receive
from bidder.notices.tokens import Audience, Sealed, Tokens
from bidder.orders import Orders
from bidder.privacy import Rules
from bidder.server.selling import Seller, contacts
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.connect import Client
from bidder.store.links import Links

NOW = 1_790_000_000
ORDER = "LUMEN-2026-000123"
PERSON = ids.to_text(bytes(range(12)))
CONFIG = Path(__file__).parents[2] / "config"


class Shop:
    """A line item of the demo, and both ways in which its sales are told of."""

    def __init__(self, folder: Path) -> None:
        self.catalogue, _ = load(CONFIG / "campaigns", now=datetime.fromtimestamp(NOW, UTC))
        self.orders = Orders(bytes(32))
        self._tokens = Tokens({1: bytes(32)}, current=1)
        self._folder = folder
        self.log = EventLog(folder / "worker-0")
        self._seller = Seller(self.catalogue, self.log)

    def item(self, path: str) -> LineItem:
        return next(each for each in self.catalogue.line_items if each.path.endswith(path))

    async def pixel(self, item: LineItem, bid_id: bytes, order: str) -> None:
        """The landing page's call."""
        advertiser = item.campaign.advertiser
        sealed = Sealed(
            bid_id=bid_id, exchange=1, advertiser=advertiser.id32, campaign=item.campaign.id32,
            line_item=item.id32, creative=item.creatives[0].id32, bid_cpm_micros=1, currency="EUR",
            account_currency="EUR", rate=1.0, holder="0-a", day=20_718, hold_seconds=600,
            person=PERSON, measure=True,
        )  # fmt: skip
        query = {"cid": self._tokens.seal(sealed, Audience.CLICK), "order": order, "value": "80"}
        desk = Desk(self._tokens, {}, self.catalogue.names, self.orders, Rules(vendor_id=77))
        await self.log.commit(receive("conversion", query, desk, NOW + 60))

    async def crm(
        self, item: LineItem, bid_id: bytes, order: str, *, measured: bool = True
    ) -> None:
        """The CRM's report, credited to a click on an ad of `item`."""
        advertiser = item.campaign.advertiser.id32
        click = Record(
            NOW - 10, Kind.CLICK, advertiser, item.campaign.id32, item.id32,
            item.creatives[0].id32, ids.bid_key(bid_id), hold=NOW - 10 - ids.bid_time(bid_id),
            measured=measured,
        )  # fmt: skip
        header = bytes([1]) + bytes(15)
        purchase = activity.record(
            NOW, activity.Kind.PURCHASE, advertiser, value_micros=80_000_000,
            reference=self.orders.number(order, advertiser),
        )  # fmt: skip
        await self._seller.sold(PERSON, header + click.pack(), [purchase])

    async def told(self) -> list[ConversionEvent]:
        """What the log has by now."""
        await self.log.close()
        return [cast(ConversionEvent, event) for event in read(self._folder)]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


async def conversions(store: Client, item: LineItem) -> int:
    return int(await store.hget(keys.campaign(item.campaign.id32, "money"), "conversions") or 0)


@pytest.mark.parametrize("same_bid", [True, False])
async def test_told_twice_it_counts_once(
    shop: Shop, links: Links, store: Client, tmp_path: Path, same_bid: bool
) -> None:
    item = shop.item("basket-left/fresh")
    clicked = ids.new_bid_id(NOW - 100, Random(1))
    credited = clicked if same_bid else ids.new_bid_id(NOW - 3 * 86400, Random(2))
    await shop.pixel(item, clicked, ORDER)
    await shop.crm(item, credited, ORDER)
    await shop.crm(item, credited, "LUMEN-2026-000124")
    events = await shop.told()
    assert [event.order == events[0].order for event in events].count(True) == 2

    applier = Applier(Scripts(links), Metrics(), 86400, {})
    for _ in range(2):
        await applier.apply(events, NOW + 100)
    assert await conversions(store, item) == 2

    (row,) = report(tmp_path, ["campaign"]).rows
    assert (row.conversions, row.value_micros) == (2, 160_000_000)

    # Nowhere does the number stand that the shop uses.
    assert ORDER not in repr(events)
    for name in await store.keys("*"):
        assert ORDER.encode() not in name
        assert ORDER.encode() not in (await store.dump(name) or b"")


async def test_of_two_campaigns_the_first_told_of_has_it_in_the_report(
    shop: Shop, tmp_path: Path
) -> None:
    first, other = shop.item("basket-left/fresh"), shop.item("win-back/lapsing")
    await shop.crm(other, ids.new_bid_id(NOW - 3600, Random(2)), ORDER)
    await shop.pixel(first, ids.new_bid_id(NOW - 100, Random(1)), ORDER)
    await shop.told()
    rows = {row.key: row.conversions for row in report(tmp_path, ["campaign"]).rows}
    assert rows == {("maison-lumen/win-back",): 1, ("maison-lumen/basket-left",): 0}


async def test_a_sale_is_not_attributed_to_an_ad_that_may_not_be_measured(shop: Shop) -> None:
    item, bid_id = shop.item("basket-left/fresh"), ids.new_bid_id(NOW - 100, Random(1))
    await shop.crm(item, bid_id, ORDER, measured=False)
    await shop.crm(item, bid_id, "LUMEN-2026-000124")
    (sale,) = await shop.told()
    assert (sale.order, sale.measure) == (
        shop.orders.text("LUMEN-2026-000124", item.campaign.advertiser.id32), True,
    )  # fmt: skip


async def test_sales_without_a_number_are_told_apart(shop: Shop) -> None:
    item, bid_id = shop.item("basket-left/fresh"), ids.new_bid_id(NOW - 100, Random(1))
    await shop.crm(item, bid_id, "")
    await shop.pixel(item, bid_id, "")
    told = [event.order for event in await shop.told()]
    assert told == [f"{ids.to_text(bid_id)}-{NOW:x}", ""]


def test_whose_order_it_is_and_the_key_matter() -> None:
    orders = Orders(b"key")
    assert orders.number(" 7 ", 1) == orders.number("7", 1) != orders.number("7", 2)
    assert orders.number("7", 1) != Orders(b"other").number("7", 1)
    assert (orders.number(" ", 1), orders.text("", 1)) == (0, "")


def test_a_click_long_after_its_bid_still_names_it(shop: Shop) -> None:
    item, bid_id = shop.item("basket-left/fresh"), ids.new_bid_id(NOW - 5 * 86400, Random(1))
    advertiser = item.campaign.advertiser.id32

    def record(kind: Kind, after: int) -> Record:
        return Record(
            ids.bid_time(bid_id) + after, kind, advertiser, item.campaign.id32, item.id32, 4,
            ids.bid_key(bid_id), hold=min(after, MAX_HOLD_SECONDS), measured=True,
        )  # fmt: skip

    view, click = record(Kind.IMPRESSION, 2), record(Kind.CLICK, 4 * 86400)
    assert [each.bid for each in contacts([click, view], advertiser)] == [bid_id, bid_id]
    assert contacts([click], advertiser)[0].bid[4:] == ids.bid_key(bid_id)
