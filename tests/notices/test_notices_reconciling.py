"""Is a store that was restored told all it forgot, and do all books then say the same?"""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from bidder import ids
from bidder.campaigns import catalogue
from bidder.events.report import report
from bidder.events.schema import BidEvent, BillingEvent, ImpressionEvent, LossEvent, encode
from bidder.ids import hash32
from bidder.metrics import Metrics
from bidder.money import impression_cost
from bidder.notices.applying import Applier
from bidder.notices.reconciling import REACH_SECONDS, reconcile, render
from bidder.pricing import Books
from bidder.store import keys
from bidder.store.coalesce import Scripts

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
LASTS = {"demo": 900}
ZONE = ZoneInfo("Europe/Paris")
ADVERTISER = catalogue.Advertiser("adv", hash32("adv"), "a.example", "EUR", ZONE, 0, 0)
CAMPAIGN = catalogue.Campaign(
    "camp", "adv/camp", hash32("adv/camp"), ADVERTISER, (), catalogue.Budget(daily_micros=10**7)
)
ITEM = catalogue.LineItem(
    0, "item", "adv/camp/item", hash32("adv/camp/item"), CAMPAIGN, catalogue.Audience(),
    catalogue.Where(), catalogue.When(), catalogue.Bid(10**7), catalogue.Goal("cpm", 10**7), (),
    catalogue.Intrusiveness(), (), "serve",
)  # fmt: skip
WHOLE = catalogue.Catalogue("1", (ITEM,), (CAMPAIGN,), (ADVERTISER,), {})


def day_of_bid(time: float) -> str:
    return datetime.fromtimestamp(time, ZONE).date().isoformat()


