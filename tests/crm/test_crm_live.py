"""POST /crm/events: every entry stands for itself; a purchase is attributed to the ad it owes."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bidder import capping, ids
from bidder.campaigns.loading import load as load_campaigns
from bidder.capping import Kind, Record
from bidder.crm.live import BadEvent, receive
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.writing import Writer
from bidder.events.log import EventLog
from bidder.events.reading import read
from bidder.events.schema import ConversionEvent
from bidder.people.showing import find
from bidder.person import Profile
from bidder.server.selling import Seller
from bidder.store.coalesce import Scripts
from bidder.store.links import Links

NOW, DAY, SHOP = 1_795_000_000, 86400, "maison-lumen"
CONFIG = Path(__file__).parents[2] / "config"


def call(*entries: dict[str, Any], advertiser: str = SHOP) -> bytes:
    return json.dumps({"advertiser": advertiser, "events": entries}).encode()


def test_what_is_wrong_with_one_entry_costs_no_other(pseudonyms: Pseudonyms) -> None:
    body = call(
        {"ids": {"crm": "C-1"}, "event": "visit"},
        {"ids": {"email": "C-2"}, "event": "visit"},
        {"ids": {"crm": "C-3"}, "event": "dance"},
        {"ids": {}, "event": "visit"},
        {"ids": {"crm": "C-4"}, "event": "visit", "time": "yesterday"},
        {"ids": {"crm": "C-5"}, "event": "purchase", "value": -3},
        {"ids": {"crm": "C-6"}, "evnt": "visit"},
        {"ids": {"crm": "C-7"}, "opted_out": True},
        {"ids": {"cookie": "x" * 22, "crm": "C-8"}},
        {"ids": {"crm": "C-9"}, "event": "visit", "time": NOW + 2 * DAY},
    )
    received = receive(body, pseudonyms, NOW)
    assert sorted(received.rejected) == [1, 2, 3, 4, 5, 6, 8, 9]
    assert len(received.changes) == 2
    assert "C-2" not in str(received.rejected)
    assert not any(f"C-{number}" in repr(received.changes) for number in range(10))


def test_of_an_entry_that_is_refused_the_objection_is_taken(pseudonyms: Pseudonyms) -> None:
    body = call(
        {"ids": {"crm": "C-1"}, "event": "dance", "opted_out": True},
        {"ids": {"crm": "C-2"}, "evnt": "visit", "value": "many", "opted_out": True},
        {"ids": {"email": "C-3"}, "opted_out": True},
        {"ids": {"crm": "C-4"}, "event": "dance"},
    )
    received = receive(body, pseudonyms, NOW)
    assert sorted(received.rejected) == [0, 1, 2, 3]
    names = [pseudonyms.of("crm", plain, SHOP)[0] for plain in ("C-1", "C-2")]
    assert [change.ids for change in received.changes] == [(name,) for name in names]
    assert all(change.told == Profile(opted_out=True) for change in received.changes)
    assert all("is taken" in received.rejected[place] for place in (0, 1))
    assert all("is taken" not in received.rejected[place] for place in (2, 3))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"advertiser": 3, "events": []}'])
def test_a_body_that_is_no_call_is_refused(body: bytes, pseudonyms: Pseudonyms) -> None:
    with pytest.raises(BadEvent):
        receive(body, pseudonyms, NOW)


def test_a_bridged_match_links_nobody(pseudonyms: Pseudonyms) -> None:
    both = {"ids": {"crm": "C-1", "ifa": "AB-12"}}
    (linked, alone) = receive(call(both, both | {"mm": 4}), pseudonyms, NOW).changes
    assert [source for source, _ in linked.ids] == ["crm", "ifa"]
    assert [source for source, _ in alone.ids] == ["crm"]
    assert linked.ids[1] == ("ifa", "ab-12")


async def test_a_purchase_reported_days_later_is_credited_once(
    links: Links, writer_on: Callable[..., Writer], pseudonyms: Pseudonyms, tmp_path: Path
) -> None:
    from datetime import UTC, datetime

    catalogue, _ = load_campaigns(CONFIG / "campaigns", now=datetime.fromtimestamp(NOW, UTC))
    item = next(each for each in catalogue.line_items if each.path.endswith("basket-left/fresh"))
    log = EventLog(tmp_path / "crm")
    seller = Seller(catalogue, log)
    writer = writer_on(links, on_sale=seller.sold)
    await writer.write(receive(call({"ids": {"crm": "C-1"}}), pseudonyms, NOW).changes, NOW)
    customer = ":".join(pseudonyms.of("crm", "C-1", SHOP)[0])
    person = await find(links, customer)
    assert person is not None
    bid_id = ids.new_bid_id(NOW - 3 * DAY - 90, Random(1))
    for kind, at in ((Kind.IMPRESSION, 80), (Kind.CLICK, 60)):
        record = Record(
            NOW - 3 * DAY - at, kind, item.campaign.advertiser.id32, item.campaign.id32,
            item.id32, item.creatives[0].id32, ids.bid_key(bid_id), hold=90 - at,
            measured=True,
        )  # fmt: skip
        await capping.record(Scripts(links), person.id, record, NOW, 30 * DAY, claimed=False)
    sale = {
        "ids": {"crm": "C-1"}, "event": "store_purchase", "time": NOW - DAY, "value": 49.9,
        "order": "T-1",
    }  # fmt: skip
    early = sale | {"time": NOW - 5 * DAY, "order": "T-0"}
    for _ in range(2):
        changes = receive(call(sale, early), pseudonyms, NOW).changes
        await writer.write(changes, NOW)
    await log.close()
    found = [each for each in read(tmp_path) if isinstance(each, ConversionEvent)]
    (conversion,) = found
    assert conversion.bid_id == ids.to_text(bid_id)
    assert (conversion.kind, conversion.value_micros) == ("click", 49_900_000)
    assert conversion.line_item == item.path
    assert conversion.creative == item.creatives[0].id
    assert conversion.time == NOW - DAY
    assert "T-1" not in conversion.order
