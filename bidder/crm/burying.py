"""What may still be written of a change that names somebody who was erased?

One identifier of an erased person may be another customer's too: a phone number, an address. What
is of that customer is theirs, without the identifier; what is of nobody else is refused. An
objection is kept for whatever else its row names: whom it could be about must not be guessed.
"""

from collections.abc import Set

from msgspec.structs import replace

from bidder.crm.batch import Change, names
from bidder.people.identity import Identifier

_OWN = ("crm", "cookie")
"""Sources of which each person has their own: what names one of these first is of that person."""


def renamed(change: Change) -> dict[Identifier, Identifier]:
    """Each identifier under a key that is being rotated out -> the same under the current one."""
    found: dict[Identifier, Identifier] = {}
    for source in {source for source, _ in change.former}:
        old = [each for each in change.former if each[0] == source]
        now = [each for each in change.ids if each[0] == source]
        found |= {each: now[at * len(now) // len(old)] for at, each in enumerate(old)}
    return found


def permitted(
    changes: list[Change], buried: Set[Identifier], living: Set[Identifier]
) -> list[Change]:
    """The changes without the identifiers that are `buried`, under whatever key.

    `living`: the identifiers that somebody in the store is known by.
    """
    clean = [each for each in changes if buried.isdisjoint(names(each))]
    known = living | {identifier for each in clean for identifier in each.ids}
    found = [_without(change, buried, known) for change in changes]
    return [change for change in found if change is not None]


def _without(change: Change, buried: Set[Identifier], living: Set[Identifier]) -> Change | None:
    """The change as it may be written; None if it is of somebody who was erased."""
    gone = set(buried)
    for former, current in renamed(change).items():
        if former in buried or current in buried:
            gone |= {former, current}
    left = replace(
        change,
        ids=tuple(each for each in change.ids if each not in gone),
        former=tuple(each for each in change.former if each not in gone),
        claimed=tuple(each for each in change.claimed if each not in gone),
    )
    if left.ids == change.ids:
        return left
    if left.ids and change.told is not None and change.told.opted_out:
        return replace(left, records=b"", contacts=())
    own = left.ids[:1] == change.ids[:1] and left.ids[0][0] in _OWN
    return left if own and not living.isdisjoint((*left.ids, *left.former)) else None
