"""What the supervisor does with the log beside applying it."""

import time
from pathlib import Path
from random import Random

from bidder import ids
from bidder.events.log import EventLog
from bidder.events.reading import read
from bidder.events.schema import BillingEvent, ImpressionEvent
from bidder.metrics import Metrics
from bidder.notices.applying import Applier
from bidder.server.applying import Follower
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
