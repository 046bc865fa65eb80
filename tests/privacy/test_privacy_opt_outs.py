"""Is every way of saying no obeyed, wherever it comes from?"""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from msgspec.structs import replace

from bidder.openrtb.opportunity import Signals
from bidder.privacy import ALL, NONE, Rules, permission

RULES = Rules(vendor_id=77)
NOW = datetime(2026, 7, 1, tzinfo=UTC).timestamp()


OPT_OUTS = {
    "coppa": {"coppa": True},
    "lmt": {"limit_tracking": True},
    "gpc": {"gpc": True},
    "us-privacy": {"us_privacy": "1YYN"},
    "gpp": {"gpp": "gppString", "gpp_sid": (7,)},
}


@pytest.mark.parametrize("reason", OPT_OUTS)
@pytest.mark.parametrize("gdpr", [None, 0, 1])
@pytest.mark.parametrize("country", ["US", "FR", ""])
def test_an_opt_out_permits_nothing_anywhere(write, reason, gdpr, country):
    signals = Signals(country=country, gdpr=gdpr, consent=write.consent(), **OPT_OUTS[reason])
    found = permission(signals, RULES, NOW)
    assert found == replace(NONE, reason=reason)


def test_the_first_opt_out_gives_the_reason():
    order = list(OPT_OUTS)
    for first, second in pairwise(order):
        signals = Signals(country="US", **OPT_OUTS[first], **OPT_OUTS[second])
        assert permission(signals, RULES, NOW).reason == first


@pytest.mark.parametrize(("text", "reason"), [
    ("1YNN", ""), ("1---", ""), ("1-Y-", "us-privacy"), ("uspConsentString", "us-privacy"),
    ("1YXN", "us-privacy"), ("1", "us-privacy"),
])  # fmt: skip
def test_us_privacy(text, reason):
    assert permission(Signals(country="US", us_privacy=text), RULES, NOW).reason == reason


@pytest.mark.parametrize(("sale", "gpc", "sections", "reason"), [
    (2, 0, (7,), ""), (1, 0, (7,), "gpp"), (2, 1, (7,), "gpc"), (1, 0, (), "gpp"),
    (1, 0, (-1,), ""), (2, 0, (8,), "gpp"), (2, 0, tuple(range(7, 70)), "gpp"),
])  # fmt: skip
def test_gpp(write, sale, gpc, sections, reason):
    signals = Signals(country="US", gpp=write.national(sale, gpc), gpp_sid=sections)
    assert permission(signals, RULES, NOW).reason == reason


def test_a_known_child_without_consent_permits_nothing():
    signals = Signals(country="US", gpp="DBABBg~BVoAABRY", gpp_sid=(8,))  # nobody opted out
    assert permission(signals, RULES, NOW) == replace(NONE, reason="gpp")
    assert permission(replace(signals, gpp_sid=()), RULES, NOW) == replace(NONE, reason="gpp")


def test_a_long_gpp_string_is_judged_like_a_short_one(write):
    signals = Signals(country="US", gpp=write.national() + "." + "g" * 3000, gpp_sid=(7,))
    assert permission(signals, RULES, NOW) == ALL
    assert permission(replace(signals, gpp=signals.gpp * 4), RULES, NOW).reason == "gpp"
