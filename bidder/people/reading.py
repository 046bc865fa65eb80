"""Who is asking, and what do we know of them?

Two hops to the store, each shared with every other request of the tick: identifiers to person id,
then profile, ledger and alias at once. Only someone merged into another person costs a third.
"""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from bidder.people.identity import Identifier, candidates
from bidder.person import NOBODY, Person, Profile
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Reader

MAX_ALIASES = 4
"""Merges of merges that are followed; a longer chain, or a circle, is nobody."""

UNREADABLE = Profile(opted_out=True)
"""Stands for a profile that cannot be decoded: it might have said that we must not."""

_decoder = msgspec.msgpack.Decoder(Profile)
_encoder = msgspec.msgpack.Encoder()
_EMPTY = Profile()


def decode_profile(raw: bytes | None) -> Profile:
    """The profile in a stored value. None is an empty one, nonsense is `UNREADABLE`.

    Fields that this version does not know are skipped.
    """
    if raw is None:
        return _EMPTY
    try:
        return _decoder.decode(raw)
    except msgspec.MsgspecError:
        return UNREADABLE


def encode_profile(profile: Profile) -> bytes:
    """The value to store."""
    return _encoder.encode(profile)


async def read(
    reader: Reader,
    identifiers: Iterable[Identifier],
    exchange: str,
    order: Sequence[str],
    timeout_seconds: float,
) -> Person:
    """The person behind the first identifier (in `order`) that stands for one, else `NOBODY`.

    `timeout_seconds` is for all hops. Raises `StoreUnavailable` when it has passed, and
    when the store cannot be asked.
    """
    known = candidates(identifiers, exchange, order)
    if not known:
        return NOBODY
    if timeout_seconds <= 0:
        raise StoreUnavailable("no time left to read the person")
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    found = await reader.get_many([keys.identifier(*each) for each in known], deadline)
    first = next((person for person in found if person is not None), None)
    if first is None:
        return NOBODY
    for _ in range(MAX_ALIASES):
        person = first.decode()
        profile, ledger, first = await reader.get_many(
            (keys.profile(person), keys.ledger(person), keys.alias(person)), deadline
        )
        if first is None:
            return Person(person, decode_profile(profile), ledger or b"")
    return NOBODY
