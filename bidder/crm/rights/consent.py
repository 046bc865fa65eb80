"""What does a consent string that came later mean for what we hold? One pure judgement.

A TC string speaks for the site or app it was given on (TCF policies: service-specific), so only the
place that the proof came from can withdraw it; what another place says holds for its own requests,
which `privacy` judges. Reasons and articles: `docs/rights.md`.
"""

from enum import Enum

from bidder.openrtb.opportunity import Signals
from bidder.person import Profile
from bidder.privacy import InvalidConsent, Rules, permission
from bidder.privacy.tcf import decode

MAX_AHEAD_SECONDS = 86400
"""A string made later than this after now is of a clock that cannot be trusted."""
_SAYS_NOTHING = frozenset({"invalid-consent", "policy-version", "global-scope"})
"""Reasons for which a string counts neither as a yes nor as a no."""


class Verdict(Enum):
    """What to do."""

    GRANTED = "granted"
    """The string is the proof from now on; a withdrawal is over."""
    NARROWED = "narrowed"
    """Recognising and capping are still allowed, profiles are not: forget the profile."""
    WITHDRAWN = "withdrawn"
    """Nothing is allowed any more: erase."""
    STALE = "stale"
    """Not newer than what we have."""
    ELSEWHERE = "elsewhere"
    """Given to somebody else: says nothing of our proof."""
    INVALID = "invalid"
    """Not a string one may rely on, for either answer."""


def judge(
    profile: Profile, string: str, source: str, rules: Rules, now: float
) -> tuple[Verdict, int]:
    """What `string`, given on `source` (a domain or app bundle), means; and when it was given.

    Nobody's refusal is judged by how it came: `INVALID` leaves things as they are, and each request
    still needs a permission of its own.
    """
    try:
        given = decode(string)
    except InvalidConsent:
        return Verdict.INVALID, 0
    at = max(given.created, given.updated)
    if at > now + MAX_AHEAD_SECONDS:
        return Verdict.INVALID, at
    allowed = permission(Signals(gdpr=1, consent=string), rules, now)
    if allowed.reason in _SAYS_NOTHING:
        return Verdict.INVALID, at
    known = max(profile.consent_time, profile.withdrawn)
    if profile.consent and source != profile.consent_source:
        return Verdict.ELSEWHERE, at
    if at <= known:
        return Verdict.STALE, at
    if allowed.profile and allowed.target:
        return Verdict.GRANTED, at
    return (Verdict.NARROWED if allowed.identify and allowed.cap else Verdict.WITHDRAWN), at


def proven(profile: Profile, rules: Rules, now: float) -> bool:
    """Whether the proof we keep still proves that this person may be profiled."""
    if not profile.consent or profile.withdrawn:
        return False
    allowed = permission(Signals(gdpr=1, consent=profile.consent), rules, now)
    return allowed.profile and allowed.target
