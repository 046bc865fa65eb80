"""Does it know anybody? Requests as they are, beside twins by people whom nobody knows.

With nobody in the store a line item that serves unknown people still bids, and everything is fast.
A bidder's counters do not tell (such a bid counts as any other), its prices do.
"""

import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any
from uuid import UUID

import orjson

from loadtest.load.bodies import People
from loadtest.load.probe import NothingToMeasure, asking, sample
from loadtest.load.wire import Answer

SIGMAS = 3
"""How sure we are that it is not chance: 9 requests, if those without people never differ."""
_PRICE = re.compile(rb'"price"\s*:\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')
_OF_USER = ("id", "buyeruid")
_OF_DEVICE = ("ifa", "dpidsha1", "dpidmd5", "didsha1", "didmd5", "macsha1", "macmd5")


def recognised(url: str, bodies: Sequence[bytes], people: People, random: Random) -> int:
    """Ask up to `SAMPLE` times, until what is bid depends on who asks; returns how many it took.

    Each request is followed by two twins, each by a stranger. What is bid for the known one must
    differ from the first more often by more than the twins differ from each other (a sign test, so
    that rotation and pacing do not pass for knowledge). Bodies that name nobody are passed over; 0
    if none names anybody. Raises `NothingToMeasure` if it never depends.
    """
    asked = further = nearer = 0
    with asking(url) as ask:
        for body in sample(url, bodies, people, random):
            twins = [twin for twin in (stranger(body, random) for _ in range(2)) if twin]
            if not twins:
                continue
            asked += 1
            known, first, second = (worth(ask(each)) for each in (body, *twins))
            further += abs(known - first) > abs(first - second)
            nearer += abs(known - first) < abs(first - second)
            if further - nearer >= SIGMAS * (further + nearer) ** 0.5 > 0:
                return asked
    if asked:
        raise NothingToMeasure(
            f"{asked} requests to {url} got no other bids than the same by people whom nobody "
            "knows. The store seems empty, or nothing is bid differently for those in it. Load the "
            "people whom the bodies name, or go on with --unknown-people."
        )
    return 0


def stranger(body: bytes, random: Random) -> bytes:
    """The request by somebody unknown: each identifier a random one. Empty if it names nobody."""
    request = orjson.loads(body)
    named = False
    for holder, key in _identifiers(request):
        value = holder.get(key)
        if isinstance(value, str) and value.strip("0-"):
            holder[key] = str(UUID(int=random.getrandbits(128), version=4))
            named = True
    return orjson.dumps(request) if named else b""


def _identifiers(request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where identifiers may stand, in OpenRTB 2.6 (§3.2.18, §3.2.20, §3.2.27) and before."""
    for user in _objects(request, "user"):
        yield from ((user, key) for key in _OF_USER)
        for holder in (user, *_objects(user, "ext")):
            for eid in _objects(holder, "eids"):
                yield from ((uid, "id") for uid in _objects(eid, "uids"))
    for device in _objects(request, "device"):
        yield from ((device, key) for key in _OF_DEVICE)


def _objects(holder: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The object under `key`, or those in the list there."""
    found = holder.get(key)
    listed = found if isinstance(found, list) else [found]
    return [each for each in listed if isinstance(each, dict)]


def worth(answer: Answer) -> float:
    """All prices bid together; 0 for no bid."""
    return sum(map(float, _PRICE.findall(answer.body))) if answer.is_bid else 0.0
