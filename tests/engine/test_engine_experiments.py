"""Control groups, splits, exploration and learnt prices, in whole decisions."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bidder.campaigns.catalogue import Catalogue
from bidder.campaigns.loading import load
from bidder.pricing.shading import Shader
from bidder.pricing.winrate import win_rate
from bidder.reasons import NoBid

DAY = datetime(2026, 11, 18, tzinfo=UTC)
FILE = """\
advertiser: {name}
domain: {name}.example
currency: EUR
timezone: Europe/Paris
campaigns:
  - id: c
    goal: {{cpm: {cpm}}}
    control: {control}
    line_items:
      - id: l
        unknown_people: serve
        bid: {{max_cpm: 10}}
        creatives:
          - {{id: a, size: 300x250, image: "https://cdn.x.example/a.png", click: "https://x.example"}}
        split: {split}
"""
ANNA = {"ids": [["buyeruid.demo", "anna"]]}
EUR = 1_000_000


def request(auction: int = 2, person: str = "anna", floor: float = 0.0) -> dict[str, Any]:
    return {
        "id": "r",
        "at": auction,
        "imp": [
            {"id": "1", "bidfloor": floor, "bidfloorcur": "EUR", "banner": {"w": 300, "h": 250}}
        ],
        "device": {"geo": {"country": "USA"}},
        "user": {"buyeruid": person},
    }


@pytest.fixture
def shops(tmp_path: Path) -> Callable[..., Catalogue]:
    """Advertisers, each of a name, a CPM, a control group and a split."""

    def make(*given: tuple[str, float, float], split: str = "[]") -> Catalogue:
        for name, cpm, control in given:
            text = FILE.format(name=name, cpm=cpm, control=control, split=split)
            (tmp_path / f"{name}.yaml").write_text(text)
        return load(tmp_path, now=DAY)[0]

    return make


def price(body: bytes) -> float:
    return float(json.loads(body)["seatbid"][0]["bid"][0]["price"])


async def test_the_held_out_get_a_ghost_and_the_next_best_bids(build: Any, shops: Any) -> None:
    scene = await build(shops(("high", 6, 99.999), ("low", 3, 0)))
    await scene.know(ANNA)
    decision = await scene.decide(request())
    assert price(decision.body) == 3
    lines = await scene.logged()
    (ghost,) = [line for line in lines if line["type"] == "ghost"]
    (bid,) = [line for line in lines if line["type"] == "bid"]
    assert ghost["line_item"] == "high/c/l"
    assert ghost["price_cpm_micros"] == 6 * EUR
    assert ghost["person"] == bid["person"] != ""
    assert ghost["bid_id"] != bid["bid_id"]
    assert bid["line_item"] == "low/c/l"


async def test_the_held_out_alone_get_no_bid(build: Any, shops: Any) -> None:
    scene = await build(shops(("high", 6, 99.999)))
    await scene.know(ANNA)
    decision = await scene.decide(request())
    assert decision.reason is NoBid.HELD_OUT
    explained = await scene.explain(request())
    assert explained.reasons["high/c/l"][0] is NoBid.HELD_OUT
    assert [line["type"] for line in await scene.logged()] == ["ghost"]


async def test_a_ghost_that_could_not_win_is_none(build: Any, shops: Any) -> None:
    scene = await build(shops(("high", 6, 0), ("low", 3, 99.999)))
    await scene.know(ANNA)
    assert price((await scene.decide(request())).body) == 6
    assert [line["type"] for line in await scene.logged()] == ["bid"]


async def test_nobody_is_held_out_and_a_test_leaves_no_ghost(build: Any, shops: Any) -> None:
    scene = await build(shops(("high", 6, 99.999)))
    assert price((await scene.decide(request())).body) == 6
    await scene.know(ANNA)
    await scene.decide(request() | {"test": 1})
    assert [line["type"] for line in await scene.logged()] == ["bid"]


async def test_each_person_is_spoken_to_by_one_arm(build: Any, shops: Any) -> None:
    split = "[{id: half, percent: 50, goal: {cpm: 2}}]"
    scene = await build(shops(("shop", 6, 0), split=split))
    people = [f"person-{number}" for number in range(40)]
    await scene.know(*[{"ids": [["buyeruid.demo", name]]} for name in people])
    prices = [price((await scene.decide(request(person=name))).body) for name in people]
    assert set(prices) == {2.0, 6.0}
    assert 10 <= prices.count(2.0) <= 30
    again = [price((await scene.decide(request(person=name))).body) for name in people]
    assert again == prices
    lines = await scene.logged()
    assert {line["line_item"] for line in lines} == {"shop/c/l", "shop/c/l@half"}


async def test_first_price_bids_come_from_what_was_learnt(build: Any, shops: Any) -> None:
    scene = await build(shops(("shop", 6, 0)))
    rate = win_rate(np.array([1.0, 1.0, 1.0, 5.0]) * EUR)
    scene.serving.shader = Shader({"demo/EUR": rate}, version="abc")
    await scene.know(ANNA)
    assert price((await scene.decide(request(auction=1))).body) == 1
    assert price((await scene.decide(request(auction=2))).body) == 6
    assert price((await scene.decide(request(auction=1, floor=2.0))).body) == 2
    first, second, _ = await scene.logged()
    assert (first["p_win"], first["shading"]) == (0.75, "abc")
    assert second["p_win"] == 1.0
    assert "explored" not in first
    assert first.get("propensity", 1.0) == 1.0


async def test_some_first_price_bids_are_drawn_and_say_so(build: Any, shops: Any) -> None:
    scene = await build(shops(("shop", 6, 0)))
    rate = win_rate(np.array([1.0]) * EUR)
    scene.serving.shader = Shader({"demo/EUR": rate}, exploration=0.3, version="abc")
    offer = scene.offer(request(auction=1, floor=0.5, person=""))
    loop_end = 10**9
    for seed in range(200):
        scene.random.seed(seed)
        await scene.engine.decide(offer, scene.exchange, loop_end)
    lines = await scene.logged()
    drawn = [line for line in lines if line.get("explored")]
    assert len(drawn) == pytest.approx(60, abs=20)
    assert all(0.6 * EUR <= line["price_cpm_micros"] <= 6 * EUR for line in drawn)
    assert {line["propensity"] for line in drawn} == {0.3}
    rest = [line for line in lines if not line.get("explored")]
    assert {line["propensity"] for line in rest} == {0.7}
    assert {line["price_cpm_micros"] for line in rest} == {EUR}
