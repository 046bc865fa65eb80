"""What an opportunity makes of a request."""

import json
from typing import Any

import pytest

from bidder.openrtb.opportunity import (
    MAX_SLOTS,
    FlexibleSize,
    Opportunity,
    Slot,
    opportunity,
)
from bidder.openrtb.request import InvalidRequest, decode

IMP = {"id": "1", "banner": {"w": 300, "h": 250}}


def offered(**fields: Any) -> Opportunity:
    return opportunity(decode(json.dumps({"id": "r", "imp": [IMP], **fields}).encode()), "demo")


def slot(**imp: Any) -> Slot:
    (found,) = offered(imp=[{"id": "1", **imp}]).slots
    return found


def test_sizes_come_from_format_else_from_w_and_h() -> None:
    banner = {"w": 1, "h": 1, "format": [{"w": 300, "h": 250}, {"w": 728, "h": 90}]}
    assert slot(banner=banner).sizes == ((300, 250), (728, 90))
    assert slot(banner={"w": 320, "h": 50}).sizes == ((320, 50),)
    assert slot(banner={"w": 320, "h": 50, "format": [{}]}).sizes == ((320, 50),)


def test_a_deal_listed_twice_is_one_deal() -> None:
    """It had two bids of the same line item."""
    deals = [{"id": "d", "bidfloor": 1}, {"id": ""}, {"id": "e"}, {"id": "d", "bidfloor": 2}]
    found = slot(banner={"w": 1, "h": 1}, pmp={"deals": deals}).deals
    assert [(deal.id, deal.floor_cpm) for deal in found] == [("d", 1), ("e", 0)]


def test_flexible_sizes() -> None:
    found = slot(banner={"format": [{"wratio": 6, "hratio": 5, "wmin": 300}]})
    assert found.flexible == (FlexibleSize(6, 5, 300),)
    assert found.sizes == ()


@pytest.mark.parametrize(
    "imp",
    [{}, {"video": {"mimes": []}}, {"banner": {}}, {"banner": {"w": 300}}, {"native": {}}],
)
def test_what_nothing_of_ours_can_fill_is_no_slot(imp: dict[str, Any]) -> None:
    assert offered(imp=[{"id": "1", **imp}]).slots == ()


def test_the_first_of_two_equal_imp_ids_stands() -> None:
    second = {"id": "1", "banner": {"w": 728, "h": 90}}
    (found,) = offered(imp=[IMP, second]).slots
    assert found.sizes == ((300, 250),)


def test_at_most_so_many_slots() -> None:
    many = [{"id": str(i), "banner": {"w": 1, "h": 1}} for i in range(MAX_SLOTS + 5)]
    assert len(offered(imp=many).slots) == MAX_SLOTS


def test_a_slots_rules() -> None:
    found = slot(
        banner={
            "w": 300,
            "h": 250,
            "battr": [1],
            "btype": [4],
            "mimes": ["Image/JPEG"],
            "api": [5],
            "expdir": [2],
            "pos": 1,
        },
        native={"request": "{}", "battr": [3]},
        secure=1,
        instl=1,
        bidfloor=0.5,
        bidfloorcur="eur",
        metric=[{"type": "viewability", "value": 0.7}],
    )
    assert found.blocked_attributes == {1, 3}
    assert found.blocked_types == {4}
    assert found.mimes == {"image/jpeg"}
    assert found.apis == {5}
    assert found.expandable == {2}
    assert (found.secure, found.interstitial, found.position) == (True, True, 1)
    assert (found.floor_cpm, found.floor_currency) == (0.5, "EUR")
    assert (found.viewability, found.native) == (0.7, "{}")


def test_deals() -> None:
    deal = {"id": "d", "bidfloor": 2, "at": 3, "wseat": ["s"], "wadomain": ["A.example"]}
    found = slot(banner=IMP["banner"], pmp={"private_auction": 1, "deals": [deal, {"id": "e"}]})
    assert found.private
    first, second = found.deals
    assert (first.auction, first.floor_cpm, first.floor_currency) == (3, 2.0, "USD")
    assert (first.seats, first.advertisers) == ({"s"}, {"a.example"})
    assert (second.seats, second.advertisers, second.auction) == (set(), set(), 0)


