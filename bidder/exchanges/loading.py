"""How are exchange profiles read? `config/exchanges/*.yaml` into `Exchange` values.

Keys and secrets are never in the files, which name the environment variables that hold them.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from bidder.exchanges.profile import Exchange, Place
from bidder.openrtb.macros import AUCTION_PRICE
from bidder.openrtb.prices import Keys, PriceFormat
from bidder.openrtb.response import MAX_CRID_BYTES
from bidder.yamlfiles import Duration, Expected, InvalidFile, Model, read

KEY_BYTES = 32
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_SECRET = re.compile(r"[A-Za-z0-9_-]{16,}")
_ARRIVES_ENCODED = re.compile(r"_(?:ESC|ENC)\b")


class InvalidExchanges(ValueError):
    """Profiles that cannot be used; `problems` has a line for each fault of all files."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError:
        raise Expected("a network such as 192.0.2.0/24 or 2001:db8::/32") from None
    return text


def _link_start(macro: str) -> str:
    if _ARRIVES_ENCODED.search(macro):
        raise Expected("a macro whose value arrives unencoded, as it starts a link")
    return macro


Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
NetworkText = Annotated[str, AfterValidator(_network)]
Milliseconds = Annotated[int, Field(gt=0, le=10_000)]


def _in_burl() -> list[Place]:
    return ["burl"]


class Timing(Model):
    tmax_ms: Milliseconds = 100
    deadline_ms: Milliseconds | None = None
    margin_ms: Annotated[int, Field(ge=0, le=1000)] = 10
    notice_lag: Duration = 600


class Price(Model):
    macro: Annotated[str, Field(min_length=1)] = AUCTION_PRICE
    in_: list[Place] = Field(alias="in", min_length=1, default_factory=_in_burl)
    encryption: Literal["plain", "google"] = "plain"
    per: Literal["mille", "impression"] = "mille"
    e_key_env: EnvironmentName | None = None
    i_key_env: EnvironmentName | None = None


class Clicks(Model):
    macro: Annotated[str, AfterValidator(_link_start)] = ""
    escape: bool = True
    escaped_macro: str = ""


class Answer(Model):
    gzip: bool = True
    markup: Literal["adm", "win_notice", "registered"] = "adm"
    limit_bytes: Annotated[int, Field(ge=0)] = 0
    max_crid_bytes: Annotated[int, Field(ge=16)] = MAX_CRID_BYTES
    wrap_native: bool = False
    extra: dict[str, Any] = Field(default_factory=dict)


class Access(Model):
    allow_from: list[NetworkText] = Field(default_factory=list)
    secret_env: EnvironmentName | None = None
    loopback_only: bool = False


class Profile(Model):
    """One file; its name without ``.yaml`` is the exchange's."""

    status: Literal["active", "paused"]
    seat: str = ""
    currency: Currency = "USD"
    auction: Literal["first", "second"] = "first"
    billing_notices: bool = True
    timing: Timing = Timing()
    price: Price = Price()
    clicks: Clicks = Clicks()
    answer: Answer = Answer()
    access: Access


def load(directory: Path, environ: Mapping[str, str]) -> dict[str, Exchange]:
    """All exchanges by name. Those that are paused need no keys; with theirs, their late notices
    still count.

    Raises `InvalidExchanges` with all that is wrong in all files.
    """
    exchanges: dict[str, Exchange] = {}
    problems: list[str] = []
    for path in sorted(directory.glob("*.yaml")):
        try:
            profile = read(path, Profile).value
            exchange = _exchange(path.stem, profile, environ)
        except InvalidFile as error:
            problems += [str(problem) for problem in error.problems]
        except InvalidExchanges as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
        else:
            exchanges[path.stem] = exchange
    if problems:
        raise InvalidExchanges(problems)
    return exchanges


def names(directory: Path) -> list[str]:
    """All exchanges that have a profile, paused ones too: what campaigns may name."""
    return sorted(path.stem for path in directory.glob("*.yaml"))


