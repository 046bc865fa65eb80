"""What did each person do, in order? Everything gathered becomes slices of people to write."""

import itertools
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from bidder.capping.ledger import RECORD_BYTES as LEDGER_BYTES
from bidder.crm.activity import DTYPE, MAX_RECORDS, RECORD_BYTES, united
from bidder.crm.batch import Change
from bidder.crm.contacts import contacts
from bidder.crm.gathering import Gathered
from bidder.crm.rights.consent import precedence
from bidder.crm.taking import Numbers
from bidder.people.identity import Identifier
from bidder.person import Profile

T = TypeVar("T")


class Slice(Struct):
    """Some people, by columns: what is new of each."""

    sources: list[str]
    values: list[str]
    """The identifiers of all of them, one person's after the other's, in normal form."""
    id_counts: list[int]
    """How many identifiers each person has."""
    former: list[tuple[Identifier, ...]]
    """The same under keys that are being rotated out."""
    records: bytes
    """Of all of them, one after the other, each person's by time."""
    counts: list[int]
    """How many of these records each person has."""
    contacts: bytes
    """Packed records for the ledger."""
    contact_counts: list[int]
    first_seen: list[int]
    """Since when they are said to be known; 0 = it is not said."""
    words: dict[int, Profile]
    """Place -> `opted_out`, the consent and its proof, of those who told the company."""

    def __len__(self) -> int:
        return len(self.id_counts)

    def ids(self) -> list[tuple[Identifier, ...]]:
        """The identifiers of each; the number that the company gave them comes first."""
        return _cut(list(zip(self.sources, self.values, strict=True)), self.id_counts)

    def records_of_each(self) -> list[bytes]:
        """The records of each."""
        ends = itertools.accumulate((n * RECORD_BYTES for n in self.counts), initial=0)
        return [self.records[low:high] for low, high in itertools.pairwise(ends)]

    def contacts_of_each(self) -> list[tuple[bytes, ...]]:
        """The records for the ledger of each, one by one."""
        starts = range(0, len(self.contacts), LEDGER_BYTES)
        every = [self.contacts[at : at + LEDGER_BYTES] for at in starts]
        return _cut(every, self.contact_counts)

    def told(self, place: int) -> Profile | None:
        """What is said of this person: `first_seen`, and their own words."""
        words, first = self.words.get(place), self.first_seen[place]
        if words is None:
            return Profile(first_seen=first) if first else None
        return replace(words, first_seen=first)

    def changes(self, places: list[int]) -> list[Change]:
        """Those at these places, each by itself."""
        ids, records, contacts = self.ids(), self.records_of_each(), self.contacts_of_each()
        return [
            Change(
                ids[place], records[place], contacts[place], self.told(place), self.former[place]
            )
            for place in places
        ]


