import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.privacy.bits import InvalidConsent
from bidder.privacy.tcf import MAX_CHARS, MAX_SEGMENTS, Restriction, TcString, decode

VECTORS = Path(__file__).parents[2] / "../shared/corpus/tcf/tcf_vectors.json"
WEB_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

no_corpus = pytest.mark.skipif(not VECTORS.exists(), reason="no ../shared/corpus here")


def _has(tc: TcString, purpose: int, kind: int, vendor: int) -> bool:
    return kind in tc.restrictions_of(vendor).get(purpose, ())


CHECKS = {
    "version": lambda tc, want: tc.version == want,
    "cmpId": lambda tc, want: tc.cmp_id == want,
    "cmpVersion": lambda tc, want: tc.cmp_version == want,
    "consentScreen": lambda tc, want: tc.consent_screen == want,
    "consentLanguage": lambda tc, want: tc.consent_language == want,
    "vendorListVersion": lambda tc, want: tc.vendor_list_version == want,
    "tcfPolicyVersion": lambda tc, want: tc.policy_version == want,
    "publisherCC": lambda tc, want: tc.publisher_country == want,
    "maxVendorId": lambda tc, want: tc.vendor_consents.max_id == want,
    "created": lambda tc, want: datetime.fromtimestamp(tc.created, UTC).isoformat()[:19] == want,
    "purposesConsent": lambda tc, want: list(tc.purpose_consents) == want,
    "purposesLegInt": lambda tc, want: list(tc.purpose_interests) == want,
    "vendorConsents": lambda tc, want: list(tc.vendor_consents) == want,
    "vendorLegInt": lambda tc, want: list(tc.vendor_interests) == want,
    "hasDisclosedVendors": lambda tc, want: (tc.disclosed_vendors is not None) == want,
    "vendorsDisclosed": lambda tc, want: list(tc.disclosed_vendors) == want,
    "disclosedHas": lambda tc, want: all(n in tc.disclosed_vendors for n in want),
    "disclosedHasNot": lambda tc, want: not any(n in tc.disclosed_vendors for n in want),
    "restrictionHas": lambda tc, want: all(_has(tc, *one) for one in want),
    "restrictionHasNot": lambda tc, want: not any(_has(tc, *one) for one in want),
}


@no_corpus
def test_valid_corpus_strings_decode_to_what_they_must():
    for vector in json.loads(VECTORS.read_text())["valid"]:
        tc = decode(vector["s"])
        for key, want in vector["expect"].items():
            assert CHECKS[key](tc, want), (vector["s"], key, want, tc)


@no_corpus
def test_invalid_corpus_strings_are_refused():
    for vector in json.loads(VECTORS.read_text())["invalid"]:
        with pytest.raises(InvalidConsent):
            decode(vector["s"])


def test_every_field_of_the_core(write):
    tc = decode(write.tc_string(
        created=1_600_000_000, updated=1_700_000_000, cmp_id=4095, cmp_version=17, screen=63,
        language="AZ", vendor_list_version=4094, policy_version=5, service_specific=False,
        non_standard_texts=True, special_features=[2, 12], purposes=[1, 24],
        purpose_interests=[2, 23], purpose_one_treatment=True, country="ZB",
        consents=[1, 9], interests=[3],
    ))  # fmt: skip
    assert (tc.created, tc.updated) == (1_600_000_000, 1_700_000_000)
    assert (tc.cmp_id, tc.cmp_version, tc.consent_screen) == (4095, 17, 63)
    assert (tc.consent_language, tc.publisher_country) == ("AZ", "ZB")
    assert (tc.vendor_list_version, tc.policy_version) == (4094, 5)
    assert (tc.service_specific, tc.non_standard_texts) == (False, True)
    assert tc.purpose_one_treatment
    assert list(tc.special_features) == [2, 12]
    assert list(tc.purpose_consents) == [1, 24]
    assert list(tc.purpose_interests) == [2, 23]
    assert list(tc.vendor_consents) == [1, 9]
    assert list(tc.vendor_interests) == [3]
    assert tc.restrictions == ()
    assert tc.disclosed_vendors is None
    assert tc.allowed_vendors is None


ids = st.frozensets(st.integers(1, 300), max_size=25)
big_ids = st.frozensets(st.integers(1, 0xFFFF), max_size=25)
ranges = st.lists(
    st.tuples(st.integers(1, 0xFFFF), st.integers(1, 0xFFFF)).map(lambda p: (min(p), max(p))),
    max_size=6,
)


@given(purposes=st.frozensets(st.integers(1, 24)), consents=ids, interests=big_ids,
       shown=ids, allowed=ids, as_ranges=st.booleans())  # fmt: skip
def test_round_trip_of_ids(write, purposes, consents, interests, shown, allowed, as_ranges):
    tc = decode(write.tc_string(
        purposes=purposes,
        consents=write.vendors(consents, max_id=301, ranges=as_ranges),
        interests=write.vendors(interests, ranges=True),
        segments=[
            write.disclosed(allowed, kind=2, ranges=not as_ranges),
            write.disclosed(shown, ranges=as_ranges),
        ],
    ))  # fmt: skip
    assert set(tc.purpose_consents) == purposes
    assert set(tc.vendor_consents) == consents
    assert all(n in tc.vendor_interests for n in interests)
    assert not any(n in tc.vendor_interests for n in range(1, 400) if n not in interests)
    assert set(tc.disclosed_vendors) == shown
    assert set(tc.allowed_vendors) == allowed


