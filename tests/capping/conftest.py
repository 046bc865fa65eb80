"""A line item to be capped, and ledgers made without a store."""

from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bidder.campaigns.catalogue import (
    About,
    Advertiser,
    Audience,
    Bid,
    Budget,
    Campaign,
    Creative,
    Goal,
    Intrusiveness,
    LineItem,
    When,
    Where,
)
from bidder.capping import Kind, Ledger, Record

MakeItem = Callable[..., LineItem]
MakeLedger = Callable[..., Ledger]


@pytest.fixture(scope="session")
def make_creative() -> Callable[..., Creative]:
    """A creative; keywords replace what it is by default."""

    def make(**other: Any) -> Creative:
        fields: dict[str, Any] = {
            "id": "k", "path": "lumen/c/l/k", "id32": 50, "width": 300, "height": 250,
            "image_url": "https://i.example", "html": "", "native": None,
            "click_url": "https://c.example",
        }  # fmt: skip
        return Creative(**fields | other)

    return make


@pytest.fixture(scope="session")
def make_item(make_creative: Callable[..., Creative]) -> MakeItem:
    """Line item 40 of campaign 30 of advertiser 20, with creative 50; keywords replace."""

    def make(**other: Any) -> LineItem:
        advertiser = Advertiser(
            id="lumen", id32=20, domain="lumen.example", currency="EUR",
            zone=ZoneInfo("Europe/Paris"), max_cpm_micros=0, max_spend_per_minute_micros=0,
        )  # fmt: skip
        campaign = Campaign(
            id="c", path="lumen/c", id32=30, advertiser=advertiser, flights=(), budget=Budget()
        )
        fields: dict[str, Any] = {
            "index": 0, "id": "l", "path": "lumen/c/l", "id32": 40, "campaign": campaign,
            "audience": Audience(), "where": Where(), "when": When(), "bid": Bid(1),
            "goal": Goal("cpm", 1), "caps": (), "intrusiveness": Intrusiveness(),
            "creatives": (make_creative(),), "unknown_people": "skip",
            "about": About(frozenset({"IAB10", "IAB18-3"}), frozenset({"lamp", "reading light"})),
        }  # fmt: skip
        return LineItem(**fields | other)

    return make


@pytest.fixture(scope="session")
def make_ledger() -> MakeLedger:
    """A ledger at `now` of records, given as (time, kind, other fields)."""

    def make(now: int, *what: tuple[int, Kind, dict[str, int]]) -> Ledger:
        ledger = Ledger(b"", now)
        for number, (time, kind, other) in enumerate(what):
            fields: dict[str, Any] = {
                "advertiser": 20, "campaign": 30, "line_item": 40, "creative": 50, **other,
            }  # fmt: skip
            key = number.to_bytes(8, "big")
            ledger = ledger.plus(Record(time=time, kind=kind, bid_key=key, **fields))
        return ledger

    return make
