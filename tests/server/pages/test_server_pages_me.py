"""`/me`: what is known is shown to its owner alone, and does what they ask."""

import json
from typing import Any

import pytest

from bidder.campaigns.catalogue import Catalogue
from bidder.crm.activity import Kind, record
from bidder.crm.rights import Desk
from bidder.ids import hash32
from bidder.notices.tokens import Tokens
from bidder.person import Profile, silent
from bidder.server.pages import MAX_BODY_BYTES, MOST_AT_ONCE, OUR_COOKIE
from bidder.server.pages_html import STYLE
from bidder.server.pages_session import Seals
from bidder.server.pages_words import OFFERED
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.links import Links

NOW = 1_795_000_000.0
KEY = bytes(range(32))
COOKIE = "jo-cookie-0123456789ab"


async def test_nobody_sees_anything_without_cookie_or_code(site: Any, jo: str) -> None:
    for cookies in ({}, {OUR_COOKIE: "another-cookie-0123456"}, {"__Host-me": "forged"}):
        site.cookies = dict(cookies)
        page = await site.get("/me")
        assert "We do not know this browser" in page.text
        assert set(page.forms) == {"code"}


async def test_the_own_cookie_shows_what_is_known(site: Any, jo: str) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    page = await site.get("/me")
    assert "1,234.56" in page.text
    assert "1 product, 99.00\u00a0EUR" in page.text
    assert "a customer" in page.text
    assert "16 November 2026" in page.text
    assert jo not in page.text
    ticked = {given["value"] for given in page.all("input") if "checked" in given}
    assert ticked == {"IAB9", "IAB7"}  # what is held can be taken off, also what is not offered
    assert not {"IAB7", "IAB11", "IAB14", "IAB23"} & set(OFFERED)


async def test_spending_is_told_in_the_currency_of_each_company(
    site: Any, links: Links, jo: str
) -> None:
    def sold(kind: Kind, advertiser: str, value: int) -> bytes:
        return record(int(NOW), kind, hash32(advertiser), value_micros=value * 1_000_000)

    lumen = sold(Kind.PURCHASE, "maison-lumen", 40) + sold(Kind.REFUND, "maison-lumen", 10)
    site.cookies[OUR_COOKIE] = COOKIE
    await links.bulk([("SET", keys.activity(jo), lumen)])
    assert "Spent in all30.00\u00a0EUR" in (await site.get("/me")).text
    both = lumen + sold(Kind.STORE_PURCHASE, "harbor-books", 25)
    await links.bulk([("SET", keys.activity(jo), both)])
    page = await site.get("/me")
    assert "30.00\u00a0EUR" in page.text
    assert "25.00\u00a0USD" in page.text
    assert "1,234.56" not in page.text
    more_back = lumen + sold(Kind.REFUND, "harbor-books", 20)  # what it is for is not held any more
    await links.bulk([("SET", keys.activity(jo), more_back)])
    page = await site.get("/me")
    assert "Spent in all30.00\u00a0EUR" in page.text
    assert "USD" not in page.text


async def test_a_code_opens_the_page_once(site: Any, desk: Desk, jo: str) -> None:
    code = await desk.new_code("buyeruid.demo:jo", "ops")
    form = (await site.get("/me")).forms["code"]
    answer = await site.send({**form, "code": [code.lower()]})
    assert answer.headers["Location"] == "/me?lang=en"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-me=")
    for flag in ("HttpOnly", "SameSite=Strict", "Secure", "Path=/", "Max-Age=3600"):
        assert flag in cookie
    assert jo not in cookie
    assert "erase" in (await site.get("/me")).forms
    site.cookies = {}
    again = await site.send({**(await site.get("/me")).forms["code"], "code": [code]})
    assert "done=code" in again.headers["Location"]
    assert "not known" in (await site.get(again.headers["Location"])).text


async def test_interests_and_fewer_ads(site: Any, links: Links, jo: str, profile_of: Any) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    page = await site.ask("interests", interest=["IAB9", "IAB10", "IAB666", "<b>"])
    assert "Your interests are saved." in page.text
    held = await profile_of(links, jo)
    assert set(held.interests) == {"IAB9-11", "IAB9", "IAB10"}
    assert held.unwanted >= {"IAB7"}
    await site.ask("fewer", advertiser=["maison-lumen", "no-such"])
    assert (await profile_of(links, jo)).fewer_ads == frozenset({"maison-lumen"})
    form = (await site.get("/me")).forms["fewer"]
    await site.send({name: values for name, values in form.items() if name != "advertiser"})
    assert (await profile_of(links, jo)).fewer_ads == frozenset()


