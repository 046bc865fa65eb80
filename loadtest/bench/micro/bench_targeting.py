"""What does it cost to find the line items that may bid? Bitmaps over 100 to 100,000 of them."""

from functools import cache
from typing import NamedTuple

import pytest

from bidder.campaigns.catalogue import Catalogue
from bidder.openrtb.opportunity import Opportunity
from bidder.targeting import AudienceIndex, Index, Schedule, survivors
from loadtest.bench.micro import Timed, over
from loadtest.bench.micro.made import NOW, PER_ADVERTISER, catalogue, offers, profile

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
    whole = catalogue(line_items)
    advertisers = max(line_items // PER_ADVERTISER, 1)
    asked = [
        (offer, profile(number, advertisers).segments) for number, offer in enumerate(offers(1000))
    ]
    return Made(whole, Index(whole), AudienceIndex(whole), Schedule(whole), asked)


def _of_request(made: Made, offer: Opportunity) -> list[int]:
    accepted = made.line_items.request_mask(offer, made.schedule.mask(NOW, None))
    return [made.line_items.slot_mask(slot, accepted) for slot in offer.slots]


def bench_request_and_slots(timed: Timed, made: Made) -> None:
    """The line items that accept a request and its slots: what is done before any I/O."""
    timed(over(made.asked, lambda asked: _of_request(made, asked[0])))


def bench_audience(timed: Timed, made: Made) -> None:
    """The line items that speak to a person."""
    timed(over(made.asked, lambda asked: made.audiences.mask(asked[1], NOW)))


def bench_all_and_survivors(timed: Timed, made: Made) -> None:
    """Request, slots, audience, and going through who is left."""

    def find(asked: Asked) -> list[list[int]]:
        offer, segments = asked
        speaking = made.audiences.mask(segments, NOW)
        return [survivors(mask & speaking) for mask in _of_request(made, offer)]

    timed(over(made.asked, find))


def bench_schedule_at_a_change(timed: Timed, made: Made) -> None:
    """The open mask worked out anew, as it is every quarter of an hour: a request waits for it."""
    moments = over(
        [NOW + 900 * step for step in range(96)], lambda at: made.schedule.mask(at, None)
    )
    timed(moments)


def bench_build(timed: Timed, made: Made) -> None:
    """The index of a catalogue, as made at a reload."""
    timed(lambda: Index(made.catalogue))
