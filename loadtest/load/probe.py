"""Is there anything to measure? A few requests sent first, one after another.

A bidder that bids on nothing answers fast and proves nothing (an empty store is the usual cause),
so load is refused unless one of the sample gets a bid.
"""

import gzip
import http.client
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from urllib.parse import urlsplit

from loadtest.load.bodies import People, message, written
from loadtest.load.generator import address
from loadtest.load.wire import Answer

SAMPLE = 200
_HEADERS = {"Content-Type": "application/json", "x-openrtb-version": "2.6"}


class NothingToMeasure(RuntimeError):
    """The server bids on nothing, or is not there; the message is for the user."""


def probe(url: str, bodies: Sequence[bytes], people: People, random: Random) -> int:
    """Send up to `SAMPLE` bodies until one gets a bid; returns how many it took.

    Raises `NothingToMeasure` if there is no server at `url`, or no bid among its answers.
    """
    statuses: Counter[int] = Counter()
    with asking(url) as ask:
        for number, body in enumerate(sample(url, bodies, people, random), 1):
            answer = ask(body)
            if answer.is_bid:
                return number
            statuses[answer.status] += 1
    seen = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    raise NothingToMeasure(
        f"none of {SAMPLE} requests to {url} was answered with a bid ({seen}). Is the store empty, "
        "or do the bodies ask for what no line item sells? Load without bids measures nothing."
    )


@contextmanager
def asking(url: str) -> Iterator[Callable[[bytes], Answer]]:
    """A connection to `url`: called with a body, it gives the answer, unpacked.

    Raises `NothingToMeasure` if there is no server, or none that answers.
    """
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(*address(parts), timeout=10)

    def ask(body: bytes) -> Answer:
        connection.request("POST", path, body, _HEADERS)
        found = connection.getresponse()
        return _plain(found.status, found.read(), found.getheader("Content-Encoding"))

    try:
        yield ask
    except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
        raise NothingToMeasure(f"no answer from {url}: {error or type(error).__name__}") from error
    finally:
        connection.close()


def sample(url: str, bodies: Sequence[bytes], people: People, random: Random) -> Iterator[bytes]:
    """`SAMPLE` bodies from all over `bodies`, with their places for request and person filled."""
    chosen = random.sample(bodies, min(len(bodies), SAMPLE))
    for number in range(SAMPLE):
        one = message(urlsplit(url), chosen[number % len(chosen)])
        person = int(people.number * random.random() ** people.skew)
        yield written(one, number, person).partition(b"\r\n\r\n")[2]


def _plain(status: int, body: bytes, encoding: str | None) -> Answer:
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding == "deflate":
        body = zlib.decompress(body)
    return Answer(status, body, keep_alive=True, compressed=False)
