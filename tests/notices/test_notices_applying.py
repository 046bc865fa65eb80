"""Applying notices to a real store: once each, in any order, whatever comes between."""

from collections.abc import Callable, Iterable
from itertools import permutations
from random import Random
from typing import Any

import pytest

from bidder import ids, metrics
from bidder.capping import Kind, Ledger
from bidder.capping.ledger import ADVERTISER, ANY_CHANNEL
from bidder.events.schema import (
    AnyEvent,
    BillingEvent,
    ClickEvent,
    ConversionEvent,
    ImpressionEvent,
    NoBidEvent,
    Notice,
    decode,
)
from bidder.ids import hash32
from bidder.metrics import Metrics
from bidder.notices.applying import Applier
from bidder.notices.receive import Desk, inferred_billing, receive
from bidder.notices.tokens import Audience, Sealed
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Scripts
from bidder.store.connect import Client
from bidder.store.links import Links

NOW = 1_790_000_000
CAMPAIGN = hash32("shop/spring")
Make = Callable[..., Sealed]


@pytest.fixture
def cells() -> Metrics:
    return Metrics()


@pytest.fixture
async def applier(links: Links, cells: Metrics) -> Applier:
    return Applier(Scripts(links), cells, 86400, {"plain": 60})


def notices(desk: Desk, sealed: Make, **changes: Any) -> list[AnyEvent]:
    """One bid's win, impression, billing, click and two sales."""
    told = sealed(**changes)

    def token(audience: Audience) -> str:
        return desk.tokens.seal(told, audience)

    exchange = {"t": token(Audience.EXCHANGE), "p": "2.0"}
    browser = {"t": token(Audience.BROWSER), "p": "2.0"}
    sale = {"cid": token(Audience.CLICK), "value": "10", "gdpr": "0"}
    return [
        receive("win", exchange, desk, NOW + 1.5),
        receive("impression", browser, desk, NOW + 2.5),
        receive("billing", exchange, desk, NOW + 3.5),
        receive("click", browser, desk, NOW + 4.5),
        receive("conversion", {**sale, "order": "1"}, desk, NOW + 5.5),
        receive("conversion", {**sale, "order": "2"}, desk, NOW + 6.5),
    ]


class State:
    """What the store says of the campaign and the person."""

    def __init__(self, store: Client, person: str) -> None:
        self._store = store
        self._person = person

    async def money(self) -> dict[str, int]:
        found = await self._store.hgetall(keys.campaign(CAMPAIGN, "money"))
        return {name.decode(): int(value) for name, value in found.items() if int(value)}

    async def kinds(self) -> list[Kind]:
        raw = await self._store.get(keys.ledger(self._person))
        return sorted(record.kind for record in Ledger(raw or b"", NOW + 10).records())

    async def all(self) -> tuple[dict[str, int], list[Kind]]:
        return await self.money(), await self.kinds()


@pytest.fixture
def state(store: Client, sealed: Make) -> State:
    return State(store, sealed().person)


SPENT = {
    "spent": 1800,  # 2.00 USD CPM x 0.9
    "spent:2026-09-22": 1800,
    "impressions": 1,
    "impressions:2026-09-22": 1,
    "pixels": 1,
    "clicks": 1,
    "conversions": 2,
}
SEEN = [Kind.IMPRESSION, Kind.CLICK, Kind.CONVERSION]


async def test_everything_counts_once(
    applier: Applier, cells: Metrics, state: State, desk: Desk, sealed: Make
) -> None:
    events = notices(desk, sealed)
    await applier.apply(events, NOW + 10)
    assert await state.all() == (SPENT, SEEN)
    assert cells.get(metrics.SPEND, "shop", "EUR") == 1800
    for kind, count in {
        "win": 1,
        "impression": 1,
        "billing": 1,
        "click": 1,
        "conversion": 2,
    }.items():
        assert cells.get(metrics.LINE_ITEM, "shop/spring/shoes", kind) == count

    await applier.apply(events, NOW + 20)
    assert await state.all() == (SPENT, SEEN)
    assert cells.get(metrics.SPEND, "shop", "EUR") == 1800
    for kind in ("impression", "billing", "click"):
        assert cells.get(metrics.APPLIED, kind, "duplicate") == 1
        assert cells.get(metrics.LINE_ITEM, "shop/spring/shoes", kind) == 1
    assert cells.get(metrics.APPLIED, "conversion", "duplicate") == 2


async def one_by_one(applier: Applier, events: Iterable[AnyEvent]) -> None:
    for event in events:
        await applier.apply([event], NOW + 10)


async def test_the_order_does_not_matter(
    applier: Applier, store: Client, state: State, desk: Desk, sealed: Make
) -> None:
    events = notices(desk, sealed)
    orders = list(permutations(events))
    for order in Random(3).sample(orders, 60):
        await store.flushall()
        await one_by_one(applier, [*order, *order[::-1][:3]])
        assert await state.all() == (SPENT, SEEN), order


@pytest.mark.parametrize("measure", [True, False])
async def test_a_ledger_says_what_may_be_measured_and_caps_count_it_all(
    applier: Applier, store: Client, desk: Desk, sealed: Make, measure: bool
) -> None:
    await applier.apply(notices(desk, sealed, measure=measure)[1:4], NOW + 10)
    ledger = Ledger(await store.get(keys.ledger(sealed().person)), NOW + 10)
    assert [record.measured for record in ledger.records()] == [measure] * 2
    assert ledger.exposures(ADVERTISER, hash32("shop"), ANY_CHANNEL) == [NOW + 3]
    clicks = ANY_CHANNEL << 4 | Kind.CLICK
    assert ledger.times(ADVERTISER, hash32("shop"), clicks) == [NOW + 5]


