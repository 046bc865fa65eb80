"""Who applies what the workers logged? The supervisor: one task that follows every worker's log.

From a saved offset it reads whole lines, runs the scripts, and saves the offset once the store has
had time to write them down. A store outage makes it wait; a crash makes it read again what it had
not saved, which changes nothing.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from bidder import metrics
from bidder.crm.rights.spreading import LATE_SECONDS
from bidder.events import keeping
from bidder.events.forgotten import Forgotten
from bidder.events.log import EventLog
from bidder.events.reading import Tail
from bidder.events.schema import AnyEvent, BillingEvent, Event, ImpressionEvent, decode
from bidder.metrics import Metrics
from bidder.notices.applying import Applier
from bidder.pricing.counting import overdue
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Scripts
from bidder.store.links import Links

POLL_SECONDS = 0.05
BATCH = 500
SWEEP_SECONDS = 5.0
KEEP_SECONDS = 60.0
OVERDUE_AT_ONCE = 200
CAMPAIGNS_AT_ONCE = 200
SAVE_SECONDS = 1.0
"""How often the offset is saved at most."""
SETTLED_SECONDS = 5.0
"""How old the offset is that is saved. A store that loses power loses up to a second of writes, and
one that takes over may lack the last: what they stood for is applied again."""
CAUGHT_UP_BYTES = 1 << 20
"""Behind by more, a billing may be in the log that was not applied yet."""
LAST_SECONDS = 3.0
"""How long `follow` may go on applying after its end; the next start does the rest."""
RETRY_SECONDS = 0.5


class Follower:
    """Follows `<state>/events` and keeps it tidy. `own_log` takes the inferred billings."""

    def __init__(
        self,
        directory: Path,
        applier: Applier,
        links: Links,
        own_log: EventLog,
        cells: Metrics,
        keep_seconds: int,
    ) -> None:
        self._directory = directory
        self._applier = applier
        self._links = links
        self._scripts = Scripts(links)
        self._own_log = own_log
        self._metrics = cells
        self._keep_days = keep_seconds / 86400
        self._tail = Tail(directory)
        self._pending: list[AnyEvent] = []
        """Read and not yet applied."""
        self._settling: deque[tuple[float, dict[str, int]]] = deque()
        """When which offsets were reached, the oldest first."""
        self._owing: set[int] = set()
        """Campaigns (32-bit ids) known to be in `keys.OWING`."""
        self._ended = asyncio.Event()

    async def follow(self) -> None:
        """Apply what is new, until `end`; then what is left, as far as there is time for it."""
        while not self._ended.is_set():
            pause = await self._turn()
            if pause:
                try:
                    await asyncio.wait_for(self._ended.wait(), pause)
                except TimeoutError:
                    continue
        last = time.monotonic() + LAST_SECONDS
        while not await self._turn() and time.monotonic() < last:
            continue
        self._tail.close()

    async def _turn(self) -> float:
        """Apply a batch; how many seconds to wait before the next one."""
        try:
            return 0.0 if await self.apply_new() else POLL_SECONDS
        except OSError as problem:  # the offset cannot be saved, or the log not read
            print(f"applying the log: {problem}; trying again", file=sys.stderr)
            return RETRY_SECONDS

    def end(self) -> None:
        """Let `follow` return."""
        self._ended.set()

    async def apply_new(self) -> bool:
        """Apply one batch; False if there was none, or the store cannot take it now."""
        if not self._pending:
            self._pending = self._tail.batch(BATCH)
        self._metrics.set(metrics.APPLY_LAG, self._tail.lag_bytes())
        if not self._pending:
            self._save()
            return False
        while True:
            try:
                await self._note_owing(self._pending)
                await self._applier.apply(self._pending, time.time())
                break
            except StoreUnavailable:
                if self._ended.is_set():
                    return False  # still pending, so not saved: the next start applies it
                await asyncio.sleep(POLL_SECONDS)
        self._pending = []
        self._save()
        return True

    def _save(self) -> None:
        """Note how far we are, and save how far we were a while ago; at the end, all of it."""
        now = time.monotonic()
        if self._ended.is_set():
            self._tail.save(self._tail.reached())
            return
        if not self._settling or now - self._settling[-1][0] > SAVE_SECONDS:
            self._settling.append((now, self._tail.reached()))
        settled = None
        while self._settling and now - self._settling[0][0] > SETTLED_SECONDS:
            _, settled = self._settling.popleft()
        if settled is not None:
            self._tail.save(settled)

    async def _note_owing(self, events: Sequence[Event]) -> None:
        """Remember in the store whose impressions await their billing: a campaign may be taken
        off its files before it comes."""
        seen = {event.ids[1] for event in events if isinstance(event, ImpressionEvent)}
        if not seen <= self._owing:
            await self._links.bulk([("SADD", keys.OWING, *map(str, sorted(seen)))])
            self._owing |= seen

    async def sweep(self) -> None:
        """Bill at our bid the impressions whose billing notice did not come in time."""
        if self._pending or self._tail.lag_bytes() > CAUGHT_UP_BYTES:
            return  # theirs may be among what is yet to be applied
        now = int(time.time())
        (listed,) = await self._links.bulk([("SMEMBERS", keys.OWING)])
        waiting = sorted(self._owing.union(map(int, listed)))
        for first in range(0, len(waiting), CAMPAIGNS_AT_ONCE):
            found = await asyncio.gather(
                *[
                    overdue(self._scripts, campaign, now, OVERDUE_AT_ONCE)
                    for campaign in waiting[first : first + CAMPAIGNS_AT_ONCE]
                ]
            )
            events = [decode(line) for lines in found for line in lines]
            billed = [event for event in events if isinstance(event, BillingEvent)]
            await asyncio.gather(*[self._own_log.commit(event) for event in billed])

    def keep(self) -> None:
        """Compress what is applied, delete what is too old. Slow: call it in a thread."""
        keeping.keep(self._directory, self._keep_days, time.time())
        Forgotten(self._directory).prune(self._keep_days * keeping.DAY_SECONDS + LATE_SECONDS)
