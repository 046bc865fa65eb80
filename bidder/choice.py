"""What is chosen? A line item and creative for a slot, in one of its markets, at a price.

The values that `choosing` makes and `engine`, `answering` and `explain` read.
"""

from msgspec import Struct

from bidder.campaigns.catalogue import Creative, LineItem
from bidder.capping import Kind, Ledger, Record, Rule
from bidder.openrtb.opportunity import DealOffer, Slot
from bidder.person import Profile
from bidder.pricing import Estimate
from bidder.scoring.features import Row


class Contender(Struct, frozen=True, gc=False):
    """A line item that may speak, before its creatives are looked at."""

    line_item: LineItem
    pace: float
    """The pacing's part of the factor on its value."""
    rate: float
    """What turns its currency into the bid's."""
    most_micros: int
    """The highest value it can come to, CPM micros of the bid's currency."""


class Candidate(Struct, frozen=True, gc=False):
    """A line item with a creative that may be shown in a slot, before it is scored."""

    line_item: LineItem
    creative: Creative
    size: tuple[int, int]
    rules: tuple[Rule, ...]
    felt: float
    """How intrusive it would be felt to be now, 0..1."""
    factor: float
    """The trader's modifiers and the pacing, multiplied."""
    rate: float
    """What turns its currency into the bid's."""


class Market(Struct, frozen=True, gc=False):
    """One way to buy a slot: its open auction, or one of its deals."""

    deal: DealOffer | None
    floor_micros: int
    """In the bid's currency."""
    auction: int
    """1 first price, 2 second price, 3 fixed price."""


class Scored(Struct, frozen=True, gc=False):
    """A candidate's worth in CPM micros of the bid's currency, and what it rests on."""

    value_micros: int
    estimate: Estimate
    row: Row
    """The features it was scored on."""


class Choice(Struct, frozen=True, gc=False):
    """One bid we are about to make; prices are CPM micros of `currency`."""

    slot: Slot
    market: Market
    candidate: Candidate
    scored: Scored
    price_micros: int
    currency: str
    p_win: float = 0.0
    """How likely the price is to win, as far as it is learnt; 0 = nothing is."""
    explored: bool = False
    """The price was drawn at random, to learn from."""

    @property
    def line_item(self) -> LineItem:
        """Who speaks."""
        return self.candidate.line_item

    def reservation(self, now: int, hold_seconds: int, page: int, bid_key: bytes) -> Record:
        """What stands in the ledger until we know whether the ad was shown."""
        item = self.line_item
        return Record(
            time=now,
            kind=Kind.RESERVATION,
            advertiser=item.campaign.advertiser.id32,
            campaign=item.campaign.id32,
            line_item=item.id32,
            creative=self.candidate.creative.id32,
            hold=hold_seconds,
            page=page,
            bid_key=bid_key,
        )


class Asker(Struct, frozen=True, gc=False):
    """Who is asking, as far as we may know."""

    profile: Profile
    ledger: Ledger
    known: bool
    person: str = ""
    """Person id; empty for nobody."""
