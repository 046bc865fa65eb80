import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bidder.openrtb.countries import COUNTRIES, GDPR_COUNTRIES
from bidder.openrtb.opportunity import Signals, opportunity
from bidder.openrtb.request import InvalidRequest
from bidder.openrtb.request import decode as decode_request
from bidder.privacy import ALL, NONE, Permission, Rules, permission

REQUESTS = Path(__file__).parents[2] / "../shared/corpus/openrtb/requests.jsonl"
US = 77
RULES = Rules(vendor_id=US)
PURPOSES = (1, 2, 3, 4, 7, 10)
NEEDS = {"identify": (1,), "target": (1, 4), "profile": (1, 3), "cap": (1, 2),
         "measure": (1, 7), "train": (1, 10)}  # fmt: skip


def at(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


NOW = at("2026-07-01")


def granted(found: Permission) -> set[str]:
    return {name for name in NEEDS if getattr(found, name)}


def in_france(text: str, **fields) -> Signals:
    return Signals(country="FR", gdpr=1, consent=text, **fields)


def test_the_constants():
    assert granted(ALL) == set(NEEDS)
    assert granted(NONE) == set()
    assert (ALL.reason, NONE.reason) == ("", "none")


def test_full_consent_permits_everything(write):
    assert permission(in_france(write.consent()), RULES, NOW) == ALL


@given(purposes=st.frozensets(st.integers(1, 24)))
def test_each_permission_needs_its_purposes(write, purposes):
    found = permission(in_france(write.consent(purposes=purposes)), RULES, NOW)
    assert granted(found) == {name for name, needs in NEEDS.items() if purposes.issuperset(needs)}
    assert found.reason == ("" if found.target else "purpose")


def test_without_our_vendor_bit_nothing(write):
    text = write.consent(consents=[US - 1, US + 1], interests=[US], purpose_interests=PURPOSES)
    found = permission(in_france(text), RULES, NOW)
    assert (granted(found), found.reason) == (set(), "vendor")


def test_purpose_one_that_was_not_asked_was_not_granted(write):
    text = write.consent(purpose_one_treatment=True)
    found = permission(in_france(text), RULES, NOW)
    assert (granted(found), found.reason) == (set(), "purpose")


@pytest.mark.parametrize(
    ("rules", "kinds", "cap"),
    [
        # (purpose 2 declared on consent)
        ({}, [], True),
        ({}, [0], False),
        ({}, [1], True),
        ({}, [2], False),
        ({}, [3], False),
        ({}, [1, 2], False),
        ({"flexible": frozenset({2})}, [2], False),  # then on interest, which was not given
        # (purpose 2 declared on legitimate interest; the person consented only)
        ({"legitimate_interest": frozenset({2})}, [], False),
        ({"legitimate_interest": frozenset({2})}, [1], False),
        ({"legitimate_interest": frozenset({2}), "flexible": frozenset({2})}, [1], True),
        ({"legitimate_interest": frozenset({2}), "flexible": frozenset({2})}, [0], False),
        # (not declared)
        ({"declared": frozenset({1, 3, 4, 7, 10})}, [], False),
        ({"declared": frozenset({1, 3, 4, 7, 10})}, [1], False),
    ],
)
def test_restrictions_then_declaration_then_bits(write, rules, kinds, cap):
    text = write.consent(restrictions=[(2, kind, [(70, 80)]) for kind in kinds])
    found = permission(in_france(text), Rules(vendor_id=US, **rules), NOW)
    assert found.cap is cap
    assert granted(found) - {"cap"} == set(NEEDS) - {"cap"}


@pytest.mark.parametrize(("interest", "consented", "cap"), [
    (True, False, True), (False, True, False), (True, True, True), (False, False, False),
])  # fmt: skip
def test_legitimate_interest_has_bits_of_its_own(write, interest, consented, cap):
    text = write.consent(purposes=[1, 2] if consented else [1], interests=[US],
        purpose_interests=[2] if interest else [],
    )  # fmt: skip
    rules = Rules(vendor_id=US, legitimate_interest=frozenset({2}))
    assert permission(in_france(text), rules, NOW).cap is cap


@pytest.mark.parametrize(("fields", "rules", "reason"), [
    ({"restrictions": [(4, 0, [(US, US)])]}, {}, "publisher-restriction"),
    ({"restrictions": [(1, 0, [(US, US)])]}, {}, "publisher-restriction"),
    ({"restrictions": [(4, 0, [(US + 1, 99)])]}, {}, ""),
    ({}, {"declared": frozenset({1, 2, 3, 7, 10})}, "undeclared"),
    ({"restrictions": [(4, 0, [(US, US)])]}, {"declared": frozenset({1})}, "publisher-restriction"),
    ({"consents": []}, {}, "vendor"),
    ({"purposes": [1, 2, 3]}, {}, "purpose"),
    ({"purposes": [4]}, {}, "purpose"),
])  # fmt: skip
def test_the_reason_says_what_decided(write, fields, rules, reason):
    found = permission(in_france(write.consent(**fields)), Rules(vendor_id=US, **rules), NOW)
    assert found.reason == reason
    assert found.target is (reason == "")


bits = st.frozensets(st.sampled_from(PURPOSES))
chosen = st.frozensets(st.sampled_from([2, 7, 10]))


def slow_permission(case) -> set[str]:
    """What is permitted, written as the specification tells it, purpose by purpose."""
    allowed = set()
    for purpose in PURPOSES:
        kinds = {kind for restricted, kind in case["restrictions"] if restricted == purpose}
        on_interest = purpose in case["legitimate_interest"]
        if 0 in kinds or 3 in kinds or {1, 2} <= kinds:
            continue
        if purpose not in case["declared"]:
            continue
        if 1 in kinds and on_interest:
            if purpose not in case["flexible"]:
                continue
            on_interest = False
        elif 2 in kinds and not on_interest:
            if purpose not in case["flexible"]:
                continue
            on_interest = True
        if on_interest and case["interest_bit"] and purpose in case["interests"]:
            allowed.add(purpose)
        if not on_interest and case["consent_bit"] and purpose in case["consents"]:
            allowed.add(purpose)
    return {name for name, needs in NEEDS.items() if allowed.issuperset(needs)}


@given(st.fixed_dictionaries({
    "consents": bits, "interests": bits, "consent_bit": st.booleans(),
    "interest_bit": st.booleans(), "declared": bits, "legitimate_interest": chosen,
    "flexible": chosen,
    "restrictions": st.lists(st.tuples(st.sampled_from(PURPOSES), st.integers(0, 3)), max_size=3),
}))  # fmt: skip
def test_permission_equals_the_slow_one(write, case):
    case["declared"] |= {1} | case["legitimate_interest"] | case["flexible"]
    rules = Rules(
        vendor_id=US, declared=case["declared"], flexible=case["flexible"],
        legitimate_interest=case["legitimate_interest"],
    )  # fmt: skip
    text = write.tc_string(
        purposes=case["consents"], purpose_interests=case["interests"],
        consents=[US] if case["consent_bit"] else [5],
        interests=[US] if case["interest_bit"] else [5],
        restrictions=[(purpose, kind, [(US, US + 3)]) for purpose, kind in case["restrictions"]],
    )  # fmt: skip
    assert granted(permission(in_france(text), rules, NOW)) == slow_permission(case)


@pytest.mark.parametrize("field", ["legitimate_interest", "flexible"])
@pytest.mark.parametrize("purpose", [1, 3, 4, 5, 6])
def test_declarations_that_the_tcf_forbids_are_refused(field, purpose):
    with pytest.raises(ValueError, match="need consent"):
        Rules(vendor_id=US, **{field: frozenset({purpose})})


@pytest.mark.parametrize("field", ["legitimate_interest", "flexible"])
def test_a_basis_for_an_undeclared_purpose_is_refused(field):
    with pytest.raises(ValueError, match="not declared"):
        Rules(vendor_id=US, **{field: frozenset({8})})


# --- validity by date


@pytest.mark.parametrize(("policy", "day", "reason"), [
    (4, "2023-10-01", ""),
    (5, "2026-07-01", ""),
    (3, "2023-09-29T23:59:59", ""),
    (3, "2023-09-30", "policy-version"),
    (2, "2026-07-01", "policy-version"),
])  # fmt: skip
def test_policy_version(write, policy, day, reason):
    found = permission(in_france(write.consent(policy_version=policy)), RULES, at(day))
    assert found.reason == reason
    assert granted(found) == (set() if reason else set(NEEDS))


def test_policy_version_and_date_are_settings(write):
    signals = in_france(write.consent(policy_version=4))
    later = Rules(vendor_id=US, min_policy_version=5, policy_since=date(2027, 1, 1))
    assert permission(signals, later, at("2026-12-31")) == ALL
    assert permission(signals, later, at("2027-01-01")).reason == "policy-version"


@pytest.mark.parametrize(("day", "reason"), [("2021-08-31", ""), ("2021-09-01", "global-scope")])
def test_global_scope(write, day, reason):
    signals = in_france(write.consent(service_specific=False))
    assert permission(signals, RULES, at(day)).reason == reason


@pytest.mark.parametrize(("updated", "shown", "reason"), [
    ("2026-02-27T23:59:59", None, ""),
    ("2026-02-28", None, "no-disclosed-vendors"),
    ("2026-02-28", [US], ""),
    ("2026-02-28", [US + 1], "vendor"),
    ("2024-01-01", [US + 1], "vendor"),
    ("2024-01-01", [1, US], ""),
])  # fmt: skip
def test_disclosed_vendors(write, updated, shown, reason):
    segments = [] if shown is None else [write.disclosed(shown)]
    text = write.consent(updated=int(at(updated)), segments=segments)
    found = permission(in_france(text), RULES, NOW)
    assert found.reason == reason
    assert granted(found) == (set() if reason else set(NEEDS))


def test_a_string_made_after_the_date_needs_disclosed_vendors_too(write):
    text = write.consent(created=int(at("2026-03-01")), updated=int(at("2025-01-01")))
    assert permission(in_france(text), RULES, NOW).reason == "no-disclosed-vendors"


# --- where the GDPR applies


@pytest.mark.parametrize("country", ["", "US", "FR", "GB"])
def test_gdpr_one_is_honoured_everywhere(country):
    found = permission(Signals(country=country, gdpr=1), RULES, NOW)
    assert (granted(found), found.reason) == (set(), "no-consent-string")


@pytest.mark.parametrize("country", ["", "US", "FR", "GB"])
def test_gdpr_zero_is_honoured_everywhere(country):
    assert permission(Signals(country=country, gdpr=0), RULES, NOW) == ALL


def test_gdpr_of_an_undefined_value_applies():
    assert permission(Signals(country="US", gdpr=2), RULES, NOW).reason == "no-consent-string"


def test_gdpr_absent_depends_on_the_country():
    for country in ["", *COUNTRIES]:
        found = permission(Signals(country=country), RULES, NOW)
        applies = country == "" or country in GDPR_COUNTRIES
        assert found.reason == ("no-consent-string" if applies else ""), country


@pytest.mark.parametrize("text", ["consent-string", "1", " ", "C", "BOPVK28OPVK28ABABAENA8-AAAADk"])
def test_an_unreadable_string_permits_nothing(text):
    found = permission(in_france(text), RULES, NOW)
    assert (granted(found), found.reason) == (set(), "invalid-consent")


def test_a_long_string_is_judged_like_a_short_one(write):
    many = write.vendors(range(1, 20_000))
    assert permission(in_france(write.consent(consents=many)), RULES, NOW) == ALL
    longest = write.disclosed([US]) + "A" * 9000
    assert permission(in_france(longest), RULES, NOW).reason == "invalid-consent"


def test_the_string_inside_gpp(write):
    inside = write.gpp_string({2: write.consent()})
    signals = Signals(country="FR", gpp=inside, gpp_sid=(2,))
    assert permission(signals, RULES, NOW) == ALL
    assert permission(replace(signals, gdpr=1), RULES, NOW) == ALL
    # not said to be in force
    assert permission(replace(signals, gpp_sid=()), RULES, NOW).reason == "no-consent-string"
    # the string beside it comes first
    refusing = replace(signals, consent=write.consent(purposes=[1]))
    assert permission(refusing, RULES, NOW).reason == "purpose"


@pytest.mark.parametrize("gpp", ["", "gppString", "DBABLA~BVQqAAAAAgA.QA"])
@pytest.mark.parametrize("gdpr", [None, 0, 1])
def test_gpp_section_2_in_force_without_a_string(gpp, gdpr):
    found = permission(Signals(country="US", gdpr=gdpr, gpp=gpp, gpp_sid=(2,)), RULES, NOW)
    assert (granted(found), found.reason) == (set(), "no-consent-string")


# --- anything at all

short = st.text(max_size=30)


@given(st.builds(
    Signals, country=st.sampled_from(["", "FR", "US"]), gdpr=st.none() | st.integers(0, 2),
    consent=short, us_privacy=short, gpp=short | st.just("DBABLA~BVQqAAAAAgA.QA"),
    gpp_sid=st.lists(st.integers(-2, 30), max_size=3).map(tuple), gpc=st.booleans(),
    limit_tracking=st.booleans(), coppa=st.booleans(),
))  # fmt: skip
def test_any_signals_give_a_consistent_permission(signals):
    found = permission(signals, RULES, NOW)
    assert (found.reason == "") == found.target
    assert found == ALL or not granted(found)  # short texts are no consent
    if found == ALL:
        assert (signals.coppa, signals.limit_tracking, signals.gpc) == (False, False, False)
        assert signals.gdpr == 0 or (signals.gdpr is None and signals.country == "US")


@pytest.mark.skipif(not REQUESTS.exists(), reason="no ../shared/corpus here")
def test_corpus_requests_without_consent_permit_nothing_in_europe():
    seen = 0
    for line in REQUESTS.read_bytes().splitlines():
        try:
            body = json.loads(line)["body"]
            request = decode_request(
                body.encode() if isinstance(body, str) else json.dumps(body).encode()
            )
        except InvalidRequest:
            continue
        signals = opportunity(request, "demo").signals
        found = permission(signals, RULES, NOW)
        if signals.gdpr == 1 and not signals.consent and not signals.gpp:
            assert not granted(found)
            seen += 1
    assert seen
