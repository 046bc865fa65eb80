"""Decoding bid requests: old and new places, odd types, and what is refused."""

import json
from pathlib import Path
from typing import Any, get_type_hints
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.openrtb import tolerant as slow_road
from bidder.openrtb.opportunity import opportunity
from bidder.openrtb.request import BidRequest, InvalidRequest, decode

CORPUS = Path(__file__).parents[2] / "../shared/corpus/openrtb"
needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason="../shared/corpus is absent")
IMP = {"id": "1", "banner": {"w": 300, "h": 250}}


def read(**fields: Any) -> BidRequest:
    return decode(json.dumps({"id": "r", "imp": [IMP], **fields}).encode())


def read_imp(**fields: Any) -> Any:
    return read(imp=[{**IMP, **fields}]).imp[0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{}",
        b'{"id":"r"}',
        b'{"id":"r","imp":[]}',
        b'{"id":"","imp":[{"id":"1"}]}',
        b'{"imp":[{"id":"1"}]}',
        b'{"id":"r","imp":[{}]}',
        b'{"id":"r","imp":[{"id":""}]}',
        b'{"id":"r","imp":[{"id":"1"},{}]}',
        b'{"id":"r","imp":{"id":"1"}}',
        b'{"id":{},"imp":[{"id":"1"}]}',
        b'{"id":null,"imp":[{"id":"1"}]}',
        b'{"id":"r","imp":[null]}',
        b'{"id":"r","imp":[{"id":"1"}],"site":{},"app":{}}',
        b'{"id":"r","imp":[{"id":"1"}],"dooh":{},"app":{}}',
        b'{"id":"r","imp":[{"id":"1","bidfloor":NaN}]}',
        b'{"id":"r","imp":[{"id":"1"}]} trailing',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_not_a_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_invalid(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "w", "geo", "ext", "bidfloor", "format"]), inner)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["site", "device", "user", "regs", "source", "cur", "at", "badv", "ext"]),
        _json,
    ),
    st.dictionaries(st.sampled_from(["banner", "native", "pmp", "bidfloor", "secure"]), _json),
)
def test_no_odd_field_breaks_a_request(fields: dict[str, Any], imp: dict[str, Any]) -> None:
    body = json.dumps({"id": "r", "imp": [{"id": "1", **imp}], **fields})
    try:
        request = decode(body.encode())
    except InvalidRequest:
        assert "NaN" in body or "Infinity" in body
        return
    assert opportunity(request, "demo").request_id == "r"


def test_numbers_written_as_text_and_whole_floats_are_read() -> None:
    imp = read_imp(banner={"w": "300", "h": 250.0}, secure="1", bidfloor="0.5")
    assert (imp.banner.w, imp.banner.h, imp.secure, imp.bidfloor) == (300, 250, 1, 0.5)


@pytest.mark.parametrize(
    ("name", "odd"),
    [("tmax", "soon"), ("cur", [True]), ("device", []), ("site", 3), ("badv", {}), ("regs", "x")],
)
def test_an_optional_field_that_cannot_be_read_is_absent(name: str, odd: Any) -> None:
    assert getattr(read(**{name: odd}), name) is None


def test_only_the_odd_field_is_lost() -> None:
    device = read(device={"ua": {"a": 1}, "ip": "192.0.2.1", "geo": {"country": 5, "lat": 1.5}})
    assert device.device is not None
    assert (device.device.ua, device.device.ip) == (None, "192.0.2.1")
    assert device.device.geo is not None
    assert device.device.geo.lat == 1.5


def test_unknown_fields_and_a_byte_order_mark_are_tolerated() -> None:
    assert read(novelty={"a": [1]}).id == "r"
    assert decode(b"\xef\xbb\xbf" + json.dumps({"id": "r", "imp": [IMP]}).encode()).id == "r"


def test_defaults_of_the_standard() -> None:
    request = read()
    assert (request.at, request.test, request.imp[0].bidfloor) == (2, 0, 0.0)
    assert request.imp[0].bidfloorcur == "USD"
    deal = read_imp(bidfloorcur="EUR", pmp={"deals": [{"id": "d"}]}).pmp.deals[0]
    assert deal.bidfloorcur == "USD"  # does not inherit from imp (§3.2.12)


FOLDED = [
    ("regs", "gdpr", 1, 0),
    ("regs", "us_privacy", "1YNN", "1---"),
    ("regs", "gpp", "DBAA", "DBAB"),
    ("regs", "gpp_sid", [7], [8]),
    ("regs", "gpc", 1, 0),
    ("regs", "coppa", 1, 0),
    ("user", "consent", "CP", "CQ"),
]


