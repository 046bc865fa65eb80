"""Why was this ad chosen? The kinds of reason a line item's audience stands for, and no more.

To a stranger, which includes whoever runs the page that the ad is on, the answer depends on the
line item alone, never on the person in the token: it says what the ad itself says already.
"""

from collections.abc import Iterable
from typing import Literal

from bidder.campaigns.catalogue import LineItem

Kind = Literal["basket", "visit", "purchase", "store", "contact", "alike", "other"]

_SIGNS: tuple[tuple[str, Kind], ...] = (
    ("basket", "basket"),
    ("cart", "basket"),
    ("store", "store"),
    ("newsletter", "contact"),
    ("email", "contact"),
    ("sms", "contact"),
    ("subscri", "contact"),
    ("prospect", "alike"),
    ("alike", "alike"),
    ("cluster", "alike"),
    ("buyer", "purchase"),
    ("active", "purchase"),
    ("loyal", "purchase"),
    ("laps", "purchase"),
    ("won-back", "purchase"),
    ("churn", "purchase"),
    ("rfm", "purchase"),
    ("vip", "purchase"),
    ("visit", "visit"),
    ("view", "visit"),
    ("product", "visit"),
    ("browse", "visit"),
)
"""A word in a segment's name -> what it is about; the first that is in it counts."""


def contextual(item: LineItem) -> bool:
    """Whether the ad asks nothing of the person: it may be shown to anybody."""
    return item.needs_nobody


def kinds(item: LineItem, segments: Iterable[str]) -> list[Kind]:
    """What of this person the line item asked for, given the segments they are in."""
    asked = {rule.segment for rule in (*item.audience.any_of, *item.audience.all_of)}
    found = [kind_of(name) for name in sorted(asked & set(segments))]
    return list(dict.fromkeys(found)) or ["other"]


def kind_of(segment: str) -> Kind:
    """What a segment is about, by its name."""
    name = segment.lower()
    return next((kind for sign, kind in _SIGNS if sign in name), "other")
