"""What do the trader's modifiers ask about? A request's facts, by the names that conditions use.

What a request says of places is wide, as in targeting: ``a.news.example`` is in ``news.example``
too, ``IAB1-2`` in ``IAB1``. A missing fact is an empty text, which no condition can name.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from bidder.openrtb.opportunity import Opportunity, Slot
from bidder.openrtb.spelling import domain_and_parents, size_name, with_parents

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SINGLE = frozenset((
    "country", "region", "city", "postcode", "device", "os", "browser", "language", "exchange",
    "supply", "bundle", "publisher",
))  # fmt: skip
_NOTHING: frozenset[str] = frozenset()


class Facts:
    """What holds for an ad of one size in one slot, shown to a person, on an advertiser's clock.

    Each fact is worked out when it is first asked for: most modifiers ask for one.
    """

    def __init__(
        self,
        offer: Opportunity,
        segments: Iterable[str],
        slot: Slot,
        size: tuple[int, int],
        now: float,
        zone: ZoneInfo,
    ) -> None:
        """`size` is in pixels, (0, 0) for native; `now` is epoch seconds, `zone` the clock's."""
        self._offer = offer
        self._segments = segments
        self._slot = slot
        self._size = size
        self._now = now
        self._zone = zone
        self._known: dict[str, frozenset[str]] = {}

    def of(self, name: str) -> frozenset[str]:
        """The values in the dimension `name`; none in one that there is not."""
        found = self._known.get(name)
        if found is None:
            if name in _SINGLE:
                found = frozenset((getattr(self._offer, name),))
            else:
                several = _SEVERAL.get(name)
                found = frozenset(several(self)) if several is not None else _NOTHING
            self._known[name] = found
        return found

    def _sizes(self) -> Iterable[str]:
        return (size_name(self._size),)

    def _categories(self) -> Iterable[str]:
        return with_parents(self._offer.categories)

    def _local(self) -> datetime:
        return datetime.fromtimestamp(self._now, UTC).astimezone(self._zone)


_SEVERAL: Mapping[str, Callable[[Facts], Iterable[str]]] = {
    "domain": lambda facts: domain_and_parents(facts._offer.domain),
    "categories": Facts._categories,
    "segment": lambda facts: facts._segments,
    "size": Facts._sizes,
    "position": lambda facts: (str(facts._slot.position),),
    "hour": lambda facts: (str(facts._local().hour),),
    "weekday": lambda facts: (WEEKDAYS[facts._local().weekday()],),
}
