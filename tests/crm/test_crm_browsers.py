"""Browsers: permission first, then a cookie, and nothing that a page could make up."""

from collections.abc import Callable, Mapping
from random import Random
from urllib.parse import parse_qsl, urlsplit

import pytest

from bidder.crm.activity import Kind, opened
from bidder.crm.browsers import (
    COOKIE,
    Partner,
    Told,
    cookie_header,
    cookie_in,
    new_cookie,
    signature,
    sync,
    visit,
)
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.writing import Writer
from bidder.people.showing import Held, find
from bidder.privacy import ALL, NONE, Permission, Rules
from bidder.server.visiting import Visiting, decode, takes
from bidder.store import keys
from bidder.store.links import Links
from bidder.tombstones import Tombstones

NOW, KEY = 1_795_000_000, b"l" * 32
SHOP, SHOPS = "maison-lumen", {"maison-lumen": "maison-lumen.example"}
PAGE = "https://www.maison-lumen.example/"
SYNC_TO = Partner(redirect="https://sync.example/match?partner=7&uid={id}")


@pytest.fixture
def visited(pseudonyms: Pseudonyms):  # type: ignore[no-untyped-def]
    def call(
        query: Mapping[str, str], cookie: str = "", allowed: Permission = ALL, page: str = PAGE
    ) -> Told:
        given = {"a": SHOP, **query}
        return visit(given, cookie, allowed, pseudonyms, SHOPS, KEY, Random(1), NOW, page)

    return call


def test_a_visit_becomes_a_record_of_the_cookies_owner(visited, pseudonyms) -> None:  # type: ignore[no-untyped-def]
    told = visited({"e": "basket", "v": "12.5", "n": "2", "c": "Suspensions"})
    assert told.status == 200
    assert told.change.ids == tuple(pseudonyms.of("cookie", told.cookie))
    row = opened(told.change.records)[0]
    assert (row["kind"], row["value"], row["count"]) == (Kind.BASKET, 12_500_000, 2)
    assert told.cookie not in repr(told.change), "only its hash is stored"
    again = visited({"e": "page"}, cookie=told.cookie)
    assert not again.cookie
    assert again.change.ids == told.change.ids


@pytest.mark.parametrize(
    "allowed",
    [
        NONE,
        Permission(True, True, False, True, True, True, ""),
        Permission(True, False, True, True, True, True, "purpose"),
        Permission(False, True, True, True, True, True, ""),
    ],
)
def test_without_permission_there_is_neither_cookie_nor_change(visited, allowed) -> None:  # type: ignore[no-untyped-def]
    assert visited({"e": "page"}, allowed=allowed) == Told(204)
    assert visited({"e": "page"}, cookie="c" * 22, allowed=allowed) == Told(204)


@pytest.mark.parametrize(
    "query", [{"a": "other"}, {"e": "dance"}, {"v": "much"}, {"v": "-1"}, {"v": "nan"}, {"n": "x"}]
)
def test_nonsense_is_refused(visited, query) -> None:  # type: ignore[no-untyped-def]
    assert visited({"e": "basket", **query}).status == 400


def test_only_the_advertisers_server_can_say_who_has_logged_in(visited, pseudonyms) -> None:  # type: ignore[no-untyped-def]
    (customer,) = pseudonyms.of("crm", "C-1", SHOP)
    until = NOW + 600
    good = signature(KEY, SHOP, "crm", "C-1", until)
    signed = {"crm": "C-1", "until": str(until), "sig": good}
    assert customer in visited(signed).change.ids
    for wrong in (
        {"crm": "C-1"},
        signed | {"crm": "C-2"},
        signed | {"sig": "0" * 64},
        signed | {"until": str(NOW - 1)},
        {"crm": "C-1", "until": str(NOW + 900_000),
         "sig": signature(KEY, SHOP, "crm", "C-1", NOW + 900_000)},
    ):  # fmt: skip
        assert len(visited(wrong).change.ids) == 1


