"""What does it cost to find the line items that may bid? Bitmaps over 100 to 100,000 of them."""

from functools import cache
from itertools import count
from typing import NamedTuple

import orjson
import pytest

from bidder.campaigns.catalogue import Catalogue, LineItem
from bidder.campaigns.compiling import compiled
from bidder.campaigns.schema import Advertiser
from bidder.ids import hash32
from bidder.openrtb.opportunity import Opportunity, opportunity
from bidder.openrtb.request import decode
from bidder.people.records import parse
from bidder.targeting import AudienceIndex, Index, Schedule, survivors
from loadtest.bench import bodies, campaigns, people
from loadtest.bench.micro import Timed, over

DAY = 1_780_272_000
NOW = DAY + 12 * 3600
PER_ADVERTISER = 100

Asked = tuple[Opportunity, dict[str, int]]
"""An opportunity, and the segments of whoever is asking."""


class Made(NamedTuple):
    """The indexes of one catalogue, and requests to try them with."""

    catalogue: Catalogue
    line_items: Index
    audiences: AudienceIndex
    schedule: Schedule
    asked: list[Asked]


@pytest.fixture(params=[100, 10_000, 100_000])
def made(request: pytest.FixtureRequest) -> Made:
    """A catalogue of so many line items."""
    return _made(request.param)


@cache
def _made(line_items: int) -> Made:
    catalogue = _catalogue(line_items)
    advertisers = max(line_items // PER_ADVERTISER, 1)
    asked = [
        (opportunity(decode(orjson.dumps(body)), "bench"), _segments(number, advertisers))
        for number, body in enumerate(
            bodies.made(1, 1000, day=DAY, consent_strings=50, vendor_id=1234)
        )
    ]
    return Made(catalogue, Index(catalogue), AudienceIndex(catalogue), Schedule(catalogue), asked)


def _catalogue(line_items: int) -> Catalogue:
    """What `workload` writes, without the files."""
    found: list[LineItem] = []
    for number in range(max(line_items // PER_ADVERTISER, 1)):
        content = campaigns.advertiser(1, number, min(line_items, PER_ADVERTISER)).content
        found += compiled(Advertiser.model_validate(content), hash32).line_items
    found.sort(key=lambda item: -item.bid.max_cpm_micros)
    numbers = count()
    items = [_numbered(item, next(numbers)) for item in found]
    return Catalogue(version="", line_items=tuple(items), campaigns=(), advertisers=(), names={})


def _numbered(item: LineItem, index: int) -> LineItem:
    fields = {name: getattr(item, name) for name in item.__struct_fields__}
    return LineItem(**{**fields, "index": index})


def _segments(number: int, advertisers: int) -> dict[str, int]:
    line = orjson.dumps(people.person(1, number, advertisers, DAY, "buyeruid.bench"))
    return parse(line, NOW).profile.segments


def _of_request(made: Made, offer: Opportunity) -> list[int]:
    accepted = made.line_items.request_mask(offer, made.schedule.mask(NOW, None))
    return [made.line_items.slot_mask(slot, accepted) for slot in offer.slots]


def bench_request_and_slots(benchmark: Timed, made: Made) -> None:
    """The line items that accept a request and its slots: what is done before any I/O."""
    benchmark(over(made.asked, lambda asked: _of_request(made, asked[0])))


def bench_audience(benchmark: Timed, made: Made) -> None:
    """The line items that speak to a person."""
    benchmark(over(made.asked, lambda asked: made.audiences.mask(asked[1], NOW)))


def bench_all_and_survivors(benchmark: Timed, made: Made) -> None:
    """Request, slots, audience, and going through who is left."""

    def find(asked: Asked) -> list[list[int]]:
        offer, segments = asked
        speaking = made.audiences.mask(segments, NOW)
        return [survivors(mask & speaking) for mask in _of_request(made, offer)]

    benchmark(over(made.asked, find))


def bench_schedule_at_a_change(benchmark: Timed, made: Made) -> None:
    """The open mask worked out anew, as it is every quarter of an hour: a request waits for it."""
    moments = over(
        [NOW + 900 * step for step in range(96)], lambda at: made.schedule.mask(at, None)
    )
    benchmark(moments)


def bench_build(benchmark: Timed, made: Made) -> None:
    """The index of a catalogue, as made at a reload."""
    benchmark(lambda: Index(made.catalogue))
