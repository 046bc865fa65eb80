"""Does every worker know at which pace each campaign bids, and do workers agree?"""

from datetime import UTC, datetime

import pytest

from bidder.campaigns import catalogue
from bidder.pricing import Books, Pacing
from bidder.pricing.curve import Traffic

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()


class Store:
    """Grants everything; remembers nothing."""

    async def run(self, name, keys, args, deadline=None):
        return [10**9, 10**6, 0, 0, 0, 0, self.pace]

    pace = b""


async def step(pacing: Pacing, books: Books, store: Store, now: float, requests: float = 1) -> None:
    for account in books.accounts.values():
        account.next_sync = 0.0
    await books.sync(store, now)
    pacing.step(now, requests)


def worker(whole) -> tuple[Books, Pacing]:
    books = Books("worker", 600)
    pacing = Pacing(books)
    books.adopt(whole)
    pacing.adopt(whole, Traffic())
    return books, pacing


async def test_bids_rise_until_they_spend(made) -> None:
    whole = made(daily_micros=10**9)
    (books, pacing), store = worker(whole), Store()
    paces = []
    owner = whole.campaigns[0].id32
    store.pace = b"2000000"
    for second in range(0, 1200, 10):
        await step(pacing, books, store, NOON + second, second)
        paces.append(pacing.paces[owner])
        store.pace = b""
    assert paces[0] == pytest.approx(2.718281828**-2, rel=1e-3)
    assert paces == sorted(paces)
    assert paces[-1] > 3 * paces[0]


async def test_a_campaign_without_a_past_bids_its_values(made) -> None:
    whole = made(daily_micros=10**9)
    (books, pacing), store = worker(whole), Store()
    pacing.step(NOON, 1)
    assert pacing.paces == {}, "no lease yet"
    await step(pacing, books, store, NOON + 0.1)
    assert pacing.paces == {whole.campaigns[0].id32: 1.0}


async def test_who_comes_anew_begins_where_the_others_are(made) -> None:
    whole = made(daily_micros=10**9)
    (books, pacing), store = worker(whole), Store()
    store.pace = b"500000"
    await step(pacing, books, store, NOON)
    assert pacing.paces[whole.campaigns[0].id32] == pytest.approx(2.718281828**-0.5, rel=1e-3)
    assert books.accounts[whole.campaigns[0].id32].pace == "500000"


async def test_workers_come_to_agree(made) -> None:
    whole = made(daily_micros=10**9)
    (books, pacing), store = worker(whole), Store()
    await step(pacing, books, store, NOON)
    store.pace = b"5000000"
    for second in range(2, 400, 2):
        await step(pacing, books, store, NOON + second)
    assert float(books.accounts[whole.campaigns[0].id32].pace) > 4_000_000


@pytest.mark.parametrize("budget", [{"daily_micros": 10**9, "pacing": "asap"}, {}])
async def test_who_needs_no_pace_has_none(made, budget) -> None:
    (books, pacing), store = worker(made(**budget)), Store()
    await step(pacing, books, store, NOON)
    assert pacing.paces == {}


async def test_a_changed_campaign_is_paced_anew(made, changed) -> None:
    whole = made(daily_micros=10**9)
    (books, pacing), store = worker(whole), Store()
    paces = pacing.paces
    await step(pacing, books, store, NOON)
    assert len(paces) == 1
    free = changed(whole, pacing="ahead")
    books.adopt(free)
    pacing.adopt(free, Traffic())
    await step(pacing, books, store, NOON + 0.1)
    assert paces == {}
    assert pacing.paces is paces


async def test_a_campaign_that_is_gone_has_no_pace(made) -> None:
    (books, pacing), store = worker(made(daily_micros=10**9)), Store()
    await step(pacing, books, store, NOON)
    assert len(pacing.paces) == 1
    nothing = catalogue.Catalogue("", (), (), (), {})
    books.adopt(nothing)
    pacing.adopt(nothing, Traffic())
    assert pacing.paces == {}


async def test_a_step_too_soon_is_none(made) -> None:
    (books, pacing), store = worker(made(daily_micros=10**9)), Store()
    await step(pacing, books, store, NOON)
    before = dict(pacing.paces)
    pacing.paces.clear()
    await step(pacing, books, store, NOON + 1)
    assert pacing.paces == {}
    await step(pacing, books, store, NOON + 2.5)
    assert pacing.paces.keys() == before.keys()


async def test_without_a_lease_the_last_pace_stays(made) -> None:
    whole = made(daily_micros=10**9)
    (books, pacing), store = worker(whole), Store()
    await step(pacing, books, store, NOON)
    before = dict(pacing.paces)
    pacing.step(NOON + 3600, 1)
    assert pacing.paces == before
