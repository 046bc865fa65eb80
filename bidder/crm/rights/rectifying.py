"""How is what we hold corrected (GDPR Art. 16)? What was reported and is wrong is taken out.

.. code-block:: json

   {"forget": ["2026-05-01T09:30:00Z"], "remove": [["crm", "C100001"]]}

`forget` names events by their times, as `activity` in the copy has them; `remove`, identifiers. The
profile is worked out from the events, again each day: a field given anew would not last, so
`profile` is refused. What a person said of their own wishes is not corrected by others.
"""

from typing import Any

import msgspec
from msgspec import Struct

from bidder.crm import activity
from bidder.crm.rights.held import when
from bidder.people.identity import Identifier, normal
from bidder.person import Profile

WORKED_OUT = frozenset(
    {
        "segments", "first_seen", "last_visit", "last_order", "orders", "spent_micros", "stage",
        "baskets", "interests",
    }
)  # fmt: skip
"""Fields of a profile that follow from what was reported; all others are the person's words."""


class BadPatch(ValueError):
    """The correction cannot be made; the message says why, and names nobody."""


class Patch(Struct, forbid_unknown_fields=True):
    """A correction."""

    profile: dict[str, Any] = {}
    """Refused, each field for its reason."""
    forget: list[str] = []
    """Times of events that are wrong."""
    remove: list[tuple[str, str]] = []
    """Identifiers that are not this person's."""


def patch(raw: bytes) -> Patch:
    """The correction in this JSON. Raises `BadPatch`."""
    try:
        found = msgspec.json.decode(raw, type=Patch)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadPatch(str(error)) from None
    if unknown := sorted(found.profile.keys() - set(Profile.__struct_fields__)):
        raise BadPatch(f"no field {unknown[0]!r} in a profile")
    if own := sorted(found.profile.keys() - WORKED_OUT):
        raise BadPatch(f"{', '.join(own)}: this is for the person to say")
    if found.profile:
        raise BadPatch(
            f"{', '.join(sorted(found.profile))}: worked out from what was reported, again each "
            "day; give `forget` the times of the events that are wrong, as the copy has them"
        )
    if not found.forget and not found.remove:
        raise BadPatch("nothing is to be corrected: give forget or remove")
    return found


def without_events(raw: bytes, given: Patch) -> bytes:
    """The activity without the events of these times. Raises `BadPatch` if there is none at one."""
    records = activity.opened(raw)
    times = [when(at) for at in records["time"].tolist()]
    if not set(given.forget) <= set(times):
        raise BadPatch("forget: nothing was reported at that time; write it as the copy does")
    return records[[at not in given.forget for at in times]].tobytes()


def without(identifiers: list[Identifier], given: Patch) -> list[Identifier]:
    """The identifiers that stay. Raises `BadPatch` if one to be removed is not among them."""
    gone = [normal(*each) for each in given.remove]
    if any(each not in identifiers for each in gone):
        raise BadPatch("remove: not an identifier of this person")
    left = [each for each in identifiers if each not in gone]
    if not left:
        raise BadPatch("remove: a person without any identifier could not be found; erase them")
    return left
