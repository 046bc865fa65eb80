"""When are two people one, and how do they become it?

A deterministic link (a login, a row of the CRM) joins them: **alias first**, so that everyone who
comes for the one finds the other and no script writes to the one any more; then a copy that may be
done any number of times (records are a union, the ledger by bid key); then the old keys go. A merge
is written to a journal before it begins: whoever finds it there ends it.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import msgspec
from msgspec import Struct

from bidder import capping
from bidder.crm.activity import united
from bidder.people.holding import hold, put, silence
from bidder.people.identity import Identifier
from bidder.people.loading import decode_identifiers, followed
from bidder.people.reading import decode_profile, encode_profile
from bidder.people.records import MAX_IDENTIFIERS
from bidder.person import Basket, Profile, kept
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.digest import digest
from bidder.store.link import Command
from bidder.store.links import Links

ONE_OWNER = "crm"
"""A company gives a person one of these. Two people with different ones are two customers who use
one device or one address, not one customer."""
ATTEMPTS = 8
_encoder = msgspec.msgpack.Encoder()
_ids = msgspec.msgpack.Decoder(list[str])


class CannotMerge(RuntimeError):
    """The store kept changing under the merge; it stays in the journal."""


class Lives(Struct, frozen=True):
    """How long what is written may stay, in seconds: identifiers and aliases, the ledger, and who
    objected."""

    identifier: int
    ledger: int
    objection: int


def two_customers(mine: Iterable[Identifier], theirs: Iterable[Identifier]) -> bool:
    """Whether the company gave these people different ids, so that nothing makes them one."""
    ours = {value for source, value in mine if source == ONE_OWNER}
    others = {value for source, value in theirs if source == ONE_OWNER}
    return bool(ours and others) and ours.isdisjoint(others)


def why_apart(mine: Iterable[Identifier], theirs: Iterable[Identifier]) -> str:
    """Why two people must not become one; empty if they may."""
    mine, theirs = set(mine), set(theirs)
    if two_customers(mine, theirs):
        return "they are two customers of the company"
    if len(mine | theirs) > MAX_IDENTIFIERS:
        return f"together they have more than {MAX_IDENTIFIERS} identifiers"
    return ""


def mark(person: str) -> bytes:
    """What a ledger remembers a merge with `person` by."""
    return blake2b(person.encode(), digest_size=8, person=b"merge").digest()


def joined(kept_profile: Profile, gone: Profile) -> Profile:
    """What is known of two people who are one: what either told us counts.

    Segments, baskets and interests are united as well; where the records say otherwise, the next
    judging corrects it.
    """
    baskets: dict[str, Basket] = dict(gone.baskets)
    for advertiser, basket in kept_profile.baskets.items():
        other = baskets.get(advertiser)
        if other is None or other.updated <= basket.updated:
            baskets[advertiser] = basket
    first = [each for each in (kept_profile.first_seen, gone.first_seen) if each]
    both = msgspec.structs.replace(
        kept_profile,
        segments=_latest(kept_profile.segments, gone.segments),
        interests=_latest(kept_profile.interests, gone.interests),
        first_seen=min(first, default=0),
        last_visit=max(kept_profile.last_visit, gone.last_visit),
        last_order=max(kept_profile.last_order, gone.last_order),
        orders=max(kept_profile.orders, gone.orders),
        spent_micros=max(kept_profile.spent_micros, gone.spent_micros),
        stage=kept_profile.stage or gone.stage,
        baskets=baskets,
    )
    return kept(both, gone)


def _latest(mine: dict[str, int], theirs: dict[str, int]) -> dict[str, int]:
    return {name: max(mine.get(name, 0), theirs.get(name, 0)) for name in sorted({*mine, *theirs})}


async def merge(
    links: Links, scripts: Scripts, keep: str, gone: str, now: int, lives: Lives
) -> None:
    """Make `gone` part of `keep`. Doing it again, or after a crash anywhere, ends the same.

    Neither may be the alias of anybody yet, unless `gone` is one of `keep` already. Raises
    `StoreUnavailable`, and `CannotMerge` if the store does not hold still.
    """
    await links.bulk([("SADD", keys.MERGES, f"{gone} {keep}")])
    await links.bulk([("SET", keys.alias(gone), keep, "EX", lives.identifier)])
    ledger, raw_identifiers, merged = (
        await links.bulk([("MGET", keys.ledger(gone), keys.identifiers(gone), keys.merged(gone))])
    )[0]
    if ledger is not None:
        await capping.absorb(scripts, keep, [], now, lives.ledger, other=ledger, mark=mark(gone))
    identifiers = decode_identifiers(raw_identifiers)
    await _copy(links, scripts, keep, gone, identifiers)
    before = _known_merges(merged)
    names = (keys.merged, keys.profile, keys.identifiers)
    ((already, profile, known),) = await links.bulk([("MGET", *[name(keep) for name in names])])
    everyone = sorted({*_known_merges(already), *before, gone})
    life = lives.identifier
    repointed: list[Command] = [
        ("SET", keys.identifier(*each), keep, "EX", life) for each in identifiers
    ]
    await links.bulk(
        [
            *repointed,
            *[("SET", keys.alias(each), keep, "EX", life) for each in before],
            ("SET", keys.merged(keep), _encoder.encode(everyone), "EX", life),
        ]
    )
    if silence(decode_profile(profile)):
        await hold(links, [(keep, decode_identifiers(known))], lives.objection)
    await links.bulk(
        [
            ("DEL", keys.profile(gone), keys.activity(gone), keys.ledger(gone), keys.merged(gone)),
            ("DEL", keys.identifiers(gone)),
        ]
    )
    await links.bulk([("SREM", keys.MERGES, f"{gone} {keep}")])


def _known_merges(raw: bytes | None) -> list[str]:
    return _ids.decode(raw) if raw is not None else []


async def _copy(
    links: Links, scripts: Scripts, keep: str, gone: str, identifiers: Sequence[Identifier]
) -> None:
    """Write what there is of `gone` to `keep`, over nothing that came in between."""
    names = (keys.profile, keys.activity, keys.identifiers)
    for _ in range(ATTEMPTS):
        theirs, mine, ttl = await links.bulk(
            [
                ("MGET", *[name(gone) for name in names]),
                ("MGET", *[name(keep) for name in names]),
                ("EXPIRETIME", keys.profile(keep)),
            ]
        )
        if theirs[0] is None and theirs[1] is None:
            return  # it is there already
        profile = joined(decode_profile(mine[0]), decode_profile(theirs[0]))
        records = b"" if silence(profile) else united(theirs[1], mine[1] or b"")
        all_ids = list(dict.fromkeys([*decode_identifiers(mine[2]), *identifiers]))
        (theirs_until,) = await links.bulk([("EXPIRETIME", keys.profile(gone))])
        until = max(ttl, theirs_until)
        if until <= 0:
            return
        encoded, objects = encode_profile(profile), profile.opted_out
        written = await put(scripts, keep, digest(mine), until, encoded, records, all_ids, objects)
        if written == 1:
            return
        if isinstance(written, list):
            keep = written[0].decode()
    raise CannotMerge(f"{gone} into {keep}")


async def finish_merges(links: Links, scripts: Scripts, now: int, lives: Lives) -> int:
    """End the merges that a crash left in the journal; how many there were."""
    (pending,) = await links.bulk([("SMEMBERS", keys.MERGES)])
    for entry in sorted(pending):
        gone, _, keep = entry.decode().partition(" ")
        ends = await followed(links, {keep})
        await merge(links, scripts, ends[keep], gone, now, lives)
        await links.bulk([("SREM", keys.MERGES, entry)])
    return len(pending)
