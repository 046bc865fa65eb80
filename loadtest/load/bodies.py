"""What is sent? Recorded or made bodies, and how one message is written from each.

A body may hold ``{{n}}``, a number that no other request of the run has, and ``{{person}}``, the
number of a person, so that a few thousand bodies make millions of different requests. Both are
written with leading zeros (12 and 8 digits), so the length of a message never changes.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import SplitResult

import orjson

_SLOT = re.compile(rb"\{\{(n|person)\}\}")
_TMAX = re.compile(rb'"tmax"\s*:\s*(\d+)')
_SAMPLE = {b"n": b"0" * 12, b"person": b"0" * 8}


class Message(NamedTuple):
    """One HTTP request with the places that change. `tmax_seconds` is 0 if the body has none."""

    parts: tuple[bytes, ...]
    """What stands between the slots: one more part than there are slots."""
    slots: tuple[bool, ...]
    """True for a person, False for a running number."""
    tmax_seconds: float


class People(NamedTuple):
    """Who is behind the requests: person numbers below `number`.

    A number is drawn as ``number * u ** skew`` with u uniform: above 1 the low numbers come back
    more often, as frequent readers do.
    """

    number: int = 1_000_000
    skew: float = 1.0


EVERYONE = People()


def read(path: Path) -> list[bytes]:
    """The bodies in a file of JSON Lines, or the one in a file that is a single JSON object.

    A line is a body, or an object whose ``body`` is one. Raises `ValueError` with the line at
    fault, `OSError` if there is no such file.
    """
    text = path.read_bytes()
    try:
        return [_body(orjson.loads(text), text.strip())]
    except orjson.JSONDecodeError:
        pass
    bodies = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                bodies.append(_body(orjson.loads(line), line.strip()))
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
    if not bodies:
        raise ValueError(f"{path} holds no body")
    return bodies


def demo(path: Path, people: int = 200) -> list[bytes]:
    """The demo's request by each of its people and as often by a stranger: caps silence the former
    after a few ads, and load without bids would measure nothing. Raises as `read`."""
    (body,) = read(path)
    asked = orjson.loads(body)
    known = [f"demo-person-{number}" for number in range(1, people + 1)]
    strangers = [f"stranger-{number}-{{{{person}}}}" for number in range(people)]
    return [
        orjson.dumps(asked | {"id": "demo-{{n}}", "user": {"buyeruid": who}})
        for who in (*known, *strangers)
    ]


def _body(value: object, raw: bytes) -> bytes:
    if not isinstance(value, dict):
        raise ValueError("a body must be a JSON object")
    inner = value.get("body")
    return orjson.dumps(inner) if "imp" not in value and isinstance(inner, dict) else raw


def message(url: SplitResult, body: bytes) -> Message:
    """The HTTP/1.1 request that posts `body` to `url`."""
    length = len(_SLOT.sub(lambda slot: _SAMPLE[slot[1]], body))
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
        f"x-openrtb-version: 2.6\r\nContent-Length: {length}\r\n\r\n"
    )
    pieces = _SLOT.split(head.encode() + body)
    tmax = _TMAX.search(body)
    return Message(
        parts=tuple(pieces[::2]),
        slots=tuple(name == b"person" for name in pieces[1::2]),
        tmax_seconds=int(tmax[1]) / 1000 if tmax else 0.0,
    )


def written(message: Message, number: int, person: int) -> bytes:
    """The bytes of one request."""
    if not message.slots:
        return message.parts[0]
    n, who = b"%012d" % number, b"%08d" % person
    out = [message.parts[0]]
    for is_person, part in zip(message.slots, message.parts[1:], strict=True):
        out.append(who if is_person else n)
        out.append(part)
    return b"".join(out)


def endless(
    messages: Sequence[Message], people: People, random: Random, first: int, stride: int
) -> Iterator[tuple[bytes, float]]:
    """Requests without end, with their tmax in seconds: every message in turn, shuffled once.

    `first` and `stride` keep the running numbers of several generators apart.
    """
    order = list(messages)
    random.shuffle(order)
    draw, count, skew = random.random, people.number, people.skew
    number = first
    while True:
        for one in order:
            yield written(one, number, int(count * draw() ** skew)), one.tmax_seconds
            number += stride
