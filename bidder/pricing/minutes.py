"""May this advertiser commit so much in this minute? Its hard limit, over all workers and hosts.

What a bid can cost counts against the limit from the moment of the bid until a minute later, even
if it is lost and nobody says so. What is known to be lost by then is handed back.
"""

from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Protocol, cast

from bidder.campaigns.catalogue import Advertiser
from bidder.store import keys

MINUTE_SECONDS = 60
TOKEN_SECONDS = 5
"""What was handed out is used within this time."""
SYNC_SECONDS = 1.0
"""How often more is asked for, and before the next bid where one left room for no other: twice as
often at most where the limit is reached."""
TICK_SECONDS = 0.3
"""How late a sync that is due may come."""
AHEAD = 2.0
"""Ask for so many times what was used in the last interval."""
BUSY_BIDS = 4
"""Whoever has bid in it keeps room for this many of the dearest bids; who has not, for one."""


class Scripts(Protocol):
    """Whatever runs the store's Lua scripts by name."""

    def run(
        self, name: str, keys: Sequence[str], args: Sequence[bytes | str | int]
    ) -> Awaitable[object]:
        """What the script returned."""


class Minutes:
    """One worker's part of one advertiser's limit, in micros per rolling minute."""

    def __init__(self, advertiser: Advertiser) -> None:
        self.advertiser = advertiser
        self.dearest_micros = 1
        self.needed_micros = 1
        """What the last bid needed, if there was too little: less than that is of no use."""
        self._taken: deque[list[int]] = deque()
        """Seconds in which something was handed out, and what of it is left."""
        self._back: dict[int, int] = {}
        """Second -> micros to hand back."""
        self._demand = 0
        self._asked_at = self._next_sync = 0.0
        self._scarce = False
        """We got less than we asked for."""

    @property
    def limited(self) -> bool:
        """There is a limit at all."""
        return bool(self.advertiser.max_spend_per_minute_micros)

    def allows(self, cost: int, now: float) -> bool:
        """Is there so much left of what was handed out?"""
        return not self.limited or self._left(now) >= cost

    def take(self, cost: int, now: float) -> bool:
        """Commit `cost`, if there is so much left."""
        if not self.limited:
            return True
        self._demand += cost
        left = self._left(now) - cost
        if left < self.dearest_micros:
            earliest = self._asked_at + SYNC_SECONDS / 2 if self._scarce else now
            self._next_sync = min(self._next_sync, earliest)
        if left < 0:
            self.needed_micros = min(cost, self.advertiser.max_spend_per_minute_micros)
            return False
        self.needed_micros = 1
        for row in self._taken:
            part = min(row[1], cost)
            row[1] -= part
            cost -= part
        return True

    def give_back(self, cost: int, bid_time: float) -> None:
        """Of what was committed then, so much will never be spent."""
        if self.limited and cost:
            # Handed out at this second or later: what is handed back is forgotten first.
            second = int(bid_time) - TOKEN_SECONDS
            self._back[second] = self._back.get(second, 0) + cost

    def due(self, now: float) -> bool:
        """Is it time to `sync`? (Also where the clock was set back.)"""
        return self.limited and not now < self._next_sync <= now + SYNC_SECONDS

    async def sync(self, scripts: Scripts, now: float) -> None:
        """Hand back what is not needed, ask for what will be. Raises what `scripts` raises."""
        self._asked_at, self._next_sync = now, now + SYNC_SECONDS
        while self._taken and self._taken[0][0] <= now - TOKEN_SECONDS:
            second, left = self._taken.popleft()
            if left:
                self._back[second] = self._back.get(second, 0) + left
        # What ends before the next sync does not help until then.
        left = self._left(now + SYNC_SECONDS + TICK_SECONDS)
        least = (BUSY_BIDS if self._demand else 1) * self.dearest_micros
        want = max(int(AHEAD * self._demand), least) - left
        self._demand = 0
        if want <= 0 and not self._back:
            return
        back, self._back = self._back, {}
        arguments: list[bytes | str | int] = [
            int(now), MINUTE_SECONDS + TOKEN_SECONDS, self.advertiser.max_spend_per_minute_micros,
            max(want, 0),
        ]  # fmt: skip
        for pair in back.items():
            arguments += pair
        name = keys.campaign(self.advertiser.id32, "minute")
        granted = cast(int, await scripts.run("limit", [name], arguments))
        self._scarce = granted < want
        if granted:
            self._taken.append([int(now), granted])

    def _left(self, now: float) -> int:
        oldest, sum_left = now - TOKEN_SECONDS, 0
        for second, left in self._taken:
            if second > oldest:
                sum_left += left
        return sum_left
