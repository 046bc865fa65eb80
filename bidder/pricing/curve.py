"""How is a day's money to be spread over the day? In step with the traffic that is expected.

Traffic by hour of the week is learnt from our own log (`models.traffic`), over a prior that knows
only that people sleep. A plan says, for every moment of a campaign's day, which share of the day's
traffic in its open hours is over; a day has 23, 24 or 25 hours, and a flight may begin in it.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo

from bidder.campaigns.catalogue import Campaign, Flight, LineItem
from bidder.pricing.leases import day_bounds

HOURS = 168
SEGMENT_SECONDS = 900
"""Hours begin on quarters in every zone."""
PRIOR = (
    0.55, 0.35, 0.25, 0.20, 0.20, 0.30, 0.50, 0.75, 0.95, 1.05, 1.10, 1.15,
    1.20, 1.20, 1.15, 1.15, 1.20, 1.25, 1.35, 1.50, 1.60, 1.55, 1.25, 0.90,
)  # fmt: skip
"""Traffic by local hour, before anything is learnt. An assumption: quiet nights, busy evenings."""
PRIOR_WEEKS = 2.0
"""The prior counts like so many weeks of our own."""
FINISH_SECONDS, FINISH_PARTS = 180.0, 50
"""A day's money is to be spent so long before the last of its traffic, or a 50th part of the day
where that is less: what is bid last is held until notices come, and would be left over."""


class Traffic:
    """Bid requests to expect by hour of the week."""

    def __init__(self, requests: Sequence[float] = (), hours: Sequence[float] = ()) -> None:
        """`requests` by hour of the week in UTC, Monday 0:00 first, and in how many `hours` they
        were counted. Nothing = the prior alone. Raises `ValueError` unless both are 168 long."""
        if len(requests) != len(hours) or len(requests) not in (0, HOURS):
            raise ValueError(f"traffic wants {HOURS} hours of a week, not {len(requests)}")
        if any(n < 0 for n in (*requests, *hours)):
            raise ValueError("traffic cannot be negative")
        self._requests = tuple(requests) or (0.0,) * HOURS
        self._hours = tuple(hours) or (0.0,) * HOURS
        weights = sum(h * PRIOR[i % 24] for i, h in enumerate(self._hours))
        total = sum(self._requests)
        self._scale = total / weights if total and weights else 1.0

    def weight(self, utc_hour: int, local_hour: int) -> float:
        """Expected requests in an hour, in any unit; the hours are of the week and of the day."""
        prior = PRIOR[local_hour] * self._scale * PRIOR_WEEKS
        return (self._requests[utc_hour] + prior) / (self._hours[utc_hour] + PRIOR_WEEKS)


class Plan:
    """One day of one campaign: when its traffic comes."""

    def __init__(
        self, traffic: Traffic, campaign: Campaign, open_hours: frozenset[int], day: str
    ) -> None:
        """`open_hours`: hours of the week, in the campaign's zone, in which it may bid at all."""
        begins, ends = day_bounds(campaign, day)
        zone = campaign.advertiser.zone
        self.day = day
        self._edges: list[float] = []
        weights: list[float] = []
        edge = begins
        turns = _turns(campaign.flights, begins, ends)
        while edge < ends:
            until = min(edge + SEGMENT_SECONDS - edge % SEGMENT_SECONDS, *turns, ends)
            turns = [turn for turn in turns if turn > until]
            self._edges.append(edge)
            seconds = _in_flight(campaign.flights, edge, until)
            weights.append(_density(traffic, zone, open_hours, edge) * seconds)
            edge = until
        self._edges.append(ends)
        self._sums = [0.0, *accumulate(weights)]
        self.traffic = self._sums[-1]
        """Of the whole day; 0 = nothing is to be spent on it."""
        spans = [
            (a, b)
            for a, b, weight in zip(self._edges, self._edges[1:], weights, strict=False)
            if weight
        ]
        self.open_seconds = sum(b - a for a, b in spans)
        last = spans[-1][1] if spans else ends
        spare = min(FINISH_SECONDS, self.open_seconds / FINISH_PARTS)
        self._finish = self.elapsed(last - spare)

    def due(self, now: float) -> float:
        """The share of the day's traffic by which money is spread, 0 to 1: all of it has come a
        little before the day's last."""
        return min(self.elapsed(now) / self._finish, 1.0) if self._finish else 1.0

    def elapsed(self, now: float) -> float:
        """The share of the day's traffic that has come by `now`, 0 to 1."""
        if not self.traffic:
            return 1.0
        place = min(max(bisect_right(self._edges, now) - 1, 0), len(self._edges) - 2)
        start, end = self._edges[place : place + 2]
        part = min(max((now - start) / (end - start), 0.0), 1.0)
        before, after = self._sums[place : place + 2]
        return (before + part * (after - before)) / self.traffic


