"""What does a portion of a file say? Its rows become records, and the numbers of who they are of.

Everything here is columns: ten million rows are a few hundred blocks, and Python looks only at what
is different (an identifier met for the first time) or wrong (a row to refuse).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

from bidder.crm import activity, columns
from bidder.crm.activity import DTYPE, Keep, Kind
from bidder.crm.blocks import Block
from bidder.crm.columns import Flags
from bidder.crm.mapping import Mapping, Source_
from bidder.crm.naming import BAD, NONE, Named, Names
from bidder.crm.portions import Portion
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.rights.consent import YES, own_pages
from bidder.crm.rows import blocks
from bidder.ids import hash32
from bidder.people.identity import Identifier
from bidder.person import Profile

FUTURE_SECONDS = 86400
"""How far a clock elsewhere may run ahead of ours."""
EARLIEST = 315532800
"""1980: an earlier time is a mistake."""
_BRIDGED = frozenset({"3", "4", "5", "3.0", "4.0", "5.0"})
_NEEDS_VALUE = (Kind.PURCHASE, Kind.STORE_PURCHASE, Kind.REFUND)

Numbers = npt.NDArray[np.int64]
Why = tuple[str, str]
"""The column that a row is refused for, empty if it is all of them, and the reason."""


class Tally(Struct):
    """What came of the rows."""

    rows: int = 0
    rejected: int = 0
    passed_over: int = 0
    """Rows that report something the mapping does not name."""
    outdated: int = 0
    """Events older than they may be kept."""
    dropped: int = 0
    """Identifiers that cannot be any, in rows that had another."""
    bridged: int = 0
    """Links not made because the match was inferred."""
    kept_apart: int = 0
    """Links not made because they would join two customers, or too many identifiers."""

    def add(self, other: "Tally") -> None:
        """Count another's."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Piece(Struct):
    """What a portion says. Numbers are those of the `Taker` that read it."""

    tally: Tally
    new: Named
    """Identifiers that the taker met for the first time: the numbers that follow its last."""
    former: dict[int, tuple[Identifier, ...]]
    """Place in `new` -> the same under earlier keys."""
    records: npt.NDArray[np.void]
    who: Numbers
    """Whose each record is."""
    named: Numbers
    """Of whom the rows are; one that is only bridged to is nobody."""
    pairs: Numbers
    """Two rows of numbers: identifiers that a row links."""
    seen: tuple[Numbers, Numbers]
    """Numbers, and since when these are said to be known."""
    told: list[tuple[int, Profile]]
    """Number -> what a row says that the person told us."""
    categories: dict[str, int]
    refused: list[tuple[int, str, str]]
    """Line, column and reason of each row that is not taken."""


class Taker:
    """Reads portions of the files of one advertiser."""

    def __init__(self, mapping: Mapping, pseudonyms: Pseudonyms, keep: Keep, now: int) -> None:
        self.names = Names(pseudonyms, mapping.advertiser)
        self.orders = pseudonyms.orders
        self.mapping = mapping
        self.keep = keep
        self.now = now

    def read_all(self, some: Iterable[Portion]) -> Iterator[tuple[Portion, int, Piece]]:
        """Each portion, the number of its reader (0: this one), and what it says."""
        for portion in some:
            yield portion, 0, self.read(portion)

    def read(self, portion: Portion) -> Piece:
        """What it says. Raises `Unreadable` and `OSError`."""
        source = self.mapping.source_of(portion.path)
        assert source is not None
        refused: list[tuple[int, str, str]] = []
        taken = [
            _Rows(self, portion.path.name, source, block)
            for block in blocks(portion, lambda line, why: refused.append((line, "", why)))
        ]
        tally = Tally(rows=len(refused), rejected=len(refused))
        new, former = self.names.taken()
        for each in taken:
            tally.add(each.tally)
            refused += each.refused
        return Piece(
            tally=tally,
            new=new,
            former=former,
            records=np.concatenate([np.empty(0, DTYPE), *[each.records for each in taken]]),
            who=_joined([each.who for each in taken]),
            named=_joined([each.named for each in taken]),
            pairs=np.stack([_joined([each.pairs[row] for each in taken]) for row in (0, 1)]),
            seen=(_joined([each.seen[0] for each in taken]), _joined([e.seen[1] for e in taken])),
            told=[one for each in taken for one in each.told],
            categories={k: v for each in taken for k, v in each.categories.items()},
            refused=sorted(refused),
        )