@pytest.mark.parametrize(("place", "name", "new", "old"), FOLDED)
def test_the_old_place_is_read_and_the_new_one_wins(
    place: str, name: str, new: Any, old: Any
) -> None:
    only_old = getattr(read(**{place: {"ext": {name: old}}}), place)
    assert getattr(only_old, name) == old
    both = getattr(read(**{place: {name: new, "ext": {name: old}}}), place)
    assert getattr(both, name) == new
    only_new = getattr(read(**{place: {name: new}}), place)
    assert getattr(only_new, name) == new


@pytest.mark.parametrize(
    ("place", "name", "empty", "old"),
    [
        ("regs", "us_privacy", "", "1YYN"),
        ("regs", "gpp_sid", [], [7]),
        ("user", "consent", "", "CP"),
    ],
)
def test_an_empty_new_place_does_not_hide_the_old_one(
    place: str, name: str, empty: Any, old: Any
) -> None:
    """It hid an opt-out."""
    both = getattr(read(**{place: {name: empty, "ext": {name: old}}}), place)
    assert getattr(both, name) == old


@pytest.mark.parametrize("said", ["1", 1, True, "true", 1.0])
def test_global_privacy_control_however_it_is_said(said: Any) -> None:
    """As a number it was lost, and with it the opt-out."""
    assert opportunity(read(regs={"ext": {"gpc": said}}), "demo").signals.gpc
    assert opportunity(read(regs={"gpc": said}), "demo").signals.gpc


def test_eids_and_schain_move_as_well() -> None:
    eid = {"source": "s.example", "uids": [{"id": "u"}]}
    chain = {"complete": 1, "nodes": [{"asi": "x.example", "sid": "1"}]}
    request = read(user={"ext": {"eids": [eid]}}, source={"ext": {"schain": chain}})
    assert request.user is not None
    assert request.user.eids is not None
    assert request.user.eids[0].source == "s.example"
    assert request.source is not None
    assert request.source.schain is not None
    assert request.source.schain.nodes is not None
    assert request.source.schain.nodes[0].sid == "1"


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    """Found by fuzzing: a surrogate in UTF-8 was an error of another class."""
    body = json.dumps({"id": "r", "imp": [IMP], "site": {"domain": "@"}}).encode()
    found = decode(body.replace(b"@", b"\xed\xa0\x80"))
    assert found.site is not None
    assert set(found.site.domain or "") == {"\ufffd"}


@pytest.mark.parametrize("tmax", [10**400, 2**63, "9" * 400])
def test_no_deadline_is_further_away_than_any_auction(tmax: object) -> None:
    """Found by fuzzing."""
    found = opportunity(read(tmax=tmax), "demo")
    assert found.tmax_ms is None or found.tmax_ms <= 60_000


def test_lone_surrogates_do_not_come_back_out() -> None:
    request = decode(b'{"id":"r","imp":[{"id":"1","tagid":"t\\ud800"}]}')
    assert (request.imp[0].tagid or "").encode() == b"t?"


@pytest.mark.parametrize(
    "body",
    [
        rb'{"id":"r\ud800","imp":[{"id":"1"}]}',
        rb'{"id":"r","imp":[{"id":"\ud800"}]}',
        b'{"id":"r\xff","imp":[{"id":"1"}]}',
    ],
)
def test_an_id_that_cannot_be_sent_back_is_refused(body: bytes) -> None:
    """Found by fuzzing: we answered with another id."""
    with pytest.raises(InvalidRequest):
        decode(body)


def test_true_is_one() -> None:
    """Found by fuzzing: `secure`, `coppa` and `lmt` were lost where they were written as true."""
    body = {"regs": {"coppa": True, "gdpr": False}, "device": {"lmt": True, "dnt": False}}
    found = read(**body, imp=[{**IMP, "secure": True}])
    assert found.regs is not None
    assert found.device is not None
    assert (found.imp[0].secure, found.regs.coppa, found.regs.gdpr) == (1, 1, 0)
    assert (found.device.lmt, found.device.dnt) == (1, 0)


def test_of_an_odd_list_nothing_is_lost_but_what_is_odd() -> None:
    """Found by fuzzing: a number among the blocked domains unblocked all of them."""
    found = read(badv=["a.example", None, {}, 5, "b.example"], bcat="IAB25", wseat=[7], wlang=[])
    assert found.badv == ["a.example", "5", "b.example"]
    assert (found.bcat, found.wseat, found.wlang) == (["IAB25"], ["7"], [])


