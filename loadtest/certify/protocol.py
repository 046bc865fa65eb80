"""Does the bidder speak OpenRTB over HTTP: statuses, headers, tolerance, lawful answers?"""

import json
import re
from collections.abc import Callable
from functools import partial

import orjson

from loadtest.exchange.lawful import violations

from .rules import Failed, Skipped, Trial, Unproven, bid_answer, rule, unchanged
from .samples import Json, fresh
from .wire import Answer, Connection, ask

_GROUP = "protocol"
_VERSION_HEADER = "x-openrtb-version"


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
    except Unproven as nothing:
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
    hopeless = fresh(trial.plain, wseat=["seat-of-nobody"])
    answer = await trial.post(hopeless)
    if bid_answer(answer) is not None:
        raise Failed("bid on a request open to another seat only")
    if answer.status == 204 and answer.body:
        raise Failed(f"{len(answer.body)} bytes with a 204")


@rule(_GROUP, "version", "§2.5")
async def version(trial: Trial) -> None:
    """x-openrtb-version, where the answer has it, is <major>.<minor>"""
    asked = ("2.5", "2.6")
    answers = [await trial.post(fresh(trial.plain), {_VERSION_HEADER: number}) for number in asked]
    given = [a.headers[_VERSION_HEADER] for a in answers if _VERSION_HEADER in a.headers]
    if not given:
        raise Skipped("optional, and not sent")
    for number in given:
        if not re.fullmatch(r"\d+\.\d+", number):
            raise Failed(f"{number!r}")


@rule(_GROUP, "unknown-fields", "§2.6")
async def unknown_fields(trial: Trial) -> None:
    """Unknown fields and blocked enum values change nothing, others are no error"""
    await trial.same(_strange)
    request = fresh(trial.plain)
    request["device"] = (request.get("device") or {}) | {"devicetype": 99}
    expect(await trial.post(request), 200, 204)


def _strange(request: Json, _: Json) -> Json:
    found = fresh(request, brand_new={"a": 1})
    found["ext"] = (found.get("ext") or {}) | {"x": [1, None]}
    for imp in found["imp"]:
        imp["later_field"] = "?"
        imp["ext"] = (imp.get("ext") or {}) | {"deep": {"er": []}}
        if imp.get("banner"):
            imp["banner"]["battr"] = [*(imp["banner"].get("battr") or ()), 999]
    return found


@rule(_GROUP, "encodings", "§2.3, RFC 8259")
async def encodings(trial: Trial) -> None:
    """Escapes, white space, key order and non-ASCII text are lawful JSON"""
    for encode in _ENCODINGS:
        await trial.same(_with_text, partial(_encoded, trial, encode))


async def _encoded(trial: Trial, encode: Callable[[Json], bytes], request: Json) -> Answer:
    return await ask(trial.target, encode(request))


def _with_text(request: Json, _: Json) -> Json:
    text = {"text": "é “…” \U0001f600 \\ / \u0007"}
    return fresh(request, ext=(request.get("ext") or {}) | text)


_ENCODINGS: tuple[Callable[[Json], bytes], ...] = (
    lambda request: json.dumps(request, indent=4).encode(),
    lambda request: json.dumps(request).replace('"imp"', '"\\u0069mp"').encode(),
    lambda request: orjson.dumps(request).replace(b"/", b"\\/"),
    lambda request: b" \r\n\t" + orjson.dumps(dict(reversed(request.items()))) + b"\n",
)


@rule(_GROUP, "no-content-type", "§2.3")
async def no_content_type(trial: Trial) -> None:
    """A request without Content-Type is JSON"""

    async def bare(request: Json) -> Answer:
        body = orjson.dumps(request)
        async with Connection(trial.target) as connection:
            head = trial.target.head("POST", {"content-length": str(len(body))})
            return await connection.exchange(head + body)

    await trial.same(unchanged, bare)


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
