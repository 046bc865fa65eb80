"""What do text columns say? Times, amounts, counts and objections, as numpy arrays.

Each reader gives values and which of them are good. Whole columns are tried in Arrow first; only
what is left over is looked at value by value.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bidder.crm import fixedwidth
from bidder.money import MICROS

Flags = npt.NDArray[np.bool_]
MAX_AMOUNT = 10_000_000
"""In currency units: an order above this is a mistake."""
_OBJECTS = frozenset(
    "1 1.0 1,0 y yes true t oui o vrai v x on ja j si sí s optout optedout out refus refusé refuse "
    "refused objection objected stop unsubscribed désinscrit désabonné".split()
)
_DOES_NOT = frozenset(
    " 0 0.0 0,0 n no non false f faux off nein nee não optin optedin in none null nil nan na n/a "
    "00000000 0000000000:00:00 subscribed inscrit abonné".split(" ")
)
"""Lower case, without what may stand between words; a date of nothing but noughts is none."""
_BETWEEN_WORDS = re.compile(r"[\s_-]+")
_NUMBER = r"^-?[0-9]{1,15}(\.[0-9]{1,9})?$"
_COMMA_NUMBER = r"^[0-9]{1,12},[0-9]{1,9}$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PATTERNS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_ISO = [form for pattern in _PATTERNS if (form := fixedwidth.form(pattern)) is not None]
_ZULU = [form for pattern in _PATTERNS[:2] if (form := fixedwidth.form(f"{pattern}Z")) is not None]
_AMOUNT_NOISE = re.compile(r"[\s\u00a0\u202f'€$£]|EUR|USD|GBP|CHF", re.IGNORECASE)


class Read(NamedTuple):
    """Values, and which of them are good; where not, the value is 0."""

    values: npt.NDArray[np.int64]
    good: Flags


def filled(column: pa.Array) -> Flags:
    """Where there is anything at all."""
    flags: Flags = np.array(pc.is_valid(column).to_numpy(zero_copy_only=False))
    return flags


def times(column: pa.Array, zone: str, form: str | None = None) -> Read:
    """Seconds since the epoch of ISO 8601, of seconds or milliseconds, or of what `form` says.

    Times without a zone are local in `zone`. `column`: strings, or timestamps.
    """
    if pa.types.is_timestamp(column.type):
        local = _integers(
            column.cast(pa.timestamp("s", column.type.tz), safe=False).cast(pa.int64())
        )
        good = filled(column)
        return Read(_shifted(local, good, zone if column.type.tz is None else "UTC"), good)
    values, good = np.zeros(len(column), np.int64), np.zeros(len(column), bool)
    if form is None:
        known = [*[(one, zone) for one in _ISO], *[(one, "UTC") for one in _ZULU]]
    else:
        known = [(one, zone)] if (one := fixedwidth.form(form)) is not None else []
    for one, its_zone in known:
        if not good.all():
            local, found = fixedwidth.moments(column, one)
            values = np.where(found, _shifted(local, found, its_zone), values)
            good |= found
    left = np.flatnonzero(~good & filled(column))
    if len(left):
        some = column.take(pa.array(left))
        values[left], good[left] = _unusual(some, zone, form)
    return Read(values, good)


def _unusual(column: pa.Array, zone: str, form: str | None) -> Read:
    """The same where the texts are of no fixed width: with spaces, fractions, zones, names."""
    column = pc.utf8_trim_whitespace(column)
    if form is not None:
        local, good = _parsed(column, form)
        values = _shifted(local, good, zone)
    else:
        values, good = _epochs(column)
        column = pc.replace_substring_regex(column, r"\.[0-9]+(Z?)$", r"\1")
        zulu = pc.ends_with(column, "Z")
        for part, its_zone in (
            (pc.if_else(zulu, pc.utf8_rtrim(column, "Z"), None), "UTC"),
            (pc.if_else(zulu, None, column), zone),
        ):
            for one in _ISO:
                local, found = fixedwidth.moments(part, one)
                values = np.where(found, _shifted(local, found, its_zone), values)
                good |= found
    left = np.flatnonzero(~good & filled(column))
    for place, text in zip(left.tolist(), column.take(pa.array(left)).to_pylist(), strict=True):
        seconds = _time(text, zone, form)
        if seconds is not None:
            values[place], good[place] = seconds, True
    return Read(values, good)


def _shifted(local: npt.NDArray[np.int64], good: Flags, zone: str) -> npt.NDArray[np.int64]:
    """UTC of local times, where they are good; else 0."""
    if zone == "UTC" or not good.any():
        return np.where(good, local, 0)
    shifted = np.zeros(len(local), np.int64)
    shifted[good] = _to_utc(local[good], zone)
    return shifted


def _epochs(column: pa.Array) -> tuple[npt.NDArray[np.int64], Flags]:
    """Seconds since the epoch where the text is a number of seconds or milliseconds."""
    digits = pc.match_substring_regex(column, r"^([0-9]{9,10}|[0-9]{13})$")
    numbers = pc.if_else(digits, column, pa.scalar(None, pa.string())).cast(pa.int64())
    values = _integers(numbers)
    return np.where(values >= 10**12, values // 1000, values), filled(numbers)


def _parsed(column: pa.Array, form: str) -> tuple[npt.NDArray[np.int64], Flags]:
    try:
        parsed = pc.strptime(column, form, "s", error_is_null=True)
    except pa.ArrowInvalid:
        return np.zeros(len(column), np.int64), np.zeros(len(column), bool)
    # Arrow takes 30 February for 2 March: only what reads the same again was meant.
    same = pc.fill_null(pc.equal(pc.strftime(parsed, form), column), False)
    return _integers(parsed.cast(pa.int64())), np.array(same.to_numpy(zero_copy_only=False))


def _integers(column: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(pc.fill_null(column, 0).to_numpy(zero_copy_only=False), np.int64)


def _to_utc(local: npt.NDArray[np.int64], zone: str) -> npt.NDArray[np.int64]:
    """Local seconds as UTC; an hour that comes twice is taken for the first."""
    hours = local // 3600
    first, last = int(hours.min()), int(hours.max())
    if last - first < 1 << 22:  # some centuries: a table of the hours that occur
        present = np.zeros(last - first + 1, bool)
        present[hours - first] = True
        table = np.zeros(len(present), np.int64)
        for place in np.flatnonzero(present).tolist():
            table[place] = _offset(first + place, zone)
        return local - table[hours - first]
    return local - np.array([_offset(hour, zone) for hour in hours.tolist()], np.int64)


@lru_cache(maxsize=1 << 17)
def _offset(hour: int, zone: str) -> int:
    """Seconds that the clocks of a zone are ahead in an hour of theirs since the epoch."""
    at = (_EPOCH + timedelta(hours=hour)).replace(tzinfo=_zone(zone))
    offset = at.utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


@lru_cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _time(text: str, zone: str, form: str | None) -> int | None:
    """One time in a form that is not the usual."""
    number = re.fullmatch(r"([0-9]{9,10})(?:\.[0-9]*)?|([0-9]{13})", text)
    if number and form is None:
        return int(number[1]) if number[1] else int(number[2]) // 1000
    try:
        at = datetime.strptime(text, form) if form else datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))
        return int(at.timestamp())
    except (ValueError, OverflowError):
        return None


def amounts(column: pa.Array) -> Read:
    """Micros of ``12.5``, ``12,50 €``, ``1 234,50`` or ``1,234.50``; nothing is 0 and good."""
    plain = pc.match_substring_regex(column, _NUMBER)
    values, good = _floats(column, plain)
    if not good.all():
        comma = pc.match_substring_regex(column, _COMMA_NUMBER)
        more, found = _floats(pc.replace_substring(column, ",", "."), comma)
        values, good = np.where(found, more, values), good | found
    good |= ~filled(column)
    left = np.flatnonzero(~good)
    for place, text in zip(left.tolist(), column.take(pa.array(left)).to_pylist(), strict=True):
        amount = _amount(text) if text.strip() else 0.0
        if amount is not None:
            values[place], good[place] = amount, True
    good &= (values >= 0) & (values <= MAX_AMOUNT)
    micros = np.where(good, np.rint(values * MICROS), 0).astype(np.int64)
    return Read(micros, good)


def _floats(column: pa.Array, chosen: pa.Array) -> tuple[npt.NDArray[np.float64], Flags]:
    """The numbers in the texts that are chosen, all of which are some."""
    tried = pc.if_else(chosen, column, pa.scalar(None, pa.string()))
    numbers = pc.fill_null(tried.cast(pa.float64()), 0.0)
    return np.array(numbers.to_numpy(zero_copy_only=False)), filled(tried)


def _amount(text: str) -> float | None:
    text = _AMOUNT_NOISE.sub("", text)
    comma, point = text.rfind(","), text.rfind(".")
    if comma > point:  # the last of the two is the decimal one
        text = text.replace(".", "").replace(",", ".")
    elif point > comma >= 0:
        text = text.replace(",", "")
    return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else None


def counts(column: pa.Array) -> npt.NDArray[np.int64]:
    """Small whole numbers, 0 where there is none."""
    values = amounts(column).values // MICROS
    clipped: npt.NDArray[np.int64] = np.minimum(values, 255)
    return clipped


def objections(column: pa.Array, form: str | None = None) -> tuple[Flags, Flags]:
    """Where the text says that somebody objects, and where it says neither that nor the opposite.

    A time, in ISO 8601 or as `form` has it, says that they do, since then; nothing, that they do
    not.
    """
    values, places = coded(pc.utf8_trim_whitespace(column))
    texts = pa.array(values, pa.string())
    dated = times(texts, "UTC").good | (times(texts, "UTC", form).good if form else False)
    words = [_BETWEEN_WORDS.sub("", value.lower()) for value in values]
    says_no = np.array([*[word in _DOES_NOT for word in words], True])
    says_yes = np.array([*[word in _OBJECTS for word in words], False])
    says_yes[:-1] |= dated & ~says_no[:-1]
    return says_yes[places], ~(says_yes | says_no)[places]


def coded(column: pa.Array) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """The different values, and for each row which of them it has (-1 = none)."""
    encoded = column.dictionary_encode()
    places = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return encoded.dictionary.to_pylist(), np.asarray(places)
