"""Which identifiers do the rows of a file name? Each plain name is understood and hashed once.

One of these for each process that reads; its numbers are its own. What it meets for the first time
it hands on (`new`), so that plain names never leave it.
"""

from itertools import repeat

import numpy as np
import numpy.typing as npt

from bidder.crm.mapping import HASHED
from bidder.crm.pseudonyms import BadName, Pseudonyms
from bidder.people.identity import Identifier, normal, usable

Numbers = npt.NDArray[np.int64]
NONE, BAD, _NEW = -1, -2, -3
Named = list[tuple[str, list[str]]]
"""Identifiers, numbered one after the other: runs of values, each with their source."""


class Names:
    """Numbers the plain names of one advertiser's files."""

    def __init__(self, pseudonyms: Pseudonyms, advertiser: str) -> None:
        self.count = 0
        """How many numbers there are."""
        self._new: Named = []
        """The last of them: met since `taken` was called."""
        self._former: dict[int, tuple[Identifier, ...]] = {}
        """Number -> the same under earlier keys, of these."""
        self._pseudonyms = pseudonyms
        self._advertiser = advertiser
        self._plain: dict[str, dict[str, int]] = {}

    def numbers(self, source: str, plain: list[str]) -> Numbers:
        """The number of each of these, all different; `BAD` where it is none.

        Two names that mean the same (`Jo@x.fr`, `jo@x.fr`) may have two numbers.
        """
        known = self._plain.setdefault(source, {})
        found = np.fromiter(map(known.get, plain, repeat(_NEW)), np.int64, len(plain))
        new = np.flatnonzero(found == _NEW)
        if len(new):
            texts = [plain[place] for place in new.tolist()]
            found[new] = numbers = self._understood(source, texts)
            known.update(zip(texts, numbers.tolist(), strict=True))
        return found

    def taken(self) -> tuple[Named, dict[int, tuple[Identifier, ...]]]:
        """What was met since the last time: the identifiers in the order of their numbers, and
        place among them -> the same under earlier keys."""
        new, first = self._new, self.count - sum(len(values) for _, values in self._new)
        former = {number - first: old for number, old in self._former.items()}
        self._new, self._former = [], {}
        return new, former

    def why_bad(self, source: str, plain: str) -> str:
        """Why this is no identifier, without repeating it."""
        if source in HASHED:
            try:
                self._pseudonyms.of(source, plain)
            except BadName as problem:
                return str(problem)
        return f"the {source} is empty, too long or has odd characters"

    def _understood(self, source: str, texts: list[str]) -> Numbers:
        """New numbers for these."""
        old: list[list[str | None]] = []
        values: list[str | None]
        if source in HASHED:
            source, (values, *old) = self._pseudonyms.of_many(source, texts, self._advertiser)
        else:
            stripped = [text.strip() for text in texts]
            values = [normal(source, text)[1] if usable(text) else None for text in stripped]
        good = [value for value in values if value is not None]
        numbers = np.full(len(texts), BAD, np.int64)
        chosen = np.array([value is not None for value in values], bool)
        numbers[chosen] = np.arange(self.count, self.count + len(good))
        for place in np.flatnonzero(chosen).tolist() if old else ():
            names = tuple((source, str(names[place])) for names in old)
            self._former[int(numbers[place])] = names
        self._new.append((source, good))
        self.count += len(good)
        return numbers
