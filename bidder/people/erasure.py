"""Was this identifier erased? Whatever brings people in asks first, so that none comes back.

A tombstone is a key made of the keyed hash of one identifier, whose value is when it was erased.
It says nothing of who it was, and with which others they were erased.
"""

from collections.abc import Iterable, Mapping, Sequence

from bidder.people.identity import Identifier
from bidder.store import keys
from bidder.store.link import Command
from bidder.store.links import Links
from bidder.tombstones import Tombstones


async def erased(
    links: Links, tombstones: Tombstones, identifiers: Iterable[Identifier]
) -> dict[Identifier, int]:
    """Those of `identifiers` (in normal form) that were erased -> when, seconds since the epoch.

    They are not to be stored.
    """
    wanted = list(dict.fromkeys(identifiers))
    marks = [(each, mark) for each in wanted for mark in tombstones.of_identifier(*each)]
    found = await links.bulk([("GET", keys.tombstone(mark)) for _, mark in marks])
    times: dict[Identifier, int] = {}
    for (each, _), raw in zip(marks, found, strict=True):
        if raw is not None:
            times[each] = max(times.get(each, 0), int(raw))
    return times


def buried(
    tombstones: Tombstones, identifiers: Sequence[Identifier], now: int, ttl_seconds: int
) -> list[Command]:
    """What to write so that these identifiers are known to be erased at `now`."""
    return [
        ("SET", keys.tombstone(tombstones.of_identifier(*each)[0]), now, "EX", ttl_seconds)
        for each in identifiers
    ]


async def marked_anew(
    links: Links, tombstones: Tombstones, names: Mapping[Identifier, Identifier]
) -> None:
    """Give each identifier in `names`, erased under another key, the tombstone of that one: they
    end together, and the other key may be dropped after."""
    marks = [(mark, new) for old, new in names.items() for mark in tombstones.of_identifier(*old)]
    asked = [(keys.tombstone(mark), new) for mark, new in marks]
    times = await links.bulk([("GET", key) for key, _ in asked])
    ends = await links.bulk([("EXPIRETIME", key) for key, _ in asked])
    await links.bulk(
        [
            ("SET", keys.tombstone(tombstones.of_identifier(*new)[0]), at, "EXAT", end)
            for (_, new), at, end in zip(asked, times, ends, strict=True)
            if at is not None and end > 0
        ]
    )