async def test_pausing_objecting_and_coming_back(
    site: Any, links: Links, jo: str, profile_of: Any
) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    page = await site.ask("pause", days=["30"])
    assert "Paused until 18 December 2026" in page.text
    assert silent(await profile_of(links, jo), NOW + 29 * 86400)
    await site.ask("resume")
    assert not silent(await profile_of(links, jo), NOW)
    page = await site.ask("object")
    assert "Off: you objected" in page.text
    assert await profile_of(links, jo) == Profile(opted_out=True)
    assert "interests" not in page.forms
    await site.ask("allow")
    assert await profile_of(links, jo) == Profile()


async def test_a_copy(site: Any, jo: str) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    form = (await site.get("/me")).forms["export"]
    answer = await site.send(form)
    assert answer.status == 200
    assert answer.headers["Content-Disposition"] == 'attachment; filename="my-data.json"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(answer.body)["person"] == jo


async def test_erasing_needs_the_tick(site: Any, links: Links, jo: str, parsed: Any) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    page = await site.ask("erase")
    assert "Nothing was erased" in page.text
    form = (await site.get("/me")).forms["erase"]
    answer = await site.send({**form, "sure": ["yes"]})
    assert answer.status == 200
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert "We have deleted what we knew of you" in parsed(answer.body).text
    assert await links.bulk([("EXISTS", key) for key in keys.everything(jo)]) == [0] * 6
    assert "We do not know this browser" in (await site.get("/me")).text


async def test_forms_from_elsewhere_change_nothing(
    site: Any, links: Links, jo: str, profile_of: Any
) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    form = (await site.get("/me")).forms["object"]
    mine = dict(site.cookies)
    attempts: list[tuple[dict[str, list[str]], dict[str, str], dict[str, str]]] = [
        (form, mine, {"Sec-Fetch-Site": "cross-site"}),
        (form, mine, {"Origin": "https://evil.example"}),
        (form, mine, {"Origin": "null"}),
        ({**form, "token": ["forged"]}, mine, {}),
        ({**form, "token": []}, mine, {}),
        (form, {OUR_COOKIE: COOKIE}, {}),  # as a cross-site POST comes: without our strict cookie
        ({**form, "act": ["no-such"]}, mine, {}),
    ]
    for fields, cookies, headers in attempts:
        site.cookies = dict(cookies)
        answer = await site.send(fields, **headers)
        assert "done=expired" in answer.headers["Location"], (fields, headers)
    answer = await site.visit("POST", "/me", b"x" * (MAX_BODY_BYTES + 1))
    assert "done=expired" in answer.headers["Location"]
    assert not (await profile_of(links, jo)).opted_out
    site.cookies = mine
    assert (await site.send(form)).headers["Location"] == "/me?lang=en&done=object"


async def test_a_form_of_one_session_does_not_work_in_another(site: Any, jo: str) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    form = (await site.get("/me")).forms["object"]
    site.cookies = {OUR_COOKIE: COOKIE}
    await site.get("/me")
    assert "done=expired" in (await site.send(form)).headers["Location"]


def test_sessions_end() -> None:
    seals = Seals([KEY])
    session, value = seals.session("A" * 16, NOW + 10)
    assert seals.opened(value, NOW) == session
    assert seals.opened(value, NOW + 10) is None
    assert Seals([bytes(32), KEY]).opened(value, NOW) == session
    assert Seals([bytes(32)]).opened(value, NOW) is None
    assert seals.opened(seals.form(session, NOW), NOW) is None  # a form's token is no session
    for nonsense in ("", "é", "A", "A" * 40):
        assert seals.opened(nonsense, NOW) is None


@pytest.mark.parametrize("target", ["/why", "/me"])
async def test_headers(site: Any, jo: str, target: str, parsed: Any) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    answer = await site.visit("GET", target)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    page = parsed(answer.body)
    assert not page.all("script")
    assert not [given for _, given in page.tags if "style" in given or "onclick" in given]
    assert STYLE in answer.body.decode()


async def test_other_methods(site: Any) -> None:
    assert (await site.visit("POST", "/why")).status == 405
    assert (await site.visit("PUT", "/me")).status == 405


async def test_a_busy_worker_and_a_lost_store(
    site: Any,
    desk: Desk,
    tokens: Tokens,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
    pages: Any,
    visiting: Any,
) -> None:
    busy = visiting(pages(desk, tokens, catalogue, busy="loop_lag"))
    answer = await busy.visit("GET", "/me")
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    site.pages._under_way = MOST_AT_ONCE
    assert (await site.visit("GET", "/me")).status == 503
    site.pages._under_way = 0

    async def lost(_: str) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(desk, "find", lost)
    site.cookies[OUR_COOKIE] = COOKIE
    assert (await site.visit("GET", "/me")).status == 503
    assert site.pages._under_way == 0