def _exchange(name: str, profile: Profile, environ: Mapping[str, str]) -> Exchange:
    problems = _contradictions(name, profile)
    access, answer, clicks = profile.access, profile.answer, profile.clicks
    price, timing = profile.price, profile.timing
    paused = profile.status == "paused"
    missing: list[str] = []
    keys = _keys(price, environ, missing)
    secret = _secret(access.secret_env, environ, missing)
    if paused:
        keys = None if missing else keys
    else:
        problems += missing
    if problems:
        raise InvalidExchanges(problems)
    return Exchange(
        name=name,
        paused=paused,
        seat=profile.seat,
        currency=profile.currency,
        auction=1 if profile.auction == "first" else 2,
        tmax_ms=timing.tmax_ms,
        deadline_ms=timing.deadline_ms or 0,
        margin_ms=timing.margin_ms,
        gzip=answer.gzip,
        markup=answer.markup,
        response_limit_bytes=answer.limit_bytes,
        max_crid_bytes=answer.max_crid_bytes,
        price_macro=price.macro,
        price_in=frozenset(price.in_),
        price=PriceFormat(
            keys=keys,
            base64=price.macro.endswith(":B64}"),
            per_impression=price.per == "impression",
        ),
        billing_notices=profile.billing_notices,
        notice_lag_seconds=timing.notice_lag,
        click_macro=clicks.macro,
        click_escape=clicks.escape,
        click_macro_escaped=clicks.escaped_macro,
        allow_from=tuple([ip_network(text) for text in access.allow_from]),
        secret=secret,
        loopback_only=access.loopback_only,
        wrap_native=answer.wrap_native,
        extra=answer.extra,
    )


def _contradictions(name: str, profile: Profile) -> list[str]:
    """What no single field shows."""
    access, price, timing = profile.access, profile.price, profile.timing
    found = []
    if not _NAME.fullmatch(name):
        found.append("the file's name is part of a URL: expected a-z, 0-9 and -")
    if not (access.loopback_only or access.allow_from or access.secret_env):
        found.append("access: expected allow_from, secret_env or loopback_only; anyone could bid")
    if price.encryption == "google" and not (price.e_key_env and price.i_key_env):
        found.append("price: encryption google needs e_key_env and i_key_env")
    if timing.margin_ms >= min(timing.tmax_ms, timing.deadline_ms or timing.tmax_ms):
        found.append("timing: margin_ms leaves no time to answer")
    if profile.status == "active":
        found += _costs_unknown(profile)
        if profile.answer.markup == "registered" and not profile.seat:
            found.append("seat: expected where markup is registered")
    return found


def _costs_unknown(profile: Profile) -> list[str]:
    """Why nothing that is won here could ever be charged to a budget; empty if it can."""
    places = profile.price.in_
    if profile.billing_notices:
        return [] if "burl" in places else ["price: billing notices need their price: add burl"]
    if profile.answer.markup == "registered":
        return ["billing_notices: expected where markup is registered, as no pixel of ours counts"]
    if "adm" not in places:
        return ["price: without billing notices the pixel needs it: add adm to `in`"]
    return []


def _keys(price: Price, environ: Mapping[str, str], problems: list[str]) -> Keys | None:
    if price.encryption != "google":
        return None
    keys = []
    for variable in (price.e_key_env, price.i_key_env):
        text = _variable(variable, environ, problems)
        try:
            key = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            key = b""
        if text and len(key) != KEY_BYTES:
            problems.append(f"{variable}: expected {KEY_BYTES} bytes in web-safe base64")
        keys.append(key)
    return Keys(*keys)


def _secret(variable: str | None, environ: Mapping[str, str], problems: list[str]) -> str:
    secret = _variable(variable, environ, problems)
    if secret and not _SECRET.fullmatch(secret):
        problems.append(f"{variable}: expected 16 or more of A-Z a-z 0-9 - _")
    return secret


def _variable(name: str | None, environ: Mapping[str, str], problems: list[str]) -> str:
    """The variable's text; a problem if it is asked for and not set."""
    if name is None:
        return ""
    text = environ.get(name, "").strip()
    if not text:
        problems.append(f"the environment variable {name} is not set")
    return text
