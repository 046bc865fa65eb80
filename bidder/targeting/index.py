"""Which line items accept this place, device, hour and slot? The index over one catalogue.

Built once per load, immutable, swapped by a reload. `request_mask` is worked out once per request,
`slot_mask` once per slot; what they leave out, `request_reasons` and `slot_reasons` explain.
"""

from collections.abc import Callable, Iterable, Iterator
from math import asin, cos, radians, sin, sqrt
from operator import attrgetter

from bidder.campaigns.catalogue import Allow, Catalogue, LineItem, Radius
from bidder.openrtb.opportunity import DealOffer, FlexibleSize, Opportunity, Slot
from bidder.reasons import NoBid
from bidder.targeting.dimensions import (
    AtLeast,
    Several,
    Single,
    category_and_parent,
    domain_and_parents,
    mask_of,
)

MAX_CANDIDATES = 64
"""Going through set bits is what costs; the line items with the highest bids come first."""

_EARTH_KM = 6371.0

_SINGLES: tuple[tuple[NoBid, str, str], ...] = (
    (NoBid.WRONG_EXCHANGE, "exchanges", "exchange"),
    (NoBid.WRONG_PLACE, "countries", "country"),
    (NoBid.WRONG_PLACE, "regions", "region"),
    (NoBid.WRONG_PLACE, "cities", "city"),
    (NoBid.WRONG_PLACE, "postcodes", "postcode"),
    (NoBid.WRONG_DEVICE, "devices", "device"),
    (NoBid.WRONG_DEVICE, "os", "os"),
    (NoBid.WRONG_DEVICE, "browsers", "browser"),
    (NoBid.WRONG_LANGUAGE, "languages", "language"),
    (NoBid.WRONG_SITE, "supply", "supply"),
    (NoBid.WRONG_SITE, "apps", "bundle"),
    (NoBid.WRONG_SITE, "publishers", "publisher"),
)
"""Reason, field of `Where`, field of `Opportunity`."""


class Index:
    """The bitmaps of one catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        items = catalogue.line_items
        self.everyone = (1 << len(items)) - 1
        self.needs_nobody = mask_of(i.index for i in items if i.needs_nobody)
        """Line items that may bid without knowing who the person is."""
        self._singles: list[tuple[Single, Callable[[Opportunity], str]]] = []
        for reason, field, source in _SINGLES:
            single = Single(reason, [getattr(item.where, field) for item in items])
            if not single.idle:
                self._singles.append((single, attrgetter(source)))
        self._domains = Several(
            NoBid.WRONG_SITE, [item.where.domains for item in items], domain_and_parents
        )
        self._categories = Several(
            NoBid.WRONG_SITE, [item.where.categories for item in items], category_and_parent
        )
        self._radii = {i.index: i.where.around for i in items if i.where.around}
        self._near_nothing = self.everyone & ~mask_of(self._radii)
        self._positions = Single(
            NoBid.WRONG_SITE,
            [Allow(allow=frozenset(map(str, item.where.positions))) for item in items],
        )
        self._viewability = AtLeast(
            NoBid.WRONG_SITE, [item.where.min_viewability for item in items]
        )
        self._sizes = _Sizes(items)
        self._deals = _Deals(items)

    def request_mask(self, offer: Opportunity, start: int) -> int:
        """Of the line items in `start`, those that accept everything but the slot."""
        mask = start
        for single, read in self._singles:
            mask &= single.accept.get(read(offer), single.other)
            if not mask:
                return 0
        if not self._domains.idle:
            mask &= self._domains.mask((offer.domain,))
        if not self._categories.idle:
            mask &= self._categories.mask(offer.categories)
        if self._radii and mask:
            mask &= self._near(offer)
        return mask

    def slot_mask(self, slot: Slot, start: int) -> int:
        """Of the line items in `start`, those that accept this slot too."""
        mask = start & self._sizes.mask(slot)
        if mask and not self._positions.idle:
            mask &= self._positions.mask(str(slot.position))
        if mask and not self._viewability.idle:
            mask &= self._viewability.mask(slot.viewability)
        if mask and (self._deals.needed or slot.private):
            mask &= self._deals.mask(slot)
        return mask

    def request_reasons(self, offer: Opportunity) -> Iterator[tuple[NoBid, int]]:
        """Each dimension of a request: the reason it gives, and the line items that accept."""
        for single, read in self._singles:
            yield single.reason, single.mask(read(offer))
        yield NoBid.WRONG_SITE, self._domains.mask((offer.domain,))
        yield NoBid.WRONG_SITE, self._categories.mask(offer.categories)
        yield NoBid.WRONG_PLACE, self._near(offer)

    def slot_reasons(self, slot: Slot) -> Iterator[tuple[NoBid, int]]:
        """Each dimension of a slot: the reason it gives, and the line items that accept."""
        yield NoBid.WRONG_SIZE, self._sizes.mask(slot)
        yield NoBid.WRONG_SITE, self._positions.mask(str(slot.position))
        yield NoBid.WRONG_SITE, self._viewability.mask(slot.viewability)
        yield NoBid.WRONG_DEAL, self._deals.mask(slot)

    def _near(self, offer: Opportunity) -> int:
        if offer.latitude is None or offer.longitude is None:
            return self._near_nothing
        inside = mask_of(
            index
            for index, circles in self._radii.items()
            if any(_within(offer.latitude, offer.longitude, circle) for circle in circles)
        )
        return self._near_nothing | inside


class _Sizes:
    """Which line items have a creative for the slot's sizes, secure where it must be."""

    def __init__(self, items: Iterable[LineItem]) -> None:
        found: dict[tuple[tuple[int, int], bool], list[int]] = {}
        for item in items:
            for creative in item.creatives:
                size = (creative.width, creative.height)
                found.setdefault((size, False), []).append(item.index)
                if creative.secure:
                    found.setdefault((size, True), []).append(item.index)
        self._masks = {key: mask_of(indexes) for key, indexes in found.items()}
        self._fixed = {size for size, _ in self._masks if size != (0, 0)}

    def mask(self, slot: Slot) -> int:
        secure = slot.secure
        mask = self._masks.get(((0, 0), secure), 0) if slot.native else 0
        for size in slot.sizes:
            mask |= self._masks.get((size, secure), 0)
        for flexible in slot.flexible:
            for size in self._fixed:
                if fits_flexible(size, flexible):
                    mask |= self._masks.get((size, secure), 0)
        return mask


