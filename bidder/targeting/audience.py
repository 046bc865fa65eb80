"""Which line items speak to this person? Audience segments as bitmaps, by how recently seen.

Per segment a sorted list of windows, and for each the mask of the line items whose window is at
least that long: a person seen `age` seconds ago is found by one bisection.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from bidder.campaigns.catalogue import Catalogue, SegmentRule
from bidder.targeting.dimensions import mask_of

EVER = 1 << 40
"""Window of a rule without `within`, in seconds: longer than any age."""


Steps = tuple[list[int], list[int]]
"""Windows in ascending order, and one mask more: for ages up to each of them, and beyond all."""


def steps(rules: Iterable[tuple[int, int]], invert: int = 0) -> Steps:
    """For one segment: which line items name it, by how long ago it may have been.

    `rules`: (window, line item), window in seconds, 0 = ever. With `invert`: who is left of it.
    """
    by_window: dict[int, list[int]] = {}
    for window, index in rules:
        by_window.setdefault(window or EVER, []).append(index)
    windows = sorted(by_window)
    masks = []
    reached = 0
    for window in reversed(windows):
        reached |= mask_of(by_window[window])
        masks.append(invert & ~reached if invert else reached)
    masks.reverse()
    masks.append(invert)  # older than every window: nothing is reached, or nothing ruled out
    return windows, masks


class AudienceIndex:
    """The audiences of one catalogue, as bitmaps."""

    def __init__(self, catalogue: Catalogue) -> None:
        items = catalogue.line_items
        everyone = (1 << len(items)) - 1
        naming: dict[str, list[tuple[int, int]]] = {}
        ruling_out: dict[str, list[tuple[int, int]]] = {}
        open_to_all = []
        self._all_of: dict[int, tuple[SegmentRule, ...]] = {}
        popularity: dict[str, int] = {}
        for item in items:
            for rule in item.audience.all_of:
                popularity[rule.segment] = popularity.get(rule.segment, 0) + 1
        for item in items:
            audience = item.audience
            for rule in audience.none_of:
                ruling_out.setdefault(rule.segment, []).append((rule.within_seconds, item.index))
            entries = audience.any_of
            if audience.all_of:
                self._all_of[item.index] = audience.all_of
                if not entries:
                    entries = (min(audience.all_of, key=lambda rule: popularity[rule.segment]),)
            for rule in entries:
                naming.setdefault(rule.segment, []).append((rule.within_seconds, item.index))
            if not entries:
                open_to_all.append(item.index)
        self._open_to_all = mask_of(open_to_all)
        self._everyone = everyone
        self._named = {segment: steps(rules) for segment, rules in naming.items()}
        self._kept = {segment: steps(rules, everyone) for segment, rules in ruling_out.items()}
        self.has_all_of = mask_of(self._all_of)
        """Line items of which only one rule is in the bitmaps: ask `all_of` about the rest."""

    def mask(self, segments: Mapping[str, int], now: int) -> int:
        """The line items that may speak to a person with these segments (name -> last seen)."""
        accept, keep = self._open_to_all, self._everyone
        named_by, kept_by = self._named, self._kept
        for segment, seen in segments.items():
            if segment in named_by:
                windows, masks = named_by[segment]
                accept |= masks[bisect_left(windows, now - seen)]
            if segment in kept_by:
                windows, masks = kept_by[segment]
                keep &= masks[bisect_left(windows, now - seen)]
        return accept & keep

    def all_of(self, index: int, segments: Mapping[str, int], now: int) -> bool:
        """Does the person satisfy every `all_of` rule of this line item?"""
        for rule in self._all_of.get(index, ()):
            seen = segments.get(rule.segment)
            if seen is None or (rule.within_seconds and now - seen > rule.within_seconds):
                return False
        return True
