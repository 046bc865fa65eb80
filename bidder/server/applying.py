"""Who applies what the workers logged? The supervisor: one task that follows every worker's log.

From a saved offset it reads whole lines, runs the scripts, then saves the offset. A store outage
makes it wait; a crash makes it read again what it had not saved, which changes nothing.
"""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

from bidder import metrics
from bidder.campaigns.catalogue import Campaign
from bidder.events import keeping
from bidder.events.log import EventLog
from bidder.events.reading import Tail
from bidder.events.schema import BillingEvent, decode
from bidder.metrics import Metrics
from bidder.notices.applying import Applier
from bidder.pricing.budget import overdue
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Scripts

POLL_SECONDS = 0.05
BATCH = 500
SWEEP_SECONDS = 5.0
KEEP_SECONDS = 60.0
OVERDUE_AT_ONCE = 200


class Follower:
    """Follows `<state>/events` and keeps it tidy. `own_log` takes the inferred billings."""

    def __init__(
        self,
        directory: Path,
        applier: Applier,
        scripts: Scripts,
        own_log: EventLog,
        cells: Metrics,
        keep_seconds: int,
    ) -> None:
        self._directory = directory
        self._applier = applier
        self._scripts = scripts
        self._own_log = own_log
        self._metrics = cells
        self._keep_days = keep_seconds / 86400
        self._tail = Tail(directory)
        self._ended = asyncio.Event()

    async def follow(self) -> None:
        """Apply what is new, until `end`; then once more, so that nothing waits for a restart."""
        while not self._ended.is_set():
            if not await self.apply_new():
                try:
                    await asyncio.wait_for(self._ended.wait(), POLL_SECONDS)
                except TimeoutError:
                    continue
        while await self.apply_new():
            continue
        self._tail.close()

    def end(self) -> None:
        """Let `follow` return."""
        self._ended.set()

    async def apply_new(self) -> bool:
        """Apply one batch; False if there was none, or the store cannot take it now."""
        events = self._tail.batch(BATCH)
        self._metrics.set(metrics.APPLY_LAG, self._tail.lag_bytes())
        if not events:
            self._tail.save()
            return False
        while True:
            try:
                await self._applier.apply(events, time.time())
                break
            except StoreUnavailable:
                if self._ended.is_set():
                    return False  # not saved: the next start applies it
                await asyncio.sleep(POLL_SECONDS)
        self._tail.save()
        return True

    async def sweep(self, campaigns: Iterable[Campaign]) -> None:
        """Bill at our bid the impressions whose billing notice did not come in time."""
        now = time.time()
        for campaign in campaigns:
            for line in await overdue(self._scripts, campaign, int(now), OVERDUE_AT_ONCE):
                event = decode(line)
                if isinstance(event, BillingEvent):
                    await self._own_log.commit(event)

    def keep(self) -> None:
        """Compress what is applied, delete what is too old. Slow: call it in a thread."""
        keeping.keep(self._directory, self._keep_days, time.time())
