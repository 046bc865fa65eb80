"""Who is one person in these files? Every identifier has a number; what a row links is joined."""

from itertools import repeat

import numpy as np
import numpy.typing as npt

from bidder.crm.merging import ONE_OWNER
from bidder.crm.naming import Named
from bidder.people.identity import Identifier
from bidder.people.records import MAX_IDENTIFIERS

Numbers = npt.NDArray[np.int64]
NONE = -1


class Linked:
    """The identifiers of an import: numbered in the order in which they come, and joined."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.values: list[str] = []
        """The identifiers by their numbers."""
        self.former: dict[int, tuple[Identifier, ...]] = {}
        """Number -> the same under earlier keys."""
        self._numbers: dict[str, dict[str, int]] = {}
        """Source -> value -> number."""
        self._parent: list[int] = []
        self._size: list[int] = []
        self._customer: list[int] = []
        """Of each root: the number of its CRM id, `NONE` if it has none."""

    def numbers(self, named: Named, former: dict[int, tuple[Identifier, ...]]) -> Numbers:
        """The numbers of these; `former`: place -> the same under earlier keys."""
        parts = [np.empty(0, np.int64), *[self._numbered(*run) for run in named]]
        found = np.concatenate(parts)
        for place, old in former.items():
            self.former[int(found[place])] = old
        return found

    def customers(self) -> npt.NDArray[np.bool_]:
        """Which identifiers are what a company calls its customers by."""
        return np.array([source == ONE_OWNER for source in self.sources], bool)

    def _numbered(self, source: str, values: list[str]) -> Numbers:
        known, count = self._numbers.setdefault(source, {}), len(self.values)
        found = np.fromiter(map(known.get, values, repeat(NONE)), np.int64, len(values))
        new = np.flatnonzero(found == NONE)
        if not len(new):
            return found
        unknown = [values[place] for place in new.tolist()]
        coming = list(dict.fromkeys(unknown))
        numbers = range(count, count + len(coming))
        known.update(zip(coming, numbers, strict=True))
        found[new] = list(map(known.__getitem__, unknown))
        self.sources += [source] * len(coming)
        self.values += coming
        self._parent += numbers
        self._size += [1] * len(coming)
        self._customer += numbers if source == ONE_OWNER else [NONE] * len(coming)
        return found

    def link(self, pairs: Numbers) -> int:
        """Join the identifiers of each pair (two rows of numbers); how many links were not made,
        since they would have joined two customers, or too many identifiers."""
        if not pairs.size:
            return 0
        apart, parent, size, customer = 0, self._parent, self._size, self._customer
        different = np.unique(pairs[0] << 32 | pairs[1])
        for one, other in zip(
            (different >> 32).tolist(), (different & 0xFFFFFFFF).tolist(), strict=True
        ):
            while (up := parent[one]) != one:  # up to the root, on a path that is halved
                parent[one] = one = parent[up]
            while (up := parent[other]) != other:
                parent[other] = other = parent[up]
            if one == other:
                continue
            mine, theirs = customer[one], customer[other]
            if (mine >= 0 and theirs >= 0) or size[one] + size[other] > MAX_IDENTIFIERS:
                apart += 1
                continue
            if other < one:
                one, other = other, one
            parent[other] = one
            size[one] += size[other]
            customer[one] = mine if mine > theirs else theirs
        return apart

    def roots(self) -> Numbers:
        """For every number the one that stands for everyone linked with it."""
        parent = np.array(self._parent, np.int64)
        while True:
            up = parent[parent]
            if np.array_equal(up, parent):
                return parent
            parent = up
