"""What may we do with the person behind a request?

Everything a request says (TCF, GPP, US Privacy, GPC, LMT, DNT, COPPA) becomes one `Permission`.
Later stages ask it and never look at the signals again. The strictest signal wins:

- COPPA, `lmt`, `dnt`, GPC and any US opt-out, or consent refused for a known child, permit nothing
  at all. Capping and measuring need to know the person as much as targeting does, so they fall too.
- Where the GDPR applies, each permission needs its purposes (TCF), one by one. It applies if
  `gdpr` is not 0, or GPP section 2 is in force; with `gdpr` absent, in `GDPR_COUNTRIES` and where
  the country is unknown.
- What we cannot read permits nothing: an invalid TC string, a malformed `us_privacy`, a GPP section
  said to be in force (`gpp_sid`) that is absent, malformed or unknown.
- Elsewhere, everything is permitted.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from typing import Literal

from msgspec import Struct

from bidder.openrtb.countries import GDPR_COUNTRIES
from bidder.openrtb.opportunity import Signals
from bidder.privacy import gpp, us_privacy
from bidder.privacy.bits import Ids, InvalidConsent
from bidder.privacy.tcf import TcString, decode

Reason = Literal[
    "",
    "none",
    "coppa",
    "lmt",
    "gpc",
    "us-privacy",
    "gpp",
    "no-consent-string",
    "invalid-consent",
    "policy-version",
    "global-scope",
    "no-disclosed-vendors",
    "publisher-restriction",
    "undeclared",
    "vendor",
    "purpose",
]
"""What decided that we may not target; empty if we may."""

_CONSENT, _INTEREST = 1, 2
"""Legal bases, numbered as the restrictions that require them."""
_CONSENT_ONLY = frozenset({1, 3, 4, 5, 6})
"""Purposes for which TCF policies (from version 4) allow no legitimate interest."""
_CACHED, _CACHED_CHARS, _CACHED_SECTIONS = 8192, 2048, 32
"""Verdicts kept, and the longest input worth keeping one for: at most 20 MB under attack."""


class Permission(Struct, frozen=True):
    """What we may do, by TCF purpose, and why not where we may not target."""

    identify: bool
    """Recognise the device: purpose 1."""
    target: bool
    """Choose an ad by the person's profile: purposes 1 and 4. Without it, `minimise`."""
    profile: bool
    """Write to the person's profile: purposes 1 and 3."""
    cap: bool
    """Count exposures: purposes 1 and 2."""
    measure: bool
    """Attribute clicks and conversions: purposes 1 and 7."""
    train: bool
    """Train models on what happened: purposes 1 and 10."""
    reason: Reason


ALL = Permission(True, True, True, True, True, True, "")
NONE = Permission(False, False, False, False, False, False, "none")


class Rules(Struct, frozen=True, cache_hash=True):
    """Who we are in the TCF, and from when its rules hold (midnight UTC of each date).

    Raises `ValueError` on declarations that the TCF does not allow.
    """

    vendor_id: int
    """Ours in the Global Vendor List."""
    min_policy_version: int = 4
    policy_since: date = date(2023, 9, 30)
    """From this day on a string of a lower policy version is invalid, whenever it was made."""
    service_specific_since: date = date(2021, 9, 1)
    """From this day on a string of global scope is invalid, whenever it was made."""
    disclosed_vendors_since: date = date(2026, 2, 28)
    """A string made or last updated from this day on must carry DisclosedVendors (TCF 2.3)."""
    declared: frozenset[int] = frozenset({1, 2, 3, 4, 7, 9, 10})
    """The purposes we registered, on either basis."""
    legitimate_interest: frozenset[int] = frozenset()
    """Those of them registered on legitimate interest; the others are on consent."""
    flexible: frozenset[int] = frozenset()
    """Those whose basis a publisher may change."""

    def __post_init__(self) -> None:
        for name in ("legitimate_interest", "flexible"):
            purposes: frozenset[int] = getattr(self, name)
            if wrong := purposes & _CONSENT_ONLY:
                raise ValueError(f"{name}: purposes {sorted(wrong)} need consent")
            if wrong := purposes - self.declared:
                raise ValueError(f"{name}: purposes {sorted(wrong)} are not declared")


def permission(signals: Signals, rules: Rules, now: float) -> Permission:
    """What these signals permit us at `now`, in seconds since the epoch."""
    reason = _opt_out(signals)
    if reason:
        return _nothing(reason)
    if not _gdpr_applies(signals):
        return ALL
    consent = signals.consent
    if not consent and gpp.TCF_EU in signals.gpp_sid:
        consent = _consent_in_gpp(signals.gpp)
    if not consent:
        return _nothing("no-consent-string")
    policy = rules.min_policy_version if now >= _midnight(rules.policy_since) else 0
    specific = now >= _midnight(rules.service_specific_since)
    if len(consent) > _CACHED_CHARS:
        return _from_tcf(consent, rules, policy, specific)
    return _cached_from_tcf(consent, rules, policy, specific)


