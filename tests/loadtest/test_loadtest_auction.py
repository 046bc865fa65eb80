"""Answers are judged, auctions held and markup read by the rules of the exchange."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.exchange.auction import FIRST, SECOND, Lot, settle
from loadtest.exchange.lawful import RULES, violations
from loadtest.exchange.macros import decimal, substitute
from loadtest.exchange.markup import calls, insecure_url, origin

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
        {"id": "4", "video": {"mimes": ["video/mp4"]}},
    ],
    "bcat": ["IAB7"],
    "acat": ["IAB1", "IAB7"],
    "bapp": ["com.bad.app"],
    "wlangb": ["de"],
    "badv": ["bad.example"],
    "bseat": ["banned"],
    "regs": {"ext": {"dsa": {"dsarequired": 2}}},
}
GOOD = {
    "id": "b", "impid": "1", "price": 1.5, "adm": "<b>hello</b>", "adomain": ["ok.example"],
    "w": 300, "h": 250, "mtype": 1, "cat": ["IAB1"], "ext": {"dsa": {"behalf": "x"}},
    "bundle": "com.good.app", "language": "fr",
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
    "bapp": ({"bundle": "com.bad.app"}, {}, "s"),
    "language": ({"language": "DE"}, {}, "s"),
    "bcat": ({"cat": ["IAB7-3"]}, {}, "s"),
    "acat": ({"cat": ["IAB1-2", "IAB2"]}, {}, "s"),
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


def test_a_bidder_without_video_leaves_video_alone():
    vast = "<VAST version='4.2'></VAST>"
    for unlawful in ({}, {"mtype": 0}, {"mtype": 4, "adm": NATIVE}):
        assert broken({"impid": "4"} | unlawful) == {"media"}
    for lawful in ({"mtype": 2}, {"mtype": 0}):
        assert broken({"impid": "4", "adm": vast} | lawful) == set()
    assert broken({"adm": vast, "mtype": 0}) == {"media"}
    unmarked = {"impid": "4", "mtype": 0, "adm": "", "nurl": "https://a.example", "crid": "c"}
    assert broken(unmarked) == set()


def test_lists_of_categories_speak_of_their_own_taxonomy_only():
    assert broken({"cat": ["211"], "cattax": 6}) == set()
    assert broken({"cat": []}) == {"acat"}


def test_dsa_is_demanded_in_either_place():
    for regs in ({"dsa": {"dsarequired": 3}}, {"ext": {"dsa": {"dsarequired": 2}}}):
        asked = REQUEST | {"regs": regs}
        answer = {"id": "r", "cur": "EUR", "seatbid": [{"bid": [GOOD | {"ext": None}]}]}
        assert [v.rule for v in violations(asked, answer, RATES)] == ["dsa"]


SHAPES = [
    ([], "answer", "no object"),
    ({"id": "r", "seatbid": 5}, "answer", "seatbid"),
    ({"id": "r", "seatbid": {}}, "answer", "seatbid"),
    ({"id": "r", "seatbid": [5]}, "answer", "seatbid"),
    ({"id": "r", "cur": ["EUR"]}, "answer", "cur"),
    ({"id": ["r"]}, "id", "['r']"),
    ({"id": "r", "seatbid": [{"bid": 5}]}, "answer", "bid"),
    ({"id": "r", "seatbid": [{"bid": [None]}]}, "answer", "bid"),
    ({"id": "r", "seatbid": [{"seat": ["s"], "bid": [GOOD]}]}, "answer", "seat"),
]
FIELDS = [
    ({"id": ["b"]}, "bid-fields", "id ['b']"),
    ({"impid": ["1"]}, "bid-fields", "impid ['1']"),
    ({"price": "1.5"}, "bid-fields", "price '1.5'"),
    ({"price": None}, "bid-fields", "price None"),
    ({"price": True}, "bid-fields", "price True"),
    ({"price": float("inf")}, "price", "inf"),
    ({"price": float("nan")}, "price", "nan"),
    ({"price": 1e300}, "price", "1e+300"),
    ({"price": -1}, "price", "-1"),
    ({"nurl": 5}, "answer", "nurl"),
    ({"burl": {}}, "answer", "burl"),
    ({"lurl": ["x"]}, "answer", "lurl"),
    ({"adm": {"native": {}}}, "answer", "adm"),
    ({"adomain": "ok.example"}, "answer", "adomain"),
    ({"adomain": [["ok.example"]]}, "answer", "adomain"),
    ({"cat": [1]}, "answer", "cat"),
    ({"attr": 3}, "answer", "attr"),
    ({"mtype": [1]}, "answer", "mtype"),
    ({"w": "300"}, "answer", "w"),
    ({"dealid": {}}, "answer", "dealid"),
    ({"ext": []}, "answer", "ext"),
    ({"bundle": ["com.bad.app"]}, "answer", "bundle"),
]
SHAPES += [
    ({"id": "r", "cur": "EUR", "seatbid": [{"bid": [GOOD | field]}]}, rule, named)
    for field, rule, named in FIELDS
]


@pytest.mark.parametrize(("answer", "rule", "named"), SHAPES, ids=str)
def test_a_misshapen_answer_breaks_a_rule_that_names_what_is_wrong(answer, rule, named):
    (violation, *_) = [v for v in violations(REQUEST, answer, RATES) if v.rule != "floor"]
    assert violation.rule == rule
    assert named in violation.detail


@pytest.mark.parametrize(
    "native", [{"link": 5}, {"link": {"url": "https://a.example"}, "assets": 5}, {"assets": [5]}]
)
def test_misshapen_native_markup_answers_nothing(native):
    markup = orjson.dumps(native).decode()
    assert broken({"impid": "3", "mtype": 4, "adm": markup}) == {"native"}
    assert calls(markup, ["https://a.example:443"]).impressions == []


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


def test_floors_are_compared_in_the_currency_of_the_bid():
    imp = {"bidfloor": 2.16, "bidfloorcur": "USD"}
    for price in (2.0, 2.5):
        (outcome,) = settle(Lot(imp, SECOND, 1.0, 0), [{"price": price}], "EUR", RATES)
        assert outcome.won
        assert outcome.price_micros == 2_000_000


def test_macros_are_replaced_as_exchanges_do():
    url = "/?p=${AUCTION_PRICE}&e=${AUCTION_PRICE:B64}&l=${AUCTION_LOSS}&q=%24%7BAUCTION_PRICE%7D"
    assert substitute(url, {"PRICE": "1.5"}) == "/?p=1.5&e=MS41&l=&q=1.5"
    assert substitute("${AUCTION_PRICE:AES}", {"PRICE": "1"}) == "${AUCTION_PRICE:AES}"
    assert substitute("nothing", {}) == "nothing"


@given(st.integers(0, 10**12))
def test_decimals_are_exact(micros):
    from decimal import Decimal

    assert Decimal(decimal(micros)) * 1_000_000 == micros


B = ["https://b.example:443"]


def test_whatever_images_a_bidder_has_are_its_pixels():
    html = (
        "<A target=_blank HREF='https://b.example/go?a=1&amp;b=2'>x</A>"
        '<img width="1" src=https://b.example/px?t=1><img data-src="https://b.example/no" '
        "SRC='//b.example/seen'><img src='https://cdn.example/ad.jpg'><img src='/relative'>"
        '<img src="https://b.example:8443/other-port"><img src="http://localhost:9/local">'
        '<img src="https://b.example@evil.example/"><img src=https://b.example/px?t=1>'
    )
    assert calls(html, B) == (
        ["https://b.example/px?t=1", "https://b.example/seen", "http://localhost:9/local"],
        "https://b.example/go?a=1&b=2",
        (),
    )
    assert calls(html).impressions == ["http://localhost:9/local"]


def test_people_click_on_the_ad_and_not_on_the_sign_in_its_corner():
    html = (
        '<a href="https://b.example/why">i</a>'
        '<a href="https://b.example/to"><img src="https://cdn.example/ad.jpg">Come in'
    )
    assert calls(html, B).click == "https://b.example/to"
    assert calls('<a href="https://shop.example/">straight to the shop</a>', B).click == ""


def test_native_ads_call_their_trackers_and_their_links():
    pixel, other = "https://b.example/seen", "https://b.example/shown"
    native = {
        "imptrackers": [pixel, "https://verifier.example/p", 5],
        "eventtrackers": [
            {"event": 1, "method": 1, "url": pixel},
            {"event": 1, "method": 1, "url": other},
            {"event": 1, "method": 2, "url": "https://b.example/script.js"},
            {"event": 2, "method": 1, "url": "https://b.example/viewable"},
            "odd",
        ],
        "link": {"url": "https://b.example/to", "clicktrackers": ["https://b.example/clicked"]},
    }
    for wrapped in (native, {"native": native}):
        assert calls(orjson.dumps(wrapped).decode(), B) == (
            [pixel, other], "https://b.example/to", ("https://b.example/clicked",)
        )  # fmt: skip
    native["link"]["url"] = "https://shop.example/"
    assert calls(orjson.dumps(native).decode(), B).click == "https://b.example/clicked"


def test_markup_without_calls_calls_nothing():
    assert calls("<p>nothing", B) == ([], "", ())
    assert calls("{broken", B) == ([], "", ())
    assert calls('<img src="http://[b.example/"><img src="http://b.example:x/">', B)[0] == []


def test_origins_are_scheme_host_and_port():
    assert origin("HTTP://B.example/a?b") == "http://b.example:80"
    assert origin("https://b.example:8443") == "https://b.example:8443"
    assert [origin(url) for url in ("", "/a", "ftp://b.example", "data:x", "http://[")] == [""] * 5


def test_loopback_and_namespaces_are_not_insecure():
    assert insecure_url('<img src="http://a.example/x">') == "http://a.example/x"
    assert (
        insecure_url('<svg xmlns="http://www.w3.org/2000/svg"><img src="http://127.0.0.1:80/">')
        == ""
    )
