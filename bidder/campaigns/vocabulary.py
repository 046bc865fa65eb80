"""Which words may a trader use, and how are they written? The types of what stands in the files."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date, datetime
from functools import lru_cache
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from bidder.openrtb.countries import ALPHA_2, COUNTRIES
from bidder.yamlfiles import Duration, Expected, Window, nearest

LANGUAGES = frozenset(
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da "
    "de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy "
    "hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg "
    "li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or "
    "os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta "
    "te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu".split()
)
"""ISO 639-1."""

CURRENCIES = frozenset(
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD "
    "CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS "
    "GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW "
    "KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR "
    "MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR "
    "SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX "
    "USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG".split()
)
"""ISO 4217, money only."""

USUAL_SIZES = frozenset(
    (int(width), int(height))
    for width, height in (
        size.split("x")
        for size in (
            "300x250 728x90 320x50 320x100 160x600 300x600 970x250 970x90 336x280 468x60 120x600 "
            "250x250 200x200 234x60 300x50 300x100 300x1050 320x480 480x320 768x1024 1024x768 "
            "300x300 320x320 320x240 980x120 980x250 930x180 580x400 250x360 240x400 640x480 "
            "800x250 1800x1000 1920x1080 1080x1920"
        ).split()
    )
)
"""Sizes that publishers sell a lot: the IAB's fixed sizes and what large exchanges list."""

LARGEST_SIDE = 8192
"""No slot is larger, screens in the street included."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

POSITIONS = {
    "above": 1,
    "locked": 2,
    "below": 3,
    "header": 4,
    "footer": 5,
    "sidebar": 6,
    "fullscreen": 7,
}
"""AdCOM 1.0 List: Placement Positions, 2 being kept for the locked position of OpenRTB 2.x."""

Status = Literal["active", "paused"]
DeviceName = Literal["mobile", "tablet", "desktop", "ctv", "ooh", "other"]
SystemName = Literal["ios", "android", "windows", "macos", "linux", "chromeos", "other"]
BrowserName = Literal["chrome", "safari", "firefox", "edge", "samsung", "opera", "other"]
SupplyName = Literal["site", "app", "dooh"]
PositionName = Literal["above", "locked", "below", "header", "footer", "sidebar", "fullscreen"]
ChannelName = Literal["display", "email", "sms", "push", "store"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_DOMAIN = re.compile(r"([a-z0-9_]([a-z0-9_-]*[a-z0-9])?\.)+[a-z0-9-]*[a-z][a-z0-9-]*", re.ASCII)
_CATEGORY = re.compile(r"IAB[0-9]{1,2}(-[0-9]{1,2})?|[0-9]{1,3}:[A-Za-z0-9_-]{1,16}", re.ASCII)
_APP = re.compile(r"(id)?[0-9]{5,12}|[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)+", re.ASCII)
_URL = re.compile(r"https?://[^\s/?#\"'<>\\]+[^\s\"'<>\\]*", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})", re.ASCII)


def one_of(known: frozenset[str], what: str, also: dict[str, str] | None = None) -> object:
    """A validator of names in `known`; `also` holds other spellings for the hint."""

    def check(name: str) -> str:
        if name in known:
            return name
        other = (also or {}).get(name.upper())
        raise Expected(what, f"did you mean {other!r}?" if other else nearest(name, known))

    return AfterValidator(check)


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if pattern.fullmatch(text) is None:
            raise Expected(what)
        return text

    return check


def _domain(text: str) -> str:
    """Lower case, without ``www.``, as `Opportunity.domain` has it."""
    name = text.lower().rstrip(".").removeprefix("www.")
    if _DOMAIN.fullmatch(name) is None:
        bare = name.split("://", 1)[-1].split("/", 1)[0]
        better = f"did you mean {bare!r}?" if _DOMAIN.fullmatch(bare) else ""
        raise Expected("a domain such as example.com", better)
    return name


def _app(written: object) -> str:
    """A store id as text; those of iOS are numbers."""
    text = str(written) if isinstance(written, int) else written
    if not isinstance(text, str) or _APP.fullmatch(text) is None:
        raise Expected("a store id: a package such as com.example.shop, or a number for iOS")
    return text


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: object) -> ZoneInfo:
    if not isinstance(name, str) or name not in _zones():
        hint = nearest(name, _zones()) if isinstance(name, str) else ""
        raise Expected("a time zone such as Europe/Paris", hint)
    return ZoneInfo(name)


def moment(text: object) -> date:
    """A day (`date`) or a time (`datetime`, with or without zone) in ISO 8601."""
    if isinstance(text, str):
        with suppress(ValueError):
            at = date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
            if 2000 <= at.year < 2200:
                return at
    raise Expected("a day such as 2026-11-01, or a time such as 2026-11-01T08:00")


def size(text: object) -> tuple[int, int]:
    """Width and height in pixels, of ``300x250``."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Expected("width x height in pixels, such as 300x250")
    width, height = int(match[1]), int(match[2])
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise Expected(f"a size that a slot can have: sides of 1 to {LARGEST_SIDE} pixels")
    return width, height


