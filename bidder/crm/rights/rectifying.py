"""How is what we hold corrected (GDPR Art. 16)? A few fields given anew, all others untouched.

.. code-block:: json

   {"profile": {"last_order": "2026-05-01", "orders": 2}, "remove": [["crm", "C100001"]]}

Fields are those of a people file (`bidder.people.records`); null empties one. What a person said of
their own wishes is not corrected by others: `opted_out`, `fewer_ads` and the consent are refused.
"""

from typing import Any

import msgspec
from msgspec import Struct

from bidder.people.identity import Identifier, normal
from bidder.people.records import BadRecord, parse
from bidder.person import Profile

OWN_WORDS = frozenset({"opted_out", "fewer_ads", "consent", "consent_time", "consent_source"})


class BadPatch(ValueError):
    """The correction cannot be made; the message says why, and names nobody."""


class Patch(Struct, forbid_unknown_fields=True):
    """A correction."""

    profile: dict[str, Any] = {}
    remove: list[tuple[str, str]] = []
    """Identifiers that are not this person's."""


def patch(raw: bytes) -> Patch:
    """The correction in this JSON. Raises `BadPatch`."""
    try:
        found = msgspec.json.decode(raw, type=Patch)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadPatch(str(error)) from None
    if not found.profile and not found.remove:
        raise BadPatch("nothing is to be corrected: give profile or remove")
    if own := sorted(OWN_WORDS & found.profile.keys()):
        raise BadPatch(f"{', '.join(own)}: this is for the person to say")
    return found


def corrected(profile: Profile, given: Patch, now: float) -> Profile:
    """The profile with the correction. Raises `BadPatch`."""
    written = {name: value for name, value in given.profile.items() if value is not None}
    line = msgspec.json.encode({"ids": [["rectify", "x"]], "profile": written})
    try:
        parsed = parse(line, now).profile
    except BadRecord as error:
        raise BadPatch(str(error)) from None
    fields = {}
    for name, value in given.profile.items():
        if name not in Profile.__struct_fields__:
            raise BadPatch(f"no field {name!r}; there are {', '.join(Profile.__struct_fields__)}")
        fields[name] = getattr(parsed if value is not None else Profile(), name)
    return msgspec.structs.replace(profile, **fields)


def without(identifiers: list[Identifier], given: Patch) -> list[Identifier]:
    """The identifiers that stay. Raises `BadPatch` if one to be removed is not among them."""
    gone = [normal(*each) for each in given.remove]
    if any(each not in identifiers for each in gone):
        raise BadPatch("remove: not an identifier of this person")
    left = [each for each in identifiers if each not in gone]
    if not left:
        raise BadPatch("remove: a person without any identifier could not be found; erase them")
    return left