def open_hours(items: Iterable[LineItem]) -> frozenset[int]:
    """The hours of the week in which any of these may bid, as far as the campaign's clock says."""
    found: frozenset[int] = frozenset()
    for item in items:
        if item.active:
            by_person = item.when.zone == "person"
            found |= frozenset(range(HOURS)) if by_person else item.when.hours_of_week
    return found


def flight_share(
    traffic: Traffic, campaign: Campaign, hours: frozenset[int], day: str, today: float
) -> float | None:
    """Of the traffic from `day`, whose own is `today`, to the end of the last flight, the share of
    `day`; None if there is no end."""
    ends = [flight.end for flight in campaign.flights]
    if not ends or any(end is None for end in ends):
        return None
    last = max(end for end in ends if end is not None)
    zone = campaign.advertiser.zone
    week = _by_weekday(traffic, zone, hours, date.fromisoformat(day))
    rest, following = 0.0, date.fromisoformat(day) + timedelta(days=1)
    while (start := datetime.combine(following, datetime.min.time(), zone)) < last:
        begins = start.timestamp()
        share = _in_flight(campaign.flights, begins, begins + 86400) / 86400
        rest += week[following.weekday()] * share
        following += timedelta(days=1)
    return today / (today + rest) if today else 0.0


def _by_weekday(
    traffic: Traffic, zone: ZoneInfo, hours: frozenset[int], day: date
) -> dict[int, float]:
    """The traffic of the seven days after `day`, by weekday."""
    found = {}
    for ahead in range(1, 8):
        begins = datetime.combine(day + timedelta(days=ahead), datetime.min.time(), zone)
        found[begins.weekday()] = sum(
            3600 * _density(traffic, zone, hours, begins.timestamp() + 3600 * hour)
            for hour in range(24)
        )
    return found


def _density(traffic: Traffic, zone: ZoneInfo, hours: frozenset[int], moment: float) -> float:
    """Expected traffic per second at `moment`; none outside the open hours."""
    at = datetime.fromtimestamp(moment, UTC)
    local = at.astimezone(zone)
    if local.weekday() * 24 + local.hour not in hours:
        return 0.0
    return traffic.weight(at.weekday() * 24 + at.hour, local.hour) / 3600


def _turns(flights: Sequence[Flight], begins: float, ends: float) -> list[float]:
    """When flights start and end between two moments, in order."""
    moments = {
        moment.timestamp()
        for flight in flights
        for moment in (flight.start, flight.end)
        if moment is not None
    }
    return sorted(moment for moment in moments if begins < moment < ends)


def _in_flight(flights: Sequence[Flight], start: float, end: float) -> float:
    """Of these seconds, those in some flight (flights do not overlap by much)."""
    if not flights:
        return end - start
    inside = 0.0
    for flight in flights:
        first = max(start, flight.start.timestamp() if flight.start else start)
        last = min(end, flight.end.timestamp() if flight.end else end)
        inside += max(last - first, 0.0)
    return min(inside, end - start)