@given(
    found=st.lists(st.tuples(st.integers(0, 63), st.integers(0, 3), ranges), max_size=5),
    vendor=st.integers(1, 0xFFFF),
)
def test_round_trip_of_restrictions(write, found, vendor):
    tc = decode(write.tc_string(restrictions=found))
    assert [(r.purpose, r.kind, list(r.vendors.ranges)) for r in tc.restrictions] == found
    want: dict[int, set[int]] = {}
    for purpose, kind, covered in found:
        if any(first <= vendor <= last for first, last in covered):
            want.setdefault(purpose, set()).add(kind)
    assert tc.restrictions_of(vendor) == want


def test_ids_outside_the_set_are_not_in_it(write):
    tc = decode(write.tc_string(consents=write.vendors([4], max_id=5)))
    assert [n in tc.vendor_consents for n in (-1, 0, 4, 5, 6, 70_000)] == [
        False, False, True, False, False, False,
    ]  # fmt: skip


def test_a_restriction_may_cover_every_vendor(write):
    tc = decode(write.tc_string(restrictions=[(2, 0, [(1, 0xFFFF)])]))
    assert isinstance(tc.restrictions[0], Restriction)
    assert tc.restrictions_of(0xFFFF) == {2: {0}}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_segments_come_in_any_order_and_unknown_ones_are_skipped(write, order):
    segments = [
        write.disclosed([5]),
        write.disclosed([6], kind=2),
        write.text(write.number(3, 3) + "1" * 10),  # PublisherTC, too short for its fields
        write.text(write.number(6, 3)),
    ]
    tc = decode(write.tc_string(segments=[segments[i] for i in order]))
    assert list(tc.disclosed_vendors) == [5]
    assert list(tc.allowed_vendors) == [6]


def test_every_truncation_is_refused(write):
    whole = write.tc_string(
        purposes=[1],
        consents=write.vendors([3, 8], ranges=True),
        interests=[7],
        restrictions=[(2, 1, [(3, 3), (5, 9)])],
        segments=[write.disclosed([1, 64], ranges=True)],
    )
    assert decode(whole)
    for length in range(len(whole)):
        if whole[length] != ".":  # the core alone is whole
            with pytest.raises(InvalidConsent):
                decode(whole[:length])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "version 1"),
        ({"version": 3}, "version 3"),
        ({"vendor_list_version": 0}, "vendor list version"),
        ({"segments": [""]}, "ends at"),
        ({"segments": ["AAAA"]}, "second core"),
        ({"segments": ["IAFKgA", "IAFKgA"]}, "second segment of type 1"),
        ({"segments": ["IAF="]}, "base64"),
        ({"segments": ["YAAA"] * MAX_SEGMENTS}, "segments"),
        ({"segments": ["Y" + "A" * MAX_CHARS]}, "longer"),
    ],
)
def test_refusals_say_what_is_wrong(write, change, message):
    with pytest.raises(InvalidConsent, match=message):
        decode(write.tc_string(**change))


@pytest.mark.parametrize(("first", "last"), [(0, 0), (2, 1), (1, 4), (0, 2)])
def test_ranges_must_lie_within_the_section(write, first, last):
    bits = write.number(3, 16) + "1" + write.number(1, 12) + "1"
    with pytest.raises(InvalidConsent, match="not within 1-3"):
        decode(write.tc_string(consents=bits + write.number(first, 16) + write.number(last, 16)))


def test_as_many_segments_as_allowed(write):
    others = [write.text(write.number(kind, 3)) for kind in range(3, 8)]
    segments = [write.disclosed([5]), write.disclosed([6], kind=2), *others]
    assert len(segments) == MAX_SEGMENTS - 1
    assert list(decode(write.tc_string(segments=segments)).allowed_vendors) == [6]


def is_refused_or_possible(text: str) -> None:
    """Nothing else is raised, and nothing is said that no string can say."""
    try:
        tc = decode(text)
    except InvalidConsent:
        return
    assert (tc.version, tc.vendor_list_version > 0) == (2, True)
    restricted = [restriction.vendors for restriction in tc.restrictions]
    told = [tc.vendor_consents, tc.vendor_interests, tc.disclosed_vendors, tc.allowed_vendors]
    for ids in (*restricted, *(each for each in told if each is not None)):
        assert ids.bits < 1 << ids.max_id
        assert all(0 < first <= last <= ids.max_id for first, last in ids.ranges)


@given(st.text(max_size=80) | st.text(WEB_SAFE + ".", max_size=80).map("C{}".format))
def test_any_text_decodes_or_is_refused(text):
    is_refused_or_possible(text)


@given(st.data())
def test_any_mutation_decodes_or_is_refused(write, data):
    many = [(n, n + 3) for n in range(1, 200, 5)]
    whole = write.tc_string(
        consents=write.number(203, 16) + "1" + write.entries(many),
        restrictions=[(2, 1, [(3, 3), *many])],
        segments=[write.disclosed([1, 9])],
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.integers(0, 4))
    new = data.draw(st.text(WEB_SAFE + ".~+=\x00é", max_size=8))
    is_refused_or_possible(whole[:at] + new + whole[at + cut :])


def test_hostile_counts_are_not_expanded(write):
    head = write.tc_string()
    claims_4095 = write.number(0xFFFF, 16) + "1" + write.number(4095, 12)
    with pytest.raises(InvalidConsent):
        decode(head + "." + write.text("001" + claims_4095))
    everything = claims_4095[:17] + write.entries([(1, 0xFFFF)] * 1000)
    tc = decode(head + "." + write.text("001" + everything))
    assert 0xFFFF in tc.disclosed_vendors
    assert len(tc.disclosed_vendors.ranges) == 1000
