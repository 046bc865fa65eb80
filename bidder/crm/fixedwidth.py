"""Which moments do these texts name, where all are written in one form of fixed width?

Almost every export is: `2026-11-21 18:02:00`, `21/11/2026`. Then the digits stand in the same
places of each text, and a column is read as a matrix of bytes: a tenth of a microsecond a value,
against one and a half with strptime. What does not fit, to the last digit, is left to others.
"""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Flags = npt.NDArray[np.bool_]
Seconds = npt.NDArray[np.int64]
_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
_ZERO = ord("0")
_MONTH_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


class Form(NamedTuple):
    """Where the parts of a moment stand in a text of `width` bytes."""

    width: int
    parts: dict[str, int]
    """strptime's letter of each part -> its first byte."""
    literals: tuple[tuple[int, int], ...]
    """(place, byte) of all that is no digit."""


def form(strptime: str) -> Form | None:
    """The form that a pattern of strptime describes; None if it is none of fixed width."""
    parts: dict[str, int] = {}
    literals: list[tuple[int, int]] = []
    width = 0
    for letter, other in re.findall(r"%(.)|([^%])", strptime, re.DOTALL):
        if other:
            if not other.isascii() or other.isdigit() or (other.isspace() and other != " "):
                return None
            literals.append((width, ord(other)))
            width += 1
        elif letter in _WIDTHS and letter not in parts:
            parts[letter] = width
            width += _WIDTHS[letter]
        else:
            return None
    if not {"Y", "m", "d"} <= parts.keys():
        return None
    return Form(width, parts, tuple(literals))


def moments(column: pa.Array, wanted: Form) -> tuple[Seconds, Flags]:
    """Seconds since the epoch as if the texts were UTC, and which of them have this form.

    0 where they have not. `column`: strings, nulls allowed.
    """
    found, good = np.zeros(len(column), np.int64), np.zeros(len(column), bool)
    lengths, data, starts = _bytes(column)
    rows = np.flatnonzero(lengths == wanted.width)
    if not len(rows):
        return found, good
    first, last = int(starts[rows[0]]), int(starts[rows[-1]]) + wanted.width
    if last - first == len(rows) * wanted.width:  # one after the other: nothing to gather
        table = data[first:last].reshape(len(rows), wanted.width)
    else:
        table = data[starts[rows][:, None] + np.arange(wanted.width)]
    fits = np.ones(len(rows), bool)
    for place, byte in wanted.literals:
        fits &= table[:, place] == byte
    values: dict[str, Seconds] = {}
    for letter, place in wanted.parts.items():
        number = np.zeros(len(rows), np.int64)
        for at in range(place, place + _WIDTHS[letter]):
            digit = table[:, at] - np.uint8(_ZERO)  # what lies below wraps around to above 9
            fits &= digit <= 9
            number = number * 10 + digit
        values[letter] = number
    fits &= _real(values)
    found[rows[fits]] = _seconds(values, fits)
    good[rows[fits]] = True
    return found, good


def _bytes(column: pa.Array) -> tuple[Seconds, npt.NDArray[np.uint8], Seconds]:
    """The length of each text (-1 = null), all their bytes, and where each begins in them."""
    validity, offsets, data = column.cast(pa.large_string()).buffers()
    if data is None:
        return np.full(len(column), -1), np.empty(0, np.uint8), np.zeros(len(column), np.int64)
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    lengths = np.diff(bounds)
    if validity is not None and column.null_count:
        valid = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
        lengths = np.where(valid, lengths, -1)
    return lengths, np.frombuffer(data, np.uint8), bounds[:-1]


def _real(values: dict[str, Seconds]) -> Flags:
    """Which of these are days and hours that there are."""
    year, month, day = values["Y"], values["m"], values["d"]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last = _MONTH_DAYS[np.clip(month, 1, 12) - 1] + (leap & (month == 2))
    real: Flags = (month >= 1) & (month <= 12) & (day >= 1) & (day <= last) & (year >= 1)
    for letter, most in (("H", 23), ("M", 59), ("S", 59)):
        if letter in values:
            real &= values[letter] <= most
    return real


def _seconds(values: dict[str, Seconds], chosen: Flags) -> Seconds:
    """Seconds since the epoch, by the days of the proleptic Gregorian calendar (Hinnant 2013)."""
    year, month, day = values["Y"][chosen], values["m"][chosen], values["d"][chosen]
    year = year - (month <= 2)
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    days = era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    seconds: Seconds = (days - 719468) * 86400
    for letter, unit in (("H", 3600), ("M", 60), ("S", 1)):
        if letter in values:
            seconds = seconds + values[letter][chosen] * unit
    return seconds
