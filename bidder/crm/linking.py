"""Who is one person in these files? Every identifier has a number; what a row links is joined."""

import numpy as np
import numpy.typing as npt

from bidder.people.identity import Identifier
from bidder.people.records import MAX_IDENTIFIERS

Numbers = npt.NDArray[np.int64]
NONE = -1


class Linked:
    """The identifiers of an import: numbered in the order in which they come, and joined."""

    def __init__(self) -> None:
        self.identifiers: list[Identifier] = []
        self.former: dict[int, tuple[Identifier, ...]] = {}
        """Number -> the same under earlier keys."""
        self._numbers: dict[Identifier, int] = {}
        self._parent: list[int] = []
        self._size: list[int] = []
        self._customer: list[int] = []
        """Of each root: the number of its CRM id, `NONE` if it has none."""

    def numbers(
        self, identifiers: list[Identifier], former: dict[int, tuple[Identifier, ...]]
    ) -> Numbers:
        """The numbers of these; `former`: place -> the same under earlier keys."""
        known, count = self._numbers, len(self.identifiers)
        found = np.empty(len(identifiers), np.int64)
        for place, identifier in enumerate(identifiers):
            number = known.setdefault(identifier, count)
            if number == count:
                self.identifiers.append(identifier)
                self._customer.append(number if identifier[0] == "crm" else NONE)
                count += 1
            found[place] = number
        new = count - len(self._parent)
        self._parent += range(count - new, count)
        self._size += [1] * new
        for place, old in former.items():
            self.former[int(found[place])] = old
        return found

    def link(self, pairs: Numbers) -> int:
        """Join the identifiers of each pair (two rows of numbers); how many links were not made,
        since they would have joined two customers, or too many identifiers."""
        if not pairs.size:
            return 0
        apart = 0
        for pair in np.unique(pairs[0] << 32 | pairs[1]).tolist():
            apart += not self._join(self._root(pair >> 32), self._root(pair & 0xFFFFFFFF))
        return apart

    def roots(self) -> Numbers:
        """For every number the one that stands for everyone linked with it."""
        parent = np.array(self._parent, np.int64)
        while True:
            up = parent[parent]
            if np.array_equal(up, parent):
                return parent
            parent = up

    def _root(self, number: int) -> int:
        parent = self._parent
        while (up := parent[number]) != number:
            parent[number] = number = parent[up]
        return number

    def _join(self, one: int, other: int) -> bool:
        if one == other:
            return True
        mine, theirs = self._customer[one], self._customer[other]
        if mine >= 0 and theirs >= 0:
            return False
        if self._size[one] + self._size[other] > MAX_IDENTIFIERS:
            return False
        if other < one:
            one, other = other, one
        self._parent[other] = one
        self._size[one] += self._size[other]
        self._customer[one] = max(mine, theirs)
        return True
