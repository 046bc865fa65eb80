"""How does every host learn whom its log must forget? Each asks the store, and adds to its list."""

from bidder.events.forgotten import Forgotten
from bidder.store import keys
from bidder.store.links import Links


async def spread(links: Links, forgotten: Forgotten) -> int:
    """Add what other hosts have forgotten to the list beside this host's log; how many were new.

    Raises `StoreUnavailable` or `OSError`.
    """
    (flat,) = await links.bulk([("HGETALL", keys.FORGOTTEN)])
    forgotten.refresh()
    found = {
        flat[at].decode(): float(flat[at + 1]) if flat[at + 1] else None
        for at in range(0, len(flat), 2)
    }
    new = {mark: until for mark, until in found.items() if not forgotten.has(mark, until)}
    if new:
        forgotten.add_marks(new)
    return len(new)
