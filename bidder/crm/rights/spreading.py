"""How does every host learn whom its log must forget? Each asks the store, and adds to its list."""

from bidder.events.forgotten import Forgotten
from bidder.store import keys
from bidder.store.links import Links

LATE_SECONDS = 32 * 86400
"""How long after the last bid something may come in that still names a person: a click and the sale
that follows it."""
_SINCE = "@"


def said(until: float | None, now: float) -> str:
    """What the store says of one mark: until when, and since when it says so."""
    return f"{'' if until is None else repr(until)}{_SINCE}{int(now)}"


def _read(raw: bytes) -> tuple[float | None, float]:
    until, _, since = raw.decode().partition(_SINCE)
    return float(until) if until else None, float(since or 0)


async def spread(links: Links, forgotten: Forgotten, now: float, keep_seconds: float) -> int:
    """Add what other hosts have forgotten to the list beside this host's log; how many were new.

    What the store has said for `keep_seconds`, longer than any host keeps its log, it no longer
    says then. Raises `StoreUnavailable` or `OSError`.
    """
    (flat,) = await links.bulk([("HGETALL", keys.FORGOTTEN)])
    forgotten.refresh()
    found = {flat[at].decode(): _read(flat[at + 1]) for at in range(0, len(flat), 2)}
    old = [mark for mark, (_, since) in found.items() if since and since + keep_seconds < now]
    if old:
        await links.bulk([("HDEL", keys.FORGOTTEN, *old)])
    new = {
        mark: until
        for mark, (until, _) in found.items()
        if mark not in old and not forgotten.has(mark, until)
    }
    if new:
        forgotten.add_marks(new)
    return len(new)
