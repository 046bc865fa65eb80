"""Reading a person: two hops, aliases, deadlines, and what to do with nonsense."""

import os
import signal
import time
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.people.reading import UNREADABLE, decode_profile, encode_profile, read
from bidder.person import NOBODY, Basket, Person, Profile
from bidder.store import keys
from bidder.store.breaker import Breaker, StoreUnavailable
from bidder.store.coalesce import Reader
from bidder.store.connect import connect
from bidder.store.embedded import EmbeddedStore
from bidder.store.links import Links

ORDER = ("buyeruid", "example.com")
ANNA, BELA, CARA = "A" * 16, "B" * 16, "C" * 16
PROFILE = Profile(segments={"basket": 7}, baskets={"shop": Basket(value_micros=1, updated=2)})


class Counting(Reader):
    """A reader that counts its hops."""

    hops = 0

    async def get_many(self, keys, deadline=None):  # type: ignore[no-untyped-def]
        self.hops += 1
        return await super().get_many(keys, deadline)


async def put(links: Links, **values: bytes | str) -> None:
    await links.bulk([("SET", key, value) for key, value in values.items()])


async def ask(links: Links, *identifiers: tuple[str, str]) -> tuple[Person, int]:
    reader = Counting(links)
    person = await read(reader, identifiers, "demo", ORDER, 10.0)
    return person, reader.hops


async def test_two_hops_to_a_person(any_links: Links) -> None:
    await put(
        any_links,
        **{
            keys.identifier("example.com", "x"): ANNA,
            keys.profile(ANNA): encode_profile(PROFILE),
            keys.ledger(ANNA): b"ledger",
        },
    )
    expected = Person(ANNA, PROFILE, b"ledger")
    assert await ask(any_links, ("example.com", "x")) == (expected, 2)
    assert await ask(any_links, ("buyeruid", "unknown"), ("example.com", "x")) == (expected, 2)


async def test_the_first_identifier_that_matches_wins(any_links: Links) -> None:
    await put(
        any_links,
        **{keys.identifier("buyeruid.demo", "a"): ANNA, keys.identifier("example.com", "b"): BELA},
    )
    person, _ = await ask(any_links, ("example.com", "b"), ("buyeruid", "a"))
    assert person == Person(ANNA, Profile(), b""), "known, though nothing is known of them"


async def test_nobody(any_links: Links) -> None:
    assert await ask(any_links, ("example.com", "x")) == (NOBODY, 1)
    assert await ask(any_links, ("other.example", "x")) == (NOBODY, 0)
    assert await ask(any_links) == (NOBODY, 0)


async def test_who_was_merged_costs_a_hop_more(any_links: Links) -> None:
    await put(
        any_links,
        **{
            keys.identifier("example.com", "x"): ANNA,
            keys.profile(ANNA): encode_profile(Profile(orders=1)),
            keys.alias(ANNA): BELA,
            keys.profile(BELA): encode_profile(PROFILE),
        },
    )
    assert await ask(any_links, ("example.com", "x")) == (Person(BELA, PROFILE, b""), 3)
    await put(any_links, **{keys.alias(BELA): CARA, keys.alias(CARA): ANNA})
    assert (await ask(any_links, ("example.com", "x")))[0] is NOBODY, "a circle"


async def test_no_time_left(links: Links) -> None:
    with pytest.raises(StoreUnavailable):
        await read(Reader(links), [("buyeruid", "x")], "demo", ORDER, 0.0)


async def test_the_timeout_covers_all_hops(new_server: Callable[..., EmbeddedStore]) -> None:
    server = new_server()
    client = connect(server.url)
    links = Links(client, Breaker(time.monotonic), timeout_seconds=60.0)
    await links.bulk([("SET", keys.identifier("example.com", "x"), ANNA)])

    class Stopping(Reader):
        async def get_many(self, keys, deadline=None):  # type: ignore[no-untyped-def]
            found = await super().get_many(keys, deadline)
            os.kill(server.pid, signal.SIGSTOP)
            return found

    with pytest.raises(StoreUnavailable, match="deadline"):
        await read(Stopping(links), [("example.com", "x")], "demo", ORDER, 0.2)
    await links.aclose()
    await client.aclose()


def test_unknown_fields_are_skipped_and_nonsense_is_never_targeted() -> None:
    newer = msgspec.msgpack.encode({"orders": 3, "shoe_size": 44})
    assert decode_profile(newer) == Profile(orders=3)
    assert decode_profile(None) == Profile()
    for raw in (b"", b"\xc1", b"\x93\x01\x02\x03", encode_profile(PROFILE)[:-1]):
        assert decode_profile(raw) is UNREADABLE
    assert UNREADABLE.opted_out


TIMES = st.integers(0, 2**40)
NAMES = st.text(max_size=9)
PROFILES = st.builds(
    Profile,
    segments=st.dictionaries(NAMES, TIMES, max_size=5),
    last_order=TIMES,
    spent_micros=TIMES,
    stage=NAMES,
    baskets=st.dictionaries(NAMES, st.builds(Basket, TIMES, TIMES, TIMES), max_size=3),
    fewer_ads=st.frozensets(NAMES, max_size=3),
    opted_out=st.booleans(),
)


@given(PROFILES)
def test_profiles_come_back_as_they_went(profile: Profile) -> None:
    assert decode_profile(encode_profile(profile)) == profile
