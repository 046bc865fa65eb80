"""Reading notices: what becomes an event, and everything that counts nothing."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from bidder import ids
from bidder.events.schema import (
    BillingEvent,
    ClickEvent,
    ConversionEvent,
    ImpressionEvent,
    LossEvent,
    WinEvent,
)
from bidder.ids import hash32
from bidder.notices.receive import LIVES, Desk, Kind, Rejected, inferred_billing, receive
from bidder.notices.tokens import Audience, Sealed
from bidder.openrtb.prices import Keys, encrypt

NOW = 1_790_000_000.0
KEYS = Keys(bytes(range(32)), bytes(range(1, 33)))
AUDIENCES: dict[Kind, Audience] = {
    "win": Audience.EXCHANGE,
    "loss": Audience.EXCHANGE,
    "billing": Audience.EXCHANGE,
    "impression": Audience.BROWSER,
    "click": Audience.BROWSER,
    "conversion": Audience.CLICK,
}
KINDS = list(AUDIENCES)
Make = Callable[..., Sealed]


def query(kind: Kind, desk: Desk, what: Sealed, **more: str) -> dict[str, str]:
    """The parameters of a notice about `what`."""
    name = "cid" if kind == "conversion" else "t"
    return {name: desk.tokens.seal(what, AUDIENCES[kind]), "p": "2.1", **more}


def rejected(kind: Kind, asked: dict[str, str], desk: Desk, now: float = NOW + 5) -> Rejected:
    """The rejection of a notice that must be rejected."""
    with pytest.raises(Rejected) as caught:
        receive(kind, asked, desk, now)
    return caught.value


def test_what_all_notices_say(desk: Desk, sealed: Make) -> None:
    event = receive("billing", query("billing", desk, sealed()), desk, NOW + 5)
    told = sealed()
    assert event.time == NOW + 5
    assert event.bid_id == ids.to_text(told.bid_id)
    assert event.bid_time == NOW
    assert (event.exchange, event.line_item, event.creative) == (
        "plain", "shop/spring/shoes", "red",
    )  # fmt: skip
    assert event.ids == (told.advertiser, told.campaign, told.line_item, told.creative)
    assert (event.currency, event.account_currency, event.rate) == ("USD", "EUR", 0.9)
    assert event.bid_cpm_micros == 2_500_000
    assert (event.hold, event.day, event.person) == ("0-cafe", "2026-09-22", told.person)
    assert event.page == 77
    assert event.hold_until == NOW + 900


def test_what_is_no_longer_in_the_catalogue_keeps_its_number(desk: Desk, sealed: Make) -> None:
    gone = sealed(exchange=5, line_item=6, creative=7)
    event = receive("click", query("click", desk, gone), desk, NOW)
    assert event.exchange == "#00000005"
    assert (event.line_item, event.creative) == ("#00000006", "#00000007")


def test_billing_costs_the_price_in_the_advertisers_currency(desk: Desk, sealed: Make) -> None:
    event = receive("billing", query("billing", desk, sealed()), desk, NOW)
    assert isinstance(event, BillingEvent)
    assert event.price_cpm_micros == 2_100_000
    assert event.cost_micros == 1_890  # 2.10 USD CPM x 0.9 EUR/USD / 1000


def test_a_price_equal_to_the_bid_counts(desk: Desk, sealed: Make) -> None:
    event = receive("billing", query("billing", desk, sealed(), p="2.5"), desk, NOW)
    assert isinstance(event, BillingEvent)
    assert event.price_cpm_micros == 2_500_000


def test_an_encrypted_price(desk: Desk, sealed: Make) -> None:
    told = sealed(exchange=hash32("sealed"))
    price = encrypt(1_230_000, KEYS, bytes(16))
    event = receive("billing", query("billing", desk, told, p=price), desk, NOW)
    assert isinstance(event, BillingEvent)
    assert event.price_cpm_micros == 1_230_000


def test_a_win_counts_no_money(desk: Desk, sealed: Make) -> None:
    event = receive("win", query("win", desk, sealed()), desk, NOW)
    assert isinstance(event, WinEvent)
    assert event.price_cpm_micros == 2_100_000


def test_a_win_needs_no_price_where_the_exchange_sends_none(desk: Desk, sealed: Make) -> None:
    told = sealed(exchange=hash32("pixel"))
    event = receive("win", query("win", desk, told, p=""), desk, NOW)
    assert isinstance(event, WinEvent)
    assert event.price_cpm_micros == 0


@pytest.mark.parametrize(
    ("reason", "minimum", "said"),
    [
        ("102", "1.75", (102, 1_750_000)),
        ("", "", (0, 0)),
        ("${AUCTION_LOSS}", "${AUCTION_MIN_TO_WIN}", (0, 0)),
        ("-1", "nonsense", (0, 0)),
        ("99999", "AUDIT", (0, 0)),
        ("٣", "-4", (0, 0)),
    ],
)
def test_a_loss_is_a_loss_whatever_it_says(
    desk: Desk, sealed: Make, reason: str, minimum: str, said: tuple[int, int]
) -> None:
    asked = query("loss", desk, sealed(), r=reason, m=minimum)
    event = receive("loss", asked, desk, NOW)
    assert isinstance(event, LossEvent)
    assert (event.reason, event.minimum_to_win_cpm_micros) == said


def test_an_impression_bills_only_where_nothing_else_does(desk: Desk, sealed: Make) -> None:
    seen = receive("impression", query("impression", desk, sealed()), desk, NOW)
    assert isinstance(seen, ImpressionEvent)
    assert (seen.bills, seen.cost_micros) == (False, 0)
    told = sealed(exchange=hash32("pixel"))
    billed = receive("impression", query("impression", desk, told), desk, NOW)
    assert isinstance(billed, ImpressionEvent)
    assert (billed.bills, billed.price_cpm_micros, billed.cost_micros) == (True, 2_100_000, 1_890)


def test_an_inferred_billing_costs_our_bid(desk: Desk, sealed: Make) -> None:
    seen = receive("impression", query("impression", desk, sealed()), desk, NOW)
    assert isinstance(seen, ImpressionEvent)
    billed = inferred_billing(seen)
    assert billed.inferred
    assert (billed.price_cpm_micros, billed.cost_micros) == (2_500_000, 2_250)
    assert (billed.bid_id, billed.time, billed.ids) == (seen.bid_id, seen.time, seen.ids)


def test_a_click_hands_on_an_id_that_finds_the_bid(desk: Desk, sealed: Make) -> None:
    event = receive("click", query("click", desk, sealed()), desk, NOW)
    assert isinstance(event, ClickEvent)
    sale = receive(
        "conversion", {"cid": event.click_id, "order": "A-7", "value": "59.90"}, desk, NOW
    )
    assert isinstance(sale, ConversionEvent)
    assert sale.bid_id == event.bid_id
    assert (sale.value_micros, sale.kind) == (59_900_000, "click")
    assert sale.order == desk.orders.text(" A-7 ", hash32("shop")) != ""


def test_without_permission_there_is_no_click_id(desk: Desk, sealed: Make) -> None:
    event = receive("click", query("click", desk, sealed(measure=False)), desk, NOW)
    assert isinstance(event, ClickEvent)
    assert event.click_id == ""


@pytest.mark.parametrize("kind", ["billing", "impression", "click"])
@pytest.mark.parametrize("measure", [True, False])
def test_who_may_not_be_measured_is_told_of_for_caps_alone(
    desk: Desk, sealed: Make, kind: Kind, measure: bool
) -> None:
    event = receive(kind, query(kind, desk, sealed(measure=measure)), desk, NOW)
    assert (event.person, event.measure) == (sealed().person, measure)


@pytest.mark.parametrize(
    ("consent", "measured"),
    [
        ({"gdpr": "0"}, True),
        ({"gdpr": "0", "us_privacy": "1YNN"}, True),
        ({"gdpr": "0", "us_privacy": "1YYN"}, False),
        ({"gdpr": "0", "gpp": "DBABBg~BVoAABRY", "gpp_sid": "8"}, False),
        (
            {
                "gdpr": "1",
                "gdpr_consent": "CAAAAAAAAAAAAADABAFRDIEgAIIAAAAAAAqIAmgAAAAAAAAAAAAgAAAA",
            },
            True,
        ),  # purposes 1, 7
        (
            {
                "gdpr": "1",
                "gdpr_consent": "CAAAAAAAAAAAAADABAFRDIEgAPAAAAAAAAqIAmgAAAAAAAAAAAAgAAAA",
            },
            False,
        ),  # 1, 2, 3, 4
        ({"gdpr": "1", "gdpr_consent": "nonsense"}, False),
        ({"gdpr": "${GDPR}"}, False),
        ({}, False),
    ],
)
def test_a_sale_is_the_persons_only_where_the_landing_page_says_that_it_may_be(
    desk: Desk, sealed: Make, consent: dict[str, str], measured: bool
) -> None:
    asked = query("conversion", desk, sealed(), value="80", **consent)
    sale = receive("conversion", asked, desk, NOW)
    assert isinstance(sale, ConversionEvent)
    assert (sale.person, sale.measure) == (sealed().person if measured else "", measured)
    assert (sale.bid_id, sale.value_micros) == (ids.to_text(sealed().bid_id), 80_000_000)
    assert receive("conversion", asked, desk, NOW, gpc=True).person == ""


def test_a_sale_may_have_no_value_and_no_order(desk: Desk, sealed: Make) -> None:
    sale = receive("conversion", query("conversion", desk, sealed()), desk, NOW)
    assert isinstance(sale, ConversionEvent)
    assert (sale.order, sale.value_micros) == ("", 0)


@pytest.mark.parametrize("order", ["A-7", "x" * 1000, "\ud800", "é"])
def test_an_order_number_is_not_kept(desk: Desk, sealed: Make, order: str) -> None:
    sale = receive("conversion", query("conversion", desk, sealed(), order=order), desk, NOW)
    assert isinstance(sale, ConversionEvent)
    assert order not in sale.order
    assert len(sale.order) == 16


@pytest.mark.parametrize("value", ["1e9", "-1", "nan", "inf", "ten", "0x10", "10000001"])
def test_a_value_that_is_none(desk: Desk, sealed: Make, value: str) -> None:
    found = rejected("conversion", query("conversion", desk, sealed(), value=value), desk)
    assert found.outcome == "malformed"
    assert found.sealed == sealed(url="")


@pytest.mark.parametrize("kind", KINDS)
def test_no_token(desk: Desk, kind: Kind) -> None:
    found = rejected(kind, {"p": "1"}, desk)
    assert (found.outcome, found.sealed) == ("no_token", None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["x", "A" * 200, "${T}", "é", "\udcff"])
def test_a_forged_token(desk: Desk, kind: Kind, text: str) -> None:
    found = rejected(kind, {"t": text, "cid": text, "p": "1"}, desk)
    assert (found.outcome, found.sealed) == ("forged", None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_meant_for_somebody_else(desk: Desk, sealed: Make, kind: Kind) -> None:
    for audience in Audience:
        if audience is not AUDIENCES[kind]:
            text = desk.tokens.seal(sealed(), audience)
            assert rejected(kind, {"t": text, "cid": text}, desk).outcome == "forged"


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_has_its_time(desk: Desk, sealed: Make, kind: Kind) -> None:
    asked = query(kind, desk, sealed())
    assert receive(kind, asked, desk, NOW + LIVES[kind]).bid_id == ids.to_text(sealed().bid_id)
    found = rejected(kind, asked, desk, NOW + LIVES[kind] + 1)
    assert found.outcome == "expired"
    assert found.sealed is not None  # so that a late click still leads somewhere


@pytest.mark.parametrize("kind", KINDS)
def test_a_test_counts_nothing(desk: Desk, sealed: Make, kind: Kind) -> None:
    found = rejected(kind, query(kind, desk, sealed(test=True)), desk)
    assert found.outcome == "test"
    assert found.sealed is not None


@pytest.mark.parametrize("kind", ["win", "loss", "billing", "impression"])
def test_an_exchange_that_is_gone_is_still_told_and_paid(
    desk: Desk, sealed: Make, kind: Kind
) -> None:
    told = receive(kind, query(kind, desk, sealed(exchange=1), p="AbCd_sealed"), desk, NOW)
    assert (told.__struct_config__.tag, told.exchange) == (kind, "#00000001")
    if isinstance(told, BillingEvent):
        assert (told.price_cpm_micros, told.inferred) == (told.bid_cpm_micros, True)


@pytest.mark.parametrize("text", ["2.5", "2.50001", "2.505"])
def test_a_price_that_was_rounded_up_is_our_bid(desk: Desk, sealed: Make, text: str) -> None:
    told = receive("billing", query("billing", desk, sealed(), p=text), desk, NOW)
    assert isinstance(told, BillingEvent)
    assert told.price_cpm_micros == told.bid_cpm_micros == 2_500_000


PRICES = {
    "": "price_empty",
    "AUDIT": "price_audit",
    "audit": "price_audit",
    "${AUCTION_PRICE}": "price_unreplaced",
    quote("${AUCTION_PRICE}", safe=""): "price_unreplaced",
    quote(quote("${AUCTION_PRICE}", safe=""), safe=""): "price_unreplaced",
    "%%WINNING_PRICE%%": "price_unreplaced",
    "2.505001": "price_above_bid",
    "1e3": "price_above_bid",
    "-1": "price_negative",
    "nan": "price_malformed",
    "inf": "price_malformed",
    "1,5": "price_malformed",
    "2.1.1": "price_malformed",
    "9" * 300: "price_malformed",
}


@pytest.mark.parametrize(
    ("kind", "exchange"), [("win", "plain"), ("billing", "plain"), ("impression", "pixel")]
)
@pytest.mark.parametrize(("text", "outcome"), PRICES.items())
def test_a_price_that_counts_no_money(
    desk: Desk, sealed: Make, kind: Kind, exchange: str, text: str, outcome: str
) -> None:
    asked = query(kind, desk, sealed(exchange=hash32(exchange)), p=text)
    found = rejected(kind, asked, desk)
    assert found.outcome == outcome
    assert found.sealed is not None


def test_a_price_encrypted_by_somebody_else(desk: Desk, sealed: Make) -> None:
    told: Any = sealed(exchange=hash32("sealed"))
    strangers = Keys(bytes(32), bytes(32))
    price = encrypt(1_000_000, strangers, bytes(16))
    assert (
        rejected("billing", query("billing", desk, told, p=price), desk).outcome == "price_forged"
    )
    dearer = encrypt(2_600_000, KEYS, bytes(16))
    found = rejected("billing", query("billing", desk, told, p=dearer), desk)
    assert found.outcome == "price_above_bid"
