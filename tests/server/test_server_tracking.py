"""Notices over HTTP: what is answered, whether or not it counts."""

from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

import pytest

from bidder import metrics
from bidder.answering import Answerer
from bidder.engine import Engine
from bidder.events.forgotten import Forgotten
from bidder.events.log import EventLog, LogUnavailable
from bidder.events.schema import ConversionEvent, Event
from bidder.exchanges.profile import Exchange
from bidder.ids import hash32
from bidder.metrics import Metrics
from bidder.notices.receive import Kind
from bidder.notices.tokens import Audience, Sealed, Tokens
from bidder.orders import Orders
from bidder.privacy import Rules
from bidder.server.edge import Answer, Endpoint, Request
from bidder.server.router import Router
from bidder.server.tracking import NOTICES, Tracking

NOW = 1_790_000_000
PERSON = "AAAAAAAAAAAAAAAA"
URL = "https://shop.example/red?a=1#top"
CREATIVE = SimpleNamespace(
    native=None, secure=True, width=300, height=250, html="", image="https://cdn.shop.example/r.jpg"
)


class Desk:
    """The endpoints of a worker with nothing behind them but a list for a log."""

    def __init__(self) -> None:
        self.tokens = Tokens({0: bytes(32)}, current=0)
        self.cells = Metrics()
        self.now = NOW + 5.0
        self.logged: list[Event] = []
        self.kept: list[Event] = []
        """In memory only."""
        self.full = False
        exchanges = (
            Exchange(name="plain", price_in=frozenset({"burl", "nurl"})),
            Exchange(name="later", markup="win_notice", price_in=frozenset({"nurl"})),
        )
        serving = SimpleNamespace(
            exchanges_by_id={hash32(one.name): one for one in exchanges},
            catalogue=SimpleNamespace(names={}),
            creatives={9: (None, CREATIVE)},
        )
        policy = SimpleNamespace(privacy=Rules(vendor_id=77))
        self.tracking = Tracking(
            cast(Engine, SimpleNamespace(serving=serving, policy=policy)),
            self.tokens,
            Answerer(self.tokens, "https://bid.example"),
            cast(EventLog, self),
            self.cells,
            lambda: self.now,
            cast(Forgotten, SimpleNamespace(anonymous=lambda event: event)),
            Orders(b"key"),
        )

    async def commit(self, event: Event) -> None:
        if self.full:
            raise LogUnavailable("full")
        self.logged.append(event)

    def append(self, event: Event) -> None:
        self.kept.append(event)

    def sealed(self, exchange: str = "plain", **changes: Any) -> Sealed:
        fields: dict[str, Any] = {
            "bid_id": (NOW << 64 | 5).to_bytes(12, "big"),
            "exchange": hash32(exchange),
            "advertiser": 1, "campaign": 2, "line_item": 3, "creative": 9,
            "bid_cpm_micros": 2_000_000,
            "currency": "EUR", "account_currency": "EUR", "rate": 1.0,
            "holder": "0-a", "day": 20_718, "hold_seconds": 600,
            "person": PERSON, "measure": True, "url": URL,
        }  # fmt: skip
        return Sealed(**{**fields, **changes})

    async def call(self, kind: Kind, sealed: Sealed, **query: str) -> Answer:
        browser = kind in ("impression", "click")
        audience = Audience.BROWSER if browser else Audience.EXCHANGE
        return await self.ask(kind, t=self.tokens.seal(sealed, audience), **query)

    async def ask(self, kind: Kind, gpc: str = "", **query: str) -> Answer:
        return await self.tracking.answer(kind, query, {"Sec-GPC": gpc} if gpc else {})


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_click_hands_its_id_on_and_a_sale_finds_it(desk: Desk) -> None:
    answer = await desk.call("click", desk.sealed())
    location = answer.headers["Location"]
    assert answer.status == 302
    assert location.startswith("https://shop.example/red?a=1&cid=")
    assert location.endswith("#top")
    cid = location.partition("cid=")[2].removesuffix("#top")
    sale = await desk.ask("conversion", cid=cid, order="7")
    assert (sale.status, sale.headers["Content-Type"]) == (200, "image/gif")
    assert len(desk.logged) == 2
    assert desk.logged[0].bid_id == desk.logged[1].bid_id  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("consent", "gpc", "person"),
    [
        ({"gdpr": "0"}, "", PERSON),
        ({"gdpr": "0"}, "1", ""),
        ({"gdpr": "1", "gdpr_consent": "nonsense"}, "", ""),
        ({}, "", ""),
    ],
)
async def test_a_sale_is_the_campaigns_and_the_persons_where_that_may_be_measured(
    desk: Desk, consent: dict[str, str], gpc: str, person: str
) -> None:
    cid = desk.tokens.seal(desk.sealed(), Audience.CLICK)
    query = urlencode({"cid": cid, "value": "80", **consent})
    headers = {"Sec-GPC": gpc} if gpc else {}
    router = Router(cast(Endpoint, None), desk.tracking, desk.cells)
    asked = Request("GET", f"/track/conversion?{query}", headers, b"", "127.0.0.1", 0.0)
    assert (await router.answer(asked)).status == 200
    (sale,) = desk.logged
    assert isinstance(sale, ConversionEvent)
    assert (sale.person, sale.measure) == (person, bool(person))
    assert (sale.value_micros, sale.ids) == (80_000_000, (1, 2, 3, 9))


