"""Does the bidder speak HTTP as it comes off real networks?"""

import gzip
from contextlib import suppress

import orjson

from .protocol import expect
from .rules import Failed, Trial, bid_answer, rule, unchanged
from .samples import Json, fresh
from .wire import Answer, BrokenAnswer, Closed, Connection, ask, chunked

_GROUP = "transport"
_HUGE = 16 * 1024 * 1024
_GZIP = {"content-encoding": "gzip"}


def _body(trial: Trial) -> bytes:
    return orjson.dumps(fresh(trial.plain))


def _padded(trial: Trial, size: int) -> bytes:
    """A lawful request with so many bytes of white space in it."""
    return _body(trial)[:-1] + b" " * size + b"}"


def _refused(answer: Answer) -> None:
    if not 400 <= answer.status < 500:
        raise Failed(f"status {answer.status}, not 4xx")


async def _too_much(trial: Trial, body: bytes, headers: dict[str, str]) -> None:
    """Raises `Failed` unless what is lawful but for its size is refused, and nothing else."""
    expect(await trial.post(fresh(trial.plain)), 200, 204)
    with suppress(Closed):  # on a sender that does not stop that is lawful; hanging is not
        _refused(await ask(trial.target, body, headers))
    expect(await trial.post(fresh(trial.plain)), 200, 204)


@rule(_GROUP, "keep-alive", "RFC 9112 §9.3")
async def keep_alive(trial: Trial) -> None:
    """Thirty requests go over one connection"""
    async with Connection(trial.target) as connection:
        for number in range(30):
            try:
                answer = await connection.exchange(trial.target.post(_body(trial)))
            except BrokenAnswer as broken:
                raise Failed(f"request {number + 1}: {broken}") from None
            expect(answer, 200, 204)


@rule(_GROUP, "pipelined", "RFC 9112 §9.3.2")
async def pipelined(trial: Trial) -> None:
    """Requests sent at once are answered one by one, in order"""
    requests = [fresh(trial.requests[n % len(trial.requests)]) for n in range(6)]
    raw = b"".join(trial.target.post(orjson.dumps(request)) for request in requests)
    async with Connection(trial.target) as connection:
        await connection.send(raw)
        for number, request in enumerate(requests):
            try:
                answer = await connection.answer()
            except BrokenAnswer as broken:
                raise Failed(f"answer {number + 1}: {broken}") from None
            parsed = bid_answer(answer)
            if parsed is not None and parsed.get("id") != request["id"]:
                raise Failed(f"answer {number + 1} is for {parsed.get('id')!r}")


@rule(_GROUP, "fragmented", "RFC 9112 §2.2")
async def fragmented(trial: Trial) -> None:
    """A request in many small segments is a request"""
    raw = trial.target.post(_body(trial))
    async with Connection(trial.target) as connection:
        await connection.send(*[raw[n : n + 37] for n in range(0, len(raw), 37)])
        expect(await connection.answer(), 200, 204)


@rule(_GROUP, "chunked", "RFC 9112 §7.1")
async def chunked_body(trial: Trial) -> None:
    """A request body may be chunked"""
    headers = {"content-type": "application/json", "transfer-encoding": "chunked"}

    async def in_chunks(request: Json) -> Answer:
        body = chunked(orjson.dumps(request), (1, 64, 7, 300))
        async with Connection(trial.target) as connection:
            answer = await connection.exchange(trial.target.head("POST", headers) + body)
            expect(answer, 200, 204)
            expect(await connection.exchange(trial.target.post(_body(trial))), 200, 204)
        return answer

    await trial.same(unchanged, in_chunks)


@rule(_GROUP, "http-1.0", "RFC 9112 §9.3, RFC 9110 §2.5")
async def http_1_0(trial: Trial) -> None:
    """An HTTP/1.0 request is answered, not chunked, and the connection closed"""
    async with Connection(trial.target) as connection:
        answer = await connection.exchange(trial.target.post(_body(trial), version="1.0"))
        expect(answer, 200, 204)
        if "transfer-encoding" in answer.headers:
            raise Failed("chunked answer to HTTP/1.0")
        if not await connection.closed():
            raise Failed("connection kept open")


