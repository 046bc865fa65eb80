"""Who is erased is gone, from the store and from the log, and no file brings them back."""

import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from bidder.capping import Kind, Record, record
from bidder.crm.rights import Desk, NotFound, Wish
from bidder.crm.rights.spreading import spread
from bidder.events import reading
from bidder.events.compacting import compact
from bidder.events.forgotten import Forgotten
from bidder.events.schema import BidEvent, ClickEvent, ConversionEvent
from bidder.people.erasure import erased
from bidder.people.loading import load
from bidder.person import Profile
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.connect import Client
from bidder.store.links import Links
from bidder.tombstones import Tombstones

NOW = 1_795_000_000.0
"""November 2026."""
KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
TOMBSTONES = Tombstones([KEY])
SECRETS = ("jo-cookie", "0f2c-ifa", "C42", "order-77", "req-9")


async def test_after_erase_and_compact_only_tombstones_are_left(
    links: Links,
    store: Client,
    desk: Desk,
    state: Path,
    loaded: Any,
    everything_in: Any,
    files_under: Any,
    bid: Any,
    conversion: Any,
    logged: Any,
) -> None:
    person = await loaded(
        links, segments={"basket": "-1h"}, consent="C0", consent_source="consent.example"
    )
    former = "F" * 16
    await links.bulk(
        [
            ("SET", keys.alias(former), person),
            ("SET", keys.merged(person), msgspec.msgpack.encode([former])),
            ("SET", keys.activity(person), b"x" * 32),
        ]
    )
    shown = Record(int(NOW), Kind.IMPRESSION, 1, 2, 3, 4, b"jo-bid-1")
    await record(Scripts(links), person, shown, int(NOW), 1000)
    await logged(
        state, bid(person), conversion(person, 1, "order-77"), bid(former, 2), bid("Z" * 16, 3)
    )
    code = await desk.new_code(person, "ops")

    done = await desk.erase("crm:C42", "command")
    assert done.identifiers == 3
    assert done.keys >= 8
    compact(state / "events", Forgotten(state / "events", TOMBSTONES), lambda: 0.0, lambda _: None)

    held, written = await everything_in(store), files_under(state)
    for secret in (*SECRETS, person, former, "jo-bid-1", "consent.example"):
        assert secret.encode() not in held, secret
        assert secret.encode() not in written, secret
    assert {key.decode()[:2] for key in await store.keys()} == {"t:", "o:", "co"}
    assert b"Z" * 16 in written
    with pytest.raises(NotFound):
        await desk.redeem(code)
    with pytest.raises(NotFound):
        await desk.find(person)


async def test_tombstones_are_recognised_under_every_key_and_end(
    links: Links, desk: Desk, loaded: Any
) -> None:
    await loaded(links)
    await desk.erase("crm:C42", "command")
    rotated = Tombstones([OTHER_KEY, KEY])
    known = await erased(links, rotated, [("crm", "C42"), ("ifa", "0f2c-ifa"), ("crm", "C43")])
    assert known == {("crm", "C42"): int(NOW), ("ifa", "0f2c-ifa"): int(NOW)}
    assert await erased(links, Tombstones([OTHER_KEY]), [("crm", "C42")]) == {}
    (ttl,) = await links.bulk([("TTL", keys.tombstone(TOMBSTONES.of_identifier("crm", "C42")[0]))])
    assert 0 < ttl <= 100_000_000


async def test_a_file_does_not_bring_the_erased_back(
    links: Links, store: Client, desk: Desk, loaded: Any
) -> None:
    await loaded(links)
    await desk.erase("crm:C42", "command")
    lines = [
        b'{"ids": [["crm", "C42"], ["ifa", "0F2C-ifa"]], "profile": {"orders": 3}}',
        b'{"ids": [["crm", "C42"], ["crm", "C43"]]}',
    ]
    told: list[str] = []
    done = await load(
        links, lines, NOW, Random(9), tombstones=TOMBSTONES, report=lambda _, why: told.append(why)
    )
    assert (done.people, done.kept_apart) == (1, 3)
    assert told == [
        "'crm' was erased; not brought back", "'ifa' was erased; not brought back",
        "'crm' was erased; not brought back",
    ]  # fmt: skip
    assert await store.keys("id:*") == [b"id:crm:C43"]


