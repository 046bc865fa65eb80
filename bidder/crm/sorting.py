"""What did each person do, in order? Everything gathered becomes slices of people to write."""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from bidder.capping import Channel
from bidder.capping import Kind as Touch
from bidder.capping.ledger import KEEP_SECONDS
from bidder.capping.ledger import RECORD_BYTES as LEDGER_BYTES
from bidder.crm.activity import DTYPE, MAX_RECORDS, RECORD_BYTES, Kind, united
from bidder.crm.batch import Change
from bidder.crm.gathering import Gathered
from bidder.crm.taking import Numbers
from bidder.people.identity import Identifier
from bidder.person import Profile

CHANNELS = {
    Kind.EMAIL_SENT: Channel.EMAIL,
    Kind.SMS_SENT: Channel.SMS,
    Kind.PUSH_SENT: Channel.PUSH,
}
LEDGER_DTYPE = np.dtype(
    [
        ("time", "<u4"), ("what", "u1"), ("specificity", "u1"), ("hold", "<u2"),
        ("advertiser", "<u4"), ("campaign", "<u4"), ("line_item", "<u4"), ("creative", "<u4"),
        ("page", "<u4"), ("key", "<u8"),
    ]
)  # fmt: skip
assert LEDGER_DTYPE.itemsize == LEDGER_BYTES


class Slice(Struct):
    """Some people, by columns: what is new of each."""

    ids: list[tuple[Identifier, ...]]
    former: list[tuple[Identifier, ...]]
    """The same under keys that are being rotated out."""
    records: bytes
    """Of all of them, one after the other, each person's by time."""
    counts: list[int]
    """How many of these records each person has."""
    contacts: bytes
    """Packed records for the ledger."""
    contact_counts: list[int]
    told: list[Profile | None]
    """`opted_out`, the consent and its proof, `first_seen`."""

    def __len__(self) -> int:
        return len(self.ids)

    def changes(self, places: list[int]) -> list[Change]:
        """Those at these places, each by itself."""
        ends = np.cumsum(self.counts) * RECORD_BYTES
        contact_ends = np.cumsum(self.contact_counts) * LEDGER_BYTES
        found = []
        for place in places:
            end, contact_end = int(ends[place]), int(contact_ends[place])
            contacts = self.contacts[
                contact_end - self.contact_counts[place] * LEDGER_BYTES : contact_end
            ]
            found.append(
                Change(
                    ids=self.ids[place],
                    records=self.records[end - self.counts[place] * RECORD_BYTES : end],
                    contacts=tuple(
                        contacts[at : at + LEDGER_BYTES]
                        for at in range(0, len(contacts), LEDGER_BYTES)
                    ),
                    told=self.told[place],
                    former=self.former[place],
                )
            )
        return found


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
        self._contacts, contact_bounds = _contacts(records, owner, self.people, now)
        self._contact_bounds = contact_bounds
        self._records, self._bounds = _tidied(records, owner, bounds)
        members = np.argsort(group, kind="stable")
        members = members[int(np.searchsorted(group[members], 0)) :]  # not those of nobody
        self._members = members
        self._member_bounds = np.searchsorted(group[members], np.arange(self.people + 1))
        self._first = np.full(self.people, np.iinfo(np.int64).max)
        known = group[seen_who]
        np.minimum.at(self._first, known[known >= 0], seen_at[known >= 0])
        self._first[self._first == np.iinfo(np.int64).max] = 0
        self._told: dict[int, list[Profile]] = {}
        for number, profile in gathered.told.items():
            self._told.setdefault(int(group[number]), []).append(profile)
        gathered.told.clear()

    def slices(self, most: int) -> Iterator[Slice]:
        """All people, in an order that the files alone decide."""
        for start in range(0, self.people, most):
            yield self._slice(start, min(start + most, self.people))

    def _slice(self, start: int, end: int) -> Slice:
        bounds = self._bounds[start : end + 1]
        contact_bounds = self._contact_bounds[start : end + 1]
        firsts = self._first[start:end].tolist()
        ids, former = self._ids(start, end)
        return Slice(
            ids=ids,
            former=former,
            records=self._records[bounds[0] : bounds[-1]].tobytes(),
            counts=np.diff(bounds).tolist(),
            contacts=self._contacts[contact_bounds[0] : contact_bounds[-1]].tobytes(),
            contact_counts=np.diff(contact_bounds).tolist(),
            told=[self._words(place, first) for place, first in enumerate(firsts, start)],
        )

    def _ids(
        self, start: int, end: int
    ) -> tuple[list[tuple[Identifier, ...]], list[tuple[Identifier, ...]]]:
        bounds = self._member_bounds[start : end + 1]
        numbers = self._members[bounds[0] : bounds[-1]].tolist()
        every = [self._linked.identifiers[number] for number in numbers]
        cuts = (bounds - bounds[0]).tolist()
        ids = []
        for low, high in itertools.pairwise(cuts):
            some = every[low:high]
            if high - low > 1:
                some.sort(key=_not_a_customer)
            ids.append(tuple(some))
        old = self._linked.former
        if not old:
            return ids, [()] * len(ids)
        former = [
            tuple(each for number in numbers[low:high] for each in old.get(number, ()))
            for low, high in itertools.pairwise(cuts)
        ]
        return ids, former

    def _words(self, place: int, first: int) -> Profile | None:
        several = self._told.get(place)
        if several is None:
            return Profile(first_seen=first) if first else None
        latest = max(several, key=lambda each: each.consent_time)
        objected = any(each.opted_out for each in several)
        return replace(latest, opted_out=objected, first_seen=first)


def _not_a_customer(identifier: Identifier) -> bool:
    return identifier[0] != "crm"


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


def _contacts(
    records: npt.NDArray[np.void], owner: Numbers, people: int, now: int
) -> tuple[npt.NDArray[np.void], Numbers]:
    """Messages sent, as the ledger keeps them, by person, and where each person's begin."""
    recent = records["time"].astype(np.int64) > now - KEEP_SECONDS + 86400
    chosen = np.flatnonzero(np.isin(records["kind"], [int(kind) for kind in CHANNELS]) & recent)
    sent = records[chosen]
    ledger = np.zeros(len(sent), LEDGER_DTYPE)
    ledger["time"], ledger["advertiser"] = sent["time"], sent["advertiser"]
    for kind, channel in CHANNELS.items():
        ledger["what"][sent["kind"] == kind] = Touch.IMPRESSION | channel << 4
    ledger["key"] = contact_keys(sent)
    bounds: Numbers = np.searchsorted(owner[chosen], np.arange(people + 1))
    return ledger, bounds


def contact_keys(sent: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """8 bytes by which a ledger knows a message again: the same record, the same key."""
    words = np.frombuffer(sent.tobytes(), "<u8").reshape(-1, RECORD_BYTES // 8)
    mixed = np.full(len(words), 0x9E3779B97F4A7C15, np.uint64)
    for place in range(words.shape[1]):  # the finaliser of SplitMix64 (Steele 2014), word by word
        mixed = mixed ^ words[:, place]
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