@rule(_GROUP, "slow-sender", "RFC 9112 §2.2")
async def slow_sender(trial: Trial) -> None:
    """A request that takes half a second to arrive is answered, if only with 204 or 408"""
    raw = trial.target.post(_body(trial))
    cut = len(raw) // 4
    pieces = [raw[:cut], raw[cut : 2 * cut], raw[2 * cut : 3 * cut], raw[3 * cut :]]
    async with Connection(trial.target) as connection:
        await connection.send(*pieces, pause=0.15)
        expect(await connection.answer(), 200, 204, 408)


@rule(_GROUP, "hang-up", "RFC 9112 §9.5")
async def hang_up(trial: Trial) -> None:
    """A sender that hangs up in the middle of a body disturbs nobody"""
    for _ in range(5):
        async with Connection(trial.target) as connection:
            await connection.send(trial.target.post(_body(trial))[:-50])
    expect(await trial.post(fresh(trial.requests[0])), 200, 204)


@rule(_GROUP, "gzip-in", "§2.4")
async def gzip_in(trial: Trial) -> None:
    """A gzip body is as good as a plain one"""

    async def squeezed(request: Json) -> Answer:
        return await ask(trial.target, gzip.compress(orjson.dumps(request)), _GZIP)

    await trial.same(unchanged, squeezed)


@rule(_GROUP, "gzip-out", "§2.4")
async def gzip_out(trial: Trial) -> None:
    """An answer to Accept-Encoding: gzip can be read, and one to identity is not compressed"""
    request, _ = await trial.bid()
    bid_answer(await trial.post(fresh(request), {"accept-encoding": "gzip"}))
    plain = await trial.post(fresh(request), {"accept-encoding": "identity"})
    if plain.headers.get("content-encoding", "identity") != "identity":
        raise Failed(f"content-encoding {plain.headers['content-encoding']!r} was not accepted")


@rule(_GROUP, "bad-gzip", "§2.1, §2.4")
async def bad_gzip(trial: Trial) -> None:
    """What says gzip and is not gets a 4xx"""
    squeezed = gzip.compress(_body(trial))
    for body in (_body(trial), squeezed[: len(squeezed) // 2], b"\x1f\x8b\x08\x00junk"):
        _refused(await ask(trial.target, body, _GZIP))


@rule(_GROUP, "gzip-bomb", "§2.4")
async def gzip_bomb(trial: Trial) -> None:
    """A small body that inflates to 64 MB gets a 4xx or a closed connection"""
    await _too_much(trial, gzip.compress(_padded(trial, 4 * _HUGE)), _GZIP)


@rule(_GROUP, "big-body", "RFC 9110 §15.5.14")
async def big_body(trial: Trial) -> None:
    """A body of 16 MB gets a 4xx or a closed connection, and the bidder goes on"""
    await _too_much(trial, _padded(trial, _HUGE), {})


@rule(_GROUP, "big-headers", "RFC 6585 §5")
async def big_headers(trial: Trial) -> None:
    """A megabyte of headers gets a 4xx or a closed connection, and the bidder goes on"""
    await _too_much(trial, _body(trial), {f"x-{n}": "y" * 8000 for n in range(128)})


@rule(_GROUP, "answer-size", "exchanges set limits, e.g. Smaato 6,144 bytes")
async def answer_size(trial: Trial) -> None:
    """Answers stay below the size limit"""
    for request in trial.requests:
        answer = await trial.post(fresh(request))
        if len(answer.content) > trial.max_answer_bytes:
            raise Failed(f"{len(answer.content):,} bytes, more than {trial.max_answer_bytes:,}")