async def test_a_crash_anywhere_is_made_good(
    applier: Applier, links: Links, store: Client, state: State, desk: Desk, sealed: Make
) -> None:
    """The store goes away after any number of script calls; all is then applied again."""
    events = notices(desk, sealed)

    class Failing(Scripts):
        left = 0

        async def run(self, *arguments: Any, **named: Any) -> Any:
            if self.left == 0:
                raise StoreUnavailable("gone")
            self.left -= 1
            return await super().run(*arguments, **named)

    scripts = Failing(links)
    broken = Applier(scripts, Metrics(), 86400, {})
    for calls in range(1, 12):
        await store.flushall()
        scripts.left = calls
        for event in events:
            try:
                await broken.apply([event], NOW + 10)
            except StoreUnavailable:
                break
        scripts.left = -1
        await one_by_one(applier, events)
        assert await state.all() == (SPENT, SEEN), calls


async def test_an_impression_that_bills(
    applier: Applier, state: State, desk: Desk, sealed: Make
) -> None:
    told = sealed(exchange=hash32("pixel"))
    asked = {"t": desk.tokens.seal(told, Audience.BROWSER), "p": "2.0"}
    event = receive("impression", asked, desk, NOW + 1)
    for _ in range(2):
        await applier.apply([event], NOW + 10)
    money = await state.money()
    assert (money["spent"], money["impressions"], money["pixels"]) == (1800, 1, 1)
    assert await state.kinds() == [Kind.IMPRESSION]


async def test_an_impression_waits_for_its_billing_and_then_costs_the_bid(
    applier: Applier, store: Client, state: State, desk: Desk, sealed: Make
) -> None:
    seen = notices(desk, sealed)[1]
    assert isinstance(seen, ImpressionEvent)
    await applier.apply([seen], NOW + 10)
    assert "spent" not in await state.money()
    ((bid_id, due),) = await store.zrange(
        keys.campaign(CAMPAIGN, "unbilled"), 0, -1, withscores=True
    )
    assert (bid_id, due) == (sealed().bid_id, NOW + 2 + 60)
    line = await store.hget(keys.campaign(CAMPAIGN, "events"), bid_id)
    inferred = decode(line)
    assert inferred == inferred_billing(seen)
    await applier.apply([inferred], NOW + 100)
    assert (await state.money())["spent"] == 2250
    assert not await store.exists(keys.campaign(CAMPAIGN, "unbilled"))
    await applier.apply([notices(desk, sealed)[2]], NOW + 200)  # the notice comes after all
    assert (await state.money())["spent"] == 2250


@pytest.mark.parametrize("person", [True, False])
async def test_a_loss_gives_money_and_place_back(
    applier: Applier, cells: Metrics, state: State, desk: Desk, sealed: Make, person: bool
) -> None:
    told = sealed() if person else sealed(person="")
    asked = {"t": desk.tokens.seal(told, Audience.EXCHANGE), "r": "102"}
    event = receive("loss", asked, desk, NOW + 1)
    for _ in range(2):
        await applier.apply([event], NOW + 10)
    assert cells.get(metrics.APPLIED, "loss", "new") == 1
    assert cells.get(metrics.APPLIED, "loss", "duplicate") == 1
    assert await state.all() == ({}, [])


async def test_without_a_person_no_ledger_is_written(
    applier: Applier, store: Client, state: State, desk: Desk, sealed: Make
) -> None:
    await applier.apply(notices(desk, sealed, person=""), NOW + 10)
    assert await state.money() == SPENT
    assert not [key async for key in store.scan_iter("l:*")]


async def test_what_is_no_notice_is_left_alone(applier: Applier, cells: Metrics) -> None:
    await applier.apply([NoBidEvent(time=NOW, request_id="r", exchange="plain", reason=1)], NOW)
    assert cells.values == {}


async def test_one_that_the_store_refuses_does_not_stop_the_others(
    links: Links, cells: Metrics, store: Client, state: State, desk: Desk, sealed: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    refusals: list[tuple[Notice, str]] = []
    applier = Applier(
        Scripts(links), cells, 86400, {}, lambda event, why: refusals.append((event, why))
    )
    await store.lpush(keys.ledger(sealed().person), "not a ledger")
    well = sealed(person=ids.to_text(bytes(12)), bid_id=sealed().bid_id[:-1] + b"\xff")
    asked = {"t": desk.tokens.seal(well, Audience.EXCHANGE), "p": "1.0"}
    await applier.apply([*notices(desk, sealed), receive("billing", asked, desk, NOW)], NOW + 10)
    assert cells.get(metrics.APPLIED, "billing", "failed") == 1
    assert ids.to_text(sealed().bid_id) in caplog.text
    assert [(e.bid_id, "WRONGTYPE" in why) for e, why in refusals] == [
        (ids.to_text(sealed().bid_id), True)
    ] * len(refusals)
    assert {type(event) for event, _ in refusals} == {
        ImpressionEvent, BillingEvent, ClickEvent, ConversionEvent,
    }  # fmt: skip
    money = await state.money()
    assert (money["spent"], money["impressions"]) == (1800 + 900, 2)


async def test_a_store_that_is_away_is_said_so(desk: Desk, sealed: Make, links: Links) -> None:
    class Away(Scripts):
        async def run(self, *_: Any, **__: Any) -> Any:
            raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await Applier(Away(links), Metrics(), 1, {}).apply(notices(desk, sealed), NOW)
