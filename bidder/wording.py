"""How is a reason said to a trader? The codes of `reasons` in words, with the numbers behind."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, timezone

from bidder.campaigns.catalogue import Flight, LineItem, SegmentRule
from bidder.capping import Verdict
from bidder.capping.caps import sentence
from bidder.engine import Seen
from bidder.money import from_micros
from bidder.openrtb.opportunity import Opportunity
from bidder.person import Person
from bidder.privacy import Permission
from bidder.reasons import NoBid
from bidder.targeting.facts import WEEKDAYS
from bidder.trace import Detail, Short

_WHO = {
    NoBid.NO_IDENTIFIER: "the request has no identifier",
    NoBid.STORE_UNAVAILABLE: "the store does not answer, or has nothing readable",
    NoBid.OPTED_OUT: "this person opted out",
}


def words(reason: NoBid) -> str:
    """``not in flight (511)``."""
    return f"{reason.name.lower().replace('_', ' ')} ({int(reason)})"


def said(detail: Detail, currency: str = "") -> str:
    """Which cap and until when, what the price fell short of, or the text itself."""
    if isinstance(detail, Verdict):
        return sentence(detail)
    if not isinstance(detail, Short):
        return detail
    worth, floor = from_micros(detail.value_micros), from_micros(detail.floor_micros)
    where = f"of deal {detail.deal}" if detail.deal else "of the slot"
    verb = "is worth" if detail.scored else "can be worth at most"
    text = f"{verb} {worth:.4f}, {floor - worth:.4f} under the floor {where}, {floor:.4f}"
    return f"{text} {currency} CPM".replace("  ", " ")


def who(asking: Seen, allowed: Permission, offer: Opportunity) -> str:
    """Who is asking, or why that is not known."""
    absent = asking.absent
    if not absent:
        return f"person {asking.person.id}"
    if absent is NoBid.NO_PERMISSION:
        return f"nobody: no permission ({allowed.reason or 'frequency may not be counted'})"
    if absent is NoBid.UNKNOWN_PERSON:
        tried = ", ".join(source for source, _ in offer.identifiers)
        return f"nobody: no one is known by {tried}"
    return f"nobody: {_WHO.get(absent, words(absent))}"


def off_air(reason: NoBid, now: float, offset_minutes: int | None) -> Callable[[LineItem], str]:
    """What keeps a line item off the air, for each of the reasons of `Schedule.reasons`."""
    if reason is NoBid.NOT_IN_FLIGHT:
        return _flights
    if reason is NoBid.STOPPED:
        return lambda item: "stopped by command" if item.active else "paused in its file"
    if reason is NoBid.NO_BUDGET:
        return lambda item: f"{item.campaign.path} has none left, or no lease of it"
    return lambda item: _hour(item, now, offset_minutes)


def missed(item: LineItem, person: Person, now: float) -> str:
    """The first rule of the line item's audience that this person does not meet."""
    if not person.id:
        return "serves known people only"
    audience, segments = item.audience, person.profile.segments

    def within(rule: SegmentRule) -> bool:
        seen = segments.get(rule.segment)
        return seen is not None and (not rule.within_seconds or now - seen <= rule.within_seconds)

    for rule in audience.none_of:
        if within(rule):
            return f"is in {_rule(rule)}"
    for rule in audience.all_of:
        if not within(rule):
            return f"is not in {_rule(rule)}"
    return f"is in none of {', '.join(_rule(rule) for rule in audience.any_of)}"


def _rule(rule: SegmentRule) -> str:
    if not rule.within_seconds:
        return rule.segment
    return f"{rule.segment} within {_duration(rule.within_seconds)}"


def _duration(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _flights(item: LineItem) -> str:
    flown = item.flights or item.campaign.flights
    return "flight " + ", ".join(f"{_from(flight)}{_until(flight)}" for flight in flown)


def _from(flight: Flight) -> str:
    return f"from {_moment(flight.start)} " if flight.start else ""


def _until(flight: Flight) -> str:
    return f"until {_moment(flight.end)}" if flight.end else "without end"


def _moment(at: datetime) -> str:
    return (
        f"{at:%Y-%m-%d}" if at.timetz().replace(tzinfo=None) == time() else f"{at:%Y-%m-%d %H:%M}"
    )


def _hour(item: LineItem, now: float, offset_minutes: int | None) -> str:
    """The local time that the line item's hours do not hold."""
    zone = item.campaign.advertiser.zone
    local = datetime.fromtimestamp(now, UTC).astimezone(zone)
    where = f"in {zone.key}"
    if item.when.zone == "person" and offset_minutes is not None:
        local = local.astimezone(timezone(timedelta(minutes=offset_minutes)))
        where = "where the person is"
    return f"it is {WEEKDAYS[local.weekday()]} {local:%H:%M} {where}"