async def test_erasing_who_objected_before_is_noticed_by_who_spares_tombstones(
    links: Links, desk: Desk, loaded: Any
) -> None:
    person = await loaded(links)
    await desk.wish(person, Wish("object"), "command")
    (before,) = await links.bulk([("GET", keys.ERASURES)])
    await desk.erase(person, "command")
    assert await links.bulk([("GET", keys.ERASURES)]) != [before]


async def test_erasing_leaves_names_that_are_somebody_elses_by_now(
    links: Links, desk: Desk, loaded: Any
) -> None:
    await loaded(links)
    await links.bulk([("SET", keys.identifier("ifa", "0f2c-ifa"), "other-person-000")])
    await desk.erase("crm:C42", "command")
    (owner,) = await links.bulk([("GET", keys.identifier("ifa", "0f2c-ifa"))])
    assert owner == b"other-person-000"


async def test_a_claim_under_way_while_erasing_leaves_nothing(
    links: Links, store: Client, state: Path, desk_on: Any, loaded: Any
) -> None:
    person = await loaded(links)

    async def a_late_claim(_: float) -> None:
        late = Record(int(NOW), Kind.RESERVATION, 1, 2, 3, 4, b"late-bid", hold=60)
        await record(Scripts(links), person, late, int(NOW), 1000)

    await desk_on(links, state, a_late_claim).erase(person, "command")
    assert await store.exists(*keys.everything(person)) == 0


async def test_a_name_that_comes_back_while_erasing_goes_again(
    links: Links, store: Client, state: Path, desk_on: Any, loaded: Any
) -> None:
    person = await loaded(links)

    async def a_late_writer(_: float) -> None:
        await links.bulk([("SET", keys.identifier("crm", "C42"), person)])

    await desk_on(links, state, a_late_writer).erase(person, "command")
    assert not await store.keys("id:*")


async def test_who_objects_to_a_company_is_forgotten_in_the_log(
    links: Links,
    desk: Desk,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    loaded: Any,
    bid: Any,
    logged: Any,
) -> None:
    monkeypatch.setenv("BIDDER_TOMBSTONE_KEY", KEY.hex())
    person, former, other = await loaded(links), "F" * 16, "Y" * 16
    await links.bulk([("SET", keys.merged(person), msgspec.msgpack.encode([former]))])
    people = (person, former, other, "Z" * 16)
    await logged(state, *[bid(each, at) for each in people for at in (0, 200)])
    await desk.silenced([(person, Profile(opted_out=True)), (other, Profile(withdrawn=1))])
    seen = [event.person for event in reading.read(state / "events")]  # type: ignore[union-attr]
    assert sorted(seen) == [*[""] * 5, other, *["Z" * 16] * 2]
    lines = (state / "audit" / "rights.jsonl").read_text().splitlines()
    acts = [json.loads(line) for line in lines]
    assert [(act["action"], act["by"], act["counts"]) for act in acts] == [
        ("object", "company", {"people": 1}), ("withdraw", "company", {"people": 1}),
    ]  # fmt: skip


async def test_erasing_what_a_crash_half_erased(
    links: Links, store: Client, desk: Desk, loaded: Any
) -> None:
    person = await loaded(links)
    await links.bulk([("DEL", keys.profile(person)), ("DEL", keys.ledger(person))])
    await desk.erase("crm:C42", "command")
    assert await store.exists(*keys.everything(person)) == 0
    assert not await store.keys("id:*")


