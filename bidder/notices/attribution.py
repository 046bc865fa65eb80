"""Which ad gets the credit for this purchase? The last click, else the last view, in its windows.

One pure function, so that the live path (from ledgers) and the training set (from logs) can never
disagree. A window belongs to the line item whose ad it was: a click of one with seven days does not
count on the eighth, and gives way to an older click of one with thirty.
"""

from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

Touch = Literal["click", "view"]


class Contact(Struct, frozen=True, gc=False):
    """An ad that a person clicked or was shown. `bid` is whatever names the bid to the caller."""

    time: float
    """Seconds since the epoch."""
    touch: Touch
    line_item: int
    """32-bit id."""
    bid: bytes


class Windows(Struct, frozen=True, gc=False):
    """How long before a purchase a click and a view of one line item count, in seconds.

    0 = never. A contact exactly that long before still counts.
    """

    click_seconds: int
    view_seconds: int


class Credit(Struct, frozen=True, gc=False):
    """What a purchase is attributed to."""

    contact: Contact
    seconds: float
    """From the contact to the purchase."""


def attribute(
    contacts: Iterable[Contact], purchased: float, windows: Callable[[int], Windows | None]
) -> Credit | None:
    """The contact that gets the credit for a purchase at `purchased`, None if none does.

    `windows` gives those of a line item by its 32-bit id, None for one that no longer counts. Only
    contacts at or before the purchase count. Of two at the same moment the greater `bid` is taken,
    so that the order in which they are given does not matter.
    """
    best: Contact | None = None
    for contact in contacts:
        seconds = purchased - contact.time
        if seconds < 0:
            continue
        allowed = windows(contact.line_item)
        if allowed is None:
            continue
        limit = allowed.click_seconds if contact.touch == "click" else allowed.view_seconds
        if not limit or seconds > limit:
            continue
        if best is None or _rank(contact) > _rank(best):
            best = contact
    return Credit(best, purchased - best.time) if best is not None else None


def _rank(contact: Contact) -> tuple[bool, float, bytes]:
    return contact.touch == "click", contact.time, contact.bid
