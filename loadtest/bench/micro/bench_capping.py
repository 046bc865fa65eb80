"""What does it cost to ask a ledger? Opening it is part of every question."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest

from bidder.campaigns.catalogue import (
    Advertiser,
    Audience,
    Bid,
    Budget,
    Campaign,
    Cap,
    Creative,
    Goal,
    Intrusiveness,
    Level,
    LineItem,
    When,
    Where,
)
from bidder.capping import Ledger, history, intrusiveness, load_parameters, rules
from bidder.capping import verdict as strictest
from bidder.ids import hash32
from loadtest.bench.micro import Timed, over
from loadtest.bench.micro.made import NOW, impressions

DAY = 86400
RECORDS, LEDGERS = 64, 200
LEVELS: tuple[Level, ...] = ("everyone", "advertiser", "campaign", "line_item", "creative")
WINDOWS = ((20, 3600), (30, DAY), (40, 7 * DAY), (64, 30 * DAY))
PARAMETERS = load_parameters(Path(__file__).parents[3] / "config/intrusiveness.yaml")


CREATIVE = Creative(
    "k",
    "a/c/l/k",
    hash32("a/c/l/k"),
    300,
    250,
    "https://a.example/k.jpg",
    "",
    None,
    "https://a.example/",
)


def line_item() -> LineItem:
    """20 caps: four windows at each of five levels."""
    advertiser = Advertiser(
        id="a", id32=hash32("a"), domain="a.example", currency="EUR", zone=ZoneInfo("UTC"),
        max_cpm_micros=0, max_spend_per_minute_micros=0,
    )  # fmt: skip
    campaign = Campaign(
        id="c", path="a/c", id32=hash32("a/c"), advertiser=advertiser, flights=(), budget=Budget()
    )
    return LineItem(
        index=0, id="l", path="a/c/l", id32=hash32("a/c/l"), campaign=campaign,
        audience=Audience(), where=Where(), when=When(), bid=Bid(1), goal=Goal("cpm", 1),
        caps=tuple(Cap(level, count, span) for level in LEVELS for count, span in WINDOWS),
        intrusiveness=Intrusiveness(), creatives=(CREATIVE,), unknown_people="skip",
    )  # fmt: skip


ITEM = line_item()
RULES = rules(ITEM, CREATIVE.id32)


def ledgers(own_share: float, records: int = RECORDS) -> list[bytes]:
    """Ledgers of a month of which this share is the line item's own, the rest of others."""
    return impressions(ITEM, records, LEDGERS, own_share)


def bench_verdict_empty(timed: Timed) -> None:
    """An empty ledger against 20 caps."""
    timed(lambda: strictest(Ledger(b"", NOW), RULES))


@pytest.mark.parametrize("own_share", [0.0, 0.5, 1.0])
def bench_verdict(timed: Timed, own_share: float) -> None:
    """64 records against 20 caps."""
    timed(over(ledgers(own_share), lambda raw: strictest(Ledger(raw, NOW), RULES)))


def bench_verdict_usual(timed: Timed) -> None:
    """Eight records, half of them of this line item, against 20 caps."""
    timed(over(ledgers(0.5, 8), lambda raw: strictest(Ledger(raw, NOW), RULES)))


def bench_history(timed: Timed) -> None:
    """What the models see of 64 records, opening included."""
    timed(over(ledgers(0.5), lambda raw: history(Ledger(raw, NOW), ITEM)))


@pytest.mark.parametrize("many", [4, 64])
def bench_intrusiveness(timed: Timed, many: int) -> None:
    """One judgement over this many exposures of a month."""
    random = Random(1)
    exposures: Sequence[Sequence[int]] = [
        sorted(NOW - random.randrange(30 * DAY) for _ in range(many)) for _ in range(LEDGERS)
    ]
    timed(over(exposures, lambda times: intrusiveness(times, NOW, 0.3, 0.5, PARAMETERS)))