class Log:
    """Writes what an exchange would have told, and what we bid."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.random, self.events = folder, Random(1), []

    def bid(self, at: float, cpm: int = 5_000_001) -> BidEvent:
        bid_id = ids.to_text(ids.new_bid_id(at, self.random))
        made = BidEvent(
            time=at, bid_id=bid_id, request_id="r", imp_id="1", exchange="demo",
            line_item=ITEM.path, creative="c", price_cpm_micros=cpm, currency="USD",
            value_cpm_micros=cpm, account_currency="EUR", rate=0.9, first_price=True,
        )  # fmt: skip
        self.events.append(made)
        return made

    def say(self, kind, bid: BidEvent, late: float = 20.0, **fields):
        told = kind(
            time=bid.time + late, bid_id=bid.bid_id, exchange="demo", line_item=bid.line_item,
            creative="c", bid_time=float(int(bid.time)), bid_cpm_micros=bid.price_cpm_micros,
            currency="USD", account_currency="EUR", rate=0.9, hold="worker",
            ids=(ADVERTISER.id32, CAMPAIGN.id32, ITEM.id32, 1), person="AAAAAAAAAAAAAAAA",
            hold_until=float(int(bid.time) + 900), day=day_of_bid(bid.time), **fields,
        )  # fmt: skip
        self.events.append(told)
        return told

    def billed(self, bid: BidEvent, cpm: int) -> BillingEvent:
        cost = impression_cost(round(cpm * 0.9))
        return self.say(BillingEvent, bid, price_cpm_micros=cpm, cost_micros=cost)

    def write(self) -> Path:
        folder = self.folder / "worker-0"
        folder.mkdir(parents=True, exist_ok=True)
        lines = b"".join(encode(event) for event in self.events)
        (folder / "20261120T000000-000001.jsonl").write_bytes(lines)
        return self.folder


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "events")


@pytest.fixture
async def applier(any_links) -> Applier:
    return Applier(Scripts(any_links), Metrics(), 86_400, LASTS)


async def told(log: Log, links, applier: Applier, now: float = NOW):
    scripts = Scripts(links)
    return await reconcile(log.write(), links, scripts, applier, [CAMPAIGN], LASTS, now)


async def counted(links, field: str) -> int:
    (value,) = await links.bulk([("HGET", keys.campaign(CAMPAIGN.id32, "money"), field)])
    return int(value or 0)


async def test_what_a_restored_store_forgot_is_told_again(log, any_links, applier) -> None:
    bids = [log.bid(NOW - 7200 + 60 * n) for n in range(60)]
    events = [log.billed(bid, 4_000_000 + n) for n, bid in enumerate(bids)]
    await applier.apply(events[:40], NOW)
    spent = await counted(any_links, "spent")
    (day,) = await told(log, any_links, applier)
    assert day.agrees
    assert day.counted_before == spent == sum(e.cost_micros for e in events[:40])
    assert day.counted_micros == sum(e.cost_micros for e in events)
    assert day.counted_impressions == 60
    (again,) = await told(log, any_links, applier)
    assert again.counted_before == again.counted_micros == day.counted_micros
    assert "micros were unknown" in render([day])
    assert "micros were unknown" not in render([again])


async def test_the_people_are_left_alone(log, any_links, applier) -> None:
    log.billed(log.bid(NOW - 3600), 4_000_000)
    await told(log, any_links, applier)
    (ledger,) = await any_links.bulk([("GET", keys.ledger("AAAAAAAAAAAAAAAA"))])
    assert ledger is None


async def test_a_lost_billing_stays_owed(log, any_links, applier) -> None:
    seen = log.bid(NOW - 600)
    log.say(ImpressionEvent, seen)
    await told(log, any_links, applier)
    assert await counted(any_links, "owed") == impression_cost(round(5_000_001 * 0.9))


async def test_open_bids_are_set_aside_where_no_lease_covers_them(log, any_links, applier) -> None:
    for n in range(10):
        log.bid(NOW - 100 - n)
    log.say(LossEvent, log.bid(NOW - 50), reason=102)
    log.billed(log.bid(NOW - 40), 5_000_000)
    log.bid(NOW - 2000)
    (day,) = await told(log, any_links, applier)
    assert day.reserved_micros == 10 * impression_cost(round(5_000_001 * 0.9))
    assert "set aside for open bids" in render([day])
    books = Books("worker", 900)
    books.adopt(WHOLE)
    await books.sync(Scripts(any_links), NOW)
    leases = await any_links.bulk([("HGETALL", keys.campaign(CAMPAIGN.id32, "leases"))])
    assert len(leases[0]) == 4


async def test_after_a_restore_nothing_is_spent_twice(log, any_links, applier) -> None:
    """A budget used up, a minute forgotten: what is told again leaves nothing to bid with."""
    scripts = Scripts(any_links)
    bids = []
    while sum(impression_cost(round(b.price_cpm_micros * 0.9)) for b in bids) < 10**7 - 9000:
        bids.append(log.bid(NOW - 900 + len(bids) % 880, 10_000_000))
    for bid in bids[:-20]:
        log.billed(bid, 10_000_000)
    await applier.apply(
        [e for e in log.events[: len(bids) // 2] if not isinstance(e, BidEvent)], NOW
    )
    await told(log, any_links, applier)
    books = Books("worker", 900)
    books.adopt(WHOLE)
    held = 0
    for second in range(60):
        await books.sync(scripts, NOW + second)
        while books.hold(ITEM, 9_000_000, NOW + second, "demo", 900) is not None:
            held += 1
    assert held <= 1


async def test_a_difference_is_told(log, any_links, applier) -> None:
    log.billed(log.bid(NOW - 3600), 4_000_000)
    money = keys.campaign(CAMPAIGN.id32, "money")
    await any_links.bulk([("HINCRBY", money, f"spent:{day_of_bid(NOW)}", "7")])
    (day,) = await told(log, any_links, applier)
    assert not day.agrees
    assert "DIFFERS" in render([day])


async def test_what_is_too_old_is_not_told(log, any_links, applier) -> None:
    log.billed(log.bid(NOW - 9 * 86_400), 4_000_000)
    assert await told(log, any_links, applier) == []
    assert await counted(any_links, "spent") == 0
    assert "nothing was billed" in render([])


async def test_a_campaign_that_is_gone_goes_by_its_number(log, any_links, applier) -> None:
    log.billed(log.bid(NOW - 3600), 4_000_000)
    scripts = Scripts(any_links)
    (day,) = await reconcile(log.write(), any_links, scripts, applier, [], {}, NOW)
    assert day.campaign == f"#{CAMPAIGN.id32:08x}"


async def test_billing_events_counters_and_report_agree_to_the_micro(
    log, any_links, applier
) -> None:
    """Lost, repeated, contradicting and late notices, in a jumble: three books, one sum."""
    random = Random(7)
    expected = 0
    for n in range(300):
        bid = log.bid(NOW - 40_000 + 100 * n, random.randrange(1, 9_999_999))
        fate = random.random()
        if fate < 0.5:
            price = random.randint(0, bid.price_cpm_micros)
            event = log.billed(bid, price)
            expected += event.cost_micros
            if fate < 0.2:
                log.events.append(event)
            if fate < 0.3:
                log.say(ImpressionEvent, bid, late=3.0)
        elif fate < 0.6:
            log.say(ImpressionEvent, bid, late=3.0, bills=True, price_cpm_micros=9, cost_micros=9)
            expected += 9
        elif fate < 0.8:
            log.say(LossEvent, bid, reason=102)
    events = [event for event in log.events if not isinstance(event, BidEvent)]
    random.shuffle(events)
    for start in range(0, len(events), 7):
        await applier.apply(events[start : start + 7], NOW)
    table = report(log.write(), ["campaign"])
    (row,) = table.rows
    assert row.spend_micros == expected
    assert await counted(any_links, "spent") == expected
    days = await told(log, any_links, applier)
    assert all(day.agrees for day in days)
    assert sum(day.counted_micros for day in days) == expected
    assert await counted(any_links, "impressions") == row.wins


def test_the_log_is_what_it_says(log) -> None:
    """The quick look at a line is right about what it passes over."""
    log.bid(NOW)
    line = next(iter(log.write().glob("*/*"))).read_bytes().splitlines()[0]
    assert line[9:12] == b"bid"
    assert json.loads(line)["time"] < time.time() + 10**9


async def test_days_of_which_nothing_was_billed_are_set_aside_and_not_compared(
    log, any_links, applier
) -> None:
    log.bid(NOW - 60)
    assert await told(log, any_links, applier) == []
    (row,) = await any_links.bulk([("HGETALL", keys.campaign(CAMPAIGN.id32, "leases"))])
    assert len(row) == 2  # one lease: its name and what it holds


async def test_bids_of_campaigns_that_are_gone_hold_nothing(log, any_links, applier) -> None:
    log.events.append(replace(log.bid(NOW - 60), line_item="adv/gone/item", bid_id="other"))
    del log.events[0]
    assert await told(log, any_links, applier) == []
    assert await any_links.bulk([("EXISTS", keys.campaign(CAMPAIGN.id32, "leases"))]) == [0]


async def test_days_that_began_before_the_reach_are_told_and_not_compared(
    log, any_links, applier
) -> None:
    old = log.bid(NOW - REACH_SECONDS + 3600)
    event = log.billed(old, 4_000_000)
    assert await told(log, any_links, applier) == []
    assert await counted(any_links, "spent") == event.cost_micros