async def test_reading_shows_nobody_who_was_erased_even_before_compacting(
    links: Links,
    desk: Desk,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    notice: Any,
    loaded: Any,
    bid: Any,
    conversion: Any,
    logged: Any,
) -> None:
    monkeypatch.setenv("BIDDER_TOMBSTONE_KEY", KEY.hex())
    person = await loaded(links)
    sales = [conversion(person, 1, order) for order in ("A", "B", "A")]
    await logged(state, bid(person), ClickEvent(**notice(person, 0), click_id="sealed"), *sales)
    await desk.erase(person, "command")
    seen = list(reading.read(state / "events"))
    assert [type(event).__name__ for event in seen] == [
        "BidEvent", "ClickEvent", *["ConversionEvent"] * 3,
    ]  # fmt: skip
    made = seen[0]
    assert isinstance(made, BidEvent)
    assert made == msgspec.structs.replace(
        bid(""), request_id="", imp_id="", features=[], feature_version="", consent=False,
        train=False,
    )  # fmt: skip
    assert seen[1].click_id == ""  # type: ignore[union-attr]
    orders = [event.order for event in seen[2:] if isinstance(event, ConversionEvent)]
    assert orders[0] == orders[2] != orders[1]
    assert not {"A", "B"} & set(orders)


async def test_the_applier_counts_the_money_of_the_erased_and_writes_to_nobody(
    links: Links,
    desk: Desk,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    loaded: Any,
    conversion: Any,
    logged: Any,
) -> None:
    monkeypatch.setenv("BIDDER_TOMBSTONE_KEY", KEY.hex())
    person = await loaded(links)
    tail = reading.Tail(state / "events")
    await desk.erase(person, "command")
    await logged(state, conversion(person, 1, "A"), conversion("Z" * 16, 2, "B"))
    events = [event for _ in range(3) for event in tail.batch(10)]
    tail.close()
    assert [(event.person, event.order) for event in events] == [("", "A"), ("Z" * 16, "B")]  # type: ignore[union-attr]


async def test_an_objection_hides_the_past_and_coming_back_does_not_bring_it_back(
    links: Links,
    desk: Desk,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    loaded: Any,
    bid: Any,
    logged: Any,
) -> None:
    monkeypatch.setenv("BIDDER_TOMBSTONE_KEY", KEY.hex())
    person = await loaded(links)
    await logged(state, bid(person), bid(person, 200))
    people = lambda: [event.person for event in reading.read(state / "events")]  # type: ignore[union-attr]  # noqa: E731
    await desk.wish(person, Wish("object"), "person")
    assert people() == ["", ""]
    await desk.wish(person, Wish("allow"), "person")
    assert people() == ["", person]


async def test_other_hosts_learn_whom_to_forget(
    links: Links, desk: Desk, tmp_path: Path, loaded: Any
) -> None:
    person = await loaded(links)
    await desk.erase(person, "command")
    elsewhere = Forgotten(tmp_path / "other" / "events", TOMBSTONES)
    assert not elsewhere.covers(person, NOW)
    assert await spread(links, elsewhere, NOW, 1000) == 1
    assert await spread(links, elsewhere, NOW, 1000) == 0
    assert elsewhere.covers(person, NOW)
    assert not elsewhere.covers("Z" * 16, NOW)
    await spread(links, elsewhere, NOW + 1001, 1000)
    assert await links.bulk([("HLEN", keys.FORGOTTEN)]) == [0], "no log is as old any more"


def test_the_list_of_the_forgotten_ends_with_the_log(tmp_path: Path) -> None:
    clock = [NOW]
    forgotten = Forgotten(tmp_path, TOMBSTONES, wall=lambda: clock[0])
    reader = Forgotten(tmp_path, TOMBSTONES)
    forgotten.add(["A" * 16])
    clock[0] += 600
    forgotten.add(["B" * 16], until=NOW)
    listed = tmp_path / "forgotten.jsonl"
    listed.write_bytes(listed.read_bytes() + b'{"mark": "by-an-older-version"}\n{"torn')
    assert forgotten.prune(1000) == 1, "the torn line alone"
    reader.refresh()
    assert reader.covers("A" * 16, NOW)
    clock[0] += 500
    assert forgotten.prune(1000) == 1
    assert forgotten.prune(1000) == 0
    reader.refresh()
    assert not reader.covers("A" * 16, NOW)
    assert reader.covers("B" * 16, NOW - 1)
    assert reader.has("by-an-older-version", None)
    clock[0] += 1001
    assert forgotten.prune(1000) == 2
    assert not listed.read_bytes()
