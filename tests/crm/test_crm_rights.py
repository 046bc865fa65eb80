"""What people ask of us is done, all of it, and said nowhere whom it was done to."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.capping import Kind, Record, record
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.rights import BadPatch, Desk, NotFound, Verdict, Wish, wished
from bidder.crm.rights.consent import judge, proven
from bidder.crm.rights.desk import Lives
from bidder.crm.rights.spreading import spread
from bidder.events import reading
from bidder.events.compacting import compact
from bidder.events.forgotten import Forgotten
from bidder.events.log import EventLog
from bidder.events.schema import BidEvent, ClickEvent, ConversionEvent, Event
from bidder.ids import hash32, to_text
from bidder.people.erasure import erased
from bidder.people.loading import load
from bidder.person import Basket, Profile, bare, kept, silent
from bidder.privacy import Rules
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.connect import Client
from bidder.store.links import Links
from bidder.tombstones import Tombstones

NOW = 1_795_000_000.0
"""November 2026."""
KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
TOMBSTONES = Tombstones([KEY])
RULES = Rules(vendor_id=1234)
SECRETS = ("jo-cookie", "0f2c-ifa", "C42", "order-77", "req-9")


async def at_once(_: float) -> None:
    """A pause that is over."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
async def desk(links: Links, state: Path) -> Desk:
    return desk_on(links, state)


def desk_on(links: Links, state: Path, pause: Callable[[float], Awaitable[None]] = at_once) -> Desk:
    return Desk(
        links,
        Scripts(links),
        TOMBSTONES,
        state,
        Lives(tombstone=1000, profile=5000, code=60),
        RULES,
        Random(4),
        lambda: NOW,
        pseudonyms=Pseudonyms([KEY]),
        pause=pause,
    )


async def loaded(links: Links, **profile: object) -> str:
    """One person with three names and this profile; their id."""
    ids = [("buyeruid.demo", "jo-cookie"), ("ifa", "0f2c-ifa"), ("crm", "C42")]
    line = json.dumps({"ids": ids, "profile": profile}).encode()
    await load(links, [line], NOW, Random(9), ttl_seconds=5000)
    (raw,) = await links.bulk([("GET", keys.identifier("crm", "C42"))])
    assert raw is not None
    return str(raw.decode())


async def profile_of(links: Links, person: str) -> Profile:
    (raw,) = await links.bulk([("GET", keys.profile(person))])
    return msgspec.msgpack.decode(raw, type=Profile)


async def everything_in(client: Client) -> bytes:
    """Every key and every value of the store, dumped."""
    found = b""
    async for key in client.scan_iter():
        found += key + b"\n"
        match await client.type(key):
            case b"string":
                found += await client.get(key)
            case b"hash":
                found += b"".join(
                    part for pair in (await client.hgetall(key)).items() for part in pair
                )
            case b"set":
                found += b"".join(await client.smembers(key))
            case b"zset":
                found += b"".join(await client.zrange(key, 0, -1))
            case kind:
                raise AssertionError(f"a {kind!r} that nobody looks into")
    return found


def files_under(folder: Path) -> bytes:
    """Every byte of every file, unpacked."""
    found = b""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found += path.name.encode() + b"\n"
            if path.name.endswith(".jsonl.zst"):
                with reading.opened(path) as stream:
                    found += stream.read()
            else:
                found += path.read_bytes()
    return found


def bid(person: str, number: int = 0) -> BidEvent:
    return BidEvent(
        time=NOW - 100 + number,
        bid_id=to_text(int(NOW).to_bytes(4, "big") + number.to_bytes(8, "big")),
        request_id="req-9" if person != "Z" * 16 else "req-z",
        imp_id="1",
        exchange="demo",
        line_item="shop/a/b",
        creative="c",
        price_cpm_micros=1_000_000,
        currency="EUR",
        value_cpm_micros=2_000_000,
        account_currency="EUR",
        rate=1.0,
        first_price=True,
        person=person,
        features=[1.0, 2.5, None],
        feature_version="v1",
        domain="news.example",
        consent=True,
        train=True,
    )