@pytest.mark.parametrize(
    "page",
    ["", "https://evil.example/", "https://maison-lumen.example.evil.example/",
     "https://notmaison-lumen.example/", "https://[", "maison-lumen.example"],
)  # fmt: skip
def test_no_other_page_can_log_its_visitors_in(visited, pseudonyms, page: str) -> None:  # type: ignore[no-untyped-def]
    (customer,) = pseudonyms.of("crm", "C-1", SHOP)
    until = NOW + 600
    signed = {"crm": "C-1", "until": str(until), "sig": signature(KEY, SHOP, "crm", "C-1", until)}
    told = visited(signed, page=page)
    assert (told.status, len(told.change.ids)) == (200, 1), "a visit, and nobody's in particular"
    for ours in ("https://maison-lumen.example", "https://shop.maison-lumen.example/a?b"):
        assert customer in visited(signed, page=ours).change.ids


def test_a_cookie_is_taken_only_if_it_can_be_ours() -> None:
    value = new_cookie(Random(1))
    assert cookie_in(f"a=b; {COOKIE}={value}; c=d") == value
    for header in ("", "bidder_id=short", f"{COOKIE}={value}x", f"{COOKIE}={'%' * 22}"):
        assert cookie_in(header) == ""
    set_to = cookie_header(value)
    assert {"Secure", "HttpOnly", "SameSite=None"} <= set(set_to.split("; "))


def test_a_sync_goes_on_with_our_id_and_the_consent(pseudonyms: Pseudonyms) -> None:
    query = {"gdpr": "1", "gdpr_consent": "CP+/=x", "gpp": "DB", "gpp_sid": "7", "other": "no"}
    told = sync("demo", SYNC_TO, query, "", ALL, pseudonyms, Random(1), NOW)
    assert told.status == 302
    where = urlsplit(told.location)
    assert where.netloc == "sync.example"
    passed = dict(parse_qsl(where.query))
    ours = passed.pop("uid")
    assert passed == {"partner": "7", **{k: v for k, v in query.items() if k != "other"}}
    assert told.change is not None
    assert ("buyeruid.demo", ours) in told.change.claimed
    assert ours != told.cookie
    assert told.change.told is not None
    assert told.change.told.consent == "CP+/=x"
    same = sync("demo", SYNC_TO, query, told.cookie, ALL, pseudonyms, Random(2), NOW)
    assert same.location == told.location
    other = sync("else", SYNC_TO, query, told.cookie, ALL, pseudonyms, Random(2), NOW)
    assert other.location != told.location, "exchanges cannot compare what we call a browser"


def test_the_chain_ends_where_the_exchange_says_who_it_is(pseudonyms: Pseudonyms) -> None:
    told = sync("demo", SYNC_TO, {"uid": "abc"}, "", ALL, pseudonyms, Random(1), NOW)
    assert told.status == 200
    assert told.change is not None
    assert ("buyeruid.demo", "abc") in told.change.claimed
    assert sync("demo", SYNC_TO, {"uid": "a\n"}, "", ALL, pseudonyms, Random(1), NOW).status == 400
    refused = Permission(True, False, True, True, True, True, "purpose")
    for allowed in (NONE, refused):
        answer = sync("demo", SYNC_TO, {"uid": "abc"}, "", allowed, pseudonyms, Random(1), NOW)
        assert answer == Told(204)


@pytest.fixture
async def synced(  # type: ignore[no-untyped-def]
    links: Links, writer_on: Callable[..., Writer], pseudonyms: Pseudonyms
):
    """Writes one sync; the person behind its cookie, and the cookie."""
    writer, random = writer_on(links), Random(5)

    async def call(uid: str, cookie: str = "", names: Pseudonyms = pseudonyms) -> tuple[Held, str]:
        told = sync("demo", SYNC_TO, {"uid": uid}, cookie, ALL, names, random, NOW)
        await writer.write([told.change], NOW)
        cookie = cookie or told.cookie
        found = await find(links, ":".join(names.of("cookie", cookie)[0]))
        assert found is not None
        return found, cookie

    return call