class Sorted:
    """Everything gathered, by person."""

    def __init__(self, gathered: Gathered, now: int) -> None:
        records, who, (seen_who, seen_at) = gathered.taken()
        linked = gathered.linked
        roots = linked.roots()
        touched = np.zeros(len(roots), bool)
        for numbers in gathered.named:
            touched[roots[numbers]] = True
        gathered.named.clear()
        group = np.where(touched, np.cumsum(touched) - 1, -1)[roots]
        self.people = int(touched.sum())
        self._linked = linked
        order = np.argsort(group[who] << 32 | records["time"].astype(np.int64), kind="stable")
        owner = group[who][order]
        records = records[order]
        del order, who
        bounds = np.searchsorted(owner, np.arange(self.people + 1))
        self._contacts, self._contact_bounds = contacts(records, owner, self.people, now)
        self._records, self._bounds = _tidied(records, owner, bounds)
        members = np.lexsort((~linked.customers(), group))
        members = members[int(np.searchsorted(group[members], 0)) :]  # not those of nobody
        self._members = members
        self._member_bounds = np.searchsorted(group[members], np.arange(self.people + 1))
        self._first = np.full(self.people, np.iinfo(np.int64).max)
        known = group[seen_who]
        np.minimum.at(self._first, known[known >= 0], seen_at[known >= 0])
        self._first[self._first == np.iinfo(np.int64).max] = 0
        told: dict[int, list[Profile]] = {}
        for number, profile in gathered.told.items():
            told.setdefault(int(group[number]), []).append(profile)
        self._words = {person: _one(several) for person, several in told.items()}
        gathered.told.clear()

    def slices(self, most: int) -> Iterator[Slice]:
        """All people, in an order that the files alone decide."""
        for start in range(0, self.people, most):
            yield self._slice(start, min(start + most, self.people))

    def _slice(self, start: int, end: int) -> Slice:
        bounds = self._bounds[start : end + 1]
        contact_bounds = self._contact_bounds[start : end + 1]
        member_bounds = self._member_bounds[start : end + 1]
        numbers = self._members[member_bounds[0] : member_bounds[-1]].tolist()
        id_counts = np.diff(member_bounds).tolist()
        return Slice(
            sources=[self._linked.sources[number] for number in numbers],
            values=[self._linked.values[number] for number in numbers],
            id_counts=id_counts,
            former=self._former(numbers, id_counts),
            records=self._records[bounds[0] : bounds[-1]].tobytes(),
            counts=np.diff(bounds).tolist(),
            contacts=self._contacts[contact_bounds[0] : contact_bounds[-1]].tobytes(),
            contact_counts=np.diff(contact_bounds).tolist(),
            first_seen=self._first[start:end].tolist(),
            words={
                place - start: self._words[place]
                for place in range(start, end)
                if place in self._words
            },
        )

    def _former(self, numbers: list[int], counts: list[int]) -> list[tuple[Identifier, ...]]:
        old = self._linked.former
        if not old:
            return [()] * len(counts)
        return [
            tuple(each for number in some for each in old.get(number, ()))
            for some in _cut(numbers, counts)
        ]


def _one(several: list[Profile]) -> Profile:
    """What somebody told the company in several rows: the latest proof counts, any objection."""
    latest = max(several, key=precedence)
    return replace(latest, opted_out=any(each.opted_out for each in several))


def _cut(every: list[T], counts: list[int]) -> list[tuple[T, ...]]:
    """So many of `every` for each, one after the other."""
    ends = list(itertools.accumulate(counts, initial=0))
    return [tuple(every[low:high]) for low, high in itertools.pairwise(ends)]


def _tidied(
    records: npt.NDArray[np.void], owner: Numbers, bounds: Numbers
) -> tuple[npt.NDArray[np.void], Numbers]:
    """The records with none twice, none out of order and nobody with too many, and their bounds."""
    untidy = np.flatnonzero(_untidy(records, owner, bounds))
    if not len(untidy):
        return records, bounds
    parts, counts, done = [], np.diff(bounds), 0
    for person in untidy.tolist():
        low, high = int(bounds[person]), int(bounds[person + 1])
        tidy = np.frombuffer(united(None, records[low:high].tobytes()), DTYPE)
        parts += [records[done:low], tidy]
        counts[person], done = len(tidy), high
    return np.concatenate([*parts, records[done:]]), np.concatenate([[0], np.cumsum(counts)])


def _untidy(
    records: npt.NDArray[np.void], owner: Numbers, bounds: Numbers
) -> npt.NDArray[np.bool_]:
    """People whose records may hold one twice, out of order, or too many."""
    untidy: npt.NDArray[np.bool_] = np.diff(bounds) > MAX_RECORDS
    same = (owner[1:] == owner[:-1]) & (records["time"][1:] == records["time"][:-1])
    untidy[owner[1:][same]] = True
    orders = np.flatnonzero(records["reference"])
    if len(orders):
        pairs = np.stack([owner[orders].astype(np.uint64), records["reference"][orders]])
        pairs = pairs[:, np.lexsort(pairs)]
        again = (pairs[:, 1:] == pairs[:, :-1]).all(axis=0)
        untidy[pairs[0, 1:][again].astype(np.int64)] = True
    return untidy