def _joined(parts: list[Numbers]) -> Numbers:
    return np.concatenate([np.empty(0, np.int64), *parts])


class _Rows:
    """One block of one file."""

    def __init__(self, taker: Taker, file: str, source: Source_, block: Block) -> None:
        self._taker = taker
        self._file = file
        self._source = source
        self._block = block
        self._size = len(block.lines)
        self._good = np.ones(self._size, bool)
        self.tally = Tally(rows=self._size)
        self.refused: list[tuple[int, str, str]] = []
        self.told: list[tuple[int, Profile]] = []
        self.categories: dict[str, int] = {}
        none = np.empty(0, np.int64)
        self.pairs = np.empty((2, 0), np.int64)
        self.seen = none, none
        self.records, self.who = np.empty(0, DTYPE), none
        primary = self._people()
        objecting = self._objections(primary)
        if source.event is not None or source.events:
            self._events(primary)
        self._words(primary)
        self.named = primary[self._good | objecting]

    def _events(self, primary: Numbers) -> None:
        kinds = self._kinds()
        times = self._times()
        records = np.zeros(self._size, DTYPE)
        records["kind"], records["time"] = kinds, np.clip(times, 0, 2**32 - 1)
        records["advertiser"] = hash32(self._taker.mapping.advertiser)
        records["value"] = self._values(kinds)
        self._details(records)
        chosen = self._good & (kinds > 0)
        rows = records[chosen]
        old = activity.expired(rows, self._taker.keep, self._taker.now)
        self.tally.outdated += int(old.sum())
        self.records, self.who = rows[~old], primary[chosen][~old]

    def _column(self, name: str | None, time: bool = False) -> pa.Array | None:
        """A column as text; as `columns.times` takes it where `time` says so."""
        found = self._block.columns.get(name) if name is not None else None
        if found is None or time or pa.types.is_string(found.type):
            return found
        return found.cast(pa.string())

    def _reject(self, rows: Any, why: Why | Callable[[int], Why]) -> None:
        """Refuse these rows, each once."""
        rows = rows & self._good
        self._good &= ~rows
        for row in np.flatnonzero(rows).tolist():
            column, reason = why(row) if callable(why) else why
            self.tally.rejected += 1
            self.refused.append((int(self._block.lines[row]), column, reason))

    def _people(self) -> Numbers:
        """The identifier each row is of; links what else the row names."""
        names = self._taker.names
        primary = np.full(self._size, NONE, np.int64)
        reasons: dict[int, tuple[str, str]] = {}
        pairs = []
        linking = ~self._bridged()
        for source, column in self._source.columns.ids.items():
            texts = self._column(column)
            if texts is None:
                continue
            values, places = columns.coded(texts)
            numbers = np.append(names.numbers(source, values), NONE)[places]
            bad = numbers == BAD
            for row in np.flatnonzero(bad & (primary < 0)).tolist():
                reasons[row] = column, names.why_bad(source, values[int(places[row])])
            self.tally.dropped += int(bad.sum())
            both = (primary >= 0) & (numbers >= 0) & (primary != numbers)
            self.tally.bridged += int((both & ~linking).sum())
            pairs.append(np.stack([primary[both & linking], numbers[both & linking]]))
            primary = np.where((primary < 0) & (numbers >= 0), numbers, primary)
        every = ", ".join(self._source.columns.ids.values())
        nobody = every, "the row names nobody: one of these columns must be filled"
        self._reject(primary < 0, lambda row: reasons.get(row, nobody))
        self.tally.dropped -= len([row for row in reasons if not self._good[row]])
        self.pairs = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.int64)
        return primary

    def _bridged(self) -> Flags:
        texts = self._column(self._source.columns.match_method)
        if texts is None:
            return np.zeros(self._size, bool)
        values, places = columns.coded(texts)
        return np.array([*[value in _BRIDGED for value in values], False])[places]

    def _objections(self, primary: Numbers) -> Flags:
        """Which rows name somebody and say that they object: that is taken even where the row is
        refused for something else. A row that says neither yes nor no is refused."""
        column = self._source.columns.opted_out
        texts = self._column(column)
        if column is None or texts is None:
            return np.zeros(self._size, bool)
        found, unclear = columns.objections(texts, self._source.time_format)
        self._reject(unclear, (column, "neither an objection nor none: write yes or no"))
        objecting: Flags = found & (primary >= 0)
        for row in np.flatnonzero(objecting).tolist():
            self.told.append((int(primary[row]), Profile(opted_out=True)))
        return objecting

    def _words(self, primary: Numbers) -> None:
        """What the rows say that people told us, and since when they are known."""
        given, now = self._source.columns, self._taker.now
        if given.time is not None and self._source.event is None and not self._source.events:
            texts = self._column(given.time, time=True)
            if texts is not None:
                zone = self._taker.mapping.timezone
                since = columns.times(texts, zone, self._source.time_format)
                good = since.good & self._good & (since.values > EARLIEST) & (since.values <= now)
                self.seen = primary[good], since.values[good]
        self._consents(primary)

    def _consents(self, primary: Numbers) -> None:
        """What the rows say of consent. A refusal without a time is told now; a plain yes without
        one proves nothing."""
        given, now = self._source.columns, self._taker.now
        texts = self._column(given.consent)
        if texts is None:
            return
        times = np.zeros(self._size, np.int64)
        since = self._column(given.consent_time, time=True)
        if since is not None:
            zone, form = self._taker.mapping.timezone, self._source.time_format
            read = columns.times(since, zone, form)
            times = np.where(read.good & (read.values <= now + FUTURE_SECONDS), read.values, 0)
        how = self._source.consent_source or self._file
        source, said = own_pages(self._taker.mapping.advertiser, how), texts.to_pylist()
        for row in np.flatnonzero(columns.filled(texts) & self._good).tolist():
            at = int(times[row])
            if at or said[row].strip().lower() not in YES:
                proof = Profile(consent=said[row], consent_time=at or now, consent_source=source)
                self.told.append((int(primary[row]), proof))

    def _kinds(self) -> Numbers:
        """The kind of each row's event; 0 = of none that the mapping names."""
        source = self._source
        if source.event is not None:
            return np.full(self._size, int(source.event), np.int64)
        texts = self._column(source.columns.event)
        if texts is None:
            return np.zeros(self._size, np.int64)
        values, places = columns.coded(texts)
        meanings = {name.strip().lower(): kind for name, kind in source.events.items()}
        kinds = [int(meanings.get((value or "").strip().lower(), 0)) for value in values]
        found: Numbers = np.array([*kinds, 0], np.int64)[places]
        self.tally.passed_over += int(((found == 0) & self._good).sum())
        return found

    def _times(self) -> Numbers:
        column, form = self._source.columns.time, self._source.time_format
        texts = self._column(column, time=True)
        assert column is not None
        if texts is None:
            self._reject(np.ones(self._size, bool), (column, "no time: there is no such column"))
            return np.zeros(self._size, np.int64)
        found = columns.times(texts, self._taker.mapping.timezone, form)
        expected = f"as {form!r}, time_format in the mapping, says" if form else "ISO 8601"
        self._reject(~columns.filled(texts), (column, "no time"))
        self._reject(~found.good, (column, f"the time is not one: expected it {expected}"))
        self._reject(found.values < EARLIEST, (column, "the time lies before 1980"))
        late = found.values > self._taker.now + FUTURE_SECONDS
        self._reject(late, (column, "the time lies in the future: check time_format and timezone"))
        return found.values

    def _values(self, kinds: Numbers) -> Numbers:
        column = self._source.columns.value
        texts = self._column(column)
        if column is None or texts is None:
            return np.zeros(self._size, np.int64)
        amounts = columns.amounts(texts)
        wrong = f"the value is not an amount of 0 to {columns.MAX_AMOUNT:,}, such as 1234.50"
        self._reject(~amounts.good & (kinds > 0), (column, wrong))
        money = np.isin(kinds, _NEEDS_VALUE)
        self._reject(money & ~columns.filled(texts), (column, "a purchase without a value"))
        return amounts.values

    def _details(self, records: npt.NDArray[np.void]) -> None:
        given = self._source.columns
        if (texts := self._column(given.products)) is not None:
            records["count"] = columns.counts(texts)
        if (texts := self._column(given.category)) is not None:
            values, places = columns.coded(texts)
            ids = [activity.category_id(value) for value in values]
            self.categories.update(zip(values, ids, strict=True))
            records["category"] = np.array([*ids, 0], np.uint32)[places]
        if (texts := self._column(given.order)) is not None:
            values, places = columns.coded(texts)
            whose = hash32(self._taker.mapping.advertiser)
            number = self._taker.orders.number
            ids = [number(value, whose) for value in values]
            records["reference"] = np.array([*ids, 0], np.uint64)[places]
