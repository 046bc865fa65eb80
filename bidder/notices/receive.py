"""What does this notice tell us? A query string becomes an event, or a reason to count nothing.

Notices may come twice, late, from a page's owner, or with a price that is none. What counts money
is only a token of ours, in time, with a usable price not above our bid (OpenRTB 2.6 §7.8).
"""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from bidder import ids
from bidder.events.schema import (
    BillingEvent,
    ClickEvent,
    ConversionEvent,
    ImpressionEvent,
    LossEvent,
    Notice,
    WinEvent,
)
from bidder.exchanges.profile import Exchange
from bidder.money import impression_cost, to_micros
from bidder.notices.tokens import Audience, InvalidToken, Sealed, Tokens
from bidder.openrtb.prices import UnusablePrice, read_price
from bidder.orders import Orders
from bidder.privacy import Rules, permission_from_query

Kind = Literal["win", "loss", "billing", "impression", "click", "conversion"]

EPOCH = date(1970, 1, 1)
_DAY = 86400
LIVES: Mapping[Kind, int] = {
    "win": _DAY,
    "loss": _DAY,
    "billing": _DAY,
    "impression": _DAY,
    "click": 7 * _DAY,
    "conversion": 37 * _DAY,
}
"""Seconds after the bid in which a notice counts. A click may come from a tab left open, and its
conversion as long after it as the longest attribution window."""
ROUNDING_MICROS = 5_000
"""A price this much above our bid, half a cent of a CPM, is our bid, rounded by the exchange."""
MAX_SALE = 10_000_000
"""In currency units: a sale above this is a mistake."""


class Rejected(Exception):
    """The notice counts nothing; `outcome` is the metric's label."""

    def __init__(self, outcome: str, sealed: Sealed | None = None) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.sealed = sealed
        """What the token said, if it was ours: a late click still redirects."""


class Desk(Struct, frozen=True):
    """What is needed to read a notice: keys, exchanges and names by 32-bit id, what we may do."""

    tokens: Tokens
    exchanges: Mapping[int, Exchange]
    names: Mapping[int, str]
    orders: Orders
    rules: Rules


def receive(
    kind: Kind, query: Mapping[str, str], desk: Desk, now: float, *, gpc: bool = False
) -> Notice:
    """The event behind a notice. `gpc` is the header `Sec-GPC`.

    Raises `Rejected` if it counts nothing.
    """
    if kind == "conversion":
        return _conversion(query, desk, now, gpc)
    browser = kind in ("impression", "click")
    sealed = _open(desk, query.get("t", ""), Audience.BROWSER if browser else Audience.EXCHANGE)
    _check_life(kind, sealed, now)
    if kind == "click":
        click_id = desk.tokens.seal(sealed, Audience.CLICK) if sealed.measure else ""
        return ClickEvent(**_common(sealed, desk, now), click_id=click_id)
    common = _common(sealed, desk, now)
    exchange = desk.exchanges.get(sealed.exchange)
    if exchange is None:
        return _of_one_gone(kind, query, common)
    if kind == "loss":
        return LossEvent(
            **common,
            reason=_small_number(query.get("r", "")),
            minimum_to_win_cpm_micros=_price_or_zero(query.get("m", ""), exchange),
        )
    if kind == "impression" and exchange.billing_notices:
        return ImpressionEvent(**common)
    if kind == "win" and "nurl" not in exchange.price_in:
        return WinEvent(**common)
    price = _price(query.get("p", ""), exchange, sealed)
    if kind == "win":
        return WinEvent(**common, price_cpm_micros=price)
    cost = impression_cost(round(price * sealed.rate))
    if kind == "billing":
        return BillingEvent(**common, price_cpm_micros=price, cost_micros=cost)
    return ImpressionEvent(**common, bills=True, price_cpm_micros=price, cost_micros=cost)


