"""How does a bidder behind a URL fare in a market? The market's requests and calls over HTTP."""

import asyncio
import gzip
from collections.abc import Coroutine
from heapq import heappop, heappush
from time import perf_counter

import aiohttp
from yarl import URL

from .delivery import Event
from .lawful import Violation
from .market import Market, Request

_ANSWER_SECONDS = 5.0
"""When a connection is given up; `tmax` decides what is late."""
_IN_FLIGHT_CALLS = 64


async def trade(market: Market, url: str, *, speed: float, connections: int) -> None:
    """Play the whole market to the bidder at `url`.

    `speed` is simulated seconds per real second; 0 sends as fast as answers return. The bidder's
    clock is real: delays shrink with `speed`, caps and budgets do not. When the requests are over,
    what is still to be told is told at once, in order.
    """
    connector = aiohttp.TCPConnector(limit=connections + _IN_FLIGHT_CALLS)
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        await _Trade(market, url, session, speed, connections).run()


class _Trade:
    """One run: the clock, the calls that wait for their time, and what is in flight."""

    def __init__(
        self,
        market: Market,
        url: str,
        session: aiohttp.ClientSession,
        speed: float,
        connections: int,
    ) -> None:
        self.market = market
        self.url = URL(url, encoded=True)
        self.session = session
        self.speed = speed
        self.room = asyncio.Semaphore(connections)
        self.call_room = asyncio.Semaphore(_IN_FLIGHT_CALLS)
        self.began = perf_counter()
        self.calls: list[tuple[float, int, Event]] = []
        self.count = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        while (request := self.market.next_request()) is not None:
            await self._until(request.time)
            await self.room.acquire()
            self._start(self._ask(request))
        while self.tasks or self.calls:
            await self._play(float("inf"))
            if self.tasks:
                await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _until(self, time: float) -> None:
        """Wait for this simulated time, making the calls due on the way."""
        while self.calls and self.calls[0][0] <= time:
            due = self.calls[0][0]
            await self._sleep_until(due)
            await self._play(due)
        await self._sleep_until(time)

    async def _sleep_until(self, time: float) -> None:
        if self.speed <= 0:
            await asyncio.sleep(0)
            return
        due = self.began + (time - self.market.start) / self.speed
        await asyncio.sleep(max(due - perf_counter(), 0))

    async def _play(self, until: float) -> None:
        while self.calls and self.calls[0][0] <= until:
            event = heappop(self.calls)[2]
            await self.call_room.acquire()
            self._start(self._tell(event))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What no rule foresaw is a broken rule too."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            detail = f"{type(error).__name__}: {error}"
            self.market.tally.add_violations([Violation("answer", -1, detail)])

    def _put(self, events: list[Event]) -> None:
        for event in events:
            self.count += 1
            heappush(self.calls, (event.time, self.count, event))

    async def _ask(self, request: Request) -> None:
        body, headers = request.body, request.headers
        if request.gzip:
            body = gzip.compress(body, 1)
            headers = {**headers, "content-encoding": "gzip"}
        sent = perf_counter()
        try:
            async with self.session.post(self.url, data=body, headers=headers) as response:
                answer = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            self.market.failed(request)
            return
        finally:
            self.room.release()
        if status not in (200, 204):
            self.market.failed(request)
        elif (perf_counter() - sent) * 1000 > (request.json.get("tmax") or float("inf")):
            self.market.late(request)
        else:
            self._put(self.market.answer(request, answer if status == 200 else None))

    async def _tell(self, event: Event) -> None:
        tally = self.market.tally.calls
        try:
            url = URL(event.url, encoded=True)
            async with self.session.get(url, allow_redirects=False) as response:
                text = await response.text(errors="replace")
                tally[f"{event.kind} {response.status}"] += 1
                location = response.headers.get("Location")
        except (aiohttp.ClientError, TimeoutError, ValueError):
            tally[f"{event.kind} failed"] += 1
            return
        finally:
            self.call_room.release()
        if event.click is not None:
            self._put(self.market.redirected(event, location))
        elif event.pending is not None and text:
            self._put(self.market.served(event, text))