def test_a_list_written_as_one_text() -> None:
    found = read(badv="a.example, b.example", wseat="", regs={"gpp_sid": "7,8"})
    assert (found.badv, found.wseat) == (["a.example", "b.example"], [])
    assert found.regs is not None
    assert found.regs.gpp_sid == [7, 8]


def test_of_a_list_of_objects_nothing_is_lost_but_what_is_odd() -> None:
    """One null among the ids hid the others, and among the deals the private auction's."""
    uids = [None, {"id": 5}, "x", {"id": "u"}]
    eids = [3, {"source": "s.example", "uids": uids}, None]
    deals = [None, {"bidfloor": 1}, {"id": 9}, {"id": "d"}]
    banner = {"format": [None, "300x600", {"w": 300, "h": 250}]}
    imp = {"id": "1", "banner": banner, "pmp": {"private_auction": 1, "deals": deals}}
    found = opportunity(read(user={"eids": eids}, imp=[imp]), "demo")
    assert found.identifiers == (("s.example", "5"), ("s.example", "u"))
    assert [deal.id for deal in found.slots[0].deals] == ["9", "d"]
    assert found.slots[0].sizes == ((300, 250),)


def test_an_id_that_is_a_number_is_its_digits() -> None:
    found = read(id=12, imp=[{**IMP, "id": 0}], site={"publisher": {"id": 42}})
    assert (found.id, found.imp[0].id) == ("12", "0")
    assert found.site is not None
    assert found.site.publisher is not None
    assert found.site.publisher.id == "42"


@pytest.mark.parametrize("huge", [10**400, -(10**400), 2**63, 2**31])
def test_numbers_that_nothing_could_be_are_not_taken(huge: int) -> None:
    """Found by fuzzing: the features of the models cannot hold them."""
    imp = {**IMP, "exp": huge, "banner": {"w": 300, "h": 250, "pos": huge}}
    odd = {"device": {"geo": {"utcoffset": huge}}, "imp": [imp]}
    found = opportunity(read(**odd), "demo")
    assert (found.utc_offset_minutes, found.slots[0].position) == (None, 0)
    assert 0 < found.slots[0].exp_seconds <= 86_400


def test_a_thousand_odd_imps_are_read_quickly() -> None:
    """Found by fuzzing: the fields of a struct were worked out for each, 0.2 ms."""
    body = json.dumps({"id": "r", "imp": [{"id": "1", "banner": {"w": "x"}}] * 1000}).encode()
    with patch.object(slow_road, "get_type_hints", side_effect=get_type_hints) as worked_out:
        for _ in range(2):
            assert len(decode(body).imp) == 1000
    assert worked_out.call_count <= 40


def test_odd_lists_without_end_are_read_to_their_thousandth() -> None:
    """A hundred thousand odd things in a megabyte held up a worker for a second."""
    imps = [{"id": str(i), "banner": {"w": "x"}} for i in range(5000)]
    user = {"eids": [None] * 5000 + [{"source": "s.example", "uids": [{"id": "u"}]}]}
    found = read(imp=imps, user=user, badv=[None] * 5000 + ["a.example"])
    assert len(found.imp) == 1000
    assert opportunity(found, "demo").identifiers == ()
    assert found.badv == ["a.example"]  # of what is blocked, nothing is lost


@needs_corpus
def test_every_request_of_the_corpus_is_read_or_invalid() -> None:
    read_all = refused = 0
    for line in (CORPUS / "requests.jsonl").read_text().splitlines():
        case = json.loads(line)
        body = json.dumps(case["body"]).encode()
        try:
            found = opportunity(decode(body), "demo")
        except InvalidRequest:
            refused += 1
            if case["schema_ok"]:
                # The proto's schema cannot say that an imp id is required, or one of site and app.
                assert not _is_lawful(case["body"]), case["src"]
        else:
            read_all += 1
            assert found.request_id == str(case["body"]["id"])
    assert read_all > 1500
    assert refused < 300


def _is_lawful(body: Any) -> bool:
    """The rules of §3.2 by which a request may be refused, read from the plain JSON."""
    imps = body.get("imp")
    return bool(
        body.get("id")
        and imps
        and all(imp.get("id") for imp in imps)
        and sum(name in body for name in ("site", "app", "dooh")) <= 1
    )


@needs_corpus
def test_no_invalid_request_of_the_corpus_breaks_the_decoder() -> None:
    for line in (CORPUS / "invalid_requests.jsonl").read_text().splitlines():
        case = json.loads(line)
        body = case["raw"] if "raw" in case else json.dumps(case["body"])
        try:
            opportunity(decode(body.encode()), "demo")
        except InvalidRequest:
            continue
        assert isinstance(case.get("body"), dict), case["src"]
        assert _is_lawful(case["body"]), case["src"]
