"""The pages show a person what is theirs, change what they may change, and tell nobody else."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from string import Formatter
from urllib.parse import urlencode

import msgspec
import pytest

from bidder.campaigns.catalogue import Catalogue
from bidder.campaigns.loading import load as load_campaigns
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.rights import Desk
from bidder.crm.rights.desk import Lives
from bidder.notices.tokens import Audience, Sealed, Tokens
from bidder.people.loading import load
from bidder.person import Profile, silent
from bidder.privacy import Rules
from bidder.server.edge import Answer
from bidder.server.pages import MAX_BODY_BYTES, MOST_AT_ONCE, OUR_COOKIE, Pages, Visit
from bidder.server.pages_html import STYLE
from bidder.server.pages_session import Seals
from bidder.server.pages_why import kind_of
from bidder.server.pages_words import EN, FR, LANGUAGES, OFFERED, category, chosen
from bidder.settings import Rights
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Scripts
from bidder.store.links import Links
from bidder.tombstones import Tombstones

NOW = 1_795_000_000.0
KEY = bytes(range(32))
COOKIE = "jo-cookie-0123456789ab"
HEADERS = {"Accept-Language": "en", "Host": "bid.example", "Sec-Fetch-Site": "same-origin"}
CONFIG = Path(__file__).parents[2] / "config"


class Page(HTMLParser):
    """What a page says: its words, forms and fields, and what a reader of code would check."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.forms: dict[str, dict[str, list[str]]] = {}
        self._form: dict[str, list[str]] = {}
        self._in = ""
        self.feed(body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        self._in = tag
        if tag == "form":
            self._form = {}
        if tag == "input" and given.get("type") == "hidden":
            self._form.setdefault(str(given["name"]), []).append(str(given["value"]))
            if given["name"] == "act":
                self.forms[str(given["value"])] = self._form
        if tag == "input" and given.get("type") == "checkbox" and "checked" in given:
            self._form.setdefault(str(given["name"]), []).append(str(given["value"]))

    def handle_data(self, data: str) -> None:
        if self._in != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [given for name, given in self.tags if name == tag]


class Site:
    """The pages with a browser in front: it keeps the session's cookie."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.cookies: dict[str, str] = {}
        self.language = "en"

    async def visit(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        path, _, query = target.partition("?")
        carried = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {**HEADERS, "Cookie": carried, "Accept-Language": self.language, **headers}
        answer = await self.pages.answer(Visit(method, path, query, sent, body))
        if cookie := answer.headers.get("Set-Cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    async def get(self, target: str, **headers: str) -> Page:
        answer = await self.visit("GET", target, **headers)
        assert answer.status == 200
        return Page(answer.body)

    async def send(self, form: dict[str, list[str]], **headers: str) -> Answer:
        body = urlencode(form, doseq=True).encode()
        return await self.visit("POST", "/me", body, **headers)

    async def ask(self, act: str, **fields: list[str]) -> Page:
        """Fill in the form of this page that asks for `act`, and follow to what comes."""
        form = (await self.get("/me")).forms[act]
        answer = await self.send({**form, **fields})
        assert answer.status == 303, answer
        return await self.get(answer.headers["Location"])


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_campaigns(CONFIG / "campaigns", now=datetime.fromtimestamp(NOW, UTC))[0]


@pytest.fixture
async def desk(links: Links, tmp_path: Path) -> Desk:
    async def at_once(_: float) -> None: ...

    return Desk(
        links,
        Scripts(links),
        Tombstones([KEY]),
        tmp_path / "state",
        Lives(tombstone=1000, profile=5000, code=3600),
        Rules(vendor_id=1234),
        Random(4),
        lambda: NOW,
        pseudonyms=Pseudonyms([KEY]),
        pause=at_once,
    )


@pytest.fixture
def tokens() -> Tokens:
    return Tokens({0: KEY}, current=0)


@pytest.fixture
async def site(desk: Desk, tokens: Tokens, catalogue: Catalogue) -> Site:
    return Site(pages(desk, tokens, catalogue))


def pages(
    desk: Desk,
    tokens: Tokens,
    catalogue: Catalogue,
    busy: str = "",
    base: str = "https://bid.example",
) -> Pages:
    rights = Rights(company="Bid & Co", contact="dpo@bid.example")
    return Pages(
        desk, tokens, Seals([KEY]), lambda: catalogue, rights, base, lambda: busy, lambda: NOW
    )


@pytest.fixture
async def jo(links: Links) -> str:
    """Somebody with a basket, known by our cookie; their id."""
    source, hashed = Pseudonyms([KEY]).of("cookie", COOKIE)[0]
    line = {
        "ids": [["buyeruid.demo", "jo"], [source, hashed]],
        "profile": {
            "segments": {"basket": "-1h", "buyer": "-90d"},
            "interests": {"IAB9-11": "-1d", "IAB7": "-1d"},
            "orders": 2,
            "spent_micros": 1_234_560_000,
            "last_visit": "-2d",
            "stage": "active",
            "baskets": {"maison-lumen": {"value_micros": 99_000_000, "updated": "-1h"}},
        },
    }
    await load(links, [json.dumps(line).encode()], NOW, Random(9), ttl_seconds=5000)
    (raw,) = await links.bulk([("GET", keys.identifier("buyeruid.demo", "jo"))])
    assert raw is not None
    return str(raw.decode())


async def profile_of(links: Links, person: str) -> Profile:
    (raw,) = await links.bulk([("GET", keys.profile(person))])
    return msgspec.msgpack.decode(raw, type=Profile)


def why(tokens: Tokens, catalogue: Catalogue, path: str, person: str = "") -> str:
    """The address in an ad of this line item, shown to `person`."""
    item = next(item for item in catalogue.line_items if item.path == path)
    sealed = Sealed(
        bid_id=int(NOW).to_bytes(4, "big") + b"12345678",
        exchange=1,
        advertiser=item.campaign.advertiser.id32,
        campaign=item.campaign.id32,
        line_item=item.id32,
        creative=item.creatives[0].id32,
        bid_cpm_micros=1_000_000,
        currency="EUR",
        account_currency="EUR",
        rate=1.0,
        holder="w0",
        day=20_000,
        hold_seconds=60,
        person=person,
        url="https://maison-lumen.example/basket",
    )
    return f"/why?t={tokens.seal(sealed, Audience.BROWSER)}"


BASKET, OPEN = "maison-lumen/basket-left/fresh", "maison-lumen/run-of-network/everyone"


# Why this ad


async def test_strangers_see_the_same_whoever_the_ad_was_for(
    site: Site, tokens: Tokens, catalogue: Catalogue, jo: str
) -> None:
    seen = []
    for person in (jo, "", "A" * 16):
        address = why(tokens, catalogue, BASKET, person)
        page = await site.get(address)
        token = address.partition("=")[2]
        seen.append(re.sub(r"\s+", " ", page.text))
        body = (await site.visit("GET", address)).body.decode()
        assert jo not in body.replace(token, "")
    assert len(set(seen)) == 1
    assert "Maison Lumen (maison-lumen.example)" in seen[0]
    assert "to people who have had to do with it before" in seen[0]
    assert "left something in a basket" not in seen[0]


async def test_its_own_person_is_told_the_kind_of_reason(
    site: Site, tokens: Tokens, catalogue: Catalogue, jo: str
) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    page = await site.get(why(tokens, catalogue, BASKET, jo))
    assert "those who left something in a basket" in page.text
    assert "99" not in page.text
    other = await site.get(why(tokens, catalogue, BASKET, "A" * 16))
    assert "those who left something in a basket" not in other.text


async def test_an_ad_for_anybody_says_so(
    site: Site, tokens: Tokens, catalogue: Catalogue, jo: str
) -> None:
    site.language = "fr-FR,fr;q=0.9"
    page = await site.get(why(tokens, catalogue, OPEN, jo))
    assert "choisie pour l’endroit" in page.text
    assert page.all("html") == [{"lang": "fr"}]


@pytest.mark.parametrize("token", ["", "x", "A" * 200, "%00"])
async def test_links_that_are_not_ours(site: Site, token: str) -> None:
    answer = await site.visit("GET", f"/why?t={token}")
    assert answer.status == 400
    assert "not one of ours" in Page(answer.body).text


async def test_an_ad_of_a_campaign_that_is_gone(
    site: Site, tokens: Tokens, catalogue: Catalogue
) -> None:
    address = why(tokens, catalogue, BASKET)
    site.pages = pages(site.pages._desk, tokens, Catalogue("", (), (), (), {}))
    assert "had to do with it before" in (await site.get(address)).text


@pytest.mark.parametrize(
    ("segment", "kind"),
    [
        ("basket-abandoned", "basket"), ("first-time-visitor", "visit"), ("won-back", "purchase"),
        ("store-visitor", "store"), ("email-inactive", "contact"), ("lookalike-3", "alike"),
        ("churn-risk", "purchase"), ("x", "other"),
    ],
)  # fmt: skip
def test_what_segments_are_about(segment: str, kind: str) -> None:
    assert kind_of(segment) == kind


# My data


async def test_nobody_sees_anything_without_cookie_or_code(site: Site, jo: str) -> None:
    for cookies in ({}, {OUR_COOKIE: "another-cookie-0123456"}, {"__Host-me": "forged"}):
        site.cookies = dict(cookies)
        page = await site.get("/me")
        assert "We do not know this browser" in page.text
        assert set(page.forms) == {"code"}


async def test_the_own_cookie_shows_what_is_known(site: Site, jo: str) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    page = await site.get("/me")
    assert "1,234.56" in page.text
    assert "99.00" in page.text
    assert "a customer" in page.text
    assert "16 November 2026" in page.text
    assert jo not in page.text
    ticked = {given["value"] for given in page.all("input") if "checked" in given}
    assert ticked == {"IAB9", "IAB7"}  # what is held can be taken off, also what is not offered
    assert not {"IAB7", "IAB11", "IAB14", "IAB23"} & set(OFFERED)


async def test_a_code_opens_the_page_once(site: Site, desk: Desk, jo: str) -> None:
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


async def test_interests_and_fewer_ads(site: Site, links: Links, jo: str) -> None:
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


async def test_pausing_objecting_and_coming_back(site: Site, links: Links, jo: str) -> None:
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


async def test_a_copy(site: Site, jo: str) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    form = (await site.get("/me")).forms["export"]
    answer = await site.send(form)
    assert answer.status == 200
    assert answer.headers["Content-Disposition"] == 'attachment; filename="my-data.json"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(answer.body)["person"] == jo


async def test_erasing_needs_the_tick(site: Site, links: Links, jo: str) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    page = await site.ask("erase")
    assert "Nothing was erased" in page.text
    form = (await site.get("/me")).forms["erase"]
    answer = await site.send({**form, "sure": ["yes"]})
    assert answer.status == 200
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert "We have deleted what we knew of you" in Page(answer.body).text
    assert await links.bulk([("EXISTS", key) for key in keys.everything(jo)]) == [0] * 6
    assert "We do not know this browser" in (await site.get("/me")).text


# Who may change anything


async def test_forms_from_elsewhere_change_nothing(site: Site, links: Links, jo: str) -> None:
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


async def test_a_form_of_one_session_does_not_work_in_another(site: Site, jo: str) -> None:
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
async def test_headers(site: Site, jo: str, target: str) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    answer = await site.visit("GET", target)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    page = Page(answer.body)
    assert not page.all("script")
    assert not [given for _, given in page.tags if "style" in given or "onclick" in given]
    assert STYLE in answer.body.decode()


async def test_other_methods(site: Site) -> None:
    assert (await site.visit("POST", "/why")).status == 405
    assert (await site.visit("PUT", "/me")).status == 405


async def test_a_busy_worker_and_a_lost_store(
    site: Site, desk: Desk, tokens: Tokens, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Site(pages(desk, tokens, catalogue, busy="loop_lag"))
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


# Words, and everybody can read them


def test_both_languages_say_the_same() -> None:
    assert EN.keys() == FR.keys()
    for key, sentence in EN.items():
        names = [
            {name for _, name, _, _ in Formatter().parse(text) if name}
            for text in (sentence, FR[key])
        ]
        assert names[0] == names[1], key
    for language in LANGUAGES:
        assert all(category(code, language) != code for code in OFFERED)


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"), ("fr", "fr"), ("fr-CA,en;q=0.8", "fr"), ("de,fr;q=0.5,en;q=0.4", "fr"),
        ("de", "en"), ("fr;q=0,en;q=0.1", "en"), ("*", "en"), ("fr;q=x", "en"), (";;,,=", "en"),
    ],
)  # fmt: skip
def test_the_language_asked_for(accept: str, language: str) -> None:
    assert chosen(accept) == language


@pytest.mark.parametrize("language", ["en", "fr"])
async def test_accessible(site: Site, jo: str, language: str) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    page = await site.get(f"/me?lang={language}")
    assert page.all("html") == [{"lang": language}]
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1
    ids = [given["id"] for _, given in page.tags if "id" in given]
    assert len(ids) == len(set(ids))
    for given in page.all("section"):
        assert given["aria-labelledby"] in ids
    for given in page.all("label"):
        assert given.get("for") in ids or given.get("class") == "tick"
    assert {given["lang"] for given in page.all("a") if "hreflang" in given} == {"en", "fr"} - {
        language
    }
    stranger = Page((await Site(site.pages).visit("GET", "/me")).body)
    (code,) = [given for given in stranger.all("input") if given.get("type") == "text"]
    assert code["id"] in {given.get("for") for given in stranger.all("label")}


def test_contrast() -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text, in the light and in the dark."""
    for block in re.findall(r":root\{([^}]*)\}", STYLE):
        colours = dict(re.findall(r"--([\w-]+):(#[0-9a-f]{3,6})", block.replace("\n", "")))
        for front, back in (
            ("text", "page"), ("text", "card"), ("soft", "page"), ("soft", "card"),
            ("main", "card"), ("main", "page"), ("on-main", "main"), ("bad-line", "card"),
            ("text", "good"), ("text", "bad"),
        ):  # fmt: skip
            assert contrast(colours[front], colours[back]) >= 4.5, (front, back)


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(sign * 2 for sign in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


async def test_names_are_escaped_wherever_they_stand(site: Site, links: Links, jo: str) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    nasty = "<script>alert(1)</script>"
    profile = Profile(
        segments={nasty: 5}, stage=nasty, interests={nasty: 5}, fewer_ads=frozenset({nasty}),
        consent="C", consent_source=nasty, consent_time=5,
    )  # fmt: skip
    await links.bulk([("SET", keys.profile(jo), msgspec.msgpack.encode(profile), "EX", 99)])
    answer = await site.visit("GET", "/me")
    assert not Page(answer.body).all("script")
    assert b"<script" not in answer.body.lower()
    answer = await site.visit("GET", '/me?lang="><script>&done=<script>')
    assert b"<script" not in answer.body.lower()


# In a browser


@pytest.mark.parametrize(("language", "size"), [("en", "1100,900"), ("fr", "390,844")])
async def test_a_browser_draws_it(
    site: Site, jo: str, tmp_path: Path, language: str, size: str
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium here: the pages are not drawn")
    site.cookies[OUR_COOKIE] = COOKIE
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    page.write_bytes((await site.visit("GET", f"/me?lang={language}")).body)
    draw(chromium, page, shot, size, tmp_path / "profile")
    header = shot.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20], "big") == int(size.partition(",")[0])
    assert shot.stat().st_size > 10_000  # an empty page is far smaller


def draw(chromium: str, page: Path, shot: Path, size: str, profile: Path) -> None:
    subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={profile}", f"--screenshot={shot}",
            f"--window-size={size}", page.as_uri(),
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
