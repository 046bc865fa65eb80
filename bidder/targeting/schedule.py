"""Which line items are on air now? Flights, hours of the week, stops and money, as one mask.

Flights and hours change at known moments, so their masks are worked out again only when the next of
those has come; stops and money change bit by bit.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from bidder.campaigns.catalogue import Catalogue, Flight, LineItem
from bidder.reasons import NoBid
from bidder.targeting.dimensions import mask_of

Group = tuple[tuple[tuple[Flight, ...], ...], frozenset[int], ZoneInfo]
"""Flights of the campaign and of the line item, hours of the week, time zone."""

QUARTER_SECONDS = 900
"""Time zones differ by multiples of a quarter of an hour, so hours begin on these."""


def hour_of_week(at: datetime) -> int:
    """Hours since Monday 0:00 of local time `at`: 0..167."""
    return at.weekday() * 24 + at.hour


class Schedule:
    """The open mask of one catalogue, at any time."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._items = catalogue.line_items
        self._everyone = (1 << len(self._items)) - 1
        self._active = mask_of(i.index for i in self._items if i.active)
        self._stopped: frozenset[str] = frozenset()
        self._not_stopped = self._everyone
        self._funded = self._everyone
        self._groups = _groups(self._items)
        self._worked_out = self._next_change = 0.0
        self._in_flight = 0
        self._in_hours = 0
        self._by_person = mask_of(i.index for i in self._items if i.when.zone == "person")
        self._person_hours = self._masks_by_person_hour() if self._by_person else []

    def stop(self, paths: Iterable[str]) -> None:
        """Stop exactly these: paths of advertisers, campaigns or line items, or ``all``."""
        stopped = frozenset(paths)
        if stopped != self._stopped:
            self._stopped = stopped
            self._not_stopped = mask_of(i.index for i in self._items if not self._is_stopped(i))

    def fund(self, funded: int) -> None:
        """Only the line items in this mask have money to bid with."""
        self._funded = funded

    def mask(self, now: float, utc_offset_minutes: int | None) -> int:
        """The line items that may bid at `now`, where the person's clock has this offset."""
        if not self._worked_out <= now < self._next_change:  # also if the clock was set back
            self._work_out(now)
        mask = self._active & self._not_stopped & self._funded & self._in_flight
        if not self._by_person or utc_offset_minutes is None:
            return mask & self._in_hours
        local = now + utc_offset_minutes * 60
        hour = (int(local // 3600) + 72) % 168  # the epoch was a Thursday
        campaign_hours = self._in_hours | self._by_person
        return mask & campaign_hours & self._person_hours[hour]

    def reasons(self, now: float, utc_offset_minutes: int | None) -> Iterator[tuple[NoBid, int]]:
        """Each part of the mask: the reason it gives, and the line items that pass."""
        mask = self.mask(now, utc_offset_minutes)
        parts = (
            (NoBid.STOPPED, self._active & self._not_stopped),
            (NoBid.NOT_IN_FLIGHT, self._in_flight),
            (NoBid.NO_BUDGET, self._funded),
        )
        passing = self._everyone
        for reason, part in parts:
            passing &= part
            yield reason, part
        yield NoBid.OUTSIDE_HOURS, mask | ~passing & self._everyone

    def _is_stopped(self, item: LineItem) -> bool:
        campaign = item.campaign
        names = {"all", campaign.advertiser.id, campaign.path, item.path}
        return not names.isdisjoint(self._stopped)

    def _masks_by_person_hour(self) -> list[int]:
        own_clock = self._everyone & ~self._by_person
        return [
            own_clock
            | mask_of(
                i.index
                for i in self._items
                if i.when.zone == "person" and hour in i.when.hours_of_week
            )
            for hour in range(168)
        ]

    def _work_out(self, now: float) -> None:
        at = datetime.fromtimestamp(now, UTC)
        next_change = (now // QUARTER_SECONDS + 1) * QUARTER_SECONDS
        in_flight = in_hours = 0
        for (flights, hours, zone), mask in self._groups.items():
            if hour_of_week(at.astimezone(zone)) in hours:
                in_hours |= mask
            if all(_inside(nested, at) for nested in flights):
                in_flight |= mask
            for edge in _edges(flights):
                if now < edge < next_change:
                    next_change = edge
        self._in_flight, self._in_hours = in_flight, in_hours
        self._worked_out, self._next_change = now, next_change


def _groups(items: Iterable[LineItem]) -> dict[Group, int]:
    """Line items that share their flights, hours and zone, as masks: most share with many."""
    members: dict[Group, list[int]] = {}
    for item in items:
        flights = (item.campaign.flights, item.flights)
        group = (flights, item.when.hours_of_week, item.campaign.advertiser.zone)
        members.setdefault(group, []).append(item.index)
    return {group: mask_of(indexes) for group, indexes in members.items()}


def _inside(flights: tuple[Flight, ...], at: datetime) -> bool:
    return not flights or any(
        (flight.start is None or flight.start <= at) and (flight.end is None or at < flight.end)
        for flight in flights
    )


def _edges(nested: tuple[tuple[Flight, ...], ...]) -> list[float]:
    flights = [flight for flights in nested for flight in flights]
    return [edge.timestamp() for flight in flights for edge in (flight.start, flight.end) if edge]
