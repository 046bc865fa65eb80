"""What does one line of a people file say?

.. code-block:: json

   {"ids": [["buyeruid.demo", "abc"], ["example.com", "x"]],
    "profile": {"segments": {"basket": "-2d"}, "orders": 1, "last_order": "2026-05-01"}}

`profile` has the fields of `bidder.person.Profile`. Times are seconds since the epoch, ISO 8601
(UTC where no zone is given), or relative to the time of loading: `-2d`, `-3h`, `-90m`, `-30s`.
"""

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from bidder.people.identity import Identifier, normal, usable
from bidder.person import Basket, Profile

MAX_IDENTIFIERS = 20
"""Of one person."""
_FUTURE_SECONDS = 86400
"""How far a clock elsewhere may run ahead of ours; milliseconds for seconds lie further."""
_RELATIVE = re.compile(r"-(\d{1,9})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

Time = int | float | str
Count = Annotated[int, Meta(ge=0, le=2**53)]


class BadRecord(ValueError):
    """The line cannot be loaded; the message says what is wrong with which field."""


class Record(Struct, frozen=True):
    """One line, understood."""

    ids: tuple[Identifier, ...]
    profile: Profile


class _Basket(Struct, forbid_unknown_fields=True):
    value_micros: Count
    updated: Time
    products: Count = 1


class _Profile(Struct, forbid_unknown_fields=True):
    """`Profile` as it is written by hand: times in any form."""

    segments: dict[str, Time] = {}
    first_seen: Time = 0
    last_visit: Time = 0
    last_order: Time = 0
    orders: Count = 0
    spent_micros: Count = 0
    stage: str = ""
    baskets: dict[str, _Basket] = {}
    interests: dict[str, Time] = {}
    fewer_ads: frozenset[str] = frozenset()
    opted_out: bool = False
    consent: str = ""
    consent_time: Time = 0
    consent_source: str = ""


class _Line(Struct, forbid_unknown_fields=True):
    ids: list[tuple[str, str]]
    profile: _Profile = msgspec.field(default_factory=_Profile)


_decoder = msgspec.json.Decoder(_Line)


def parse(line: bytes, now: float) -> Record:
    """The record on one line, its times resolved at `now`. Raises `BadRecord`."""
    try:
        read = _decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise BadRecord(str(error)) from None
    if not read.ids:
        raise BadRecord("ids is empty")
    if len(read.ids) > MAX_IDENTIFIERS:
        raise BadRecord(f"ids has {len(read.ids)} identifiers; {MAX_IDENTIFIERS} are allowed")
    ids: dict[Identifier, None] = {}
    for source, value in read.ids:
        if not usable(source) or ":" in source:
            raise BadRecord(f"ids: {source!r} is not a source")
        if not usable(value):
            raise BadRecord(
                f"ids: the value of {source!r} is empty, too long or has odd characters"
            )
        ids[normal(source, value)] = None
    return Record(tuple(ids), _profile(read.profile, now))


def _profile(read: _Profile, now: float) -> Profile:
    fields: dict[str, Any] = {}
    for name in _SINGLE_TIMES:
        fields[name] = seconds(getattr(read, name), now, name)
    for name in _PLAIN:
        fields[name] = getattr(read, name)
    for name in ("segments", "interests"):
        times: dict[str, Time] = getattr(read, name)
        fields[name] = {key: seconds(at, now, f"{name}.{key}") for key, at in times.items()}
    fields["baskets"] = {
        advertiser: Basket(
            value_micros=basket.value_micros,
            updated=seconds(basket.updated, now, f"baskets.{advertiser}.updated"),
            products=basket.products,
        )
        for advertiser, basket in read.baskets.items()
    }
    return Profile(**fields)


_SINGLE_TIMES = ("first_seen", "last_visit", "last_order", "consent_time")
_PLAIN = (
    "orders",
    "spent_micros",
    "stage",
    "fewer_ads",
    "opted_out",
    "consent",
    "consent_source",
)


def seconds(time: Time, now: float, field: str) -> int:
    """A time in any form as seconds since the epoch. Raises `BadRecord` naming the field."""
    if type(time) is int:
        found = time
    elif isinstance(time, str):
        found = _written(time, now, field)
    elif not math.isfinite(time):
        raise BadRecord(f"{field}: {time} is not a time")
    else:
        found = int(time)
    if not 0 <= found <= now + _FUTURE_SECONDS:
        raise BadRecord(f"{field}: {time!r} lies before 1970 or in the future")
    return found


def _written(time: str, now: float, field: str) -> int:
    if relative := _RELATIVE.fullmatch(time):
        return int(now) - int(relative[1]) * _UNITS[relative[2]]
    try:
        read = datetime.fromisoformat(time)
    except ValueError:
        raise BadRecord(
            f"{field}: {time!r} is not a time; expected seconds since the epoch, "
            "ISO 8601 such as 2026-05-01, or -2d"
        ) from None
    return int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp())
