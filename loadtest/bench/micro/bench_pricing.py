"""What do money's parts of a decision cost? A bid may take 5 µs to shade (issue 6)."""

from itertools import count
from zoneinfo import ZoneInfo

import numpy as np

from bidder.campaigns import catalogue
from bidder.ids import hash32
from bidder.pricing import Books, Estimate, Shader, held_out, value
from bidder.pricing.winrate import win_rate
from loadtest.bench.micro import Timed, over

RANDOM = np.random.default_rng(1)
PRICES = np.unique(np.round(RANDOM.lognormal(0.0, 0.6, 120) * 1e6))
VALUES = (RANDOM.lognormal(0.5, 0.6, 1000) * 1e6).astype(int).tolist()
SHADER = Shader({"demo/EUR||300x250": win_rate(PRICES), "/EUR": win_rate(PRICES)}, 0.01)
ADVERTISER = catalogue.Advertiser(
    "adv", hash32("adv"), "a.example", "EUR", ZoneInfo("Europe/Paris"), 0, 0
)
CAMPAIGN = catalogue.Campaign(
    "camp", "adv/camp", hash32("adv/camp"), ADVERTISER, (), catalogue.Budget(), True, 10.0
)
ITEM = catalogue.LineItem(
    0, "item", "adv/camp/item", hash32("adv/camp/item"), CAMPAIGN, catalogue.Audience(),
    catalogue.Where(), catalogue.When(), catalogue.Bid(10**7), catalogue.Goal("cpa", 2 * 10**7),
    (), catalogue.Intrusiveness(), (), "serve",
)  # fmt: skip


def bench_shading_without_a_floor(timed: Timed) -> None:
    timed(over(VALUES, lambda v: SHADER.bid(v, 0, 1, "demo", "EUR", "", "300x250", 13)))


def bench_shading_above_a_floor(timed: Timed) -> None:
    timed(over(VALUES, lambda v: SHADER.bid(v, 900_000, 1, "demo", "EUR", "", "300x250", 13)))


def bench_the_chance_of_a_bid(timed: Timed) -> None:
    timed(over(VALUES, lambda v: SHADER.chance(v, 0, "demo", "EUR", "", "300x250", 13)))


def bench_value_of_an_impression(timed: Timed) -> None:
    estimates = [Estimate(0.001 * n, 0.1) for n in range(1, 9)]
    timed(over(estimates, lambda estimate: value(ITEM, estimate, 0.8)))


def bench_holding_money(timed: Timed) -> None:
    books, clock = Books("worker", 900), count(1_800_000_000)
    books.adopt(catalogue.Catalogue("", (ITEM,), (CAMPAIGN,), (ADVERTISER,), {}))
    books.accounts[CAMPAIGN.id32].valid_until = 1e12

    def hold_and_give_back(cpm: int) -> None:
        now = next(clock) / 1e3
        hold = books.hold(ITEM, cpm, now, "demo", 900)
        assert hold is not None
        books.give_back(ITEM, hold, now)

    timed(over(VALUES, hold_and_give_back))


def bench_the_control_group(timed: Timed) -> None:
    timed(over(["AAAAAAAAAAAAAAAA", "BBBB"], lambda person: held_out(CAMPAIGN, person)))