def conversion(person: str, number: int, order: str) -> ConversionEvent:
    return ConversionEvent(**notice(person, number), order=order, value_micros=5_000_000)


def notice(person: str, number: int) -> dict[str, object]:
    made = bid(person, number)
    return {
        "time": made.time,
        "bid_id": made.bid_id,
        "exchange": "demo",
        "line_item": "shop/a/b",
        "creative": "c",
        "bid_time": made.time,
        "bid_cpm_micros": 1_000_000,
        "currency": "EUR",
        "account_currency": "EUR",
        "rate": 1.0,
        "hold": "w0",
        "ids": (1, 2, 3, 4),
        "person": person,
    }


async def logged(state: Path, *events: Event) -> None:
    log = EventLog(state / "events" / "worker-0", clock=lambda: NOW)
    for event in events:
        await log.commit(event)
    await log.close()


# Erasure


async def test_after_erase_and_compact_only_tombstones_are_left(
    links: Links, store: Client, desk: Desk, state: Path
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


async def test_tombstones_are_recognised_under_every_key_and_end(links: Links, desk: Desk) -> None:
    await loaded(links)
    await desk.erase("crm:C42", "command")
    rotated = Tombstones([OTHER_KEY, KEY])
    known = await erased(links, rotated, [("crm", "C42"), ("ifa", "0f2c-ifa"), ("crm", "C43")])
    assert known == {("crm", "C42"): int(NOW), ("ifa", "0f2c-ifa"): int(NOW)}
    assert await erased(links, Tombstones([OTHER_KEY]), [("crm", "C42")]) == {}
    (ttl,) = await links.bulk([("TTL", keys.tombstone(TOMBSTONES.of_identifier("crm", "C42")[0]))])
    assert 0 < ttl <= 1000


async def test_a_file_does_not_bring_the_erased_back(
    links: Links, store: Client, desk: Desk
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


async def test_erasing_leaves_names_that_are_somebody_elses_by_now(
    links: Links, desk: Desk
) -> None:
    await loaded(links)
    await links.bulk([("SET", keys.identifier("ifa", "0f2c-ifa"), "other-person-000")])
    await desk.erase("crm:C42", "command")
    (owner,) = await links.bulk([("GET", keys.identifier("ifa", "0f2c-ifa"))])
    assert owner == b"other-person-000"


async def test_a_claim_under_way_while_erasing_leaves_nothing(
    links: Links, store: Client, state: Path
) -> None:
    person = await loaded(links)

    async def a_late_claim(_: float) -> None:
        late = Record(int(NOW), Kind.RESERVATION, 1, 2, 3, 4, b"late-bid", hold=60)
        await record(Scripts(links), person, late, int(NOW), 1000)

    await desk_on(links, state, a_late_claim).erase(person, "command")
    assert await store.exists(*keys.everything(person)) == 0


async def test_erasing_what_a_crash_half_erased(links: Links, store: Client, desk: Desk) -> None:
    person = await loaded(links)
    await links.bulk([("DEL", keys.profile(person)), ("DEL", keys.ledger(person))])
    await desk.erase("crm:C42", "command")
    assert await store.exists(*keys.everything(person)) == 0
    assert not await store.keys("id:*")


# The log


async def test_reading_shows_nobody_who_was_erased_even_before_compacting(
    links: Links, desk: Desk, state: Path, monkeypatch: pytest.MonkeyPatch
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
    links: Links, desk: Desk, state: Path, monkeypatch: pytest.MonkeyPatch
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
    links: Links, desk: Desk, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIDDER_TOMBSTONE_KEY", KEY.hex())
    person = await loaded(links)
    await logged(state, bid(person), bid(person, 200))
    people = lambda: [event.person for event in reading.read(state / "events")]  # type: ignore[union-attr]  # noqa: E731
    await desk.wish(person, Wish("object"), "person")
    assert people() == ["", ""]
    await desk.wish(person, Wish("allow"), "person")
    assert people() == ["", person]


async def test_other_hosts_learn_whom_to_forget(links: Links, desk: Desk, tmp_path: Path) -> None:
    person = await loaded(links)
    await desk.erase(person, "command")
    elsewhere = Forgotten(tmp_path / "other" / "events", TOMBSTONES)
    assert not elsewhere.covers(person, NOW)
    assert await spread(links, elsewhere) == 1
    assert await spread(links, elsewhere) == 0
    assert elsewhere.covers(person, NOW)
    assert not elsewhere.covers("Z" * 16, NOW)


# Access and correction


async def test_a_copy_holds_everything_readably(links: Links, desk: Desk, state: Path) -> None:
    person = await loaded(
        links, segments={"basket": "-1h"}, first_seen=int(NOW) - 86400, orders=2,
        baskets={"shop": {"value_micros": 5, "updated": "-1h"}}, consent="C0",
        consent_time=int(NOW) - 50, consent_source="consent.example",
    )  # fmt: skip
    shown = Record(
        int(NOW), Kind.IMPRESSION, hash32("shop"), 2, 3, hash32("shop/a/b/c"), b"12345678"
    )
    await record(Scripts(links), person, shown, int(NOW), 1000)
    await logged(state, bid(person), bid("Z" * 16, 1))
    names = {hash32("shop"): "shop", hash32("shop/a/b/c"): "shop/a/b/c"}
    copy = json.loads(msgspec.json.encode(await desk.export("crm:C42", names, "ops")))
    assert {"source": "ifa", "value": "0f2c-ifa"} in copy["known_as"]
    assert copy["profile"]["orders"] == 2
    assert copy["profile"]["first_seen"].startswith("2026-11-")
    assert copy["profile"]["baskets"]["shop"]["updated"].endswith("Z")
    assert copy["consent"]["source"] == "consent.example"
    assert copy["ads"] == [
        {"time": "2026-11-18T11:06:40Z", "what": "impression", "channel": "display",
         "advertiser": "shop", "ad": "shop/a/b/c"}
    ]  # fmt: skip
    assert [line["person"] for line in copy["log"]] == [person]
    assert copy["forgotten_by_itself"]
    assert "Art. 77" in copy["about"]["rights"] or "authority (77)" in copy["about"]["rights"]


async def test_correcting(links: Links, desk: Desk) -> None:
    person = await loaded(links, orders=2, stage="active", segments={"a": "-1h"})
    patch = {
        "profile": {"orders": 1, "stage": None, "last_order": "-1d"},
        "remove": [["crm", "C42"]],
    }
    await desk.rectify(person, json.dumps(patch).encode(), "ops")
    profile = await profile_of(links, person)
    assert (profile.orders, profile.stage) == (1, "")
    assert profile.last_order == int(NOW) - 86400
    assert "a" in profile.segments
    with pytest.raises(NotFound):
        await desk.find("crm:C42")
    assert len((await desk.find(person)).identifiers) == 2


@pytest.mark.parametrize(
    "patch",
    [
        b"{",
        b"{}",
        b'{"profile": {"orders": -1}}',
        b'{"profile": {"no_such": 1}}',
        b'{"profile": {"no_such": null}}',
        b'{"profile": {"opted_out": false}}',
        b'{"remove": [["crm", "of-somebody-else"]]}',
        b'{"remove": [["crm", "C42"], ["ifa", "0f2c-ifa"], ["buyeruid.demo", "jo-cookie"]]}',
    ],
)
async def test_corrections_that_are_none(links: Links, desk: Desk, patch: bytes) -> None:
    person = await loaded(links, orders=2)
    with pytest.raises(BadPatch):
        await desk.rectify(person, patch, "ops")
    assert (await profile_of(links, person)).orders == 2


async def test_people_are_found_by_their_plain_names(links: Links, desk: Desk) -> None:
    person = await loaded(links)
    hashed = Pseudonyms([KEY]).of("email", "Jo@Example.com")[0]
    await links.bulk([("SET", keys.identifier(*hashed), person)])
    assert (await desk.find("email:jo@example.com")).person == person
    for nobody in ("email:ann@example.com", "email:", "x", "crm:C43", "crm:shop/C43"):
        with pytest.raises(NotFound):
            await desk.find(nobody)


# Objection, wishes


async def test_objecting_keeps_no_more_than_the_objection(
    links: Links, store: Client, desk: Desk
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
    consent=st.sampled_from(["", "C"]),
    consent_time=st.integers(0, 9),
    baskets=st.dictionaries(CODES, st.just(Basket(1, 2))),
)


@given(new=PROFILES, old=PROFILES)
def test_no_file_lifts_what_a_person_said(new: Profile, old: Profile) -> None:
    both = kept(new, old)
    assert both.opted_out >= old.opted_out
    assert both.fewer_ads >= old.fewer_ads
    assert both.paused_until >= old.paused_until
    assert both.consent_time == max(new.consent_time, old.consent_time)
    if old.withdrawn and both.consent_time <= old.withdrawn:
        assert both.withdrawn >= old.withdrawn
    if silent(both, 1e12):
        assert both == bare(both)
    else:
        assert not old.unwanted & both.interests.keys()
        assert old.wanted.keys() - old.unwanted <= both.interests.keys()


# Consent


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
    links: Links, store: Client, desk: Desk
) -> None:
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
    assert held.withdrawn
    assert not held.segments
    assert not proven(held, RULES, NOW)

    assert await desk.consent_seen(person, early, "shop.example", "ops") is Verdict.STALE
    late = tc(at=NOW - 100, purposes={1, 2, 3, 4, 7})
    assert await desk.consent_seen(person, late, "shop.example", "ops") is Verdict.GRANTED
    assert not (await profile_of(links, person)).withdrawn

    none = tc(at=NOW - 50, purposes=set())
    assert await desk.consent_seen(person, none, "shop.example", "ops") is Verdict.WITHDRAWN
    assert await store.exists(*keys.everything(person)) == 0


def test_strings_that_say_nothing() -> None:
    profile = Profile(consent="C", consent_time=int(NOW) - 9000, consent_source="shop.example")
    for string in ("", "nonsense", tc(at=NOW + 10 * 86400, purposes={1})):
        assert judge(profile, string, "shop.example", RULES, NOW)[0] is Verdict.INVALID
    refused = tc(at=NOW - 50, purposes={1, 2, 3, 4}, vendors=set())
    assert judge(profile, refused, "shop.example", RULES, NOW)[0] is Verdict.WITHDRAWN
    assert judge(Profile(), refused, "shop.example", RULES, NOW)[0] is Verdict.WITHDRAWN


# Codes and the audit log


async def test_a_code_opens_once(links: Links, store: Client, desk: Desk) -> None:
    person = await loaded(links)
    code = await desk.new_code("crm:C42", "ops")
    assert person.encode() not in b"".join(
        [await store.get(key) for key in await store.keys("o:*")]
    )
    assert await desk.redeem(code.lower().replace("-", " ")) == person
    for wrong in (code, "", "AAAA-AAAA-AAAA", "x" * 500):
        with pytest.raises(NotFound):
            await desk.redeem(wrong)


async def test_the_audit_log_names_nobody(links: Links, desk: Desk, state: Path) -> None:
    person = await loaded(links)
    await desk.export(person, {}, "person")
    await desk.rectify(person, b'{"profile": {"orders": 7}}', "ops")
    await desk.new_code(person, "ops")
    await desk.wish(person, Wish("object"), "command")
    reference = (await desk.erase(person, "person")).reference
    written = (state / "audit" / "rights.jsonl").read_text()
    acts = [json.loads(line) for line in written.splitlines()]
    assert [(act["action"], act["by"]) for act in acts] == [
        ("export", "person"), ("rectify", "ops"), ("code", "ops"), ("object", "command"),
        ("erase", "person"),
    ]  # fmt: skip
    assert acts[-1]["reference"] == reference
    assert len({act["reference"] for act in acts}) == 5
    for secret in (person, *SECRETS):
        assert secret not in written
