"""Answers are judged, auctions held and markup read by the rules of the exchange."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.exchange.auction import FIRST, SECOND, Lot, settle
from loadtest.exchange.lawful import RULES, violations
from loadtest.exchange.macros import decimal, substitute
from loadtest.exchange.markup import calls, insecure_url

RATES = {"EUR": 1.0, "USD": 1.08}

REQUEST = {
    "id": "r",
    "cur": ["EUR"],
    "imp": [
        {
            "id": "1",
            "banner": {"format": [{"w": 300, "h": 250}], "battr": [3]},
            "bidfloor": 1.0,
            "bidfloorcur": "EUR",
            "secure": 1,
            "pmp": {"deals": [{"id": "d", "bidfloor": 2, "bidfloorcur": "EUR", "wseat": ["vip"]}]},
        },
        {"id": "2", "banner": {"w": 728, "h": 90}, "pmp": {"private_auction": 1}},
        {"id": "3", "native": {"request": '{"assets":[{"id":1,"required":1,"title":{"len":9}}]}'}},
    ],
    "bcat": ["IAB7"],
    "badv": ["bad.example"],
    "bseat": ["banned"],
    "regs": {"ext": {"dsa": {"dsarequired": 2}}},
}
GOOD = {
    "id": "b", "impid": "1", "price": 1.5, "adm": "<b>hello</b>", "adomain": ["ok.example"],
    "w": 300, "h": 250, "mtype": 1, "cat": ["IAB1"], "ext": {"dsa": {"behalf": "x"}},
}  # fmt: skip

NATIVE = '{"native":{"assets":[{"id":1,"title":{"text":"x"}}],"link":{"url":"https://a.example"}}}'


def broken(bid=None, answer=None, seat="s"):
    whole = {"id": "r", "cur": "EUR", "seatbid": [{"seat": seat, "bid": [GOOD | (bid or {})]}]}
    return {v.rule for v in violations(REQUEST, whole | (answer or {}), RATES)}


def test_lawful_bids_break_nothing():
    assert broken() == set()
    assert broken({"impid": "3", "adm": NATIVE, "mtype": 4}) == set()
    assert broken({"dealid": "d", "price": 2}, seat="vip") == set()
    assert broken({"adm": "", "nurl": "https://a.example", "crid": "registered"}) == set()
    assert violations(REQUEST, {"id": "r", "seatbid": []}, RATES) == []


BREAKS = {
    "id": ({}, {"id": "x"}, "s"),
    "currency": ({}, {"cur": "USD"}, "s"),
    "seatbid": ({}, {"seatbid": [{"bid": []}]}, "s"),
    "seat": ({}, {}, "banned"),
    "bid-fields": ({"price": "1.5"}, {}, "s"),
    "impid": ({"impid": "9"}, {}, "s"),
    "price": ({"price": -1}, {}, "s"),
    "floor": ({"price": 0.99}, {}, "s"),
    "deal-floor": ({"dealid": "d", "price": 1.99}, {}, "vip"),
    "deal": ({"dealid": "d", "price": 2}, {}, "s"),
    "private": ({"impid": "2", "w": 728, "h": 90}, {}, "s"),
    "adomain": ({"adomain": []}, {}, "s"),
    "badv": ({"adomain": ["www.BAD.example"]}, {}, "s"),
    "bcat": ({"cat": ["IAB7-3"]}, {}, "s"),
    "battr": ({"attr": [3]}, {}, "s"),
    "media": ({"mtype": 2}, {}, "s"),
    "size": ({"w": 320}, {}, "s"),
    "markup": ({"adm": ""}, {}, "s"),
    "native": ({"impid": "3", "mtype": 4, "adm": '{"link":{"url":"https://a.example"}}'}, {}, "s"),
    "secure": ({"adm": "<img src='http://a.example/x.gif'>"}, {}, "s"),
    "dsa": ({"ext": {}}, {}, "s"),
}


@pytest.mark.parametrize("rule", [r for r in RULES if r not in ("answer", "bid-id")])
def test_each_rule_can_be_broken(rule):
    assert rule in broken(*BREAKS[rule])


def test_twin_bids_and_foreign_answers_are_seen():
    twins = {"id": "r", "cur": "EUR", "seatbid": [{"bid": [GOOD, GOOD]}]}
    assert {v.rule for v in violations(REQUEST, twins, RATES)} == {"bid-id"}
    assert violations(REQUEST, [], RATES)[0].rule == "answer"


def test_floors_in_another_currency_have_some_room():
    asked = {"id": "r", "imp": [{"id": "1", "banner": {}, "bidfloor": 1.08}]}
    for price, lawful in ((1.0, True), (0.96, True), (0.94, False)):
        bid = GOOD | {"price": price, "cat": []}
        answer = {"id": "r", "cur": "EUR", "seatbid": [{"bid": [bid]}]}
        assert (violations(asked, answer, RATES) == []) == lawful


prices = st.floats(0.01, 50, allow_nan=False)


@given(
    bids=st.lists(prices, min_size=1, max_size=4),
    competing=prices,
    floor=prices,
    kind=st.sampled_from([FIRST, SECOND]),
)
def test_auctions_against_the_obvious_rules(bids, competing, floor, kind):
    imp = {"bidfloor": floor, "bidfloorcur": "EUR"}
    offers = [{"price": max(price, floor)} for price in bids]
    outcomes = settle(Lot(imp, kind, competing, 0), offers, "EUR", RATES)
    best = max(offer["price"] for offer in offers)
    wins = [(o, b) for o, b in zip(outcomes, offers, strict=True) if o.won]
    assert len(wins) == (best >= max(competing, floor) - 1e-9)
    for outcome, bid in wins:
        assert bid["price"] == best
        assert outcome.price_micros <= round(best * 1e6)
        assert outcome.price_micros >= round(floor * 1e6) - 1
        if kind == FIRST:
            assert outcome.price_micros == round(best * 1e6)
        else:
            assert outcome.price_micros == pytest.approx(max(competing, floor) * 1e6, abs=2)
    for outcome in outcomes:
        if not outcome.won:
            again = settle(
                Lot(imp, kind, competing, 0),
                [{"price": outcome.minimum_micros / 1e6}],
                "EUR",
                RATES,
            )
            assert again[0].won, "bidding the minimum to win wins"


def test_fixed_price_deals_win_at_their_floor():
    deals = [{"id": "d", "bidfloor": 2.0, "bidfloorcur": "EUR", "at": 3}]
    imp = {"bidfloor": 1.0, "bidfloorcur": "EUR", "pmp": {"deals": deals}}
    bids = [{"price": 9.0}, {"price": 3.0, "dealid": "d"}]
    lost, won = settle(Lot(imp, FIRST, 50.0, 103), bids, "EUR", RATES)
    assert won.won
    assert won.price_micros == 2_000_000
    assert lost.reason == 103


def test_competing_bids_are_converted():
    lot = Lot({"bidfloor": 0}, SECOND, 1.0, 0)
    (outcome,) = settle(lot, [{"price": 1.07}], "USD", RATES)
    assert not outcome.won
    assert outcome.minimum_micros == 1_080_000


def test_macros_are_replaced_as_exchanges_do():
    url = "/?p=${AUCTION_PRICE}&e=${AUCTION_PRICE:B64}&l=${AUCTION_LOSS}&q=%24%7BAUCTION_PRICE%7D"
    assert substitute(url, {"PRICE": "1.5"}) == "/?p=1.5&e=MS41&l=&q=1.5"
    assert substitute("${AUCTION_PRICE:AES}", {"PRICE": "1"}) == "${AUCTION_PRICE:AES}"
    assert substitute("nothing", {}) == "nothing"


@given(st.integers(0, 10**12))
def test_decimals_are_exact(micros):
    from decimal import Decimal

    assert Decimal(decimal(micros)) * 1_000_000 == micros


def test_calls_are_found_in_html_and_native():
    html = (
        "<A target=_blank HREF='https://b.example/track/click?a=1&amp;b=2'>x</A>"
        '<img width="1" src=https://b.example/track/impression?t=1><img src="https://c.example/">'
    )
    assert calls(html) == (
        ["https://b.example/track/impression?t=1"],
        "https://b.example/track/click?a=1&b=2",
    )
    pixel = "https://b.example/track/impression?n"
    native = {
        "imptrackers": [pixel],
        "eventtrackers": [
            {"event": 1, "method": 1, "url": pixel},
            {"event": 2, "url": pixel + "2"},
        ],
        "link": {"url": "https://b.example/track/click?n"},
    }
    for wrapped in (native, {"native": native}):
        assert calls(orjson.dumps(wrapped).decode()) == ([pixel], "https://b.example/track/click?n")
    assert calls("<p>nothing") == ([], "")
    assert calls("{broken") == ([], "")


def test_loopback_and_namespaces_are_not_insecure():
    assert insecure_url('<img src="http://a.example/x">') == "http://a.example/x"
    assert (
        insecure_url('<svg xmlns="http://www.w3.org/2000/svg"><img src="http://127.0.0.1:80/">')
        == ""
    )
