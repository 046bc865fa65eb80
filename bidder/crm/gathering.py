"""Who and what is in these files? Pieces, in the order of the files, become one whole.

Portions may be read by several processes at once; what comes of it is the same as if one had read
them one after the other, down to the numbers of the identifiers.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bidder.crm.activity import DTYPE
from bidder.crm.blocks import Unreadable
from bidder.crm.linking import Linked
from bidder.crm.mapping import Columns, Mapping, Source_, format_of
from bidder.crm.portions import Portion, portions
from bidder.crm.rights.consent import precedence
from bidder.crm.taking import Numbers, Piece, Tally
from bidder.person import Profile
from bidder.yamlfiles import nearest

Refuse = Callable[[Path, int, str, str], None]
"""Gets the file, the line, the column and the reason of each row that is not taken."""
Reading = Callable[[Iterator[Portion]], Iterator[tuple[Portion, int, Piece]]]
"""Reads portions, in their order: each with who read it (from 0) and what it says."""
_NEEDED = ("time", "event", "value", "opted_out")
"""Without these columns, where a mapping names them, no row of a file can be taken."""


class Gathered:
    """What the files said, until it is taken out and written."""

    def __init__(self, mapping: Mapping, read: Reading, refuse: Refuse) -> None:
        self.tally = Tally()
        self.linked = Linked()
        self.categories: dict[str, int] = {}
        self.told: dict[int, Profile] = {}
        """Identifier number -> what such a row says that the person told us."""
        self.named: list[Numbers] = []
        """Numbers of the identifiers that rows are of; one that is only bridged to is nobody."""
        self.notes: list[str] = []
        """What is odd about a file that was taken all the same."""
        self.events = 0
        self._mapping = mapping
        self._read = read
        self._refuse = refuse
        self._records: list[npt.NDArray[np.void]] = []
        self._who: list[Numbers] = []
        self._seen: list[tuple[Numbers, Numbers]] = []
        self._numbers: dict[int, Numbers] = {}
        """Who read -> the number here of each of its numbers."""

    def file(self, path: Path, source: Source_, progress: Callable[[int], None]) -> None:
        """Take in one file. Raises `Unreadable` and `OSError`."""
        named = _columns(source.columns)
        wanted = list(dict.fromkeys(named))
        found = portions(path, format_of(path, source), wanted, source.delimiter)
        for portion, reader, piece in self._read(self._checked(found, named)):
            self._absorb(path, reader, piece)
            progress(portion.done_bytes)

    def taken(self) -> tuple[npt.NDArray[np.void], Numbers, tuple[Numbers, Numbers]]:
        """Records, whose identifier each has, and when identifiers were said to be known since;
        all that was gathered since the last time."""
        records = np.concatenate([np.empty(0, DTYPE), *self._records])
        who = np.concatenate([np.empty(0, np.int64), *self._who])
        seen = [
            np.concatenate([np.empty(0, np.int64), *each]) for each in zip(*self._seen, strict=True)
        ]
        self._records, self._who, self._seen, self.events = [], [], [], 0
        return records, who, (seen[0], seen[1]) if seen else (who[:0], who[:0])

    def _checked(self, found: Iterator[Portion], named: dict[str, str]) -> Iterator[Portion]:
        for place, portion in enumerate(found):
            if not place:
                self._check(portion, named)
            yield portion

    def _check(self, first: Portion, named: dict[str, str]) -> None:
        """Say which columns of the mapping the file has not. Raises `Unreadable` where no row of it
        can be taken, since the time, the event, the value or the objections are missing."""
        titles = first.layout.titles if first.layout is not None else []
        twice = sorted({name for name in first.names if titles.count(name) > 1})
        self.notes += [
            f"{first.path}:1: the header has {name!r} twice; the first counts" for name in twice
        ]
        for name, meaning in named.items():
            if name in first.names:
                continue
            close = nearest(name, titles)
            said = f"no column {name!r} ({meaning} in the mapping)"
            said += f"; {close}" if close else ""
            if meaning in _NEEDED:
                raise Unreadable(f"{said}; it has {', '.join(titles[:20])}")
            self.notes.append(f"{first.path}:1: {said}; imported without it")

    def _absorb(self, path: Path, reader: int, piece: Piece) -> None:
        self.tally.add(piece.tally)
        for line, column, reason in piece.refused:
            self._refuse(path, line, column, reason)
        more = self.linked.numbers(piece.new, piece.former)
        known = self._numbers.get(reader)
        numbers = more if known is None else np.concatenate([known, more])
        self._numbers[reader] = numbers
        self.tally.kept_apart += self.linked.link(numbers[piece.pairs])
        self._records.append(piece.records)
        self._who.append(numbers[piece.who])
        self.events += len(piece.records)
        self.named.append(numbers[piece.named])
        self._seen.append((numbers[piece.seen[0]], piece.seen[1]))
        for number, profile in piece.told:
            self._tell(int(numbers[number]), profile)
        self.categories.update(piece.categories)

    def _tell(self, number: int, more: Profile) -> None:
        """The latest proof counts; an objection stays."""
        old = self.told.get(number)
        if old is None:
            self.told[number] = more
            return
        proof = max(more, old, key=precedence)
        self.told[number] = Profile(
            opted_out=old.opted_out or more.opted_out,
            consent=proof.consent,
            consent_time=proof.consent_time,
            consent_source=proof.consent_source,
        )


def _columns(given: Columns) -> dict[str, str]:
    """Every column that a mapping reads -> what it means."""
    named = {column: f"ids.{source}" for source, column in given.ids.items()}
    for meaning in (
        "match_method", "time", "event", "value", "order", "products", "category", "opted_out",
        "consent", "consent_time",
    ):  # fmt: skip
        column = getattr(given, meaning)
        if column is not None:
            named.setdefault(column, meaning)
    return named
