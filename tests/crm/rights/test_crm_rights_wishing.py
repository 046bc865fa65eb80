"""What people object to, wish for and consent to is kept, and no file lifts it."""

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bidder.crm.rights import Desk, Verdict, Wish, wished
from bidder.crm.rights.consent import judge, proven
from bidder.person import Basket, Profile, bare, kept, silent
from bidder.privacy import Rules
from bidder.store import keys
from bidder.store.connect import Client
from bidder.store.links import Links

NOW = 1_795_000_000.0
"""November 2026."""
RULES = Rules(vendor_id=1234)
CODES = st.sampled_from(["IAB1", "IAB2", "IAB2-1", "IAB3"])
PROFILES = st.builds(
    Profile,
    segments=st.dictionaries(CODES, st.integers(1, 9)),
    interests=st.dictionaries(CODES, st.integers(1, 9)),
    wanted=st.dictionaries(CODES, st.integers(1, 9)),
    unwanted=st.frozensets(CODES),
    fewer_ads=st.frozensets(CODES),
    opted_out=st.booleans(),
    paused_until=st.integers(0, 9),
    withdrawn=st.integers(0, 9),
    withdrawn_at=st.frozensets(CODES),
    consents=st.dictionaries(CODES, st.integers(1, 9)),
    consent=st.sampled_from(["", "C"]),
    consent_time=st.integers(0, 9),
    baskets=st.dictionaries(CODES, st.just(Basket(1, 2))),
)


async def test_objecting_keeps_no_more_than_the_objection(
    links: Links, store: Client, desk: Desk, loaded: Any, profile_of: Any
) -> None:
    person = await loaded(
        links, segments={"basket": "-1h"}, orders=3, interests={"IAB1": "-1h"}, fewer_ads=["shop"],
        consent="C0", consent_time=5, consent_source="consent.example",
    )  # fmt: skip
    await links.bulk([("SET", keys.activity(person), b"x"), ("SET", keys.ledger(person), b"x")])
    await desk.wish(person, Wish("object"), "command")
    assert await profile_of(links, person) == Profile(
        opted_out=True, fewer_ads=frozenset({"shop"}), consent="C0", consent_time=5,
        consent_source="consent.example",
    )  # fmt: skip
    assert not await store.exists(keys.activity(person), keys.ledger(person))
    (ttl,) = await links.bulk([("TTL", keys.profile(person))])
    assert ttl > 0


async def test_an_objection_lives_as_long_as_every_name_it_is_known_by(
    links: Links, desk: Desk, loaded: Any
) -> None:
    person = await loaded(links)
    names = [("buyeruid.demo", "jo-cookie"), ("ifa", "0f2c-ifa"), ("crm", "C42")]
    found = [keys.identifier(*each) for each in names]
    await links.bulk([("EXPIRE", found[0], 6), ("SET", found[1], "Z" * 16), ("DEL", found[2])])
    await desk.wish(person, Wish("object"), "command")
    lasting = [found[0], found[2], keys.profile(person), keys.identifiers(person)]
    lives = await links.bulk([("TTL", key) for key in lasting])
    assert min(lives) == max(lives) > 1e8 - 60, lives
    owners = await links.bulk([("GET", name) for name in found])
    assert [owner.decode() for owner in owners] == [person, "Z" * 16, person]
    await desk.wish(person, Wish("allow"), "person")
    assert (await links.bulk([("TTL", found[0])]))[0] <= 5000


def test_interests_that_are_ticked_and_not() -> None:
    before = Profile(interests={"IAB9-11": 5, "IAB9": 6, "IAB17": 7, "IAB22": 8})
    asked = frozenset({"IAB9", "IAB17", "IAB18"})
    after = wished(before, Wish("interests", frozenset({"IAB9", "IAB18"}), asked), 100)
    assert after.interests == {"IAB9-11": 5, "IAB9": 100, "IAB18": 100, "IAB22": 8}
    assert after.wanted == {"IAB9": 100, "IAB18": 100}
    assert after.unwanted == frozenset({"IAB17"})
    again = wished(after, Wish("interests", frozenset({"IAB17"}), asked), 200)
    assert again.interests == {"IAB17": 200, "IAB22": 8}
    assert again.wanted == {"IAB17": 200}
    assert again.unwanted == frozenset({"IAB9", "IAB18"})


def test_the_other_wishes() -> None:
    profile = Profile(fewer_ads=frozenset({"a", "b"}), segments={"s": 1})
    fewer = wished(profile, Wish("fewer", frozenset({"c"}), frozenset({"a", "c"})), 100)
    assert fewer.fewer_ads == frozenset({"b", "c"})
    paused = wished(profile, Wish("pause", days=7), 100)
    assert silent(paused, 100 + 7 * 86400 - 1)
    assert not silent(paused, 100 + 7 * 86400)
    assert not silent(wished(paused, Wish("resume"), 101), 101)
    out = wished(profile, Wish("object"), 100)
    assert silent(out, 1e12)
    assert not out.segments
    assert wished(out, Wish("allow"), 100) == msgspec.structs.replace(out, opted_out=False)


