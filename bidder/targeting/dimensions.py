"""Which line items accept this value? One class per shape of dimension, masks built at load.

A mask is an int whose bit *i* is set for the line items that accept. There is no NOT at request
time: what blocks a value is taken out of that value's accept mask when the index is built.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from bidder.campaigns.catalogue import Allow
from bidder.reasons import NoBid

Rules = Sequence[Allow]
"""One dimension's lists, by line item index."""


def mask_of(indexes: Iterable[int]) -> int:
    """The mask with these bits set. Linear in the highest, unlike shifting bit by bit."""
    chosen = list(indexes)
    if not chosen:
        return 0
    bits = bytearray(max(chosen) // 8 + 1)
    for index in chosen:
        bits[index >> 3] |= 1 << (index & 7)
    return int.from_bytes(bits, "little")


class Lists:
    """The allow and block lists of one dimension, turned round: value -> line items."""

    def __init__(self, rules: Rules) -> None:
        self.everyone = (1 << len(rules)) - 1
        allowed: dict[str, list[int]] = {}
        blocked: dict[str, list[int]] = {}
        unrestricted = []
        for index, rule in enumerate(rules):
            for value in rule.allow:
                allowed.setdefault(value, []).append(index)
            for value in rule.block:
                blocked.setdefault(value, []).append(index)
            if not rule.allow:
                unrestricted.append(index)
        self.unrestricted = mask_of(unrestricted)
        self.allow = {value: mask_of(indexes) for value, indexes in allowed.items()}
        self.keep = {value: self.everyone & ~mask_of(indexes) for value, indexes in blocked.items()}
        """Value -> the line items that do not block it."""

    @property
    def idle(self) -> bool:
        """No line item says anything about this dimension."""
        return not self.allow and not self.keep


class Single:
    """A dimension of which a request has one value, or none: one look-up."""

    def __init__(self, reason: NoBid, rules: Rules, field: str) -> None:
        """`field` names it to traders."""
        self.reason = reason
        self.field = field
        lists = Lists(rules)
        self.idle = lists.idle
        self.other = lists.unrestricted
        """Who accepts a value that stands in no list, or none at all."""
        self.accept = {
            value: (lists.unrestricted | lists.allow.get(value, 0))
            & lists.keep.get(value, lists.everyone)
            for value in lists.allow.keys() | lists.keep.keys()
        }

    def mask(self, value: str) -> int:
        """The line items that accept `value`."""
        return self.accept.get(value, self.other)


class Several:
    """A dimension of which a request has any number of values, or one inside wider ones.

    A line item accepts if one value is allowed and none is blocked. `widen` gives for a value all
    that it falls under, itself included: a domain's parents, a category's tier above.
    """

    def __init__(self, rules: Rules, widen: Callable[[str], Iterable[str]]) -> None:
        lists = Lists(rules)
        self.idle = lists.idle
        self._unrestricted = lists.unrestricted
        self._allow = lists.allow
        self._keep = lists.keep
        self._everyone = lists.everyone
        self._widen = widen

    def mask(self, values: Iterable[str]) -> int:
        """The line items that accept all of `values` together."""
        accept, keep = self._unrestricted, self._everyone
        allowing, keeping = self._allow, self._keep
        for value in values:
            for wider in self._widen(value):
                if wider in allowing:
                    accept |= allowing[wider]
                if wider in keeping:
                    keep &= keeping[wider]
        return accept & keep


class AtLeast:
    """A dimension with a least value per line item; a request that has no value is below all."""

    def __init__(self, least: Sequence[float]) -> None:
        self._steps = sorted(set(least))
        self._masks = [
            mask_of(i for i, value in enumerate(least) if value <= step) for step in self._steps
        ]
        self.idle = self._steps in ([], [0.0])

    def mask(self, value: float) -> int:
        """The line items content with `value`."""
        at = bisect_right(self._steps, max(value, 0.0))
        return self._masks[at - 1] if at else 0
