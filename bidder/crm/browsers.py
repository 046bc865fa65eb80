"""What does a browser tell us, and what do we tell it? First-party cookie, visits, user syncs.

Pure functions: a query, a cookie and a permission in, an answer and a change out. Without
permission there is neither: no cookie, no change, nothing to store.

`GET /track/visit` parameters: `a` advertiser, `e` what happened (page, product, basket, emptied,
purchase), `v` value, `o` order id, `n` products, `c` category. For a customer who has logged in,
`crm` or `email_sha256`, with `until` and `sig`, by which the advertiser's server vouches for it: a
browser that could say by itself who it is could read about anybody. It counts on the advertiser's
own pages (`Referer`): another page could log its visitors in as somebody else.

`GET /sync/{exchange}`: `uid`, what the exchange calls the browser; nobody vouches for it, so it is
taken only where it is nobody's yet, and leads this cookie to no other's data. Both: `gdpr`,
`gdpr_consent`, `gpp`, `gpp_sid`, `us_privacy`.
"""

import hmac
import re
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from random import Random
from urllib.parse import quote, urlsplit

from msgspec import Struct
from pydantic import Field

from bidder.crm.activity import Kind
from bidder.crm.batch import Change
from bidder.crm.live import BadEvent, Entry, identifiers, made
from bidder.crm.pseudonyms import Identifier, Pseudonyms
from bidder.crm.rights.consent import own_pages
from bidder.ids import to_text
from bidder.openrtb.spelling import is_domain_in
from bidder.person import Profile
from bidder.privacy import InvalidConsent, Permission
from bidder.privacy.tcf import decode
from bidder.yamlfiles import Model, read

COOKIE = "bidder_id"
COOKIE_BYTES = 16
COOKIE_SECONDS = 396 * 86400
_VALUE = re.compile(r"[A-Za-z0-9_-]{22}")
KINDS: Mapping[str, Kind] = {
    "page": Kind.VISIT,
    "product": Kind.PRODUCT,
    "basket": Kind.BASKET,
    "emptied": Kind.BASKET_EMPTIED,
    "purchase": Kind.PURCHASE,
}
LOGINS = ("crm", "email_sha256")
"""What a page may say of a customer who has logged in. A plain address never belongs in a URL."""
CONSENT = ("gdpr", "gdpr_consent", "gpp", "gpp_sid", "us_privacy")
LOGIN_SECONDS = 86400
"""The longest that one signature vouches for a login."""
MAX_ID_CHARS = 256


class Partner(Model):
    """How to go on to one exchange: its address, with `{id}` where it wants ours."""

    redirect: str = Field(default="", pattern=r"^(https://[^\s{}]+\{id\}[^\s{}]*)?$")


class Partners(Model):
    """`config/crm/sync.yaml`."""

    exchanges: dict[str, Partner] = Field(default_factory=dict)


class Refusal(Struct, frozen=True, array_like=True):
    """A consent string that does not permit what we do, of a browser that has our cookie: whether
    it withdraws what the person once allowed here is for `bidder.crm.rights` to judge."""

    ids: tuple[Identifier, ...]
    """The hashed cookie, under each key."""
    consent: str
    source: str


class Told(Struct, frozen=True):
    """What the browser gets, and what is to be written."""

    status: int
    """200 with a pixel, 204 with nothing, 302 to `location`, 400 for what is no call of ours."""
    change: Change | None = None
    cookie: str = ""
    """To be set, if not empty."""
    location: str = ""
    refusal: Refusal | None = None


def partners(path: Path) -> Mapping[str, Partner]:
    """The exchanges that we sync with, by name. Raises `InvalidFile`."""
    return read(path, Partners).value.exchanges if path.exists() else {}


def cookie_in(header: str) -> str:
    """The value of our cookie in a `Cookie` header; empty if it has none that is one."""
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None and _VALUE.fullmatch(found.value) else ""


def cookie_header(value: str) -> str:
    """`Set-Cookie` for our id: on other sites too, but for no script to read."""
    return f"{COOKIE}={value}; Max-Age={COOKIE_SECONDS}; Path=/; Secure; HttpOnly; SameSite=None"


def new_cookie(random: Random) -> str:
    """A fresh id: 128 random bits. `random` must be a safe one: who guesses an id is the person."""
    return to_text(random.getrandbits(8 * COOKIE_BYTES).to_bytes(COOKIE_BYTES, "big"))