def test_a_deal_without_an_id_is_none() -> None:
    found = slot(banner=IMP["banner"], pmp={"private_auction": 1, "deals": [{"id": ""}]})
    assert (found.private, found.deals) == (True, ())


@pytest.mark.parametrize(
    ("country", "alpha_2"), [("FRA", "FR"), ("fr", "FR"), ("DEU", "DE"), ("??", ""), (None, "")]
)
def test_countries(country: str | None, alpha_2: str) -> None:
    found = offered(device={"geo": {"country": country}})
    assert found.country == found.signals.country == alpha_2


def test_domain_from_site_or_page() -> None:
    assert offered(site={"domain": "WWW.Example.com"}).domain == "example.com"
    assert offered(site={"page": "https://www.example.com:8080/a?b"}).domain == "example.com"
    assert offered(site={"page": "example.com/a"}).domain == "example.com"
    assert offered(app={"bundle": "com.x"}).bundle == "com.x"


@pytest.mark.parametrize(
    ("fields", "supply"), [({"site": {}}, "site"), ({"app": {}}, "app"), ({"dooh": {}}, "dooh")]
)
def test_supply(fields: dict[str, Any], supply: str) -> None:
    assert offered(**fields).supply == supply


def test_categories_carry_their_taxonomy() -> None:
    found = offered(
        bcat=["1", "2"],
        cattax=6,
        site={"cat": ["IAB1"], "pagecat": ["IAB2-1"], "content": {"cat": ["7"], "cattax": 7}},
    )
    assert found.blocked_categories == {"6:1", "6:2"}
    assert found.categories == {"IAB1", "IAB2-1", "7:7"}
    assert offered(acat=["IAB3"]).allowed_categories == {"IAB3"}


def test_identifiers_without_bridged_ones() -> None:
    user = {
        "buyeruid": "b",
        "eids": [
            {"source": "a.example", "uids": [{"id": "1"}, {"id": ""}], "mm": 1},
            {"source": "bridged.example", "uids": [{"id": "2"}], "mm": "5"},
            {"uids": [{"id": "3"}]},
        ],
    }
    device = {"ifa": "ABC-1"}
    assert offered(user=user, device=device).identifiers == (
        ("buyeruid", "b"),
        ("a.example", "1"),
        ("ifa", "abc-1"),
    )
    zero = {"ifa": "00000000-0000-0000-0000-000000000000"}
    assert offered(device=zero).identifiers == ()


def test_signals() -> None:
    found = offered(
        regs={"coppa": 1, "gdpr": 1, "us_privacy": "1YYN", "gpp_sid": [7], "ext": {"gpc": "1"}},
        user={"consent": "CP"},
        device={"lmt": 1},
    ).signals
    assert (found.coppa, found.gdpr, found.us_privacy) == (True, 1, "1YYN")
    assert (found.gpp_sid, found.gpc, found.consent) == ((7,), True, "CP")
    assert found.limit_tracking
    assert offered(device={"dnt": 1}).signals.limit_tracking
    assert offered().signals.gdpr is None


@pytest.mark.parametrize(("required", "expected"), [(0, False), (1, False), (2, True), (3, True)])
def test_eu_transparency(required: int, expected: bool) -> None:
    assert offered(regs={"ext": {"dsa": {"dsarequired": required}}}).dsa_required is expected


@pytest.mark.parametrize(("render", "expected"), [(None, False), (0, False), (1, False), (2, True)])
def test_who_shows_the_transparency(render: int | None, expected: bool) -> None:
    dsa = {"dsarequired": 3, "pubrender": render}
    assert offered(regs={"ext": {"dsa": dsa}}).dsa_by_publisher is expected


def test_the_rest_of_a_request() -> None:
    found = offered(
        cur=["eur", "USD"], tmax=0, test=1, wlang=["FR-be"], wlangb=["de"], badv=["Bad.Example"]
    )
    assert (found.currencies, found.tmax_ms, found.test) == (("EUR", "USD"), None, True)
    assert (found.allowed_languages, found.blocked_languages) == ({"fr"}, {"de"})
    assert found.blocked_advertisers == {"bad.example"}