def _of_one_gone(kind: Kind, query: Mapping[str, str], common: dict[str, Any]) -> Notice:
    """A notice of an exchange that has no profile any more: nobody can read its prices, so what it
    bills costs our bid."""
    if kind == "loss":
        reason = _small_number(query.get("r", ""))
        return LossEvent(**common, reason=reason, minimum_to_win_cpm_micros=0)
    if kind == "win":
        return WinEvent(**common)
    impression = ImpressionEvent(**common)
    return impression if kind == "impression" else inferred_billing(impression)


def inferred_billing(impression: ImpressionEvent) -> BillingEvent:
    """What an impression costs whose billing notice never came: our bid."""
    fields = {name: getattr(impression, name) for name in Notice.__struct_fields__}
    cost = impression_cost(round(impression.bid_cpm_micros * impression.rate))
    return BillingEvent(
        **fields, price_cpm_micros=impression.bid_cpm_micros, cost_micros=cost, inferred=True
    )


def _conversion(query: Mapping[str, str], desk: Desk, now: float, gpc: bool) -> ConversionEvent:
    """A sale reported with the click id that the landing page was given.

    It is the campaign's in any case, and the person's where the landing page says that it may be.
    """
    sealed = _open(desk, query.get("cid", ""), Audience.CLICK)
    _check_life("conversion", sealed, now)
    try:
        value = float(query.get("value") or 0)
    except ValueError:
        raise Rejected("malformed", sealed) from None
    if not 0 <= value <= MAX_SALE:
        raise Rejected("malformed", sealed)
    if not permission_from_query(query, desk.rules, now, gpc=gpc).measure:
        sealed = replace(sealed, person="", measure=False)
    return ConversionEvent(
        **_common(sealed, desk, now),
        order=desk.orders.text(query.get("order", ""), sealed.advertiser),
        value_micros=to_micros(value),
    )


def _open(desk: Desk, text: str, audience: Audience) -> Sealed:
    if not text:
        raise Rejected("no_token")
    try:
        return desk.tokens.open(text, audience)
    except InvalidToken:
        raise Rejected("forged") from None


def _check_life(kind: Kind, sealed: Sealed, now: float) -> None:
    if now - ids.bid_time(sealed.bid_id) > LIVES[kind]:
        raise Rejected("expired", sealed)
    if sealed.test:
        raise Rejected("test", sealed)


def _price(text: str, exchange: Exchange, sealed: Sealed) -> int:
    try:
        price = read_price(text, exchange.price)
    except UnusablePrice as error:
        raise Rejected(f"price_{error.kind}", sealed) from None
    if price > sealed.bid_cpm_micros + ROUNDING_MICROS:
        raise Rejected("price_above_bid", sealed)
    return min(price, sealed.bid_cpm_micros)


def _price_or_zero(text: str, exchange: Exchange) -> int:
    """The minimum to win, which many exchanges leave out; it counts no money."""
    try:
        return read_price(text, exchange.price)
    except UnusablePrice:
        return 0


def _small_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0


def _common(sealed: Sealed, desk: Desk, now: float) -> dict[str, Any]:
    """The fields that every notice shares."""
    made = ids.bid_time(sealed.bid_id)
    exchange = desk.exchanges.get(sealed.exchange)
    return {
        "time": now,
        "bid_id": ids.to_text(sealed.bid_id),
        "exchange": exchange.name if exchange else _unnamed(sealed.exchange),
        "line_item": desk.names.get(sealed.line_item) or _unnamed(sealed.line_item),
        "creative": desk.names.get(sealed.creative, "").rpartition("/")[2]
        or _unnamed(sealed.creative),
        "ids": (sealed.advertiser, sealed.campaign, sealed.line_item, sealed.creative),
        "bid_time": float(made),
        "bid_cpm_micros": sealed.bid_cpm_micros,
        "currency": sealed.currency,
        "account_currency": sealed.account_currency,
        "rate": sealed.rate,
        "hold": sealed.holder,
        "person": sealed.person,
        "hold_until": float(made + sealed.hold_seconds),
        "day": (EPOCH + timedelta(days=sealed.day)).isoformat(),
        "page": sealed.page,
        "measure": sealed.measure,
    }


def _unnamed(id32: int) -> str:
    """What to call something that is no longer in the catalogue."""
    return f"#{id32:08x}"
