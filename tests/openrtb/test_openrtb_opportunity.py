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
    parse_user_agent,
)
from bidder.openrtb.request import decode

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


def test_the_rest_of_a_request() -> None:
    found = offered(
        cur=["eur", "USD"], tmax=0, test=1, wlang=["FR-be"], wlangb=["de"], badv=["Bad.Example"]
    )
    assert (found.currencies, found.tmax_ms, found.test) == (("EUR", "USD"), None, True)
    assert (found.allowed_languages, found.blocked_languages) == ({"fr"}, {"de"})
    assert found.blocked_advertisers == {"bad.example"}


CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36"
AGENTS = [
    (CHROME, ("windows", "chrome", "desktop")),
    (f"{CHROME} Edg/126.0", ("windows", "edge", "desktop")),
    (f"{CHROME} OPR/110.0", ("windows", "opera", "desktop")),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605 Version/17.5 "
        "Mobile/15E148 Safari/604.1",
        ("ios", "safari", "mobile"),
    ),
    (
        "Mozilla/5.0 (iPad; CPU OS 16_5 like Mac OS X) AppleWebKit/605 CriOS/126 Mobile Safari/604",
        ("ios", "chrome", "tablet"),
    ),
    (
        "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 SamsungBrowser/25.0 "
        "Chrome/121.0 Mobile Safari/537.36",
        ("android", "samsung", "mobile"),
    ),
    (
        "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
        ("android", "chrome", "tablet"),
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.5 "
        "Safari/605.1.15",
        ("macos", "safari", "desktop"),
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
        ("linux", "firefox", "desktop"),
    ),
    (
        "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
        ("chromeos", "chrome", "desktop"),
    ),
    (
        "Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 Version/7.0 TV Safari/537.36",
        ("linux", "safari", "ctv"),
    ),
    ("", ("", "", "")),
    ("curl/8.0", ("other", "other", "")),
]


@pytest.mark.parametrize(("agent", "expected"), AGENTS)
def test_user_agents(agent: str, expected: tuple[str, str, str]) -> None:
    assert parse_user_agent(agent) == expected


def test_the_structured_user_agent_comes_first() -> None:
    sua = {
        "browsers": [{"brand": "Not A Brand"}, {"brand": "Microsoft Edge"}],
        "platform": {"brand": "Windows"},
        "mobile": 0,
    }
    found = offered(device={"ua": AGENTS[3][0], "sua": sua})
    assert (found.os, found.browser) == ("windows", "edge")
    assert offered(device={"devicetype": 5}).device == "tablet"
    assert offered(device={"devicetype": 99, "ua": CHROME}).device == "desktop"
