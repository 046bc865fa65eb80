"""Is there anything to measure? A few requests sent first, one after another.

A bidder that bids on nothing answers fast and proves nothing (an empty store is the usual cause),
so load is refused unless one of the sample gets a bid.
"""

import gzip
import http.client
import zlib
from collections import Counter
from collections.abc import Sequence
from random import Random
from urllib.parse import urlsplit

from loadtest.load.bodies import People, message, written
from loadtest.load.generator import address
from loadtest.load.wire import Answer

SAMPLE = 200


class NothingToMeasure(RuntimeError):
    """The server bids on nothing, or is not there; the message is for the user."""


def probe(url: str, bodies: Sequence[bytes], people: People, random: Random) -> int:
    """Send up to `SAMPLE` bodies until one gets a bid; returns how many it took.

    Raises `NothingToMeasure` if there is no server at `url`, or no bid among its answers.
    """
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(*address(parts), timeout=10)
    statuses: Counter[int] = Counter()
    try:
        for number in range(SAMPLE):
            body = bodies[number % len(bodies)]
            person = int(people.number * random.random() ** people.skew)
            sent = written(message(parts, body), number, person).partition(b"\r\n\r\n")[2]
            headers = {"Content-Type": "application/json", "x-openrtb-version": "2.6"}
            connection.request("POST", path, sent, headers)
            found = connection.getresponse()
            answer = _plain(found.status, found.read(), found.getheader("Content-Encoding"))
            if answer.is_bid:
                return number + 1
            statuses[answer.status] += 1
    except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
        raise NothingToMeasure(f"no answer from {url}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    seen = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    raise NothingToMeasure(
        f"none of {SAMPLE} requests to {url} was answered with a bid ({seen}). Is the store empty, "
        "or do the bodies ask for what no line item sells? Load without bids measures nothing."
    )


def _plain(status: int, body: bytes, encoding: str | None) -> Answer:
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding == "deflate":
        body = zlib.decompress(body)
    return Answer(status, body, keep_alive=True, compressed=False)
