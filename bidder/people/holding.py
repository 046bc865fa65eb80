"""How is a person written, and how long does an objection last? As long as all its names.

Whoever objected, or withdrew their consent, is kept as long as the tombstone of somebody erased,
and so is each of their names: else a name would end before the objection, and whoever bears it
would be somebody new, who never objected.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from bidder.people.identity import Identifier
from bidder.person import Profile
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.link import Command
from bidder.store.links import Links

_encoder = msgspec.msgpack.Encoder()


def silence(profile: Profile) -> int:
    """How little may be kept of this person: 2, they objected; 1, they withdrew; 0, neither."""
    return 2 if profile.opted_out else int(profile.withdrawn > 0)


def put(
    scripts: Scripts,
    person: str,
    read: str,
    until: int,
    profile: bytes,
    records: bytes,
    identifiers: Sequence[Identifier],
    objects: bool,
) -> "asyncio.Future[object]":
    """Write a person over what was `read` (a digest), up to `until`, seconds since the epoch. Who
    `objects` has no ledger from then on.

    1; 0 if somebody wrote in between; a list with the id that the person was merged into.
    """
    names = (keys.profile, keys.activity, keys.identifiers, keys.alias, keys.ledger)
    return scripts.run(
        "person",
        [name(person) for name in names],
        [read, until, profile, records, _encoder.encode(identifiers), int(objects)],
    )


async def hold(
    links: Links, people: Sequence[tuple[str, Sequence[Identifier]]], seconds: int
) -> None:
    """Keep these people, each with the names they are known by, for so long. A name that ended is
    theirs again, unless it is somebody else's by now."""
    named = [(person, keys.identifier(*each)) for person, names in people for each in names]
    owners = await links.bulk([("GET", name) for _, name in named])
    commands: list[Command] = [
        ("SET", name, person, "EX", seconds)
        for (person, name), owner in zip(named, owners, strict=True)
        if owner is None or owner.decode() == person
    ]
    commands += [
        ("EXPIRE", key, seconds)
        for person, _ in people
        for key in (keys.profile(person), keys.identifiers(person))
    ]
    await links.bulk(commands)
