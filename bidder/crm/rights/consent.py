"""What does a consent that we are told of mean for what we hold? One pure judgement.

All go through it: the pixel, the sync, files, calls and `bidder people consent`. A TC string speaks
for the site or app it was given on (TCF policies: service-specific), so a refusal counts from any
place where consent was once given, and ends where consent is given there again; what another place
says holds for its own requests, which `privacy` judges. Reasons and articles: `docs/rights.md`.
"""

from enum import Enum

from msgspec.structs import replace

from bidder.openrtb.opportunity import Signals
from bidder.person import Profile, bare
from bidder.privacy import InvalidConsent, Rules, permission
from bidder.privacy.tcf import decode
from bidder.settings import Settings

DAY_SECONDS = 86400
MAX_AHEAD_SECONDS = DAY_SECONDS
"""A string made later than this after now is of a clock that cannot be trusted."""
YES = frozenset(
    "1 1.0 y yes true t o oui vrai x on ja si sí granted opt-in optin accepted accepté".split()
)
NO = frozenset(
    "0 0.0 n no non nein false f faux off refused refusé withdrawn opt-out optout denied".split()
)
"""What a company's column may say instead of a TC string; any other word is neither."""
MOST_PLACES = 32
"""Of one person. Pages can name only places that the configuration knows."""
_SAYS_NOTHING = frozenset({"invalid-consent", "policy-version", "global-scope"})
"""Reasons for which a string counts neither as a yes nor as a no."""


class Verdict(Enum):
    """What to do."""

    GRANTED = "granted"
    """A proof: of this place from now on; a withdrawal there is over."""
    NARROWED = "narrowed"
    """Recognising and capping are still allowed, profiles are not: forget the profile."""
    WITHDRAWN = "withdrawn"
    """Nothing is allowed any more: erase."""
    STALE = "stale"
    """Not newer than what we have."""
    ELSEWHERE = "elsewhere"
    """Given to somebody else: says nothing of our proof, or of what was withdrawn."""
    INVALID = "invalid"
    """Nothing that one may rely on, for either answer."""


_REFUSED = (Verdict.NARROWED, Verdict.WITHDRAWN)


def rules(given: Settings) -> Rules:
    """Who we are in the TCF, and what we declared there."""
    tcf = given.tcf
    return Rules(
        vendor_id=tcf.vendor_id,
        min_policy_version=tcf.min_policy_version,
        policy_since=tcf.policy_since,
        disclosed_vendors_since=tcf.disclosed_vendors_since,
        declared=frozenset(tcf.declared),
        legitimate_interest=frozenset(tcf.legitimate_interest),
    )


def own_pages(advertiser: str, how: str = "") -> str:
    """The place of an advertiser's own pages, for `consent_source`. What the company tells us of
    its customers (`how`: in its words) has it too, so that the pages can take it back."""
    return f"visit {advertiser}" + (f": {how}" if how else "")


def precedence(told: Profile) -> tuple[bool, int, bool]:
    """Of several things that a company tells of one person's consent, the one that counts is the
    greatest by this: the latest, and at the same time (often a mere day) a no."""
    return bool(told.consent), told.consent_time, told.consent.strip().lower() in NO


def judge(
    profile: Profile, consent: str, source: str, rules: Rules, now: float, told: int = 0
) -> tuple[Verdict, int]:
    """What `consent`, given on `source`, means; and when it was given, seconds since the epoch.

    `told`: when it was given, as a company says of its own customer; 0 = no company says so. Then
    `consent` may also be a plain word (`YES`, `NO`), and is nowhere `ELSEWHERE` if it refuses.
    Nobody's refusal is judged by how it came: `INVALID` leaves things as they are, and each request
    still needs a permission of its own.
    """
    verdict, at, until = _said(consent, rules, now, told)
    if verdict is Verdict.INVALID:
        return verdict, at
    place, places = _place(source), _places(profile)
    if verdict is Verdict.GRANTED:
        if profile.withdrawn_at and place not in profile.withdrawn_at:
            return Verdict.ELSEWHERE, at
        newer = at > (profile.withdrawn or places.get(place, 0))
        return (Verdict.GRANTED if newer else Verdict.STALE), at
    known = places.keys() | profile.withdrawn_at
    if known and place not in known and not told:
        return Verdict.ELSEWHERE, at
    if until <= places.get(place, 0) or consent == profile.consent:
        return Verdict.STALE, at
    if verdict is Verdict.NARROWED and place in profile.withdrawn_at:
        return Verdict.STALE, at
    return verdict, at


