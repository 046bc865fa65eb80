"""What does it cost to read a request? Decoding, and boiling down to an `Opportunity`."""

import orjson
import pytest

from bidder.openrtb.opportunity import opportunity
from bidder.openrtb.request import decode
from loadtest.bench import bodies
from loadtest.bench.micro import Timed, over

DAY = 1_780_272_000


@pytest.fixture(scope="module")
def raw() -> list[bytes]:
    """A thousand different bodies."""
    made = bodies.made(1, 1000, day=DAY, consent_strings=200, vendor_id=1234)
    return [orjson.dumps(body) for body in made]


def bench_orjson_loads(timed: Timed, raw: list[bytes]) -> None:
    """What the bare application does with them: the yardstick."""
    timed(over(raw, orjson.loads))


def bench_decode(timed: Timed, raw: list[bytes]) -> None:
    """Bytes to a folded `BidRequest`."""
    timed(over(raw, decode))


def bench_opportunity(timed: Timed, raw: list[bytes]) -> None:
    """`BidRequest` to `Opportunity`."""
    requests = [decode(body) for body in raw]
    timed(over(requests, lambda request: opportunity(request, "bench")))
