"""A rule of the acceptance test passes only on proof, and judges whatever an answer looks like."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtest.certify.rules import RULES, Trial
from loadtest.certify.run import Verdict, judge
from loadtest.certify.samples import samples
from loadtest.certify.wire import Target, wire_seconds

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """``await serve(handler)`` -> the URL of a bid endpoint that limits nothing."""
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/bid", handler)
        server = TestServer(app)
        await server.start_server(auto_decompress=False)
        servers.append(server)
        return str(server.make_url("/bid"))

    yield start
    for server in servers:
        await server.close()


async def verdict_on(url: str, rule: str, requests: list[Json] | None = None) -> Verdict:
    trial = Trial(Target.at(url), requests or samples(), {"EUR": 1.0, "USD": 1.08, "GBP": 0.85})
    (verdict,) = await judge(trial, frozenset({rule}))
    return verdict


async def on_changed_bids(start_bidder, *rules: str, **changes: Any) -> list[Verdict]:
    """What becomes of a good bidder with these fields in its bids (... = without the field)."""
    bidder, url = await start_bidder()
    wrapped = bidder.wrapped

    def changed(request, asked, bids):
        for bid in bids:
            bid.update(changes)
            for name in [name for name, value in changes.items() if value is ...]:
                del bid[name]
        return wrapped(request, asked, bids)

    bidder.wrapped = changed
    return await judge(Trial(Target.at(url), samples(), {"EUR": 1.0}), frozenset(rules))


MALFORMED = {
    "price": ("2.0", "`float`, got `str` - at `$.seatbid[0].bid[0].price`"),
    "impid": (..., "missing required field `impid` - at `$.seatbid[0].bid[0]`"),
    "id": ([1], "`str`, got `array` - at `$.seatbid[0].bid[0].id`"),
    "adomain": ("maison-lumen.example", "got `str` - at `$.seatbid[0].bid[0].adomain`"),
    "cat": ({}, "got `object` - at `$.seatbid[0].bid[0].cat`"),
    "w": ("300", "got `str` - at `$.seatbid[0].bid[0].w`"),
    "adm": ('{"native":{"link":5}}', "native `adm`: Expected `object | null`, got `int`"),
}


@pytest.mark.parametrize(("name", "value", "told"), [(n, *v) for n, v in MALFORMED.items()])
async def test_a_malformed_bid_fails_with_its_field_named(start_bidder, name, value, told):
    groups = ("protocol", "obedience", "notices")
    verdicts = await on_changed_bids(start_bidder, *groups, **{name: value})
    assert len(verdicts) == sum(rule.group in groups for rule in RULES)
    (bids,) = (v for v in verdicts if v.rule.name == "bids")
    assert bids.outcome == "FAIL"
    assert told in bids.detail
    assert not any("this test broke" in v.detail for v in verdicts)


@pytest.mark.parametrize("nurl", ["//host/n", "http://[::1", "http://h:99999/", "http://h/\u20ac"])
async def test_a_notice_url_that_cannot_be_called_fails_and_is_shown(start_bidder, nurl):
    (win,) = await on_changed_bids(start_bidder, "notices/win", nurl=nurl)
    assert win.outcome == "FAIL"
    assert win.detail.startswith("cannot be called")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"[]", "Expected `object`, got `array`"),
        (b'{"seatbid":5}', "got `int` - at `$.seatbid`"),
        (b'{"seatbid":[[]]}', "got `array` - at `$.seatbid[0]`"),
        (b'{"seatbid":[{"bid":[7]}]}', "got `int` - at `$.seatbid[0].bid[0]`"),
        (b"{", "body is not JSON"),
        (b"", "empty body"),
    ],
)
async def test_every_answer_of_another_shape_gets_a_verdict(serve, body, told):
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    verdict = await verdict_on(await serve(handle), "protocol/bids")
    assert verdict.outcome == "FAIL"
    assert told in verdict.detail


async def test_an_answer_that_cannot_be_inflated_fails(serve):
    async def handle(_: web.Request) -> web.Response:
        broken = gzip.compress(b"")[:10] + b"\xff" * 20
        return web.Response(body=broken, headers={"Content-Encoding": "gzip"})

    verdict = await verdict_on(await serve(handle), "protocol/bids")
    assert verdict.outcome == "FAIL"
    assert "cannot be inflated" in verdict.detail


async def test_a_fault_of_the_test_itself_is_a_verdict_with_its_name_and_place(monkeypatch):
    async def broken(_: Trial) -> None:
        raise KeyError("price")

    monkeypatch.setattr("loadtest.certify.run.RULES", [RULES[0]._replace(probe=broken)])
    (verdict,) = await judge(Trial(Target.at("http://127.0.0.1:1/"), samples(), {}))
    assert verdict.outcome == "FAIL"
    assert "KeyError: 'price' (test_loadtest_certify_proofs.py:" in verdict.detail


@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.parametrize("rule", ["transport/gzip-bomb", "transport/big-body"])
async def test_a_bidder_without_limits_fails_on_bombs_and_big_bodies(serve, rule, status):
    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        asked = orjson.loads(body)
        if not asked.get("imp"):
            return web.Response(status=400)
        if status == 204:
            return web.Response(status=204)
        bids = [{"id": "1", "impid": asked["imp"][0]["id"], "price": 1.0}]
        return web.json_response({"id": asked["id"], "seatbid": [{"bid": bids}]})

    verdict = await verdict_on(await serve(handle), rule)
    assert verdict.outcome == "FAIL"
    assert verdict.detail == f"status {status}, not 4xx"


@pytest.mark.parametrize(
    ("sent", "outcome"), [(None, "skip"), ("2.5", "pass"), ("two", "FAIL"), ("2.6-202606", "FAIL")]
)
async def test_a_version_is_optional_and_has_two_numbers(start_bidder, serve, sent, outcome):
    bidder, _ = await start_bidder("no-version")

    async def handle(request: web.Request) -> web.StreamResponse:
        response = await bidder.handle(request)
        if sent is not None:
            response.headers["x-openrtb-version"] = sent
        return response

    assert (await verdict_on(await serve(handle), "protocol/version")).outcome == outcome


async def test_a_bid_long_after_tmax_fails(start_bidder):
    _, url = await start_bidder("slow")
    verdict = await verdict_on(url, "deadlines/no-time")
    assert verdict.outcome == "FAIL"
    assert "tmax 1: 5 of 5 bids too late" in verdict.detail


async def test_a_no_bid_with_no_time_left_passes(start_bidder):
    bidder, url = await start_bidder()
    answer = bidder.answer

    async def in_time(request, asked):
        return web.Response(status=204) if asked["tmax"] < 10 else await answer(request, asked)

    bidder.answer = in_time
    assert (await verdict_on(url, "deadlines/no-time")).outcome == "pass"


async def test_what_the_wire_takes_is_not_held_against_the_bidder(start_bidder, monkeypatch):
    async def slow_wire(_: Target) -> float:
        return 60.0

    monkeypatch.setattr("loadtest.certify.deadlines.wire_seconds", slow_wire)
    _, url = await start_bidder("slow")
    assert (await verdict_on(url, "deadlines/no-time")).outcome == "pass"


async def test_the_wire_is_timed_without_a_request(serve):
    async def handle(_: web.Request) -> web.Response:
        raise AssertionError

    assert await wire_seconds(Target.at(await serve(handle))) > 0


ODD = {
    "transport/gzip-in": lambda request, _: "Content-Encoding" in request.headers,
    "transport/chunked": lambda request, _: "Transfer-Encoding" in request.headers,
    "protocol/no-content-type": lambda request, _: "Content-Type" not in request.headers,
    "protocol/encodings": lambda _, body: b"imp" not in body or body.startswith(b" "),
    "protocol/unknown-fields": lambda _, body: b"brand_new" in body,
}


@pytest.mark.parametrize(("rule", "is_odd"), ODD.items(), ids=list(ODD))
async def test_a_no_bid_is_no_proof_where_the_plain_twin_gets_a_bid(start_bidder, rule, is_odd):
    bidder, url = await start_bidder()
    answer = bidder.answer

    async def shy(request, asked):
        if is_odd(request, await request.read()):
            return web.Response(status=204)
        return await answer(request, asked)

    bidder.answer = shy
    verdict = await verdict_on(url, rule)
    assert (verdict.outcome, verdict.detail) == (
        "FAIL",
        "no bid, where the plain request gets one",
    )


def capped(bidder, **most: int) -> None:
    """Let each user have so many bids."""
    answer = bidder.answer

    async def within(request, asked):
        user = asked["user"]["id"]
        if most[user] == 0:
            return web.Response(status=204)
        found = await answer(request, asked)
        most[user] -= found.status == 200
        return found

    bidder.answer = within


def person(name: str) -> Json:
    return samples()[0] | {"user": {"id": name}}


async def test_a_no_bid_of_a_capped_person_proves_nothing(start_bidder):
    bidder, url = await start_bidder("ignores-badv")
    capped(bidder, one=1)
    verdict = await verdict_on(url, "obedience/badv", [person("one")])
    assert verdict.outcome == "unproven"
    assert "a cap or the money is used up" in verdict.detail


async def test_another_person_is_asked_when_one_is_capped(start_bidder):
    bidder, url = await start_bidder("ignores-badv")
    capped(bidder, one=1, two=9)
    verdict = await verdict_on(url, "obedience/badv", [person("one"), person("two")])
    assert verdict.outcome == "FAIL"


@pytest.mark.parametrize(("width", "outcome"), [(..., "FAIL"), (None, "FAIL"), (300, "pass")])
async def test_a_bid_on_one_of_several_sizes_says_which(start_bidder, width, outcome):
    (fields,) = await on_changed_bids(start_bidder, "obedience/fields", w=width)
    assert fields.outcome == outcome, fields


async def test_a_bid_on_a_banner_of_one_size_needs_none(start_bidder):
    (lawful,) = await on_changed_bids(start_bidder, "protocol/lawful", w=..., h=...)
    assert lawful.outcome == "pass"


async def test_the_price_may_stand_in_the_win_notice_alone(start_bidder):
    (macro,) = await on_changed_bids(start_bidder, "obedience/price-macro", burl=...)
    assert macro.outcome == "pass"
    assert "not all exchanges take it in `nurl`, Index" in macro.rule.section


async def test_markup_that_calls_nobody_is_not_proven(start_bidder):
    adm = '<a href="https://shop.example/"><img src="https://cdn.example/b.jpg"></a>'
    verdicts = await on_changed_bids(start_bidder, "notices", adm=adm)
    unproven = [v.name for v in verdicts if v.outcome == "unproven"]
    assert unproven == ["notices/impression", "notices/click", "notices/open-redirect"]
    assert {v.outcome for v in verdicts} == {"pass", "unproven"}
