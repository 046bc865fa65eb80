"""Loading people: idempotent, tolerant of bad lines, forgetful in time; and showing them."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bidder.people import loading
from bidder.people.loading import Loaded, load
from bidder.people.reading import encode_profile, read
from bidder.people.records import BadRecord, parse, seconds
from bidder.people.showing import Held, describe, find
from bidder.person import Basket, Profile
from bidder.store import keys
from bidder.store.coalesce import Reader
from bidder.store.links import Links

NOW = 1_800_000_000.0
DEMO = Path(__file__).parents[2] / "config/demo/people.jsonl"


def line(*ids: tuple[str, str], **profile: Any) -> bytes:
    return json.dumps({"ids": ids, "profile": profile}).encode()


async def loaded(links: Links, *lines: bytes) -> tuple[Loaded, list[tuple[int, str]]]:
    reports: list[tuple[int, str]] = []
    counts = await load(
        links, lines, NOW, Random(1), report=lambda number, why: reports.append((number, why))
    )
    return counts, reports


async def id_of(links: Links, wanted: str) -> str:
    held = await find(links, wanted)
    assert held is not None
    return held.id


def test_times_in_every_form() -> None:
    assert seconds(1_700_000_000, NOW, "at") == 1_700_000_000
    assert seconds(1_700_000_000.9, NOW, "at") == 1_700_000_000
    assert seconds("2026-05-01", NOW, "at") == 1_777_593_600
    assert seconds("2026-05-01T02:00:00+02:00", NOW, "at") == 1_777_593_600
    assert seconds("-2d", NOW, "at") == NOW - 172_800
    assert seconds("-90m", NOW, "at") == NOW - 5_400


@pytest.mark.parametrize(
    "time", ["2d", "+2d", "yesterday", "", "-2x", NOW * 1000, -1, "2190-01-01", float("inf")]
)
def test_times_that_are_none(time: str | float) -> None:
    with pytest.raises(BadRecord, match="at"):
        seconds(time, NOW, "at")


def test_a_record_with_everything() -> None:
    record = parse(
        line(
            ("ifa", "AB-CD"),
            ("ifa", "ab-cd"),
            segments={"basket": "-1h"},
            last_order="-1d",
            baskets={"shop": {"value_micros": 5, "updated": "-1h", "products": 2}},
            fewer_ads=["shop"],
            consent="CPx",
            consent_time=NOW,
        ),
        NOW,
    )
    hour_ago = int(NOW) - 3600
    assert record.ids == (("ifa", "ab-cd"),), "one way to write it"
    assert record.profile == Profile(
        segments={"basket": hour_ago},
        last_order=int(NOW) - 86400,
        baskets={"shop": Basket(value_micros=5, updated=hour_ago, products=2)},
        fewer_ads=frozenset({"shop"}),
        consent="CPx",
        consent_time=int(NOW),
    )


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"{", "truncated"),
        (b'{"profile": {}}', "ids"),
        (b'{"ids": []}', "empty"),
        (line(("a", "")), "'a'"),
        (line(("a", "x\x00")), "'a'"),
        (line(("a:b", "x")), "'a:b'"),
        (line(*[("a", str(i)) for i in range(21)]), "20 are allowed"),
        (line(("a", "x"), ordres=1), "ordres"),
        (line(("a", "x"), orders="many"), "orders"),
        (line(("a", "x"), orders=-1), "orders"),
        (line(("a", "x"), spent_micros=10**30), "spent_micros"),
        (line(("a", "x"), first_seen=10**400), "first_seen"),
        (line(("a", "x"), segments={"basket": "soon"}), "segments.basket"),
        (line(("a", "x"), baskets={"s": {"value_micros": 1, "updated": "-"}}), "baskets.s.updated"),
    ],
)
async def test_bad_lines_are_named_and_the_rest_is_loaded(
    links: Links, bad: bytes, why: str
) -> None:
    counts, reports = await loaded(links, line(("a", "1")), b"", bad, line(("a", "2")))
    assert (counts.people, counts.bad) == (2, 1)
    assert [number for number, _ in reports] == [3]
    assert why in reports[0][1]
    assert await find(links, "a:1")
    assert await find(links, "a:2")


TIMES = st.one_of(
    st.integers(0, int(NOW) + 90_000),
    st.floats(),
    st.sampled_from(["-2d", "-999999999w", "2026-05-01", "soon", "9999-12-31T23:59-23:59"]),
)
NAMED = st.dictionaries(st.text(max_size=4), TIMES, max_size=2)
BASKET = st.fixed_dictionaries({"value_micros": st.integers(0, 2**53), "updated": TIMES})
PROFILES = st.fixed_dictionaries(
    {},
    optional={
        "segments": NAMED,
        "last_visit": TIMES,
        "baskets": st.dictionaries(st.text(max_size=4), BASKET, max_size=1),
        "orders": st.integers(0, 2**53 + 1),
    },
)
IDS = st.lists(
    st.tuples(st.sampled_from(["ifa", "b", "c"]), st.text("xyzé", min_size=1)),
    min_size=1,
    max_size=3,
)
LINES = st.fixed_dictionaries({"ids": IDS, "profile": PROFILES})


@given(st.binary(max_size=80) | LINES.map(json.dumps).map(str.encode))
def test_any_bytes_are_a_record_or_a_reason(raw: bytes) -> None:
    try:
        record = parse(raw, NOW)
    except BadRecord:
        return
    profile = record.profile
    assert 0 < len(record.ids) <= 3
    baskets = [basket.updated for basket in profile.baskets.values()]
    times = [*profile.segments.values(), profile.last_visit, *baskets]
    assert all(0 <= time <= NOW + 86_400 for time in times)


async def test_loading_twice_changes_nothing(any_links: Links) -> None:
    lines = [line(("a", str(i)), ("b", str(i)), orders=i) for i in range(50)]
    first, _ = await loaded(any_links, *lines)

    async def all_by(source: str) -> list[Held]:
        found = [await find(any_links, f"{source}:{i}") for i in range(50)]
        return [replace(each, forgotten_in_seconds=0) for each in found if each is not None]

    people = await all_by("a")
    again, reports = await loaded(any_links, *lines)
    assert (first.new, again.new, again.people, reports) == (50, 0, 50, [])
    assert await all_by("b") == people
    assert len({each.id for each in people}) == 50


async def test_a_person_is_found_by_any_identifier(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in (2000, 1):  # in one batch, and in the next
        monkeypatch.setattr(loading, "BATCH", batch)
        await links.bulk([("FLUSHALL", "SYNC")])
        counts, _ = await loaded(
            links,
            line(("a", "1"), orders=1),
            line(("b", "1"), ("a", "1"), orders=2),
            line(("b", "1"), orders=3),
        )
        assert counts.new == 1
        held = await find(links, "a:1")
        assert held is not None
        assert held.profile.orders == 3
        assert held.identifiers == (("a", "1"), ("b", "1"))


async def test_what_belongs_to_another_stays_theirs(links: Links) -> None:
    await loaded(links, line(("a", "1")), line(("b", "1")))
    before = await id_of(links, "b:1")
    counts, reports = await loaded(links, line(("a", "1"), ("b", "1")))
    assert counts.kept_apart == 1
    assert reports == [(1, "'b' belongs to another person; left there")]
    assert await id_of(links, "b:1") == before != await id_of(links, "a:1")


async def test_never_above_twenty_identifiers(links: Links) -> None:
    await loaded(links, line(*[("a", str(i)) for i in range(20)]))
    counts, reports = await loaded(links, line(("a", "3"), ("b", "new")))
    assert counts.kept_apart == 1
    assert "beyond 20" in reports[0][1]
    assert await find(links, "b:new") is None


async def test_a_load_does_not_lift_an_objection(links: Links) -> None:
    await loaded(links, line(("a", "1"), opted_out=True, fewer_ads=["x"]))
    await loaded(links, line(("a", "1"), opted_out=False, fewer_ads=["y"], orders=4))
    held = await find(links, "a:1")
    assert held is not None
    assert held.profile == Profile(opted_out=True, fewer_ads=frozenset({"x", "y"}))


async def test_a_load_follows_merges_and_leaves_ledgers(links: Links) -> None:
    await loaded(links, line(("a", "1")), line(("b", "1")))
    old, new = await id_of(links, "a:1"), await id_of(links, "b:1")
    await links.bulk([("SET", keys.alias(old), new), ("SET", keys.ledger(new), "shown")])
    await loaded(links, line(("a", "1"), orders=9))
    held = await find(links, old)
    assert held is not None
    assert (held.id, held.profile.orders, held.ledger) == (new, 9, b"shown")


async def test_an_objection_while_a_file_is_loaded_is_not_written_over(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    await loaded(links, line(("a", "1"), orders=1))
    person = await id_of(links, "a:1")
    objection, put = encode_profile(Profile(opted_out=True)), loading._Batch._put

    async def late(batch: Any) -> Any:
        await links.bulk([("SET", keys.profile(person), objection, "EX", 900)])
        monkeypatch.undo()
        return await put(batch)

    monkeypatch.setattr(loading._Batch, "_put", late)
    counts, _ = await loaded(links, line(("a", "1"), orders=2))
    held = await find(links, "a:1")
    assert held is not None
    assert held.profile == Profile(opted_out=True)
    assert (counts.people, counts.new) == (1, 0)


async def test_whoever_objects_in_a_file_is_told_of(links: Links) -> None:
    await loaded(links, line(("a", "1"), orders=1))
    person, told = await id_of(links, "a:1"), []
    await links.bulk([("SET", keys.ledger(person), "shown")])

    async def on_silence(people: Any) -> None:
        told.extend(people)

    objection = [line(("a", "1"), opted_out=True), line(("b", "1"), opted_out=True)]
    for _ in range(2):
        await load(links, objection, NOW, Random(2), on_silence=on_silence)
    assert told == [(person, Profile(opted_out=True))], "once, and not of who is new"
    assert await links.bulk([("EXISTS", keys.ledger(person))]) == [0]


async def test_every_key_is_forgotten_in_time(links: Links) -> None:
    await load(links, [line(("a", "1"), ("b", "2"))], NOW, Random(1), ttl_seconds=1000)
    stored = await links._client.keys("*")
    assert len(stored) == 4
    for key in stored:
        assert await links._client.expiretime(key) == NOW + 1000


async def test_what_is_loaded_is_what_a_request_reads(any_links: Links) -> None:
    lines = DEMO.read_bytes().splitlines()
    counts, reports = await loaded(any_links, *lines)
    assert (counts.people, counts.new, reports) == (200, 200, [])
    person = await read(
        Reader(any_links), [("buyeruid", "demo-person-1")], "demo", ("buyeruid",), 10.0
    )
    assert person.profile.segments["basket"] == int(NOW) - 5 * 3600
    assert person.profile.baskets["maison-lumen"].value_micros > 0
    assert not person.profile.opted_out


async def test_showing_all_that_is_held(links: Links) -> None:
    await loaded(
        links,
        line(
            ("a", "1"),
            ("email_sha256", "ab"),
            segments={"old": "2026-05-01", "basket": 1_799_999_940},
            first_seen=1_700_000_000,
            baskets={"shop": {"value_micros": 12_500_000, "updated": "2026-05-01"}},
            fewer_ads=["y", "x"],
            stage="active",
        ),
    )
    held = await find(links, "email_sha256:AB")
    assert held is not None
    assert held == await find(links, held.id)
    await links.bulk([("SET", keys.ledger(held.id), "12345")])
    held = await find(links, held.id)
    assert held is not None
    assert describe(held, lambda ledger: [f"entry {ledger!r}"]).splitlines() == [
        f"person {held.id}",
        "  known as a: 1",
        "  known as email_sha256: ab",
        "  segments:",
        "    basket: 2027-01-15 07:59 UTC",
        "    old: 2026-05-01 00:00 UTC",
        "  first_seen: 2023-11-14 22:13 UTC",
        "  stage: active",
        "  basket at shop: 1 products, 12.50, 2026-05-01 00:00 UTC",
        "  fewer_ads: x, y",
        "  opted_out: False",
        "  ledger: 5 bytes",
        "    entry b'12345'",
        f"  forgotten in {held.forgotten_in_seconds // 86400} days unless renewed",
    ]


async def test_nothing_is_held(links: Links) -> None:
    for wanted in ("a:1", "X" * 16, "nonsense"):
        assert await find(links, wanted) is None
