"""Who is each change of a batch about? People of the store, new ones, and those whom a link joins.

Values and plain code, without the store: `bidder.crm.writing` reads before and writes after.
"""

from random import Random

from msgspec import Struct
from msgspec.structs import replace

from bidder.crm.activity import united
from bidder.crm.merging import two_customers, why_apart
from bidder.crm.rights.consent import heard
from bidder.ids import new_person_id
from bidder.people.identity import Identifier
from bidder.people.records import MAX_IDENTIFIERS
from bidder.person import Profile, bare
from bidder.privacy import Rules
from bidder.store.digest import digest

_NOBODY = Profile()
ABSENT = digest((None, None, None))
"""What was read of a person of whom the store has nothing."""


class Change(Struct, gc=False):
    """What is new of one person."""

    ids: tuple[Identifier, ...]
    """In normal form. Those after the first are linked to it."""
    records: bytes = b""
    contacts: tuple[bytes, ...] = ()
    """Packed records for the ledger, none older than it keeps them."""
    told: Profile | None = None
    """Of this: `opted_out`, `first_seen`, and what is said of consent (see `consent.heard`)."""
    former: tuple[Identifier, ...] = ()
    """The same identifiers under keys that are being rotated out."""
    claimed: tuple[Identifier, ...] = ()
    """Names that nobody vouches for. They find nobody and join nobody, and go to this person only
    where they are nobody's: whoever could take one over would read what was collected under it."""


def names(change: Change) -> tuple[Identifier, ...]:
    """All that a change names."""
    return (*change.ids, *change.former, *change.claimed)


class Written(Struct):
    """What came of writing."""

    people: int = 0
    new: int = 0
    merged: int = 0
    kept_apart: int = 0
    """Links that were not made, and identifiers not taken."""
    erased: int = 0
    """Changes of people who were erased: nothing was written."""
    objected: int = 0
    """People of whom nothing was kept but their objection, or the withdrawal of their consent."""
    outdated: int = 0
    """People of whom we have heard nothing for longer than they may be kept."""
    records: int = 0
    bytes: int = 0
    """Of the profiles and records written."""

    def add(self, other: "Written") -> None:
        """Count another's."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Person(Struct):
    """One person while a batch is under way. `read` is the digest of what the store has of them."""

    pid: str
    is_new: bool
    profile: Profile = _NOBODY
    records: bytes = b""
    identifiers: list[Identifier] = []
    read: str = ABSENT
    changes: list[Change] = []
    former: list[Identifier] = []


def told_profile(person: Person, rules: Rules, now: int) -> Profile:
    """The profile with what the changes say that the person told us."""
    profile = person.profile
    for change in person.changes:
        told = change.told
        if told is None:
            continue
        first = [each for each in (profile.first_seen, told.first_seen) if each]
        profile = replace(profile, first_seen=min(first, default=0))
        if told.consent:
            profile = heard(profile, told, rules, now)
        if told.opted_out:
            profile = bare(replace(profile, opted_out=True))
    has_records = person.records or any(change.records for change in person.changes)
    if not profile.first_seen and not has_records:
        profile = replace(profile, first_seen=now)
    return profile


def grown(person: Person) -> bytes:
    """The person's records with the new ones, unless they objected."""
    if person.profile.opted_out or person.profile.withdrawn:
        return b""
    records = person.records
    for change in person.changes:
        if change.records:
            records = united(records, change.records) if records else change.records
    return records


class Batch:
    """Who the changes of one batch are of: people of the store, and new ones."""

    def __init__(
        self,
        owners: dict[Identifier, str],
        states: dict[str, Person],
        random: Random,
        written: Written,
    ) -> None:
        self.merges: list[tuple[str, str]] = []
        """(who stays, who goes), both in the store, in the order to be done."""
        self._owners = owners
        self._states = states
        self._random = random
        self._written = written
        self._touched: dict[str, None] = {}

    def add(self, change: Change) -> None:
        """Find or make the person, join those whom the change links, take its identifiers."""
        named = (*change.ids, *change.former)
        found = dict.fromkeys(owner for each in named if (owner := self._owner(each)))
        people = [self._states[pid] for pid in found]
        # Whoever shares an address or a device with another customer is not that customer.
        person = self._one_of([one for one in people if not two_customers(one.identifiers, named)])
        if person is None:
            pid = new_person_id(self._random)
            person = self._states[pid] = Person(pid, True)
        self._take(person, change)
        person.changes.append(change)
        self._touched[person.pid] = None

    def people(self) -> list[Person]:
        """Everyone to be written."""
        return [self._states[pid] for pid in self._touched]

    def _owner(self, identifier: Identifier) -> str:
        return self._owners.get(identifier, "")

    def _one_of(self, found: list[Person]) -> Person | None:
        """The one person these are, after joining those who may be; the first if they may not."""
        if not found:
            return None
        found.sort(key=_seniority)
        first = found[0]
        for other in found[1:]:
            if why_apart(first.identifiers, other.identifiers):
                self._written.kept_apart += 1
            else:
                self._join(first, other)
        return first

    def _join(self, keep: Person, gone: Person) -> None:
        for each in gone.identifiers:
            self._owners[each] = keep.pid
            if each not in keep.identifiers:
                keep.identifiers.append(each)
        for identifier, owner in self._owners.items():
            if owner == gone.pid:
                self._owners[identifier] = keep.pid
        keep.changes = [*keep.changes, *gone.changes]
        if gone.changes:
            self._touched[keep.pid] = None
        if not gone.is_new:
            self.merges.append((keep.pid, gone.pid))
        self._touched.pop(gone.pid, None)
        del self._states[gone.pid]

    def _take(self, person: Person, change: Change) -> None:
        for each in change.former:
            if self._owners.get(each) == person.pid and each in person.identifiers:
                person.identifiers.remove(each)
                person.former = [*person.former, each]
        for each in (*change.ids, *change.claimed):
            owner = self._owners.get(each)
            if owner == person.pid:
                if each not in person.identifiers:
                    person.identifiers.append(each)
            elif owner is not None or len(person.identifiers) >= MAX_IDENTIFIERS:
                self._written.kept_apart += 1
            else:
                person.identifiers.append(each)
                self._owners[each] = person.pid


def _seniority(person: Person) -> tuple[bool, bool, int, str]:
    """Who stays when two are joined: a customer, who is in the store, whom we knew first."""
    customer = any(source == "crm" for source, _ in person.identifiers)
    return not customer, person.is_new, person.profile.first_seen or 1 << 40, person.pid
