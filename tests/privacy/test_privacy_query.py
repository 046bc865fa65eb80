"""What does the query of a pixel, a sync or a conversion permit?"""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.privacy import ALL, Rules, permission_from_query

RULES = Rules(vendor_id=77)
NOW = datetime(2026, 7, 1, tzinfo=UTC).timestamp()


def from_query(params, **options):
    return permission_from_query(params, RULES, NOW, **options)


def test_query_with_consent(write):
    assert from_query({"gdpr": "1", "gdpr_consent": write.consent()}) == ALL
    assert from_query({"gdpr_consent": write.consent()}) == ALL
    assert from_query({"gdpr_consent": write.consent(purposes=[1])}).reason == "purpose"


@pytest.mark.parametrize(("params", "reason"), [
    ({}, "no-consent-string"),
    ({"gdpr": ""}, "no-consent-string"),
    ({"gdpr": "0"}, ""),
    ({"gdpr": " 0 "}, ""),
    ({"gdpr": "1"}, "no-consent-string"),
    ({"gdpr": "no"}, "no-consent-string"),
    ({"gdpr": "${GDPR}", "gdpr_consent": "${GDPR_CONSENT_77}"}, "no-consent-string"),
    ({"gdpr": "1", "gdpr_consent": "%24{GDPR_CONSENT}"}, "invalid-consent"),
    ({"gdpr": "0", "us_privacy": "1YYN"}, "us-privacy"),
    ({"gdpr": "0", "us_privacy": "${US_PRIVACY}"}, ""),
    ({"gdpr": "0", "gpp_sid": "7"}, "gpp"),
    ({"gdpr": "0", "gpp_sid": "${GPP_SID}"}, ""),
    ({"gdpr": "0", "gpp_sid": "seven"}, "gpp"),
    ({"gdpr": "0", "gpp_sid": ""}, ""),
    ({"gdpr": "0", "gpp_sid": "-1"}, ""),
])  # fmt: skip
def test_query_without_consent(params, reason):
    assert from_query(params).reason == reason


def test_query_country_and_global_privacy_control():
    assert from_query({}, country="US") == ALL
    assert from_query({}, country="DE").reason == "no-consent-string"
    assert from_query({}, country="US", gpc=True).reason == "gpc"


@pytest.mark.parametrize("separator", [",", "_", ", "])
def test_query_with_gpp(write, separator):
    params = {"gdpr": "0", "gpp": write.national(), "gpp_sid": f"-1{separator}7"}
    assert from_query(params) == ALL
    assert from_query(params | {"gpp": write.national(sale=1)}).reason == "gpp"
    inside = {"gpp": write.gpp_string({2: write.consent()}), "gpp_sid": "2"}
    assert from_query(inside) == ALL


@given(st.dictionaries(
    st.sampled_from(["gdpr", "gdpr_consent", "gpp", "gpp_sid", "us_privacy", "x"]),
    st.text(max_size=30),
))  # fmt: skip
def test_any_query_gives_a_permission(params):
    found = from_query(params)
    assert (found.reason == "") == found.target
