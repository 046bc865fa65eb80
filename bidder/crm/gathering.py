"""Who and what is in these files? Rows become numbered identifiers, their links, and records.

Everything here is columns: ten million rows are a few hundred blocks, and Python looks only at what
is different (an identifier seen for the first time) or wrong (a row to refuse).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

from bidder.crm import activity, columns
from bidder.crm.activity import DTYPE, Kind
from bidder.crm.blocks import Block
from bidder.crm.mapping import HASHED, Mapping, Source_, format_of
from bidder.crm.pseudonyms import BadName, Pseudonyms
from bidder.crm.rows import read
from bidder.ids import hash32
from bidder.people.identity import Identifier, normal, usable
from bidder.people.records import MAX_IDENTIFIERS
from bidder.person import Profile

FUTURE_SECONDS = 86400
"""How far a clock elsewhere may run ahead of ours."""
EARLIEST = 315532800
"""1980: an earlier time is a mistake."""
_NONE, _BAD = -1, -2
_BRIDGED = frozenset({"3", "4", "5", "3.0", "4.0", "5.0"})
_NEEDS_VALUE = (Kind.PURCHASE, Kind.STORE_PURCHASE, Kind.REFUND)

Numbers = npt.NDArray[np.int64]
Refuse = Callable[[Path, int, str], None]
"""Gets the file, the line and the reason of each row that is not taken."""


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


class Names:
    """Numbers every identifier that occurs, and joins those that a row links."""

    def __init__(self, pseudonyms: Pseudonyms, advertiser: str) -> None:
        self.identifiers: list[Identifier] = []
        self.former: dict[int, tuple[Identifier, ...]] = {}
        """Number -> the same under earlier keys."""
        self.parent: list[int] = []
        self._customer: list[int] = []
        """Of each root: the number of its CRM id, -1 if it has none."""
        self._size: list[int] = []
        self._pseudonyms = pseudonyms
        self._advertiser = advertiser
        self._plain: dict[str, dict[str, int]] = {}
        self._numbers: dict[Identifier, int] = {}

    def numbers(self, source: str, plain: list[str | None]) -> Numbers:
        """The number of each of these, `_NONE` or `_BAD` where it is none."""
        known = self._plain.setdefault(source, {})
        found = np.empty(len(plain), np.int64)
        for place, text in enumerate(plain):
            number = known.get(text) if text is not None else _NONE
            if number is None:
                assert text is not None
                number = known[text] = self._new(source, text)
            found[place] = number
        return found

    def why_bad(self, source: str, plain: str) -> str:
        """Why this is no identifier, without repeating it."""
        if source in HASHED:
            try:
                self._pseudonyms.of(source, plain)
            except BadName as problem:
                return str(problem)
        return f"the {source} is empty, too long or has odd characters"

    def _new(self, source: str, text: str) -> int:
        former: tuple[Identifier, ...] = ()
        if source in HASHED:
            try:
                identifier, *old = self._pseudonyms.of(source, text, self._advertiser)
            except BadName:
                return _BAD
            former = tuple(old)
        else:
            text = text.strip()
            if not usable(text):
                return _BAD
            identifier = normal(source, text)
        number = self._numbers.get(identifier)
        if number is not None:
            return number
        number = self._numbers[identifier] = len(self.identifiers)
        self.identifiers.append(identifier)
        if former:
            self.former[number] = former
        self.parent.append(number)
        self._size.append(1)
        self._customer.append(number if identifier[0] == "crm" else _NONE)
        return number

    def root(self, number: int) -> int:
        """The number that stands for everyone linked with this one."""
        parent = self.parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def link(self, one: int, other: int) -> bool:
        """Join two identifiers; False if that would join two customers, or too many."""
        one, other = self.root(one), self.root(other)
        if one == other:
            return True
        mine, theirs = self._customer[one], self._customer[other]
        if mine >= 0 and theirs >= 0:
            return False
        if self._size[one] + self._size[other] > MAX_IDENTIFIERS:
            return False
        if other < one:
            one, other = other, one
        self.parent[other] = one
        self._size[one] += self._size[other]
        self._customer[one] = max(mine, theirs)
        return True

    def roots(self) -> Numbers:
        """The root of every number."""
        parent = np.array(self.parent, np.int64)
        while True:
            up = parent[parent]
            if np.array_equal(up, parent):
                return parent
            parent = up


class Gathered:
    """What the files said, until it is taken out and written."""

    def __init__(
        self, mapping: Mapping, names: Names, keep: activity.Keep, now: int, refuse: Refuse
    ) -> None:
        self.tally = Tally()
        self.names = names
        self.categories: dict[str, int] = {}
        self.told: dict[int, Profile] = {}
        """Identifier number -> what such a row says that the person told us."""
        self.named: list[Numbers] = []
        """Numbers of the identifiers that rows are of; one that is only bridged to is nobody."""
        self._mapping = mapping
        self._advertiser = hash32(mapping.advertiser)
        self._keep = keep
        self._now = now
        self._refuse = refuse
        self._records: list[npt.NDArray[np.void]] = []
        self._who: list[Numbers] = []
        self._seen: list[tuple[Numbers, Numbers]] = []
        self.events = 0

    def file(self, path: Path, source: Source_, progress: Callable[[int], None]) -> None:
        """Take in one file. Raises `Unreadable` and `OSError`."""
        given = source.columns
        wanted = [*given.ids.values()]
        wanted += [
            name
            for name in (
                given.match_method, given.time, given.event, given.value, given.order,
                given.products, given.category, given.opted_out, given.consent, given.consent_time,
            )
            if name is not None
        ]  # fmt: skip
        names = list(dict.fromkeys(wanted))

        def reject(line: int, reason: str) -> None:
            self.tally.rows += 1
            self.tally.rejected += 1
            self._refuse(path, line, reason)

        for block in read(path, format_of(path, source), names, reject, source.delimiter):
            self.tally.rows += len(block.lines)
            _Rows(self, path, source, block).take()
            progress(block.done_bytes)

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


class _Rows:
    """One block of one file."""

    def __init__(self, gathered: Gathered, path: Path, source: Source_, block: Block) -> None:
        self._all = gathered
        self._path = path
        self._source = source
        self._block = block
        self._size = len(block.lines)
        self._good = np.ones(self._size, bool)

    def take(self) -> None:
        primary = self._people()
        self._words(primary)
        source = self._source
        if source.event is None and not source.events:
            return
        kinds = self._kinds()
        times = self._times()
        records = np.zeros(self._size, DTYPE)
        records["kind"], records["time"] = kinds, np.clip(times, 0, 2**32 - 1)
        records["advertiser"] = self._all._advertiser
        records["value"] = self._values(kinds)
        self._details(records)
        chosen = self._good & (kinds > 0)
        rows = records[chosen]
        old = activity.expired(rows, self._all._keep, self._all._now)
        self._all.tally.outdated += int(old.sum())
        self._all._records.append(rows[~old])
        self._all._who.append(primary[chosen][~old])
        self._all.events += len(rows) - int(old.sum())

    def _column(self, name: str | None) -> pa.Array | None:
        return self._block.columns.get(name) if name is not None else None

    def _reject(self, rows: Any, reason: str | Callable[[int], str]) -> None:
        """Refuse these rows, each once."""
        rows = rows & self._good
        self._good &= ~rows
        for row in np.flatnonzero(rows).tolist():
            why = reason if isinstance(reason, str) else reason(row)
            self._all.tally.rejected += 1
            self._all._refuse(self._path, int(self._block.lines[row]), why)

    def _people(self) -> Numbers:
        """The identifier each row is of; links what else the row names."""
        names = self._all.names
        primary = np.full(self._size, _NONE, np.int64)
        reasons: dict[int, str] = {}
        pairs = []
        linking = ~self._bridged()
        for source, column in self._source.columns.ids.items():
            texts = self._column(column)
            if texts is None:
                continue
            values, places = columns.coded(texts)
            numbers = np.append(names.numbers(source, values), _NONE)[places]
            bad = numbers == _BAD
            for row in np.flatnonzero(bad & (primary < 0)).tolist():
                reasons[row] = names.why_bad(source, values[int(places[row])])
            self._all.tally.dropped += int(bad.sum())
            both = (primary >= 0) & (numbers >= 0) & (primary != numbers)
            self._all.tally.bridged += int((both & ~linking).sum())
            pairs.append(np.stack([primary[both & linking], numbers[both & linking]]))
            primary = np.where((primary < 0) & (numbers >= 0), numbers, primary)
        self._reject(primary < 0, lambda row: reasons.get(row, "the row names nobody"))
        self._all.tally.dropped -= len([row for row in reasons if not self._good[row]])
        self._all.named.append(np.unique(primary[self._good]))
        for one, other in np.unique(np.concatenate(pairs, axis=1), axis=1).T.tolist():
            self._all.tally.kept_apart += not names.link(one, other)
        return primary

    def _bridged(self) -> npt.NDArray[np.bool_]:
        texts = self._column(self._source.columns.match_method)
        if texts is None:
            return np.zeros(self._size, bool)
        values, places = columns.coded(texts)
        return np.array([*[value in _BRIDGED for value in values], False])[places]

    def _words(self, primary: Numbers) -> None:
        """What the rows say that people told us, and since when they are known."""
        given, told = self._source.columns, self._all.told
        now = self._all._now
        if given.time is not None and self._source.event is None and not self._source.events:
            texts = self._column(given.time)
            if texts is not None:
                zone = self._all._mapping.timezone
                since = columns.times(texts, zone, self._source.time_format)
                good = since.good & self._good & (since.values > EARLIEST) & (since.values <= now)
                self._all._seen.append((primary[good], since.values[good]))
        objections = self._column(given.opted_out)
        if objections is not None:
            for row in np.flatnonzero(columns.yes(objections) & self._good).tolist():
                self._tell(told, int(primary[row]), Profile(opted_out=True))
        proofs, since_texts = self._column(given.consent), self._column(given.consent_time)
        if proofs is None or since_texts is None:
            return
        when = columns.times(since_texts, self._all._mapping.timezone, self._source.time_format)
        chosen = columns.filled(proofs) & when.good & (when.values <= now + FUTURE_SECONDS)
        texts = proofs.to_pylist()
        for row in np.flatnonzero(chosen & self._good).tolist():
            proof = Profile(
                consent=texts[row],
                consent_time=int(when.values[row]),
                consent_source=self._source.consent_source or self._path.name,
            )
            self._tell(told, int(primary[row]), proof)

    @staticmethod
    def _tell(told: dict[int, Profile], number: int, more: Profile) -> None:
        """The latest proof counts; an objection stays."""
        old = told.get(number)
        if old is None:
            told[number] = more
            return
        proof = more if more.consent_time >= old.consent_time and more.consent else old
        told[number] = Profile(
            opted_out=old.opted_out or more.opted_out,
            consent=proof.consent,
            consent_time=proof.consent_time,
            consent_source=proof.consent_source,
        )

    def _kinds(self) -> Numbers:
        """The kind of each row's event; 0 = of none that the mapping names."""
        source = self._source
        if source.event is not None:
            return np.full(self._size, int(source.event), np.int64)
        texts = self._column(source.columns.event)
        if texts is None:
            self._reject(np.ones(self._size, bool), f"no column {source.columns.event!r}")
            return np.zeros(self._size, np.int64)
        values, places = columns.coded(texts)
        meanings = {name.strip().lower(): kind for name, kind in source.events.items()}
        kinds = [int(meanings.get((value or "").strip().lower(), 0)) for value in values]
        found: Numbers = np.array([*kinds, 0], np.int64)[places]
        self._all.tally.passed_over += int(((found == 0) & self._good).sum())
        return found

    def _times(self) -> Numbers:
        texts = self._column(self._source.columns.time)
        if texts is None:
            self._reject(np.ones(self._size, bool), f"no column {self._source.columns.time!r}")
            return np.zeros(self._size, np.int64)
        read_times = columns.times(texts, self._all._mapping.timezone, self._source.time_format)
        self._reject(~columns.filled(texts), "no time")
        self._reject(~read_times.good, "the time is not one")
        self._reject(read_times.values < EARLIEST, "the time lies before 1980")
        late = read_times.values > self._all._now + FUTURE_SECONDS
        self._reject(late, "the time lies in the future")
        return read_times.values

    def _values(self, kinds: Numbers) -> Numbers:
        texts = self._column(self._source.columns.value)
        if texts is None:
            return np.zeros(self._size, np.int64)
        amounts = columns.amounts(texts)
        self._reject(~amounts.good & (kinds > 0), "the value is not an amount")
        money = np.isin(kinds, _NEEDS_VALUE)
        self._reject(money & ~columns.filled(texts), "a purchase without a value")
        return amounts.values

    def _details(self, records: npt.NDArray[np.void]) -> None:
        given = self._source.columns
        if (texts := self._column(given.products)) is not None:
            records["count"] = columns.counts(texts)
        if (texts := self._column(given.category)) is not None:
            values, places = columns.coded(texts)
            ids = [activity.category_id(value) for value in values]
            self._all.categories.update(zip(values, ids, strict=True))
            records["category"] = np.array([*ids, 0], np.uint32)[places]
        if (texts := self._column(given.order)) is not None:
            values, places = columns.coded(texts)
            advertiser = self._all._mapping.advertiser
            ids = [activity.reference(value, advertiser) for value in values]
            records["reference"] = np.array([*ids, 0], np.uint64)[places]
