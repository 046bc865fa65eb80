import json
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from bidder.openrtb.opportunity import opportunity
from bidder.openrtb.request import decode
from bidder.privacy import ALL, Rules, cut_ip, minimise, permission
from bidder.privacy.minimise import cut_domain

REQUEST = {
    "id": "request-1",
    "imp": [{"id": "1", "banner": {"w": 300, "h": 250}, "bidfloor": 0.5, "tagid": "slot-7"}],
    "site": {
        "domain": "news.example", "page": "https://news.example/my/disease?name=ann",
        "keywords": "divorce", "cat": ["IAB1"], "publisher": {"id": "pub-1"},
    },
    "device": {
        "ua": "Mozilla/5.0 (iPhone; secret build 12345) Mobile Safari/605", "ip": "203.0.113.77",
        "ifa": "6d92078a-8246-4ba4-ae5b-76104861e7dc", "language": "fr",
        "geo": {"country": "FRA", "region": "IDF", "city": "Paris", "zip": "75011",
                "lat": 48.8566, "lon": 2.3522, "utcoffset": 120},
    },
    "user": {
        "id": "exchange-user", "buyeruid": "our-user", "consent": "CONSENTSTRING",
        "eids": [{"source": "id5.example", "uids": [{"id": "eid-value"}]}],
    },
    "regs": {"gdpr": 1, "us_privacy": "1YYN", "gpp": "GPPSTRING", "gpp_sid": [7], "coppa": 1},
    "source": {"tid": "transaction-1"},
}  # fmt: skip
PERSONAL = ["disease", "ann", "divorce", "secret build", "113.77", "6d92078a", "75011", "48.85",
            "2.352", "exchange-user", "our-user", "CONSENTSTRING", "eid-value", "1YYN",
            "GPPSTRING", "transaction-1"]  # fmt: skip
CUT = {"signals", "postcode", "latitude", "longitude", "page", "keywords", "identifiers",
       "transaction_id", "ip", "user_agent"}  # fmt: skip


@pytest.fixture
def whole():
    return opportunity(decode(json.dumps(REQUEST).encode()), "demo")


def test_nothing_personal_is_left(whole):
    before, left = repr(whole), repr(minimise(whole))
    assert [word for word in PERSONAL if word not in before] == ["exchange-user"], "never read"
    assert [word for word in PERSONAL if word in left] == []


def test_the_rest_is_untouched(whole):
    before, after = asdict(whole), asdict(minimise(whole))
    assert {name for name in before if before[name] != after[name]} == CUT
    assert after["ip"] == "203.0.113.0"
    assert (after["device"], after["domain"], after["country"]) == ("mobile", "news.example", "FR")


def test_what_was_forbidden_stays_forbidden(whole):
    rules = Rules(vendor_id=1)
    assert permission(minimise(whole).signals, rules, 0.0) == permission(whole.signals, rules, 0.0)
    for change in ({"regs": {"gdpr": 1}}, {"regs": {"gpp": "x", "gpp_sid": [7]}}):
        body = json.dumps({**REQUEST, **change}).encode()
        assert permission(minimise(opportunity(decode(body), "x")).signals, rules, 0.0) != ALL


def test_twice_is_once(whole):
    assert minimise(minimise(whole)) == minimise(whole)


@given(st.ip_addresses(v=4))
def test_ipv4_is_cut_to_its_24(address: IPv4Address):
    want = ip_network((int(address), 24), strict=False).network_address
    assert cut_ip(str(address)) == str(want)


@given(st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None))
def test_ipv6_is_cut_to_its_48(address: IPv6Address):
    want = IPv6Address(int(address) >> 80 << 80)
    assert IPv6Address(cut_ip(str(address))) == want


@pytest.mark.parametrize(("ip", "left"), [
    ("::ffff:203.0.113.77", "203.0.113.0"),
    ("", ""),
    ("203.0.113.77.", ""),
    ("203.0.113", ""),
    ("203.0.113.256", ""),
    ("localhost", ""),
    ("fe80::1%eth0", ""),
    ("1.2.3.4\x00", ""),
    ("1.2.3.\ud800", ""),
    (":", ""),
])  # fmt: skip
def test_odd_addresses(ip, left):
    assert cut_ip(ip) == left


@given(st.text(max_size=20))
def test_any_text_is_cut_or_emptied(text):
    cut = cut_ip(text)
    assert cut == "" or cut.endswith((".0", "::"))


@pytest.mark.parametrize(("domain", "host"), [
    ("news.example", "news.example"),
    ("", ""),
    ("news.example/ann", "news.example"),
    ("https://news.example/ann?x=1", "news.example"),
    ("news.example?ann", "news.example"),
    ("news.example#ann", "news.example"),
    ("news.example:8080/ann", "news.example"),
    ("https://ann:secret@news.example/", "news.example"),
])  # fmt: skip
def test_domains_lose_all_but_the_host(domain, host):
    assert cut_domain(domain) == host
