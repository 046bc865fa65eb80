"""How does a bidder in this process fare in a market? The two together, in order of time."""

from collections.abc import Callable
from heapq import heappop, heappush

from .delivery import Event
from .market import Market, Request

Bid = Callable[[Request], bytes | None]
"""Answers a request: the body, or None for no bid. `request.time` is now."""
Deliver = Callable[[Event], str | None]
"""Takes a call; answers clicks with the Location, win notices without `adm` with the markup."""


def run(market: Market, bid: Bid, deliver: Deliver, *, settle_seconds: float = 30 * 86_400) -> None:
    """All requests of the market, each call delivered at its time.

    After the last request, calls that fall within `settle_seconds` still arrive.
    """
    calls: list[tuple[float, int, Event]] = []
    count = 0

    def put(events: list[Event]) -> None:
        nonlocal count
        for event in events:
            count += 1
            heappush(calls, (event.time, count, event))

    def play(until: float) -> None:
        while calls and calls[0][0] <= until:
            event = heappop(calls)[2]
            back = deliver(event)
            if event.click is not None:
                put(market.redirected(event, back))
            elif event.pending is not None and back:
                put(market.served(event, back))

    while (request := market.next_request()) is not None:
        play(request.time)
        put(market.answer(request, bid(request)))
    play(market.end + settle_seconds)
