"""What do the trader's modifiers ask about? A request's facts, by the names that conditions use.

What a request says of places is wide, as in targeting: ``a.news.example`` is in ``news.example``
too, ``IAB1-2`` in ``IAB1``. A missing fact is an empty text, which no condition can name.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from bidder.openrtb.opportunity import Opportunity, Slot
from bidder.targeting.dimensions import category_and_parent, domain_and_parents

Facts = Mapping[str, frozenset[str]]
"""Dimension -> the values that this request has in it."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SINGLE = (
    "country", "region", "city", "postcode", "device", "os", "browser", "language", "exchange",
    "supply", "bundle", "publisher",
)  # fmt: skip


def request_facts(offer: Opportunity, segments: Iterable[str]) -> Facts:
    """What holds for the whole request, made to a person in these segments."""
    facts = {name: frozenset((getattr(offer, name),)) for name in _SINGLE}
    facts["domain"] = frozenset(domain_and_parents(offer.domain))
    facts["categories"] = frozenset(
        [wider for category in offer.categories for wider in category_and_parent(category)]
    )
    facts["segment"] = frozenset(segments)
    return facts


def slot_facts(slot: Slot, size: tuple[int, int], now: float, zone: ZoneInfo) -> Facts:
    """What holds for an ad of this size in this slot, on an advertiser's clock; (0, 0) = native."""
    local = datetime.fromtimestamp(now, UTC).astimezone(zone)
    return {
        "size": frozenset((f"{size[0]}x{size[1]}" if size[0] else "native",)),
        "position": frozenset((str(slot.position),)),
        "hour": frozenset((str(local.hour),)),
        "weekday": frozenset((WEEKDAYS[local.weekday()],)),
    }
