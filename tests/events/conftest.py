"""Events to write and read, with only what a test cares about spelled out."""

from collections.abc import Callable
from typing import Any

import pytest

from bidder.events.schema import AnyEvent, BidEvent, Event, Notice

Make = Callable[..., Any]


def make_event(kind: type[Event], bid_id: str = "b", time: float = 1000.0, **fields: Any) -> Any:
    """An event of `kind`; fields not given get plain values."""
    common: dict[str, Any] = {"exchange": "demo"}
    if issubclass(kind, (BidEvent, Notice)):
        common |= {
            "bid_id": bid_id,
            "line_item": "lumen/winter/basket",
            "creative": "banner",
            "currency": "USD",
            "account_currency": "EUR",
            "rate": 0.9,
        }
    if issubclass(kind, BidEvent):
        common |= {
            "request_id": "r",
            "imp_id": "1",
            "price_cpm_micros": 2_000_000,
            "value_cpm_micros": 3_000_000,
            "first_price": True,
        }
    if issubclass(kind, Notice):
        common |= {
            "bid_time": 1000.0,
            "bid_cpm_micros": 2_000_000,
            "hold": "w0",
            "ids": (1, 2, 3, 4),
        }
    return kind(time=time, **(common | fields))


@pytest.fixture(scope="session")
def make() -> Make:
    return make_event


@pytest.fixture(scope="session")
def ids() -> Callable[[list[AnyEvent]], list[str]]:
    """The bid ids of events, in order."""
    return lambda events: [event.bid_id for event in events]  # type: ignore[union-attr]