@given(new=PROFILES, old=PROFILES)
def test_no_file_lifts_what_a_person_said(new: Profile, old: Profile) -> None:
    both = kept(new, old)
    assert both.opted_out >= old.opted_out
    assert both.fewer_ads >= old.fewer_ads
    assert both.paused_until >= old.paused_until
    assert both.consent_time == max(new.consent_time, old.consent_time)
    assert both.withdrawn >= old.withdrawn
    assert both.withdrawn_at >= old.withdrawn_at
    assert both.consents.keys() >= old.consents.keys()
    if silent(both, 1e12):
        assert both == bare(both)
    else:
        assert not old.unwanted & both.interests.keys()
        assert old.wanted.keys() - old.unwanted <= both.interests.keys()


def tc(at: float, purposes: set[int], vendors: frozenset[int] = frozenset({1234})) -> str:
    """A TC string of version 2.3 with consents, written bit by bit."""

    def number(value: int, width: int) -> str:
        return format(value, f"0{width}b")

    def flags(chosen: set[int] | frozenset[int], count: int) -> str:
        return "".join("01"[each in chosen] for each in range(1, count + 1))

    def text(bits: str) -> str:
        signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        bits += "0" * (-len(bits) % 6)
        return "".join(signs[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))

    tenths = int(at) * 10
    core = (
        number(2, 6) + number(tenths, 36) * 2 + number(3, 12) + number(1, 12) + number(0, 6)
        + number(5, 6) + number(17, 6) + number(200, 12) + number(4, 6) + "10" + "0" * 12
        + flags(purposes, 24) + "0" * 24 + "0" + number(5, 6) + number(17, 6)
        + number(1234, 16) + "0" + flags(vendors, 1234) + number(0, 16) + "0" + number(0, 12)
    )  # fmt: skip
    disclosed = number(1, 3) + number(1234, 16) + "0" + flags({1234}, 1234)
    return f"{text(core)}.{text(disclosed)}"


async def test_consent_is_kept_as_proof_and_obeyed_when_it_ends(
    links: Links, store: Client, state: Path, desk_on: Any, loaded: Any, profile_of: Any
) -> None:
    clock = [NOW]
    desk = desk_on(links, state, wall=lambda: clock[0])
    person = await loaded(links, segments={"basket": "-1h"})
    early = tc(at=NOW - 1000, purposes={1, 2, 3, 4, 7})
    assert await desk.consent_seen(person, early, "shop.example", "ops") is Verdict.GRANTED
    held = await profile_of(links, person)
    assert (held.consent, held.consent_source) == (early, "shop.example")
    assert abs(held.consent_time - (NOW - 1000)) <= 1
    assert proven(held, RULES, NOW)

    narrow = tc(at=NOW - 500, purposes={1, 2, 7})
    assert await desk.consent_seen(person, narrow, "news.example", "ops") is Verdict.ELSEWHERE
    assert (await profile_of(links, person)).segments
    assert await desk.consent_seen(person, narrow, "shop.example", "ops") is Verdict.NARROWED
    held = await profile_of(links, person)
    assert held.withdrawn == NOW
    assert not held.segments
    assert not proven(held, RULES, NOW)

    assert await desk.consent_seen(person, early, "shop.example", "ops") is Verdict.STALE
    clock[0] += 200
    late = tc(at=NOW + 100, purposes={1, 2, 3, 4, 7})
    assert await desk.consent_seen(person, late, "shop.example", "ops") is Verdict.GRANTED
    assert not (await profile_of(links, person)).withdrawn

    none = tc(at=NOW + 150, purposes=set())
    assert await desk.consent_seen(person, none, "shop.example", "ops") is Verdict.WITHDRAWN
    assert await store.exists(*keys.everything(person)) == 0


def test_strings_that_say_nothing() -> None:
    profile = Profile(consent="C", consent_time=int(NOW) - 9000, consent_source="shop.example")
    for string in ("", "nonsense", tc(at=NOW + 10 * 86400, purposes={1})):
        assert judge(profile, string, "shop.example", RULES, NOW)[0] is Verdict.INVALID
    refused = tc(at=NOW - 50, purposes={1, 2, 3, 4}, vendors=set())
    assert judge(profile, refused, "shop.example", RULES, NOW)[0] is Verdict.WITHDRAWN
    assert judge(Profile(), refused, "shop.example", RULES, NOW)[0] is Verdict.WITHDRAWN
