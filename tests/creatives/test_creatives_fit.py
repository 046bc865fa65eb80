"""Whether a creative may fill a slot: each rule alone, allowed and refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.campaigns.catalogue import NativeAsset
from bidder.creatives.fit import banner_types, fits
from bidder.creatives.mimes import accepts_image, image_type
from bidder.exchanges.profile import Exchange
from bidder.openrtb.opportunity import opportunity
from bidder.openrtb.request import InvalidRequest, decode
from bidder.openrtb.spelling import is_domain_in
from bidder.reasons import NoBid

CORPUS = Path(__file__).parents[2] / "../shared/corpus/openrtb/requests.jsonl"
DEMO = Exchange(name="demo")
NATIVE = NativeAsset(title="Your basket", image_url="https://cdn.example/n.jpg", image_width=1200)
SCRIPT = "<script>x()</script>"
FRAME = "<iframe src='https://x.example'></iframe>"

Try = Callable[..., Any]


@pytest.fixture
def attempt(make_creative: Try, make_advertiser: Try, make_opportunity: Try) -> Try:
    """`fits` of an image banner on a plain slot, but for what is given."""

    def attempt(
        creative: dict[str, Any] | None = None,
        imp: dict[str, Any] | None = None,
        advertiser: dict[str, Any] | None = None,
        exchange: Exchange = DEMO,
        **request: Any,
    ) -> tuple[int, int] | NoBid:
        found = make_opportunity(imp, **request)
        return fits(
            make_creative(**(creative or {})),
            make_advertiser(**(advertiser or {})),
            found.slots[0],
            found,
            exchange,
        )

    return attempt


def test_a_creative_of_the_slots_size_fits(attempt: Try) -> None:
    assert attempt() == (300, 250)
    assert attempt({"width": 301}) is NoBid.WRONG_SIZE
    sizes = [{"w": 728, "h": 90}, {"w": 300, "h": 250}]
    assert attempt(imp={"banner": {"format": sizes}}) == (300, 250)


@pytest.mark.parametrize(
    ("ratio", "fits_it"),
    [((6, 5, 300), True), ((6, 5, 301), False), ((12, 10, 1), True), ((5, 6, 1), False)],
)
def test_flexible_sizes(attempt: Try, ratio: tuple[int, int, int], fits_it: bool) -> None:
    offer = dict(zip(("wratio", "hratio", "wmin"), ratio, strict=True))
    expected = (300, 250) if fits_it else NoBid.WRONG_SIZE
    assert attempt(imp={"banner": {"format": [offer]}}) == expected


def test_secure(attempt: Try) -> None:
    assert attempt({"secure": False}) == (300, 250)
    assert attempt({"secure": False}, {"secure": 1}) is NoBid.NO_CREATIVE
    assert attempt({"secure": True}, {"secure": 1}) == (300, 250)


def test_a_registered_id_is_needed_where_markup_is_registered(attempt: Try) -> None:
    xandr = Exchange(name="xandr", markup="registered")
    assert attempt(exchange=xandr) is NoBid.NO_CREATIVE
    assert attempt({"registered": {"index": "1"}}, exchange=xandr) is NoBid.NO_CREATIVE
    assert attempt({"registered": {"xandr": "1"}}, exchange=xandr) == (300, 250)


@pytest.mark.parametrize(
    ("needs", "listed", "fits_it"),
    [(set(), None, True), ({5}, None, False), ({5}, [3], False), ({5}, [3, 5], True)],
)
def test_an_api_not_listed_is_unsupported(
    attempt: Try, needs: set[int], listed: list[int] | None, fits_it: bool
) -> None:
    found = attempt({"apis": frozenset(needs)}, {"banner": {"w": 300, "h": 250, "api": listed}})
    assert found == ((300, 250) if fits_it else NoBid.NO_CREATIVE)
    found = attempt(
        {"expandable": frozenset(needs)}, {"banner": {"w": 300, "h": 250, "expdir": listed}}
    )
    assert found == ((300, 250) if fits_it else NoBid.NO_CREATIVE)


HTML_ONLY = {"html": "<b>x</b>", "image_url": ""}
HTML_SCRIPT = {"html": SCRIPT, "image_url": ""}


@pytest.mark.parametrize(
    ("creative", "mimes", "fits_it"),
    [
        ({}, ["image/jpg"], True),
        ({}, ["IMAGE/JPEG"], True),
        ({}, ["image/gif"], False),
        ({}, ["image/*"], True),
        ({}, ["text/html"], True),
        ({}, ["video/mp4"], False),
        ({"image_url": "https://cdn.example/b.png?v=1.jpg"}, ["image/png"], True),
        ({"image_url": "https://cdn.example/b"}, ["image/png"], True),
        ({"image_url": "https://cdn.example/b"}, ["text/css"], False),
        (HTML_ONLY, ["text/html"], True),
        (HTML_ONLY, ["image/gif"], False),
        (HTML_ONLY, ["text/javascript"], False),
        (HTML_SCRIPT, ["text/javascript"], True),
    ],
)
def test_mimes(attempt: Try, creative: dict[str, Any], mimes: list[str], fits_it: bool) -> None:
    found = attempt(creative, {"banner": {"w": 300, "h": 250, "mimes": mimes}})
    assert found == ((300, 250) if fits_it else NoBid.NO_CREATIVE)


@pytest.mark.parametrize(
    ("language", "request_lists", "fits_it"),
    [
        ("fr", {"wlang": ["fr", "nl"]}, True),
        ("FR-be", {"wlang": ["fr"]}, True),
        ("de", {"wlang": ["fr"]}, False),
        ("", {"wlang": ["fr"]}, False),
        ("fr", {"wlangb": ["fr-BE"]}, False),
        ("de", {"wlangb": ["fr"]}, True),
        ("", {"wlangb": ["fr"]}, True),
    ],
)
def test_languages(
    attempt: Try, language: str, request_lists: dict[str, Any], fits_it: bool
) -> None:
    found = attempt({"language": language}, **request_lists)
    assert found == ((300, 250) if fits_it else NoBid.WRONG_LANGUAGE)


def test_blocked_attributes(attempt: Try) -> None:
    creative = {"attributes": frozenset({1, 6})}
    blocked = {"banner": {"w": 300, "h": 250, "battr": [6, 9]}}
    assert attempt(creative, blocked) is NoBid.BLOCKED_BY_PUBLISHER
    assert attempt({"attributes": frozenset({1})}, blocked) == (300, 250)


@pytest.mark.parametrize(
    ("html", "types"),
    [("", {2}), ("<b>x</b>", {2}), (SCRIPT, {3}), (FRAME, {4}), (SCRIPT.upper() + FRAME, {3, 4})],
)
def test_blocked_banner_types(attempt: Try, make_creative: Try, html: str, types: set[int]) -> None:
    creative = {"html": html, "image_url": "" if html else "https://cdn.example/b.jpg"}
    assert banner_types(make_creative(**creative)) == types
    for blocked in (1, 2, 3, 4):
        found = attempt(creative, {"banner": {"w": 300, "h": 250, "btype": [blocked]}})
        assert found == (NoBid.BLOCKED_BY_PUBLISHER if blocked in types else (300, 250))


@pytest.mark.parametrize(
    ("about", "lists", "fits_it"),
    [
        ({"IAB25-3"}, {"bcat": ["IAB25"]}, False),
        ({"IAB25-3"}, {"bcat": ["IAB25-3"]}, False),
        ({"IAB25-3"}, {"bcat": ["IAB25-2"]}, True),
        ({"IAB25"}, {"bcat": ["IAB25-3"]}, True),
        ({"IAB2"}, {"bcat": ["IAB25"]}, True),
        ({"6:211"}, {"bcat": ["211"], "cattax": 6}, False),
        ({"1"}, {"bcat": ["1"], "cattax": 6}, True),
        ({"IAB1"}, {"bcat": ["IAB1"], "cattax": 6}, False),  # no other taxonomy writes IAB1
        ({"IAB18-1"}, {"acat": ["IAB18"]}, True),
        ({"IAB18-1", "IAB25"}, {"acat": ["IAB18"]}, False),
        ({"IAB18-1", "6:9"}, {"acat": ["IAB18"]}, True),
        (set(), {"acat": ["IAB18"]}, False),
        ({"6:9"}, {"acat": ["IAB18"]}, False),
    ],
)
def test_categories(attempt: Try, about: set[str], lists: dict[str, Any], fits_it: bool) -> None:
    expected = (300, 250) if fits_it else NoBid.BLOCKED_BY_PUBLISHER
    assert attempt({"categories": frozenset(about)}, **lists) == expected
    assert attempt(advertiser={"categories": frozenset(about)}, **lists) == expected


@pytest.mark.parametrize(
    ("blocked", "fits_it"),
    [
        ("shop.maison-lumen.example", False),
        ("Maison-Lumen.example", False),
        ("example", False),
        ("lumen.example", True),
        ("a.shop.maison-lumen.example", True),
    ],
)
def test_blocked_advertisers(attempt: Try, blocked: str, fits_it: bool) -> None:
    expected = (300, 250) if fits_it else NoBid.BLOCKED_BY_PUBLISHER
    assert attempt(badv=[blocked]) == expected


NATIVE_REQUEST = '{"assets":[{"id":1,"required":1,"title":{"len":50}}]}'
NATIVE_TOO_MUCH = '{"assets":[{"id":1,"required":1,"data":{"type":2}}]}'


def native(**more: Any) -> dict[str, Any]:
    return {"native": NATIVE, "image_url": "", "width": 0, "height": 0, **more}


def test_native(attempt: Try) -> None:
    slot = {"native": {"request": NATIVE_REQUEST}}
    assert attempt(native(), slot) == (0, 0)
    assert attempt({}, slot) == (300, 250)  # the banner beside it
    assert attempt(native()) is NoBid.WRONG_SIZE
    assert attempt(native(), {"native": {"request": NATIVE_TOO_MUCH}}) is NoBid.NO_CREATIVE
    assert attempt(native(), {"native": {"request": "odd"}}) is NoBid.NO_CREATIVE
    mimes = {"banner": {"w": 1, "h": 1, "mimes": ["text/css"], "btype": [2, 3, 4]}, **slot}
    assert attempt(native(), mimes) == (0, 0)  # a banner's rules are not for native
    assert (
        attempt(
            native(attributes=frozenset({1})), {"native": {"request": NATIVE_REQUEST, "battr": [1]}}
        )
        is NoBid.BLOCKED_BY_PUBLISHER
    )


_label = st.sampled_from(["a", "b", "com"])
_domain = st.lists(_label, min_size=1, max_size=4).map(".".join)


@given(_domain, st.frozensets(_domain, max_size=4))
def test_a_domain_is_in_a_list_if_it_ends_in_one_of_it(domain: str, listed: frozenset[str]) -> None:
    slow = any(domain == one or domain.endswith(f".{one}") for one in listed)
    assert is_domain_in(domain, listed) == slow


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://x.example/a.JPG", "image/jpeg"),
        ("https://x.example/a.webp?x=1", "image/webp"),
        ("https://x.example/a.svg#f", "image/svg+xml"),
        ("https://x.example/a", ""),
    ],
)
def test_image_types(url: str, kind: str) -> None:
    assert image_type(url) == kind
    assert accepts_image(frozenset(), url)


@pytest.mark.skipif(not CORPUS.exists(), reason="../shared/corpus is absent")
def test_an_image_fits_nearly_every_banner_slot_of_the_corpus(
    make_creative: Try, make_advertiser: Try
) -> None:
    refused, tried = [], 0
    advertiser = make_advertiser()
    for line in CORPUS.read_text().splitlines():
        case = json.loads(line)
        try:
            found = opportunity(decode(json.dumps(case["body"]).encode()), "demo")
        except InvalidRequest:
            continue
        for slot in found.slots:
            for width, height in slot.sizes:
                tried += 1
                creative = make_creative(width=width, height=height)
                if fits(creative, advertiser, slot, found, DEMO) != (width, height):
                    refused.append(case["src"])
    assert tried > 1000
    assert not refused
