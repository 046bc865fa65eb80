"""Creatives, slots and opportunities to try against each other."""

import json
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bidder.campaigns.catalogue import Advertiser, Creative
from bidder.openrtb.opportunity import Opportunity, opportunity
from bidder.openrtb.request import decode


@pytest.fixture
def make_creative() -> Callable[..., Creative]:
    """An image banner of 300x250, but for what is given."""

    def make(**changes: Any) -> Creative:
        fields: dict[str, Any] = {
            "id": "c",
            "path": "a/b/l/c",
            "id32": 1,
            "width": 300,
            "height": 250,
            "image_url": "https://cdn.example/b.jpg",
            "html": "",
            "native": None,
            "click_url": "https://shop.example/basket",
        }
        return Creative(**{**fields, **changes})

    return make


@pytest.fixture
def make_advertiser() -> Callable[..., Advertiser]:
    def make(**changes: Any) -> Advertiser:
        fields: dict[str, Any] = {
            "id": "a",
            "id32": 2,
            "domain": "shop.maison-lumen.example",
            "currency": "EUR",
            "zone": ZoneInfo("Europe/Paris"),
            "max_cpm_micros": 0,
            "max_spend_per_minute_micros": 0,
        }
        return Advertiser(**{**fields, **changes})

    return make


@pytest.fixture
def make_opportunity() -> Callable[..., Opportunity]:
    """A request with one banner slot of 300x250; `imp` adds to the imp."""

    def make(imp: dict[str, Any] | None = None, **fields: Any) -> Opportunity:
        whole = {"id": "1", "banner": {"w": 300, "h": 250}, **(imp or {})}
        body = json.dumps({"id": "r", "imp": [whole], **fields}).encode()
        return opportunity(decode(body), "demo")

    return make
