"""What the tests of notices share: a bid's token content, keys, and exchanges of each kind."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from bidder import ids
from bidder.exchanges.profile import Exchange
from bidder.ids import hash32
from bidder.notices.receive import Desk
from bidder.notices.tokens import Sealed, Tokens
from bidder.openrtb.prices import Keys, PriceFormat
from bidder.orders import Orders
from bidder.privacy import Rules

NOW = 1_790_000_000
KEYS = Keys(bytes(range(32)), bytes(range(1, 33)))
EXCHANGES = (
    Exchange(name="plain", price_in=frozenset({"burl", "nurl"})),
    Exchange(name="sealed", price=PriceFormat(keys=KEYS)),
    Exchange(name="pixel", billing_notices=False, price_in=frozenset({"adm"})),
)
NAMES = {
    hash32("shop/spring/shoes"): "shop/spring/shoes",
    hash32("shop/spring/shoes/red"): "shop/spring/shoes/red",
}


@pytest.fixture(scope="session")
def tokens() -> Tokens:
    return Tokens({3: bytes(range(32))}, current=3)


@pytest.fixture(scope="session")
def desk(tokens: Tokens) -> Desk:
    exchanges = {hash32(one.name): one for one in EXCHANGES}
    return Desk(tokens, exchanges, NAMES, Orders(b"key"), Rules(vendor_id=77))


@pytest.fixture
def sealed() -> Callable[..., Sealed]:
    """The content of a token; keywords replace fields."""
    usual = Sealed(
        bid_id=(NOW << 64 | 0x0102030405060708).to_bytes(12, "big"),
        exchange=hash32("plain"),
        advertiser=hash32("shop"),
        campaign=hash32("shop/spring"),
        line_item=hash32("shop/spring/shoes"),
        creative=hash32("shop/spring/shoes/red"),
        bid_cpm_micros=2_500_000,
        currency="USD",
        account_currency="EUR",
        rate=0.9,
        holder="0-cafe",
        day=20_718,
        hold_seconds=900,
        person=ids.to_text(bytes(range(12))),
        page=77,
        measure=True,
        url="https://shop.example/red?a=1#top",
    )

    def make(**changes: Any) -> Sealed:
        return replace(usual, **changes)

    return make
