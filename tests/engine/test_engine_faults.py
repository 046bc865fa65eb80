"""What the engine does when the store, the ledger or another request gets in its way."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bidder.campaigns.catalogue import Catalogue
from bidder.campaigns.loading import load
from bidder.reasons import NoBid
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable

DAY = datetime(2026, 11, 18, tzinfo=UTC)
FILE = """\
advertiser: {name}
domain: {name}.example
currency: EUR
timezone: Europe/Paris
campaigns:
  - id: c
    goal: {{cpm: 4}}
    line_items:
      - id: l
        unknown_people: {unknown}
        frequency: [{{max: 9, per: 1d}}]
        bid: {{max_cpm: 10}}
        creatives:
          - {{id: a, size: 300x250, image: "https://cdn.x.example/a.png", click: "https://x.example"}}
"""
REQUEST = {
    "id": "r",
    "at": 2,
    "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}],
    "device": {"geo": {"country": "USA"}},
    "user": {"buyeruid": "anna"},
    "source": {"tid": "page-1"},
}
ANNA = {"ids": [["buyeruid.demo", "anna"]]}


@pytest.fixture
def shop(tmp_path: Path) -> Callable[..., Catalogue]:
    """One line item for people we know, or also for others."""

    def make(unknown: str = "skip") -> Catalogue:
        folder = tmp_path / unknown
        folder.mkdir()
        (folder / "shop.yaml").write_text(FILE.format(name="shop", unknown=unknown))
        return load(folder, now=DAY)[0]

    return make


async def test_a_page_asked_for_twice_at_once_gets_one_ad_of_an_advertiser(
    build: Any, shop: Any
) -> None:
    """The second claim finds the ledger changed, and must look at the page again."""
    scene = await build(shop())
    await scene.know(ANNA)
    answers = await asyncio.gather(*[scene.decide(REQUEST) for _ in range(3)])
    assert sorted(answer.bids for answer in answers) == [0, 0, 1]
    assert {answer.reason for answer in answers if not answer.bids} == {NoBid.CONTENDED}
    other = await asyncio.gather(
        *[scene.decide({**REQUEST, "source": {"tid": f"page-{n}"}}) for n in (2, 3)]
    )
    assert [answer.bids for answer in other] == [1, 1], "other pages may have theirs"


@pytest.mark.parametrize("raw", [b"x", b"\x09" * 40, b"\x01" + bytes(20)])
async def test_without_a_readable_ledger_a_person_is_nobody(
    build: Any, shop: Any, raw: bytes
) -> None:
    for unknown, bids in (("skip", 0), ("serve", 1)):
        scene = await build(shop(unknown))
        await scene.know(ANNA)
        person = (await scene.links.bulk([("GET", keys.identifier("buyeruid.demo", "anna"))]))[0]
        await scene.links.bulk([("SET", keys.ledger(person.decode()), raw)])
        decision = await scene.decide(REQUEST)
        assert decision.bids == bids
        if not bids:
            assert decision.reason is NoBid.STORE_UNAVAILABLE


class Away:
    """A reader whose store does not answer."""

    async def get_many(self, *_: Any) -> Any:
        raise StoreUnavailable("away")


async def test_without_a_store_only_what_needs_nobody_bids(build: Any, shop: Any) -> None:
    for unknown, bids in (("skip", 0), ("serve", 1)):
        scene = await build(shop(unknown))
        scene.engine._reader = Away()
        decision = await scene.decide(REQUEST)
        assert decision.bids == bids
        explanation = await scene.explain(REQUEST, Away())
        assert len(explanation.choices) == bids
        assert explanation.reason is decision.reason
        if not bids:
            assert decision.reason is NoBid.STORE_UNAVAILABLE


async def test_a_request_that_comes_too_late_is_not_looked_at(build: Any, shop: Any) -> None:
    scene = await build(shop("serve"))
    loop = asyncio.get_running_loop()
    late = await scene.engine.decide(scene.offer(REQUEST), scene.exchange, loop.time() - 1)
    assert (late.bids, late.reason) == (0, NoBid.INSUFFICIENT_TIME)
    assert [event["type"] for event in await scene.logged()] == []


async def test_out_of_time_is_silence_and_frees_the_money(
    build: Any, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time runs out while the exposure is claimed, when the money is held already."""
    scene = await build(shop())
    await scene.know(ANNA)
    deadline = asyncio.get_running_loop().time() + 60
    hold, held = scene.books.hold, []

    def holding(*what: Any) -> Any:
        held.append(hold(*what))
        return held[-1]

    monkeypatch.setattr(scene.books, "hold", holding)
    monkeypatch.setattr(scene.engine, "_clock", lambda: deadline - 30 + 60 * len(held))
    late = await scene.engine.decide(scene.offer(REQUEST), scene.exchange, deadline)
    assert (late.bids, late.reason) == (0, NoBid.INSUFFICIENT_TIME)
    assert await scene.logged() == []
    (account,) = scene.books.accounts.values()
    (bucket,) = account.lease.buckets.values()
    assert (len(held), bucket.held, bucket.bids) == (1, 0, 0)