def heard(profile: Profile, told: Profile, rules: Rules, now: int) -> Profile:
    """`profile` after what a browser or a company says of consent, in `told`. `consent_time` is
    when it was given as the company says, 0 of a browser. Any refusal forgets the profile."""
    consent, source = told.consent, told.consent_source
    verdict, at = judge(profile, consent, source, rules, now, told.consent_time)
    if verdict is Verdict.GRANTED:
        return granted(profile, consent, source, at)
    return refused(profile, source, now) if verdict in _REFUSED else profile


def granted(profile: Profile, consent: str, source: str, at: int) -> Profile:
    """The profile with this proof, given at this time."""
    place = _place(source)
    left = profile.withdrawn_at - {place}
    latest = sorted({**profile.consents, place: at}.items(), key=lambda each: -each[1])
    known = replace(
        profile,
        withdrawn=profile.withdrawn if left else 0,
        withdrawn_at=left,
        consents=dict(latest[:MOST_PLACES]),
    )
    if at < profile.consent_time:
        return known
    return replace(known, consent=consent, consent_time=at, consent_source=source)


def refused(profile: Profile, source: str, now: int) -> Profile:
    """What may be kept of who withdrew consent on `source`, as we were told now."""
    places = profile.withdrawn_at | {_place(source)}
    return bare(replace(profile, withdrawn=max(now, profile.withdrawn), withdrawn_at=places))


def proven(profile: Profile, rules: Rules, now: float) -> bool:
    """Whether the proof we keep still proves that this person may be profiled."""
    if not profile.consent or profile.withdrawn:
        return False
    return _said(profile.consent, rules, now, profile.consent_time)[0] is Verdict.GRANTED


def _said(consent: str, rules: Rules, now: float, told: int) -> tuple[Verdict, int, int]:
    """What it says, taken by itself; since when, and before when it was said.

    A TC string is dated at midnight UTC of its day (TCF policies, since December 2021), a plain
    word may be dated by its day alone.
    """
    word = consent.strip().lower()
    if told and (word in YES or word in NO):
        at = min(told, int(now))
        return (Verdict.GRANTED if word in YES else Verdict.NARROWED), at, at + DAY_SECONDS
    try:
        given = decode(consent)
    except InvalidConsent:
        return Verdict.INVALID, 0, 0
    at = max(given.created, given.updated)
    until = at + (DAY_SECONDS if at % DAY_SECONDS == 0 else 1)
    allowed = permission(Signals(gdpr=1, consent=consent), rules, now)
    if at > now + MAX_AHEAD_SECONDS or allowed.reason in _SAYS_NOTHING:
        return Verdict.INVALID, at, until
    at = min(at, int(now))
    if allowed.profile and allowed.target:
        return Verdict.GRANTED, at, until
    narrowed = allowed.identify and allowed.cap
    return (Verdict.NARROWED if narrowed else Verdict.WITHDRAWN), at, until


def _place(source: str) -> str:
    """The place that a `consent_source` names."""
    return source.partition(": ")[0]


def _places(profile: Profile) -> dict[str, int]:
    """Place -> when consent was given there; of a profile from a people file, what that says."""
    if profile.consents or not profile.consent:
        return profile.consents
    return {_place(profile.consent_source): profile.consent_time}
