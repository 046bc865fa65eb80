"""What does reading all over the heap cost, in usual pages and in huge ones (`huge_pages`)?

Two million floats stand for a worker's objects; a call reads 20,000 of them, in no order.
"""

from random import Random

import pytest

from bidder.server import huge_pages
from loadtest.bench.micro import Timed

OBJECTS = [each / 7 for each in range(2_000_000)]
PICKS = [Random(seed).sample(range(len(OBJECTS)), 20_000) for seed in range(20)]


@pytest.mark.parametrize("gathered", [False, True], ids=["usual", "huge"])  # there is no way back
def bench_reading_in_pages(timed: Timed, gathered: bool) -> None:
    if gathered:
        huge_pages.gather()
    turns = iter(PICKS * 10_000)
    timed(lambda: sum(map(OBJECTS.__getitem__, next(turns))))