def visit(
    query: Mapping[str, str],
    cookie: str,
    permission: Permission,
    pseudonyms: Pseudonyms,
    advertisers: Mapping[str, str],
    login_key: bytes,
    random: Random,
    now: float,
    page: str = "",
) -> Told:
    """What to make of `GET /track/visit`. With an empty `login_key` nobody is logged in.

    `advertisers`: id -> domain; `page`: the URL that the call came from, or its origin.
    """
    advertiser, kind = query.get("a", ""), KINDS.get(query.get("e", "page"))
    if advertiser not in advertisers or kind is None:
        return Told(400)
    place = own_pages(advertiser)
    if not (permission.identify and permission.target and permission.profile):
        return Told(204, refusal=_refusal(query, cookie, place, pseudonyms))
    value = cookie or new_cookie(random)
    current, *former = pseudonyms.of("cookie", value)
    try:
        entry = Entry(
            ids={},
            value=float(query.get("v") or 0),
            order=query.get("o", "")[:MAX_ID_CHARS],
            products=int(query.get("n") or 0),
            category=query.get("c", "")[:MAX_ID_CHARS],
        )
        record = made(entry, kind, advertiser, int(now), pseudonyms.orders)
        logins = []
        for source in LOGINS if _is_of(page, advertisers[advertiser]) else ():
            plain = query.get(source, "")
            if plain and _vouched(query, advertiser, source, plain, login_key, now):
                current_login, *former_login = identifiers(source, plain, advertiser, pseudonyms)
                logins.append(current_login)
                former += former_login
    except ValueError:
        return Told(400)
    change = Change((current, *logins), record, (), _proof(query, place), tuple(former))
    return Told(200, change, "" if cookie else value)


def signature(key: bytes, advertiser: str, source: str, value: str, until: int) -> str:
    """What the advertiser's server puts into `sig`: HMAC-SHA-256 under the key it shares with us,
    hexadecimal, of advertiser, source, value and `until` (seconds since the epoch), one a line."""
    message = f"{advertiser}\n{source}\n{value}\n{until}"
    return hmac.new(key, message.encode(), "sha256").hexdigest()


def _is_of(page: str, domain: str) -> bool:
    """The page is the domain's, or a subdomain's."""
    try:
        host = urlsplit(page).hostname or ""
    except ValueError:
        return False
    return is_domain_in(host, frozenset([domain]))


def _vouched(
    query: Mapping[str, str], advertiser: str, source: str, value: str, key: bytes, now: float
) -> bool:
    until = query.get("until", "")
    if not key or not until.isdigit() or len(until) > 12:
        return False
    if not now < int(until) <= now + LOGIN_SECONDS:
        return False
    expected = signature(key, advertiser, source, value, int(until))
    return hmac.compare_digest(expected.encode(), query.get("sig", "").encode())


def sync(
    exchange: str,
    partner: Partner,
    query: Mapping[str, str],
    cookie: str,
    permission: Permission,
    pseudonyms: Pseudonyms,
    random: Random,
    now: float,
) -> Told:
    """What to make of `GET /sync/{exchange}`: what the exchange calls this browser is one more name
    of our cookie's owner, unless it is somebody else's.

    Without a `uid` we go on to the exchange, which then knows ours; with one the chain ends here.
    """
    source = f"sync {exchange}"
    if not (permission.identify and permission.target):
        return Told(204, refusal=_refusal(query, cookie, source, pseudonyms))
    value = cookie or new_cookie(random)
    ours = pseudonyms.partner(value, exchange)
    current, *former = pseudonyms.of("cookie", value)
    claimed: list[Identifier] = [(f"buyeruid.{exchange}", ours)]
    theirs = query.get("uid", "")
    if theirs:
        try:
            claimed += identifiers(f"buyeruid.{exchange}", theirs, "", pseudonyms)
        except BadEvent:
            return Told(400)
    change = Change(
        (current,), told=_proof(query, source), former=tuple(former), claimed=tuple(claimed)
    )
    minted = "" if cookie else value
    if theirs or not partner.redirect:
        return Told(200, change, minted)
    return Told(302, change, minted, _onward(partner.redirect, ours, query))


def _onward(redirect: str, ours: str, query: Mapping[str, str]) -> str:
    """The exchange's address with our id, and every consent parameter that we were given."""
    location = redirect.replace("{id}", quote(ours, safe=""))
    passed = [
        f"{name}={quote(query[name], safe='')}"
        for name in CONSENT
        if query.get(name) and f"{name}=" not in redirect
    ]
    if not passed:
        return location
    return location + ("&" if "?" in location else "?") + "&".join(passed)


def _proof(query: Mapping[str, str], source: str) -> Profile | None:
    """The consent string that came with this, and from where: to be judged before it is kept."""
    consent = query.get("gdpr_consent", "")
    return Profile(consent=consent, consent_source=source) if consent else None


def _refusal(
    query: Mapping[str, str], cookie: str, source: str, pseudonyms: Pseudonyms
) -> Refusal | None:
    """What does not permit this call, if it is a string that can be read and may be of somebody
    whom we know."""
    consent = query.get("gdpr_consent", "")
    if not cookie or not _readable(consent):
        return None
    return Refusal(tuple(pseudonyms.of("cookie", cookie)), consent, source)


def _readable(consent: str) -> bool:
    try:
        decode(consent)
    except InvalidConsent:
        return False
    return True