def days(written: object) -> frozenset[int]:
    """Days of the week, Monday 0, of ``mon-sat`` or ``[mon, wed-fri]``; ``sat-mon`` wraps."""
    what = "days such as mon-sat or [mon, wed-fri]"
    found: set[int] = set()
    for part in _parts(written, what):
        first, dash, last = str(part).partition("-")
        last = last if dash else first
        for name in (first, last):
            if name not in WEEKDAYS:
                raise Expected(what, nearest(name, WEEKDAYS))
        start, end = WEEKDAYS.index(first), WEEKDAYS.index(last)
        found.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(found)


def hours(written: object) -> frozenset[int]:
    """Hours of the day. ``8-23`` is from 8:00 until 23:00 (hours 8 to 22), ``8`` from 8:00 until
    9:00, ``0-24`` all day; ``22-6`` is from 22:00 until midnight and from midnight until 6:00."""
    what = "hours such as 8-23 (from 8:00 until 23:00) or [8-12, 14-20]"
    found: set[int] = set()
    for part in _parts(written, what):
        first, dash, last = str(part).partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else not last)):
            raise Expected(what)
        start, end = int(first), int(last) if dash else int(first) + 1
        if start > 23 or end > 24 or start == end:
            raise Expected(f"{what}, of a day of 24 hours")
        found.update((start + step) % 24 for step in range((end - start) % 24 or 24))
    return frozenset(found)


def _at_most_a_year(length: int) -> int:
    if length > 366 * 86400:
        raise Expected("at most 366d")
    return length


def _parts(written: object, what: str) -> Iterable[object]:
    parts = written if isinstance(written, list) else [written]
    if not parts or not all(isinstance(part, str | int) and part is not True for part in parts):
        raise Expected(what)
    return parts


def _span(pattern: str) -> dict[str, object]:
    single: dict[str, object] = {"type": ["string", "integer"], "pattern": pattern}
    return {"anyOf": [single, {"type": "array", "minItems": 1, "items": single}]}


_DAY = "(mon|tue|wed|thu|fri|sat|sun)"
_OTHER_COUNTRIES = {**ALPHA_2, "UK": "GB", "EL": "GR"}

Id = Annotated[
    str,
    AfterValidator(_matching(_ID, "an id: up to 64 letters, digits, dots, dashes, underscores")),
    WithJsonSchema({"type": "string", "pattern": f"^{_ID.pattern}$"}),
]
Country = Annotated[
    str,
    one_of(COUNTRIES, "a country in ISO 3166-1 alpha-2, in capitals", _OTHER_COUNTRIES),
    WithJsonSchema({"enum": sorted(COUNTRIES)}),
]
Language = Annotated[
    str,
    one_of(LANGUAGES, "a language in ISO 639-1, in small letters"),
    WithJsonSchema({"enum": sorted(LANGUAGES)}),
]
Currency = Annotated[
    str,
    one_of(CURRENCIES, "a currency in ISO 4217, in capitals"),
    WithJsonSchema({"enum": sorted(CURRENCIES)}),
]
Category = Annotated[
    str,
    AfterValidator(
        _matching(_CATEGORY, "a category such as IAB18-5, or 6:123 of another taxonomy")
    ),
    WithJsonSchema({"type": "string", "pattern": f"^({_CATEGORY.pattern})$"}),
]
Domain = Annotated[str, AfterValidator(_domain)]
App = Annotated[
    str,
    PlainValidator(_app),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^({_APP.pattern})$"}),
]
"""Of an app (OpenRTB 2.6 §3.2.14 `bundle`)."""
Url = Annotated[
    str,
    AfterValidator(_matching(_URL, "a URL that starts with https:// (or http://)")),
    WithJsonSchema({"type": "string", "pattern": "^https?://", "format": "uri"}),
]
Zone = Annotated[
    ZoneInfo,
    PlainValidator(_zone),
    WithJsonSchema({"type": "string", "examples": ["Europe/Paris"]}),
]
Moment = Annotated[
    date,
    PlainValidator(moment),
    WithJsonSchema({"type": "string", "examples": ["2026-11-01", "2026-11-01T08:00"]}),
]
Size = Annotated[
    tuple[int, int],
    PlainValidator(size),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+x[0-9]+$", "examples": ["300x250"]}),
]
Days = Annotated[frozenset[int], PlainValidator(days), WithJsonSchema(_span(f"^{_DAY}(-{_DAY})?$"))]
Hours = Annotated[
    frozenset[int], PlainValidator(hours), WithJsonSchema(_span("^[0-9]{1,2}(-[0-9]{1,2})?$"))
]
Recency = Annotated[Window, AfterValidator(_at_most_a_year)]
Attributed = Annotated[Duration, AfterValidator(_at_most_a_year)]
Text = Annotated[str, Field(min_length=1)]
Money = Annotated[float, Field(gt=0, le=1e12)]
"""An amount in units of the advertiser's currency."""
Count = Annotated[int, Field(gt=0, le=10**12)]
