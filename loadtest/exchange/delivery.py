"""When do notices, pixels, clicks and conversions arrive, how often, and which never do?

Delays are exponential or log-normal, with a late share; some arrive twice, some not at all. All of
it hangs on the key of the slot, see `world.draws`.
"""

from math import exp
from typing import Any, NamedTuple

from loadtest.world.description import Delivery
from loadtest.world.draws import exponential, mix, normal, uniform

LONGEST_CONVERSION_DELAY = 30 * 86_400


class Click(NamedTuple):
    """A click on the way: what the market must know when its redirect comes back."""

    key: int
    person: int
    advertiser: str
    bid_id: str
    url: str
    time: float
    sale_value_micros: int
    """0 = no sale follows."""
    sale_time: float


class Event(NamedTuple):
    """A call that the exchange, a browser or the advertiser's shop makes to the bidder."""

    time: float
    """Simulated, epoch seconds."""
    url: str
    kind: str
    """win, loss, billing, impression, click, conversion."""
    click: Click | None = None
    """Of clicks: hand the event back to `Market.redirected` with the redirect's Location."""
    pending: Any = None
    """Of win notices that bring the markup: hand it back to `Market.served` with the body."""


class Times(NamedTuple):
    """When a win is told, the ad is seen, and a click on it would come. Epoch seconds."""

    win: float
    render: float
    click: float


def times(delivery: Delivery, key: int, now: float) -> Times:
    """The moments of one won impression whose auction was at `now`."""
    win = now + 0.02 + exponential(key, 30, delivery.win_seconds)
    render = win + 0.1 + exponential(key, 31, delivery.render_seconds)
    spread = exp(delivery.click_seconds_sigma * normal(key, 32))
    return Times(win, render, render + delivery.click_seconds_median * spread)


def conversion_delay(delivery: Delivery, key: int) -> float:
    """Seconds from click to sale, at most 30 days."""
    spread = exp(delivery.conversion_sigma * normal(key, 33))
    return min(60 * delivery.conversion_minutes_median * spread, LONGEST_CONVERSION_DELAY)


def deliveries(delivery: Delivery, key: int, event: Event, lost_share: float = 0.0) -> list[Event]:
    """`event` as it really arrives: not at all, once, or twice, at times late.

    `key` differs between the events of one impression.
    """
    chance = mix(key, 40)  # three draws of 16 bits
    if (chance & 0xFFFF) < lost_share * 0x10000:
        return []
    time = event.time
    if (chance >> 16 & 0xFFFF) < delivery.late_share * 0x10000:
        time += uniform(key, 42) * delivery.late_seconds
    first = event if time == event.time else event._replace(time=time)
    if (chance >> 32 & 0xFFFF) >= delivery.duplicate_share * 0x10000:
        return [first]
    return [first, first._replace(time=time + 0.5 + uniform(key, 44) * delivery.late_seconds)]
