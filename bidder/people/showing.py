"""What do we hold on one person? For `bidder people show`, and for who asks under Article 15."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from bidder.ids import PERSON_ID_CHARS
from bidder.people.identity import Identifier, normal
from bidder.people.loading import decode_identifiers, followed
from bidder.people.reading import decode_profile
from bidder.person import Profile
from bidder.store import keys
from bidder.store.links import Links


class Held(Struct, frozen=True):
    """All that the store holds on one person."""

    id: str
    identifiers: tuple[Identifier, ...]
    profile: Profile
    ledger: bytes
    forgotten_in_seconds: int
    """Until the profile's TTL ends; negative if there is no profile."""


async def find(links: Links, wanted: str) -> Held | None:
    """The person whom `wanted` names: a person id, or an identifier as ``source:value``.

    Merges are followed. None if we hold nothing. Raises `StoreUnavailable`.
    """
    person = await _person(links, wanted)
    if person is None:
        return None
    person = (await followed(links, {person}))[person]
    profile_key = keys.profile(person)
    values, ttl = await links.bulk(
        [
            ("MGET", profile_key, keys.identifiers(person), keys.ledger(person)),
            ("TTL", profile_key),
        ]
    )
    if all(value is None for value in values):
        return None
    profile, identifiers, ledger = values
    return Held(
        id=person,
        identifiers=tuple(decode_identifiers(identifiers)),
        profile=decode_profile(profile),
        ledger=ledger or b"",
        forgotten_in_seconds=ttl,
    )


async def _person(links: Links, wanted: str) -> str | None:
    source, colon, value = wanted.partition(":")
    if colon:
        (found,) = await links.bulk([("GET", keys.identifier(*normal(source, value)))])
        return found.decode() if found is not None else None
    return wanted if len(wanted) == PERSON_ID_CHARS else None


def describe(held: Held, decode_ledger: Callable[[bytes], Iterable[object]]) -> str:
    """The person as readable lines. `decode_ledger` turns the ledger into printable entries."""
    lines = [f"person {held.id}"]
    lines += [f"  known as {source}: {value}" for source, value in held.identifiers]
    for name in held.profile.__struct_fields__:
        value = getattr(held.profile, name)
        if value or name == "opted_out":
            lines += _field(name, value)
    lines.append(f"  ledger: {len(held.ledger)} bytes")
    lines += [f"    {entry}" for entry in decode_ledger(held.ledger)]
    if held.forgotten_in_seconds >= 0:
        lines.append(f"  forgotten in {held.forgotten_in_seconds // 86400} days unless renewed")
    return "\n".join(lines)


def _field(name: str, value: object) -> list[str]:
    if name in ("segments", "interests"):
        assert isinstance(value, dict)
        latest_first = sorted(value.items(), key=lambda item: -item[1])
        return [f"  {name}:", *[f"    {key}: {_when(at)}" for key, at in latest_first]]
    if name == "baskets":
        assert isinstance(value, dict)
        return [
            f"  basket at {advertiser}: {basket.products} products, "
            f"{basket.value_micros / 1e6:.2f}, {_when(basket.updated)}"
            for advertiser, basket in value.items()
        ]
    if name in ("first_seen", "last_visit", "last_order", "consent_time"):
        return [f"  {name}: {_when(msgspec.convert(value, int))}"]
    if name == "fewer_ads":
        assert isinstance(value, frozenset)
        return [f"  {name}: {', '.join(sorted(value))}"]
    return [f"  {name}: {value}"]


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
