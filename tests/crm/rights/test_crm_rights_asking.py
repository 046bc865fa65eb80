"""Whoever asks gets their copy, their corrections and a code, and the audit log names nobody."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bidder.capping import Kind, Record, record
from bidder.crm import activity
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.rights import BadPatch, Desk, NotFound, Wish
from bidder.crm.rights.held import when
from bidder.crm.rights.rectifying import WORKED_OUT
from bidder.ids import hash32
from bidder.person import Profile
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.connect import Client
from bidder.store.links import Links

NOW = 1_795_000_000.0
"""November 2026."""
KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
SECRETS = ("jo-cookie", "0f2c-ifa", "C42", "order-77", "req-9")


async def test_a_copy_holds_everything_readably(
    links: Links, desk: Desk, state: Path, loaded: Any, bid: Any, logged: Any
) -> None:
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


async def test_correcting(links: Links, desk: Desk, loaded: Any, profile_of: Any) -> None:
    person = await loaded(links, orders=2, segments={"a": "-1h"})
    before = await profile_of(links, person)
    reported = [
        activity.record(int(NOW) - ago, activity.Kind.PURCHASE, 1, reference=ago)
        for ago in (50, 40, 30)
    ]
    await links.bulk([("SET", keys.activity(person), b"".join(reported), "EX", 900)])
    patch = {"forget": [when(NOW - 40)], "remove": [["crm", "C42"]]}
    await desk.rectify(person, json.dumps(patch).encode(), "ops")
    left, ttl = await links.bulk([("GET", keys.activity(person)), ("TTL", keys.activity(person))])
    assert left == reported[0] + reported[2], "and it is what every profile follows from"
    assert 0 < ttl <= 900
    assert await profile_of(links, person) == before
    with pytest.raises(NotFound):
        await desk.find("crm:C42")
    assert len((await desk.find(person)).identifiers) == 2


@pytest.mark.parametrize(
    "patch",
    [
        b"{",
        b"{}",
        b'{"profile": {"orders": 1}}',
        b'{"profile": {"withdrawn": null}}',
        b'{"profile": {"paused_until": null}}',
        b'{"profile": {"unwanted": null}}',
        b'{"forget": ["2026-05-01T00:00:00Z"]}',
        b'{"profile": {"no_such": 1}}',
        b'{"profile": {"no_such": null}}',
        b'{"profile": {"opted_out": false}}',
        b'{"remove": [["crm", "of-somebody-else"]]}',
        b'{"remove": [["crm", "C42"], ["ifa", "0f2c-ifa"], ["buyeruid.demo", "jo-cookie"]]}',
    ],
)
async def test_corrections_that_are_none(
    links: Links, desk: Desk, patch: bytes, loaded: Any, profile_of: Any
) -> None:
    person = await loaded(links, orders=2)
    with pytest.raises(BadPatch):
        await desk.rectify(person, patch, "ops")
    assert (await profile_of(links, person)).orders == 2


async def test_a_correction_that_would_not_last_says_what_to_correct_instead(
    links: Links, desk: Desk, loaded: Any
) -> None:
    person = await loaded(links, orders=2)
    with pytest.raises(BadPatch, match=r"last_order, orders: worked out.*`forget`"):
        await desk.rectify(person, b'{"profile": {"orders": 1, "last_order": null}}', "ops")


@pytest.mark.parametrize("field", sorted(set(Profile.__struct_fields__) - WORKED_OUT))
async def test_no_correction_lifts_what_a_person_said(
    links: Links, desk: Desk, loaded: Any, field: str
) -> None:
    person = await loaded(links)
    with pytest.raises(BadPatch, match="for the person to say"):
        await desk.rectify(person, json.dumps({"profile": {field: None}}).encode(), "ops")


async def test_people_are_found_by_their_plain_names(links: Links, desk: Desk, loaded: Any) -> None:
    person = await loaded(links)
    hashed = Pseudonyms([KEY]).of("email", "Jo@Example.com")[0]
    await links.bulk([("SET", keys.identifier(*hashed), person)])
    assert (await desk.find("email:jo@example.com")).person == person
    for nobody in ("email:ann@example.com", "email:", "x", "crm:C43", "crm:shop/C43"):
        with pytest.raises(NotFound):
            await desk.find(nobody)


async def test_a_code_opens_once(links: Links, store: Client, desk: Desk, loaded: Any) -> None:
    person = await loaded(links)
    code = await desk.new_code("crm:C42", "ops")
    assert person.encode() not in b"".join(
        [await store.get(key) for key in await store.keys("o:*")]
    )
    assert await desk.redeem(code.lower().replace("-", " ")) == person
    for wrong in (code, "", "AAAA-AAAA-AAAA", "x" * 500):
        with pytest.raises(NotFound):
            await desk.redeem(wrong)


async def test_the_audit_log_names_nobody(
    links: Links, desk: Desk, state: Path, loaded: Any
) -> None:
    person = await loaded(links)
    await desk.export(person, {}, "person")
    await desk.rectify(person, b'{"remove": [["ifa", "0f2c-ifa"]]}', "ops")
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
