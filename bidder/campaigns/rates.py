"""What is one currency worth in another? `config/rates.yaml` as `bidder.money.Rates`."""

import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from bidder.campaigns.vocabulary import Currency
from bidder.money import Rates
from bidder.yamlfiles import Expected, Model, read, seconds

NEVER_DAYS = datetime.date.max.toordinal()
"""Older than this no rates can be."""


def _days(written: Any) -> int:
    """Whole days of ``7d``, or `NEVER_DAYS` of ``never``."""
    if written == "never":
        return NEVER_DAYS
    length = seconds(written)
    if length == 0 or length % 86400 or length // 86400 > NEVER_DAYS:
        raise Expected("whole days such as 7d, or never")
    return length // 86400


MaxAge = Annotated[
    int,
    BeforeValidator(_days),
    WithJsonSchema({"type": "string", "pattern": "^([0-9]+[dw]|never)$"}),
]


class _RatesFile(Model):
    base: Currency
    date: datetime.date
    max_age: MaxAge = 7
    """How old the rates may be before amounts are no longer converted."""
    source: str = ""
    """For readers: where the rates come from."""
    per_base: dict[Currency, Annotated[float, Field(gt=0, le=1e12)]]
    """Units of each currency that one unit of `base` buys."""

    @model_validator(mode="after")
    def _base_is_one(self) -> "_RatesFile":
        if self.per_base.get(self.base, 1.0) != 1.0:
            raise ValueError(f"one {self.base} is one {self.base}: leave the base out of per_base")
        return self


def load_rates(path: Path) -> Rates:
    """The exchange rates in the file. Raises `InvalidFile` with all that is wrong with it."""
    written = read(path, _RatesFile).value
    return Rates(
        base=written.base,
        day=written.date,
        per_base=written.per_base,
        max_age_days=written.max_age,
    )
