"""What the supervisor does with the log beside applying it."""

import asyncio
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bidder import ids
from bidder.events.log import EventLog
from bidder.events.reading import read
from bidder.events.schema import BillingEvent, ImpressionEvent
from bidder.metrics import Metrics
from bidder.notices.applying import Applier
from bidder.server import applying
from bidder.server.applying import Follower
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Scripts
from bidder.store.links import Links

CAMPAIGN = 77
"""In no file any more."""


def impression(seconds_ago: float) -> ImpressionEvent:
    """Of a bid of 2 EUR CPM, seen then."""
    seen = time.time() - seconds_ago
    return ImpressionEvent(
        time=seen, exchange="demo", bid_id=ids.to_text(ids.new_bid_id(seen, Random(1))),
        line_item="shop/gone/item", creative="a", currency="EUR", account_currency="EUR", rate=1.0,
        bid_time=seen, bid_cpm_micros=2_000_000, hold="w", ids=(1, CAMPAIGN, 3, 4),
    )  # fmt: skip


def follower(links: Links, folder: Path, own: EventLog) -> Follower:
    cells = Metrics()
    applier = Applier(Scripts(links), cells, 86400, {"demo": 60})
    return Follower(folder, applier, links, own, cells, 86400)


async def ended(one: Follower) -> None:
    """It has applied what there was."""
    one.end()
    await one.follow()


async def test_an_impression_is_billed_though_its_campaign_is_gone(
    links: Links, tmp_path: Path
) -> None:
    worker, own = EventLog(tmp_path / "worker"), EventLog(tmp_path / "supervisor")
    await worker.commit(impression(seconds_ago=100))
    await worker.close()
    one = follower(links, tmp_path, own)
    await ended(one)
    another = follower(links, tmp_path, own)  # as after a restart
    await another.sweep()
    await ended(another)
    await own.close()
    (billed,) = [event for event in read(tmp_path) if isinstance(event, BillingEvent)]
    assert billed.inferred
    assert billed.cost_micros == 2000


async def test_what_a_store_outage_held_up_is_applied_by_the_next_start(
    links: Links, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, own = EventLog(tmp_path / "worker"), EventLog(tmp_path / "supervisor")
    await worker.commit(impression(seconds_ago=100))
    await worker.close()
    apply, away, applied = Applier.apply, True, []

    async def of_a_store_that_goes(self: Applier, events: Any, now: float) -> None:
        if away:
            raise StoreUnavailable("away")
        applied.extend(events)
        await apply(self, events, now)

    monkeypatch.setattr(Applier, "apply", of_a_store_that_goes)
    one = follower(links, tmp_path, own)
    following = asyncio.create_task(one.follow())
    await asyncio.sleep(0.2)
    one.end()
    await following
    away = False
    await ended(follower(links, tmp_path, own))
    assert len(applied) == 1
    await ended(follower(links, tmp_path, own))
    assert len(applied) == 1  # and only once, as its offset is saved now
    await own.close()


async def test_an_offset_is_saved_once_the_store_had_time_to_write(
    links: Links, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, own = EventLog(tmp_path / "worker"), EventLog(tmp_path / "supervisor")
    await worker.commit(impression(seconds_ago=100))
    await worker.close()
    one = follower(links, tmp_path, own)
    assert await one.apply_new()
    assert not await one.apply_new()
    offsets = tmp_path / "offsets.json"
    assert not offsets.exists()
    monkeypatch.setattr(applying, "SETTLED_SECONDS", 0.0)
    assert not await one.apply_new()
    assert str(sum(path.stat().st_size for path in (tmp_path / "worker").iterdir())) in (
        offsets.read_text()
    )
    await ended(one)
    await own.close()


async def test_no_billing_is_inferred_while_the_log_may_still_hold_it(
    links: Links, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, own = EventLog(tmp_path / "worker"), EventLog(tmp_path / "supervisor")
    await worker.commit(impression(seconds_ago=100))
    await worker.close()
    one = follower(links, tmp_path, own)
    assert await one.apply_new()
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(applying, "CAUGHT_UP_BYTES", 100)
    backlog = b'{"type":"bid"}\n' * 100
    (tmp_path / "other" / "20260101T000000-000001.jsonl").write_bytes(backlog)
    one._tail._relist()
    await one.sweep()
    assert not [event for event in read(tmp_path) if isinstance(event, BillingEvent)]
    while await one.apply_new():
        continue
    await one.sweep()
    await ended(one)
    await own.close()
    assert len([event for event in read(tmp_path) if isinstance(event, BillingEvent)]) == 1
