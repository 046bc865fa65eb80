"""Does the bidder speak OpenRTB over HTTP: statuses, headers, tolerance, lawful answers?"""

import json

import orjson

from loadtest.exchange.lawful import violations

from .rules import Failed, Skipped, Trial, bid_answer, rule
from .samples import fresh
from .wire import Answer, Connection

_GROUP = "protocol"


def expect(answer: Answer, *statuses: int) -> None:
    """Raises `Failed` unless the status is one of these."""
    if answer.status not in statuses:
        raise Failed(f"status {answer.status}, not {' or '.join(map(str, statuses))}")


@rule(_GROUP, "status", "§2.1")
async def status(trial: Trial) -> None:
    """Lawful requests are answered 200 or 204"""
    for request in trial.requests:
        expect(await trial.post(fresh(request)), 200, 204)


@rule(_GROUP, "bids", "the premise of all that follows")
async def bids(trial: Trial) -> None:
    """At least one lawful request gets a bid"""
    try:
        await trial.bid()
    except Skipped as nothing:
        raise Failed(str(nothing)) from None


@rule(_GROUP, "lawful", "§4.2, and the section named")
async def lawful(trial: Trial) -> None:
    """Every bid obeys its request"""
    for request in trial.requests:
        asked = fresh(request)
        answer = await trial.bid_on(asked)
        if answer is not None and (broken := violations(asked, answer, trial.rates)):
            raise Failed("; ".join(f"{v.rule}: {v.detail}" for v in broken[:3]))


@rule(_GROUP, "content-type", "§2.3")
async def content_type(trial: Trial) -> None:
    """An answer with content is application/json"""
    request, _ = await trial.bid()
    answer = await trial.post(fresh(request))
    kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    if answer.status == 200 and kind != "application/json":
        raise Failed(f"content-type {kind!r}")


@rule(_GROUP, "empty-204", "§2.1, RFC 9110 §15.3.5")
async def empty_204(trial: Trial) -> None:
    """A request that nobody may bid on is a no-bid; a 204 has no content"""
    hopeless = fresh(trial.requests[0], wseat=["seat-of-nobody"])
    answer = await trial.post(hopeless)
    if bid_answer(answer) is not None:
        raise Failed("bid on a request open to another seat only")
    if answer.status == 204 and answer.body:
        raise Failed(f"{len(answer.body)} bytes with a 204")


@rule(_GROUP, "version", "§2.5")
async def version(trial: Trial) -> None:
    """x-openrtb-version is echoed"""
    for number in ("2.5", "2.6"):
        request = fresh(trial.requests[0])
        answer = await trial.post(request, {"x-openrtb-version": number})
        echoed = answer.headers.get("x-openrtb-version")
        if echoed != number:
            raise Failed(f"{echoed!r} for {number!r}")


@rule(_GROUP, "unknown-fields", "§2.6")
async def unknown_fields(trial: Trial) -> None:
    """Unknown fields and enum values change nothing"""
    request, _ = await trial.bid()
    strange = fresh(request, ext={"x": [1, None]}, brand_new={"a": 1})
    strange["imp"][0] |= {"later_field": "?", "ext": {"deep": {"er": []}}}
    strange.setdefault("device", {})["devicetype"] = 99
    expect(await trial.post(strange), 200, 204)


@rule(_GROUP, "encodings", "§2.3, RFC 8259")
async def encodings(trial: Trial) -> None:
    """Escapes, white space, key order and non-ASCII text are lawful JSON"""
    request = fresh(trial.requests[0], ext={"text": "é “…” \U0001f600 \\ / \u0007"})
    backwards = dict(reversed(list(request.items())))
    for body in (
        json.dumps(request, indent=4).encode(),
        json.dumps(request).replace('"imp"', '"\\u0069mp"').encode(),
        orjson.dumps(request).replace(b"/", b"\\/"),
        b" \r\n\t" + orjson.dumps(backwards) + b"\n",
    ):
        async with Connection(trial.target) as connection:
            expect(await connection.exchange(trial.target.post(body)), 200, 204)


@rule(_GROUP, "no-content-type", "§2.3")
async def no_content_type(trial: Trial) -> None:
    """A request without Content-Type is JSON"""
    body = orjson.dumps(fresh(trial.requests[0]))
    target = trial.target
    async with Connection(target) as connection:
        raw = target.head("POST", {"content-length": str(len(body))}) + body
        expect(await connection.exchange(raw), 200, 204)


@rule(_GROUP, "malformed", "§2.1")
async def malformed(trial: Trial) -> None:
    """What is not JSON gets 400 with an empty body"""
    lawful_body = orjson.dumps(fresh(trial.requests[0]))
    for body in (b"", b"{", b"not json", b"[]", lawful_body[:-9], b"\xff\xfe{}"):
        async with Connection(trial.target) as connection:
            answer = await connection.exchange(trial.target.post(body))
            if answer.status != 400:
                raise Failed(f"status {answer.status} for {body[:20]!r}")
            if answer.body:
                raise Failed(f"400 with {len(answer.body)} bytes of body")


@rule(_GROUP, "survives", "RFC 9112 §9.3")
async def survives(trial: Trial) -> None:
    """A malformed body does not cost the connection"""
    async with Connection(trial.target) as connection:
        await connection.exchange(trial.target.post(b"{bad"))
        lawful_body = orjson.dumps(fresh(trial.requests[0]))
        expect(await connection.exchange(trial.target.post(lawful_body)), 200, 204)


@rule(_GROUP, "required", "§3.2.1, §3.2.4")
async def required(trial: Trial) -> None:
    """A request without id, imp or imp.id is refused or gets no bid"""
    without_imp_id = fresh(trial.requests[0])
    del without_imp_id["imp"][0]["id"]
    nameless = fresh(trial.requests[0])
    del nameless["id"]
    for request in (nameless, fresh(trial.requests[0], imp=[]), without_imp_id):
        answer = await trial.post(request)
        expect(answer, 200, 204, 400)
        if answer.status == 200 and bid_answer(answer) is not None:
            raise Failed("bid on it")


@rule(_GROUP, "method", "§2.1")
async def method(trial: Trial) -> None:
    """Only POST asks for bids"""
    async with Connection(trial.target) as connection:
        answer = await connection.exchange(trial.target.head("GET", {}))
        if not 400 <= answer.status < 500:
            raise Failed(f"GET answered {answer.status}")