async def test_a_page_cannot_make_its_visitors_one_with_who_wrote_it(  # type: ignore[no-untyped-def]
    links: Links, writer_on: Callable[..., Writer], pseudonyms: Pseudonyms, synced, visited
) -> None:
    attacker, theirs = await synced("A")
    until = NOW + 600
    login = {"crm": "C-1", "until": str(until), "sig": signature(KEY, SHOP, "crm", "C-1", until)}
    visitor, stranger = new_cookie(Random(2)), new_cookie(Random(3))
    bought = visited({"e": "purchase", "v": "20", **login}, cookie=visitor)
    looked = visited({"e": "page"}, cookie=stranger)
    await writer_on(links).write([bought.change, looked.change], NOW)
    for cookie in (visitor, stranger):
        found, _ = await synced("A", cookie)
        assert found.id != attacker.id
        assert ("buyeruid.demo", "A") not in found.identifiers
    again, _ = await synced("A", theirs)
    assert (again.id, again.profile.orders) == (attacker.id, 0)
    named = await find(links, "buyeruid.demo:A")
    assert named is not None
    assert named.id == attacker.id, "it stays whose it was: nobody else's bids are made of it"


async def test_knowing_what_an_exchange_calls_somebody_leads_to_nobody(synced) -> None:  # type: ignore[no-untyped-def]
    victim, _ = await synced("V")
    other, cookie = await synced("V")
    assert other.id != victim.id
    assert (await synced("V", cookie))[0].id == other.id
    assert ("buyeruid.demo", "V") not in other.identifiers


async def test_a_name_of_our_own_that_somebody_else_claimed_joins_nobody(  # type: ignore[no-untyped-def]
    pseudonyms: Pseudonyms, synced
) -> None:
    cookie = new_cookie(Random(8))
    thief, _ = await synced(pseudonyms.partner(cookie, "demo"))
    victim, _ = await synced("V", cookie)
    assert victim.id != thief.id


async def test_a_name_of_somebody_erased_is_not_claimed(links: Links, synced) -> None:  # type: ignore[no-untyped-def]
    (mark,) = Tombstones([b"t" * 32]).of_identifier("buyeruid.demo", "E")
    await links.bulk([("SET", keys.tombstone(mark), "1")])
    found, _ = await synced("E")
    assert [source for source, _ in found.identifiers] == ["cookie", "buyeruid.demo"], "our own"
    assert await find(links, "buyeruid.demo:E") is None


async def test_a_sync_finds_its_cookie_while_keys_rotate(synced) -> None:  # type: ignore[no-untyped-def]
    before, cookie = await synced("B")
    after, _ = await synced("B", cookie, Pseudonyms([b"n" * 32, b"k" * 32]))
    assert after.id == before.id
    assert ("buyeruid.demo", "B") in after.identifiers


class Recording:
    """Links that write down every command, and do none."""

    def __init__(self) -> None:
        self.commands: list[tuple[object, ...]] = []

    async def bulk(self, commands: list[tuple[object, ...]]) -> list[None]:
        self.commands += commands
        return [None] * len(commands)


CALLS = [
    "gdpr=1",
    "",
    "gdpr=1&gdpr_consent=nonsense",
    "gdpr=0&us_privacy=1YYN",
    "gdpr=0&gpp_sid=7&gpp=broken",
    "gdpr=${GDPR}&gdpr_consent=${GDPR_CONSENT_1234}",
]


@pytest.mark.parametrize("consent", CALLS)
async def test_the_store_is_not_even_asked_without_permission(
    pseudonyms: Pseudonyms, consent: str
) -> None:
    links = Recording()
    visiting = Visiting(
        links, "host", pseudonyms, Rules(vendor_id=1234), {"demo": SYNC_TO}, lambda: SHOPS,
        KEY, Random(1), lambda: NOW,
    )  # fmt: skip  # type: ignore[arg-type]
    query = dict(parse_qsl(consent))
    headers = {"Cookie": f"{COOKIE}={'c' * 22}"}
    for path in ("/track/visit", "/sync/demo"):
        answer = visiting.answer(path, {"a": SHOP, "uid": "x", **query}, headers)
        assert answer.status == 204
        assert "Set-Cookie" not in answer.headers
    allowed = {"a": SHOP, "gdpr": "0"}
    assert visiting.answer("/track/visit", allowed, {"Sec-GPC": "1"}).status == 204
    await visiting.flush()
    assert links.commands == []
    assert visiting.answer("/track/visit", allowed, {}).status == 200
    await visiting.flush()
    (push, _) = links.commands
    assert push[:2] == ("RPUSH", "inbox:host")
    assert decode(push[2]).ids[0][0] == "cookie"  # type: ignore[arg-type]
    assert visiting.answer("/sync/unknown", allowed, {}).status == 404
    assert takes("/sync/demo")
    assert not takes("/track/click")