@pytest.mark.parametrize(("written", "alpha_2"), [("UK", "GB"), ("el", "GR"), ("GBR", "GB")])
def test_reserved_country_codes(written: str, alpha_2: str) -> None:
    assert offered(device={"geo": {"country": written}}).country == alpha_2


def test_the_persons_country_stands_in_for_the_devices() -> None:
    home = {"geo": {"country": "FRA"}}
    found = offered(user=home)
    assert found.country == found.signals.country == "FR"
    assert offered(user=home, device={"geo": {"country": "DEU"}}).country == "DE"
    assert offered(user=home, device={"geo": {"country": "??"}}).country == "FR"


def test_a_native_request_may_be_an_object() -> None:
    asked = {"ver": "1.2", "assets": [{"id": 1, "title": {"len": 90}}]}
    assert json.loads(slot(native={"request": asked}).native) == asked
    assert slot(native={"request": json.dumps(asked)}).native == json.dumps(asked)
    odd = slot(native={"request": asked, "ver": ["odd"]})
    assert json.loads(odd.native) == asked, "also when the request takes the slow road"


@pytest.mark.parametrize("odd", [{"a\ud800": "\udfff"}, {"w": 2**80}])
def test_a_native_object_may_hold_anything_json_can(odd: dict[str, Any]) -> None:
    assert json.loads(slot(native={"request": odd}).native) == odd


@pytest.mark.parametrize("depth", [100, 900, 1100, 20_000])
def test_a_native_object_of_any_depth_breaks_nothing(depth: int) -> None:
    request = b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"id":"r","imp":[{"id":"1","native":{"request":' + request + b"}}]}"
    try:
        found = opportunity(decode(body), "demo")
    except InvalidRequest:
        return
    assert found.request_id == "r"


def test_native_apis_are_those_of_native_ads() -> None:
    found = slot(banner={"w": 1, "h": 1, "api": [5]}, native={"request": "{}", "api": [7]})
    assert (found.apis, found.native_apis) == ({5}, {7})


@pytest.mark.parametrize(
    "domain",
    ["https://www.news.example/a?b", "News.Example.", "news.example:443", "//news.example"],
)
def test_a_domain_is_a_bare_host_however_it_is_sent(domain: str) -> None:
    assert offered(site={"domain": domain}).domain == "news.example"


def test_listed_domains_and_categories_are_compared_in_one_spelling() -> None:
    found = offered(badv=["www.Bad.example", "bad2.example."], bcat=["iab25-3"])
    assert found.blocked_advertisers == {"bad.example", "bad2.example"}
    assert found.blocked_categories == {"IAB25-3"}


@pytest.mark.parametrize(
    "blocked",
    [
        "https://www.Bad.example/",
        "bad.example/shop?a",
        "*.bad.example",
        ".bad.example",
        "//bad.example",
    ],
)
def test_a_blocked_advertiser_however_it_is_written(blocked: str) -> None:
    """Real lists hold whole addresses and wildcards; they blocked nobody."""
    assert offered(badv=[blocked]).blocked_advertisers == {"bad.example"}


def test_codes_of_the_first_taxonomy_are_known_by_their_spelling() -> None:
    """Publishers name a newer taxonomy and block in the old one; it blocked nothing."""
    found = offered(bcat=["IAB25-3", "iab26", "v9i3On", "150"], cattax=6)
    assert found.blocked_categories == {"IAB25-3", "IAB26", "6:v9i3On", "6:150"}


def test_language_from_the_newer_field_too() -> None:
    assert offered(device={"langb": "pt-BR"}).language == "pt"
    assert offered(device={"language": "fr", "langb": "pt-BR"}).language == "fr"


def test_the_stated_device_type_wins() -> None:
    agent = "Mozilla/5.0 (Windows NT 10.0) Chrome/126.0"
    assert offered(device={"devicetype": 5, "ua": agent}).device == "tablet"
    assert offered(device={"devicetype": 99, "ua": agent}).device == "desktop"