def permission_from_query(
    params: Mapping[str, str], rules: Rules, now: float, country: str = "", gpc: bool = False
) -> Permission:
    """The same for a URL's parameters: gdpr, gdpr_consent, gpp, gpp_sid, us_privacy.

    Macros that nobody replaced count as absent. `country` is alpha-2, `gpc` the header `Sec-GPC`.
    """
    values = {name: value for name, value in params.items() if "${" not in value}
    gdpr = values.get("gdpr", "").strip()
    listed = values.get("gpp_sid", "").replace("_", ",").split(",")
    try:
        sections = tuple([int(part) for part in listed if part.strip()])
    except ValueError:
        return _nothing("gpp")
    signals = Signals(
        country=country,
        gdpr=None if not gdpr else 0 if gdpr == "0" else 1,
        consent=values.get("gdpr_consent", ""),
        us_privacy=values.get("us_privacy", ""),
        gpp=values.get("gpp", ""),
        gpp_sid=sections,
        gpc=gpc,
    )
    return permission(signals, rules, now)


@cache
def _nothing(reason: Reason) -> Permission:
    return Permission(False, False, False, False, False, False, reason)


@lru_cache(maxsize=64)
def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _gdpr_applies(signals: Signals) -> bool:
    if gpp.TCF_EU in signals.gpp_sid:
        return True
    if signals.gdpr is None:
        return not signals.country or signals.country in GDPR_COUNTRIES
    return signals.gdpr != 0


def _opt_out(signals: Signals) -> Reason:
    """The first signal that forbids everything, wherever the person is."""
    if signals.coppa:
        return "coppa"
    if signals.limit_tracking:
        return "lmt"
    if signals.gpc:
        return "gpc"
    if signals.us_privacy and (
        len(signals.us_privacy) != 4 or _us_privacy_opt_out(signals.us_privacy)
    ):
        return "us-privacy"
    if signals.gpp or signals.gpp_sid:
        if len(signals.gpp) > _CACHED_CHARS or len(signals.gpp_sid) > _CACHED_SECTIONS:
            return gpp.opt_out(signals.gpp, signals.gpp_sid)
        return _cached_gpp_opt_out(signals.gpp, signals.gpp_sid)
    return ""


@lru_cache(maxsize=256)
def _us_privacy_opt_out(text: str) -> bool:
    try:
        return us_privacy.opted_out(text)
    except InvalidConsent:
        return True


def _consent_in_gpp(text: str) -> str:
    try:
        return gpp.decode(text).get(gpp.TCF_EU, "")
    except InvalidConsent:
        return ""


def _from_tcf(text: str, rules: Rules, min_policy: int, specific_only: bool) -> Permission:
    """What a TC string permits, with the rules on date that hold now."""
    try:
        tc = decode(text)
    except InvalidConsent:
        return _nothing("invalid-consent")
    reason = _invalidity(tc, rules, min_policy, specific_only)
    if reason:
        return _nothing(reason)
    grants = _grants(tc, rules.vendor_id)
    restrictions = tc.restrictions_of(rules.vendor_id)
    refusals = {
        purpose: _refusal(grants, rules, purpose, restrictions.get(purpose, set()))
        for purpose in (1, 2, 3, 4, 7, 10)
    }
    if refusals[1]:
        return _nothing(refusals[1])
    return Permission(
        identify=True,
        target=not refusals[4],
        profile=not refusals[3],
        cap=not refusals[2],
        measure=not refusals[7],
        train=not refusals[10],
        reason=refusals[4],
    )


def _invalidity(tc: TcString, rules: Rules, min_policy: int, specific_only: bool) -> Reason:
    """Why the string as a whole does not count."""
    if tc.policy_version < min_policy:
        return "policy-version"
    if specific_only and not tc.service_specific:
        return "global-scope"
    if tc.disclosed_vendors is None:
        due = max(tc.created, tc.updated) >= _midnight(rules.disclosed_vendors_since)
        return "no-disclosed-vendors" if due else ""
    return "" if rules.vendor_id in tc.disclosed_vendors else "vendor"


def _grants(tc: TcString, vendor: int) -> Mapping[int, Ids]:
    """Legal basis -> the purposes granted on it; a basis without our vendor bit is left out."""
    grants = {}
    if vendor in tc.vendor_consents:
        granted = tc.purpose_consents
        if tc.purpose_one_treatment:  # purpose 1 was not asked, so it was not granted
            granted = Ids(granted.max_id, granted.bits & ~(1 << granted.max_id - 1))
        grants[_CONSENT] = granted
    if vendor in tc.vendor_interests:
        grants[_INTEREST] = tc.purpose_interests
    return grants


def _refusal(grants: Mapping[int, Ids], rules: Rules, purpose: int, restricted: set[int]) -> Reason:
    """Why we may not process for this purpose; empty if we may.

    The order is that of the TCF: the publisher's restriction, our declaration, then both bits.
    """
    required = restricted & {_CONSENT, _INTEREST}
    if len(required) > 1 or restricted - required:  # forbidden, undefined, or contradictory
        return "publisher-restriction"
    if purpose not in rules.declared:
        return "undeclared"
    declared = _INTEREST if purpose in rules.legitimate_interest else _CONSENT
    basis = required.pop() if required else declared
    if basis != declared and purpose not in rules.flexible:
        return "publisher-restriction"
    if basis not in grants:
        return "vendor"
    return "" if purpose in grants[basis] else "purpose"


# What is cached is the verdict, not the decoded string: a few bytes instead of some kilobytes.
_cached_from_tcf = lru_cache(maxsize=_CACHED)(_from_tcf)
_cached_gpp_opt_out = lru_cache(maxsize=_CACHED)(gpp.opt_out)
