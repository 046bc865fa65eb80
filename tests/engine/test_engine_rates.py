"""Are amounts converted only by rates that are young enough? Too old ones mean no bid."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from bidder.campaigns.loading import load
from bidder.money import Rates

SHOP = """
advertiser: shop
domain: shop.example
currency: EUR
timezone: Europe/Paris
campaigns:
  - id: c
    goal: {cpm: 4}
    line_items:
      - id: l
        unknown_people: serve
        bid: {max_cpm: 10}
        creatives:
          - {id: ad, size: 300x250, image: "https://cdn.shop.example/a", click: "https://shop.example/"}
"""


def request(floor_currency: str) -> dict[str, Any]:
    imp = {"id": "1", "banner": {"w": 300, "h": 250}, "bidfloor": 1, "bidfloorcur": floor_currency}
    return {
        "id": "r", "at": 2, "cur": ["EUR"], "imp": [imp], "site": {"domain": "news.example"},
        "device": {"geo": {"country": "USA"}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("age", "currency", "bids"),
    [(7, "USD", True), (8, "USD", False), (8, "EUR", True), (0, "USD", True), (0, "XAU", False)],
)
async def test_rates_that_are_too_old_convert_nothing(
    build: Any, tmp_path: Path, age: int, currency: str, bids: bool
) -> None:
    (tmp_path / "campaigns").mkdir()
    (tmp_path / "campaigns" / "shop.yaml").write_text(SHOP)
    scene = await build(load(tmp_path / "campaigns", now=None)[0])
    today = date.fromtimestamp(scene.now)
    scene.serving._rates = Rates("EUR", today - timedelta(days=age), {"USD": 1.1})
    assert bool((await scene.decide(request(currency))).body) is bids


async def test_currencies_that_nobody_knows_are_neither_tried_for_ever_nor_kept(
    build: Any, tmp_path: Path
) -> None:
    (tmp_path / "campaigns").mkdir()
    (tmp_path / "campaigns" / "shop.yaml").write_text(SHOP)
    scene = await build(load(tmp_path / "campaigns", now=None)[0])
    asked = []

    class Counting(Rates):
        def factor(self, source: str, target: str, today: date) -> float:
            asked.append(target)
            return super().factor(source, target, today)

    scene.serving._rates = Counting("EUR", date.fromtimestamp(scene.now), {"USD": 1.1})
    unknown = [f"X{number}" for number in range(10_000)]
    decision = await scene.decide({**request("EUR"), "cur": unknown})
    assert not decision.body
    assert len(asked) < 100
    assert not scene.serving._factors
    assert (await scene.decide({**request("EUR"), "cur": ["X1", "USD"]})).body
