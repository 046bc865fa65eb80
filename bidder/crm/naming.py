"""Which identifiers do the rows of a file name? Each plain name is understood and hashed once.

One of these for each process that reads; its numbers are its own. What it meets for the first time
it hands on (`new`), so that plain names never leave it.
"""

import numpy as np
import numpy.typing as npt

from bidder.crm.mapping import HASHED
from bidder.crm.pseudonyms import BadName, Pseudonyms
from bidder.people.identity import Identifier, normal, usable

Numbers = npt.NDArray[np.int64]
NONE, BAD = -1, -2


class Names:
    """Numbers the plain names of one advertiser's files."""

    def __init__(self, pseudonyms: Pseudonyms, advertiser: str) -> None:
        self.count = 0
        """How many numbers there are."""
        self.new: list[Identifier] = []
        """The last of them: met since `taken` was called."""
        self.former: dict[int, tuple[Identifier, ...]] = {}
        """Place in `new` -> the same under earlier keys."""
        self._pseudonyms = pseudonyms
        self._advertiser = advertiser
        self._plain: dict[str, dict[str, int]] = {}

    def numbers(self, source: str, plain: list[str | None]) -> Numbers:
        """The number of each of these, `NONE` or `BAD` where it is none.

        Two names that mean the same (`Jo@x.fr`, `jo@x.fr`) may have two numbers.
        """
        known = self._plain.setdefault(source, {})
        new = [text for text in plain if text is not None and text not in known]
        if new:
            known.update(zip(new, self._understood(source, new), strict=True))
        found = [known[text] if text is not None else NONE for text in plain]
        return np.array(found, np.int64)

    def taken(self) -> tuple[list[Identifier], dict[int, tuple[Identifier, ...]]]:
        """`new` and `former`, which begin anew."""
        new, former = self.new, self.former
        self.new, self.former = [], {}
        return new, former

    def why_bad(self, source: str, plain: str) -> str:
        """Why this is no identifier, without repeating it."""
        if source in HASHED:
            try:
                self._pseudonyms.of(source, plain)
            except BadName as problem:
                return str(problem)
        return f"the {source} is empty, too long or has odd characters"

    def _understood(self, source: str, texts: list[str]) -> list[int]:
        if source in HASHED:
            named = self._pseudonyms.of_many(source, texts, self._advertiser)
        else:
            stripped = [text.strip() for text in texts]
            named = [[normal(source, text)] if usable(text) else None for text in stripped]
        good = [each for each in named if each is not None]
        first, place = self.count, len(self.new)
        self.new += [each[0] for each in good]
        self.count += len(good)
        if source in HASHED and self._pseudonyms.rotating:
            self.former.update(
                (at, tuple(each[1:])) for at, each in enumerate(good, place) if len(each) > 1
            )
        coming = iter(range(first, self.count))
        return [BAD if each is None else next(coming) for each in named]
