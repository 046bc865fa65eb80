"""A small bidder that an exchange accepts, and that can be told to break any one rule."""

import asyncio
import gzip
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

Json = dict[str, Any]
GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"


class SmallBidder:
    """Answers one price for one advertiser; `faults` names what it does wrong."""

    def __init__(self, faults: set[str]) -> None:
        self.faults = faults
        self.base = ""
        self.calls: Counter[str] = Counter()
        self.broken = False
        self.app = web.Application(client_max_size=4 * 2**20)
        self.app.router.add_route("*", "/bid", self.handle)
        self.app.router.add_get("/notice/{kind}", self.notice)
        self.app.router.add_get("/track/{kind}", self.track)

    def has(self, fault: str) -> bool:
        return fault in self.faults

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = await self.respond(request)
        sent = request.headers.get("x-openrtb-version")
        if sent and not self.has("no-version"):
            response.headers["x-openrtb-version"] = sent
        if self.has("closes"):
            response.force_close()
        return response

    async def respond(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            return web.Response(status=200 if self.has("any-method") else 405)
        if refusal := self.refuses(request):
            return web.Response(status=refusal)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=500 if self.has("5xx-on-big") else 413)
        except web.RequestPayloadError:  # not the gzip it says, or cut short
            self.broken = True
            return web.Response(status=400)
        except BaseException:  # a sender that hung up cancels the handler
            self.broken = True
            raise
        try:
            asked = orjson.loads(body)
            if not isinstance(asked, dict):
                raise TypeError
        except (orjson.JSONDecodeError, TypeError):
            status = 500 if self.has("5xx-on-malformed") else 400
            response = web.Response(status=status, body=b"?" if self.has("wordy-400") else b"")
            if self.has("hangs-up-on-malformed"):
                response.force_close()
            return response
        return await self.answer(request, asked)

    def refuses(self, request: web.Request) -> int:
        """A status for what a faulty bidder cannot take, 0 = goes on."""
        headers = request.headers
        encoded = "Content-Encoding" in headers
        wrong = {
            "always-500": True,
            "no-gzip": encoded,
            "needs-type": "Content-Type" not in headers,
            "no-chunked": "Transfer-Encoding" in headers,
            "no-1.0": request.version == (1, 0),
            "impatient": not request.content.is_eof(),
            "fragile": self.broken,
        }
        return 500 if any(self.has(fault) and bad for fault, bad in wrong.items()) else 0

    async def answer(self, request: web.Request, asked: Json) -> web.Response:
        if self.has("slow"):
            await asyncio.sleep(0.25)
        if self.has("5xx-without-time") and asked.get("tmax", 100) < 10:
            return web.Response(status=500)
        if not asked.get("id") or not asked.get("imp") or not asked["imp"][0].get("id"):
            if not self.has("bids-on-nothing"):
                return web.Response(status=400)
            asked = {"id": "?", "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}]}
        if self.has("strict") and "brand_new" in asked:
            return web.Response(status=400)
        if self.has("no-escapes") and "\\u" in (await request.text()):
            return web.Response(status=400)
        if self.has("never-bids"):
            return web.Response(status=204)
        bids = [bid for imp in asked["imp"] if (bid := self.bid(asked, imp))]
        if not bids or (asked.get("wseat") and not self.has("ignores-wseat")):
            status = 200 if self.has("content-on-no-bid") else 204
            return web.Response(status=status, body=b"{" if status == 200 else None)
        return self.wrapped(request, asked, bids)

    def wrapped(self, request: web.Request, asked: Json, bids: list[Json]) -> web.Response:
        seat = "small"
        if seat in asked.get("bseat", ()) and not self.has("ignores-bseat"):
            return web.Response(status=204)
        allowed = asked.get("cur", ["EUR"])
        if "EUR" not in allowed and not self.has("ignores-cur"):
            return web.Response(status=204)
        answer = {"id": asked["id"], "cur": "EUR", "seatbid": [{"seat": seat, "bid": bids}]}
        if self.has("wrong-id"):
            answer["id"] = "another"
        if self.has("wordy"):
            answer["ext"] = {"padding": "x" * 40_000}
        body = orjson.dumps(answer)
        headers = {}
        if self.has("always-gzip"):
            body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
        kind = "text/plain" if self.has("wrong-type") else "application/json"
        return web.Response(body=body, content_type=kind, headers=headers)

    def bid(self, asked: Json, imp: Json) -> Json | None:
        banner = imp.get("banner")
        if not banner or imp.get("video"):
            return None
        size = (banner.get("format") or [banner])[0]
        if (size["w"], size["h"]) == (313, 77) and not self.has("any-size"):
            size = next((f for f in banner["format"] if f["w"] == 300), None)
        if size is None or not self.may(asked, imp):
            return None
        if self.has("wrong-size"):
            size = {"w": 1, "h": 1}
        price = 2.0
        if imp.get("bidfloor", 0) > price * 0.8 and not self.has("ignores-floor"):
            return None
        found: Json = {"id": f"{asked['id']}-{imp['id']}", "impid": imp["id"], "price": price}
        found |= {"crid": "c" * 65 if self.has("long-crid") else "brand-1", "cid": "win-back"}
        found |= {"adomain": ["maison-lumen.example"], "cat": ["IAB10-1"], "mtype": 1}
        found |= {"w": size["w"], "h": size["h"], "adm": self.markup(found["id"])}
        if self.has("deals-anyway"):
            found["dealid"] = "unknown-deal"
        return found | self.notices(found["id"])

    def may(self, asked: Json, imp: Json) -> bool:
        regs = (asked.get("regs") or {}).get("ext") or {}
        blocked = {
            "ignores-badv": "maison-lumen.example"
            in [domain.lower() for domain in asked.get("badv", ())],
            "ignores-bcat": "IAB10" in asked.get("bcat", ()),
            "ignores-private": (imp.get("pmp") or {}).get("private_auction") == 1,
            "ignores-dsa": bool(regs.get("dsa")),
        }
        return all(self.has(fault) or not bad for fault, bad in blocked.items())

    def markup(self, bid: str) -> str:
        image = "http" if self.has("insecure") else "https"
        return (
            f'<a href="{self.base}/track/click?t={bid}"><img src="{image}://cdn.example/b.jpg"></a>'
            f'<img src="{self.base}/track/impression?t={bid}" width="1" height="1">'
        )

    def notices(self, bid: str) -> Json:
        price = "1" if self.has("no-macro") else "${AUCTION_PRICE}"
        return {
            "nurl": f"{self.base}/notice/win?t={bid}&p={price}",
            "burl": f"{self.base}/notice/billing?t={bid}&p={price}",
            "lurl": f"{self.base}/notice/loss?t={bid}&r=${{AUCTION_LOSS}}",
        }

    async def notice(self, request: web.Request) -> web.Response:
        kind, price = request.match_info["kind"], request.query.get("p", "0")
        self.calls[kind] += 1
        numeric = re.fullmatch(r"\d+(\.\d+)?", price)
        if self.has(f"strict-{kind}") and (not numeric or kind == "loss"):
            return web.Response(status=400)
        return web.Response()

    async def track(self, request: web.Request) -> web.Response:
        called = request.match_info["kind"]
        self.calls[called] += 1
        if called == "impression":
            kind = "text/html" if self.has("no-gif") else "image/gif"
            return web.Response(body=GIF, content_type=kind)
        if called == "conversion" and not request.query.get("cid"):
            return web.Response(status=400)
        if called == "click" and not self.has("dead-click"):
            to = request.query.get("url") if self.has("open-redirect") else None
            raise web.HTTPFound(to or "https://maison-lumen.example/?cid=" + request.query["t"])
        return web.Response()


StartBidder = Callable[..., Any]


@pytest.fixture
async def start_bidder() -> AsyncIterator[StartBidder]:
    """``await start_bidder("fault", ...)`` -> (bidder, URL of its bid endpoint)."""
    servers: list[TestServer] = []

    async def start(*faults: str) -> tuple[SmallBidder, str]:
        bidder = SmallBidder(set(faults))
        server = TestServer(bidder.app)
        await server.start_server()
        servers.append(server)
        bidder.base = str(server.make_url("/")).rstrip("/")
        return bidder, f"{bidder.base}/bid"

    yield start
    for server in servers:
        await server.close()
