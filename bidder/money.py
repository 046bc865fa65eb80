"""How is money counted?

Always as an integer of micros (millionths) of a currency. A CPM price is micros per thousand
impressions; `impression_cost` is the one place where it becomes what a single impression costs, so
that log, counters and report add the same integers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

MICROS = 1_000_000


def to_micros(amount: float) -> int:
    """An amount in currency units, as micros, rounded to the nearest."""
    return round(amount * MICROS)


def from_micros(micros: int) -> float:
    """Micros as currency units: for showing, never for adding."""
    return micros / MICROS


def impression_cost(cpm_micros: int) -> int:
    """What one impression at this CPM costs, in micros, rounded half up."""
    return (cpm_micros + 500) // 1000


class UnknownRate(ValueError):
    """No usable exchange rate: the currency is not in the rates file, or the file is too old."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Exchange rates of one day: how many units of each currency one unit of `base` buys."""

    base: str
    day: date
    per_base: Mapping[str, float]
    max_age_days: int = 7

    def factor(self, source: str, target: str, today: date) -> float:
        """What to multiply an amount in `source` by to have it in `target`.

        Raises `UnknownRate` if either is not listed, or if the rates are older than `max_age_days`.
        """
        if source == target:
            return 1.0
        if today - self.day > timedelta(days=self.max_age_days):
            raise UnknownRate(f"rates of {self.day} are older than {self.max_age_days} days")
        return self._per_base(target) / self._per_base(source)

    def _per_base(self, currency: str) -> float:
        if currency == self.base:
            return 1.0
        try:
            return self.per_base[currency]
        except KeyError:
            raise UnknownRate(f"no rate for {currency!r} in the rates of {self.day}") from None