async def test_without_permission_the_landing_page_gets_no_id(desk: Desk) -> None:
    answer = await desk.call("click", desk.sealed(measure=False))
    assert answer.headers["Location"] == URL
    assert len(desk.logged) == 1


async def test_a_late_click_still_leads_there_uncounted(desk: Desk) -> None:
    desk.now += 8 * 86400
    answer = await desk.call("click", desk.sealed())
    assert (answer.status, answer.headers["Location"]) == (302, URL)
    assert desk.cells.get(metrics.NOTICES, "click", "expired") == 1
    assert not desk.logged


@pytest.mark.parametrize("name", ["url", "u", "to", "redirect", "cid", "Location"])
async def test_nothing_in_a_click_but_its_token_says_where_it_leads(desk: Desk, name: str) -> None:
    answer = await desk.call("click", desk.sealed(), **{name: "https://evil.example/"})
    assert answer.headers["Location"].startswith("https://shop.example/red?a=1&cid=")
    assert "evil" not in answer.headers["Location"]


@pytest.mark.parametrize("kind", NOTICES.values())
async def test_a_forged_notice_is_answered_and_leads_nowhere(desk: Desk, kind: Kind) -> None:
    answer = await desk.ask(kind, t="forged", cid="forged", p="1")
    assert answer.status == (400 if kind == "click" else 200)
    assert "Location" not in answer.headers
    assert desk.cells.get(metrics.NOTICES, kind, "forged") == 1
    assert not desk.logged


@pytest.mark.parametrize("kind", ["win", "loss", "billing", "impression", "conversion"])
async def test_what_cannot_be_logged_is_asked_for_again(desk: Desk, kind: Kind) -> None:
    desk.full = True
    if kind == "conversion":
        answer = await desk.ask(kind, cid=desk.tokens.seal(desk.sealed(), Audience.CLICK))
    else:
        answer = await desk.call(kind, desk.sealed(), p="1.5")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert desk.cells.get(metrics.NOTICES, kind, "not_logged") == 1
    assert len(desk.kept) == (kind in ("impression", "conversion"))  # browsers do not send it again


async def test_a_click_leads_on_while_the_disk_refuses(desk: Desk) -> None:
    desk.full = True
    answer = await desk.call("click", desk.sealed())
    assert answer.status == 302
    assert answer.headers["Location"].startswith("https://shop.example/red?a=1&cid=")
    assert [type(event).__name__ for event in desk.kept] == ["ClickEvent"]
    assert desk.cells.get(metrics.NOTICES, "click", "not_logged") == 1


async def test_the_pixel_is_a_gif_that_nobody_keeps(desk: Desk) -> None:
    answer = await desk.call("impression", desk.sealed())
    assert answer.body.startswith(b"GIF89a\x01\x00\x01\x00")
    assert answer.headers["Content-Type"] == "image/gif"
    assert "no-store" in answer.headers["Cache-Control"]


async def test_a_win_has_no_body_where_the_bid_had_the_markup(desk: Desk) -> None:
    assert (await desk.call("win", desk.sealed(), p="1.5")).body == b""
    assert len(desk.logged) == 1


@pytest.mark.parametrize(("price", "outcome"), [("1.5", "logged"), ("AUDIT", "price_audit")])
async def test_the_markup_comes_with_the_win_whatever_its_price(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, price: str, outcome: str
) -> None:
    """Its click leads to the address sealed at the bid, each time under the same tokens: a nonce
    never meets two texts, whatever became of the creative since."""
    monkeypatch.setattr("bidder.server.tracking.markup", lambda *given: given[5].click)
    first = await desk.call("win", desk.sealed("later"), p=price)
    again = await desk.call("win", desk.sealed("later"), p=price)
    assert first == again
    assert first.headers["Content-Type"].startswith("text/html")
    assert desk.cells.get(metrics.NOTICES, "win", outcome) == 2
    token = first.body.decode().partition("t=")[2]
    clicked = await desk.ask("click", t=token)
    assert clicked.headers["Location"].startswith("https://shop.example/red")