def fits_flexible(size: tuple[int, int], flexible: FlexibleSize) -> bool:
    """A size of exactly the ratio asked for, and at least as wide as asked for (§3.2.10)."""
    width, height = size
    return width >= flexible.wmin and width * flexible.hratio == height * flexible.wratio


class _Deals:
    """Which line items may bid given the slot's deals, and whether it is private."""

    def __init__(self, items: Iterable[LineItem]) -> None:
        self._open: int = 0
        listed: dict[str, list[int]] = {}
        free = []
        for item in items:
            for deal in item.where.deals:
                listed.setdefault(deal, []).append(item.index)
            if not item.where.deals:
                free.append(item.index)
        self._free = mask_of(free)
        self._listed = {deal: mask_of(indexes) for deal, indexes in listed.items()}
        self.needed = bool(listed)

    def mask(self, slot: Slot) -> int:
        mask = 0 if slot.private and not slot.deals else self._free
        for deal in slot.deals:
            mask |= self._listed.get(deal.id, 0)
        return mask


def deal_for(item: LineItem, deal: DealOffer, seat: str) -> bool:
    """May this line item bid on this deal, from this seat (§3.2.12)?"""
    if item.where.deals and deal.id not in item.where.deals:
        return False
    if deal.seats and seat not in deal.seats:
        return False
    return not deal.advertisers or any(
        domain in deal.advertisers for domain in domain_and_parents(item.campaign.advertiser.domain)
    )


def survivors(mask: int, limit: int = MAX_CANDIDATES) -> list[int]:
    """The lowest set bits of `mask`, at most `limit`: the candidates with the highest bids."""
    found: list[int] = []
    base = 0
    while mask and len(found) < limit:
        word = mask & 0xFFFFFFFFFFFFFFFF
        if not word:
            # Skip to the word that holds the lowest set bit.
            skip = ((mask & -mask).bit_length() - 1) & ~63
            mask >>= skip
            base += skip
            continue
        while word and len(found) < limit:
            low = word & -word
            found.append(base + low.bit_length() - 1)
            word ^= low
        mask >>= 64
        base += 64
    return found


def _within(latitude: float, longitude: float, circle: Radius) -> bool:
    """Great-circle distance by the haversine formula."""
    lat1, lat2 = radians(latitude), radians(circle.latitude)
    half_lat = (lat2 - lat1) / 2
    half_lon = radians(circle.longitude - longitude) / 2
    chord = sin(half_lat) ** 2 + cos(lat1) * cos(lat2) * sin(half_lon) ** 2
    return 2 * _EARTH_KM * asin(min(1.0, sqrt(chord))) <= circle.km
