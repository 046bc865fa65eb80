"""A site with the pages on it, and somebody whom it knows."""

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any
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
from bidder.person import Profile
from bidder.privacy import Rules
from bidder.server.edge import Answer
from bidder.server.pages import Pages, Visit
from bidder.server.pages_session import Seals
from bidder.settings import Rights
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.links import Links
from bidder.tombstones import Tombstones

NOW = 1_795_000_000.0
KEY = bytes(range(32))
COOKIE = "jo-cookie-0123456789ab"
HEADERS = {"Accept-Language": "en", "Host": "bid.example", "Sec-Fetch-Site": "same-origin"}
CONFIG = Path(__file__).parents[3] / "config"


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
    return Site(_pages(desk, tokens, catalogue))


def _pages(
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
    await load(links, [json.dumps(line).encode()], NOW, Random(9))
    (raw,) = await links.bulk([("GET", keys.identifier("buyeruid.demo", "jo"))])
    assert raw is not None
    return str(raw.decode())


async def _profile_of(links: Links, person: str) -> Profile:
    (raw,) = await links.bulk([("GET", keys.profile(person))])
    return msgspec.msgpack.decode(raw, type=Profile)


def _why(tokens: Tokens, catalogue: Catalogue, path: str, person: str = "") -> str:
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


@pytest.fixture(scope="session")
def pages() -> Any:
    """Makes the pages of a site, which may be busy."""
    return _pages


@pytest.fixture(scope="session")
def profile_of() -> Any:
    """A person's profile in the store."""
    return _profile_of


@pytest.fixture(scope="session")
def why() -> Any:
    """Makes the link of an ad."""
    return _why


@pytest.fixture(scope="session")
def parsed() -> type[Page]:
    """Reads a page's HTML."""
    return Page


@pytest.fixture(scope="session")
def visiting() -> type[Site]:
    """A visitor of some pages, without a cookie."""
    return Site
