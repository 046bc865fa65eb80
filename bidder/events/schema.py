"""What is written down? One struct per kind of event, one JSON line each, told apart by `type`.

Times are seconds since the epoch with fractions; prices are CPM micros of `currency`, the
exchange's; costs are micros of `account_currency`, the advertiser's. An event may stand in the log
more than once: readers count it once per (`bid_id`, `type`), a conversion with an `order` once per
advertiser and `order`.
"""

from typing import Any

import msgspec
from msgspec import Struct


class Event(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of all events."""

    time: float


class BidEvent(Event, frozen=True, tag="bid"):
    """We answered with this bid."""

    bid_id: str
    request_id: str
    imp_id: str
    exchange: str
    line_item: str
    """advertiser/campaign/line item."""
    creative: str
    """Creative id."""
    price_cpm_micros: int
    currency: str
    value_cpm_micros: int
    """What the impression was worth to us, before shading, in `currency`."""
    account_currency: str
    rate: float
    """What a price in `currency` is multiplied by to have it in `account_currency`."""
    first_price: bool
    floor_cpm_micros: int = 0
    size: str = ""
    deal: str = ""
    person: str = ""
    """Empty where we have no permission, or do not know who it is."""
    p_click: float = 0.0
    p_conversion: float = 0.0
    p_view: float = 0.0
    intrusiveness: float = 0.0
    model: str = ""
    features: list[float | None] = []
    """One row of `scoring.features`; null = unknown (JSON has no NaN)."""
    feature_version: str = ""
    country: str = ""
    device: str = ""
    os: str = ""
    browser: str = ""
    domain: str = ""
    """Domain or app bundle, never a path."""
    publisher: str = ""
    consent: bool = False
    """The person may be profiled and measured (`Permission.measure`)."""
    train: bool = False
    """The row may be used to train models (`Permission.train`)."""
    p_win: float = 0.0
    """How likely the price was thought to win; 0 = nothing was learnt."""
    shading: str = ""
    """Version of the win rates that the price rests on."""
    explored: bool = False
    """The price was drawn at random between floor and value, to learn from."""
    propensity: float = 1.0
    """The share of such bids that are priced this way: explored, or not."""
    extra: dict[str, Any] = {}


class NoBidEvent(Event, frozen=True, tag="no_bid"):
    """A sample of the requests that got no bid. `weight` says how many each stands for."""

    request_id: str
    exchange: str
    reason: int
    weight: float = 1.0
    line_items: dict[str, int] = {}
    """Line item path -> reason, for those that were candidates."""
    country: str = ""
    device: str = ""
    domain: str = ""
    size: str = ""


class GhostEvent(Event, frozen=True, tag="ghost"):
    """The bid that was not made, because the person is in the campaign's control group."""

    bid_id: str
    """Of no bid; it tells one ghost from another."""
    exchange: str
    line_item: str
    creative: str
    price_cpm_micros: int
    currency: str
    value_cpm_micros: int
    p_win: float
    """How likely the bid would have won; 0 = nothing was learnt."""
    person: str


class RequestsEvent(Event, frozen=True, tag="requests"):
    """How many requests an exchange sent since the last such line of this worker."""

    exchange: str
    requests: int
    bids: int
    eligible: dict[str, int] = {}
    """Line item path -> requests on which it was a candidate after targeting."""


class Notice(Event, frozen=True):
    """Base of what exchanges and browsers tell us about one bid."""

    bid_id: str
    exchange: str
    line_item: str
    creative: str
    bid_time: float
    bid_cpm_micros: int
    currency: str
    account_currency: str
    rate: float
    hold: str
    """The process whose lease holds this bid's money."""
    ids: tuple[int, int, int, int]
    """32-bit ids of advertiser, campaign, line item and creative, whatever became of the names."""
    person: str = ""
    hold_until: float = 0.0
    """When the reservation in the ledger ends by itself."""
    day: str = ""
    """The day the bid belongs to in the campaign's zone, YYYY-MM-DD."""
    page: int = 0
    """Hash of the page view, as in the ledger."""
    measure: bool = False
    """Clicks and sales may be attributed to the person (`Permission.measure`); without it `person`
    is for caps alone."""


class WinEvent(Notice, frozen=True, tag="win"):
    price_cpm_micros: int = 0


class LossEvent(Notice, frozen=True, tag="loss"):
    reason: int = 0
    minimum_to_win_cpm_micros: int = 0


class BillingEvent(Notice, frozen=True, tag="billing"):
    price_cpm_micros: int = 0
    cost_micros: int = 0
    inferred: bool = False
    """No billing notice came in time: the price is our bid."""


class ImpressionEvent(Notice, frozen=True, tag="impression"):
    bills: bool = False
    """The exchange has no billing notice: this counts the cost."""
    cost_micros: int = 0
    price_cpm_micros: int = 0


class ClickEvent(Notice, frozen=True, tag="click"):
    click_id: str = ""


class ConversionEvent(Notice, frozen=True, tag="conversion"):
    order: str = ""
    """Stands for the advertiser's order number, see `bidder.orders`; empty = none was given."""
    value_micros: int = 0
    kind: str = "click"
    """What it is attributed to: `click` or `view`."""


AnyEvent = (
    BidEvent
    | NoBidEvent
    | GhostEvent
    | RequestsEvent
    | WinEvent
    | LossEvent
    | BillingEvent
    | ImpressionEvent
    | ClickEvent
    | ConversionEvent
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def encode(event: Event) -> bytes:
    """One line of the log, with its newline."""
    return _encoder.encode(event) + b"\n"


def decode(line: bytes) -> AnyEvent:
    """The event on one line. Raises `msgspec.MsgspecError` on a torn or foreign one."""
    return _decoder.decode(line)
