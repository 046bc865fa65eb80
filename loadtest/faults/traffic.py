"""How is a bidder kept busy while things break? A small exchange, with browsers behind it.

Requests come open loop at a constant rate, half by people the bidder knows, half by strangers. A
bid that wins gets a win notice, a billing, an impression and now and then a click; most of the
others a loss. Some notices come twice. What is not accepted is sent again until it is, as
exchanges do for a minute (OpenRTB 2.6 §7.8).
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from html import unescape
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson

from loadtest.faults.lane import BROKEN, Call, Lane
from loadtest.faults.truth import ACCEPTED, GAVE_UP, Asked, Told, Truth
from loadtest.load.ticker import Ticker
from loadtest.load.wire import Answer

TMAX_MS = 120
PAID_CPM = 0.5
"""What every impression costs: the floor, as in a second price auction without rivals. So spend is
known without knowing the bids."""
CLICK_SHARE, TWICE_SHARE = 0.1, 0.05
AGAIN_SECONDS = 0.5
PATIENCE_SECONDS = 2.0
TICK_SECONDS = 0.002
SWEEP_SECONDS = 0.1
_PIXEL = re.compile(r'http://[^"\']+/track/(impression|click)\?[^"\'\s)]+')
_BODY = (
    '{"id":"%s","at":1,"tmax":%d,"cur":["EUR"],"imp":[{"id":"1","bidfloor":%s,"bidfloorcur":"EUR",'
    '"exp":300,"banner":{"format":[{"w":300,"h":250}],"pos":1}}],"site":{"domain":"news.example",'
    '"page":"https://news.example/a","cat":["IAB18"],"publisher":{"id":"pub-1"}},"device":{"ua":'
    '"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) '
    'Chrome/130.0.0.0 Safari/537.36","ip":"192.0.2.10","language":"fr","devicetype":2,"geo":'
    '{"country":"FRA"}},"user":{%s},"regs":{"gdpr":0}}'
)
KNOWN, STRANGER = b"/known.jpg", b"/any.jpg"
"""The picture in the markup says which line item of `shop.yaml` bid."""


class Mix(NamedTuple):
    """What becomes of a bid; of the rest nothing is ever heard."""

    win_share: float = 0.5
    loss_share: float = 0.35


HALF = Mix()


class Traffic:
    """The exchange and its browsers, from `open` to `close`."""

    def __init__(
        self,
        port: int,
        rate: float,
        people: int,
        random: Random,
        *,
        connections: int = 32,
        mix: Mix = HALF,
        heard: Callable[[Asked], None] | None = None,
    ) -> None:
        """`rate` in requests a second; half of them by one of `people`. `heard` is told of every
        answer to a request; else all are kept in `truth`."""
        self.truth = Truth()
        self._heard = heard if heard is not None else self.truth.asked.append
        self._mix = mix
        self.worst_lag = 0.0
        """Seconds that we ourselves came late, at worst."""
        self._rate = rate
        self._people = people
        self._random = random
        self._host = f"127.0.0.1:{port}"
        self._asks = Lane("127.0.0.1", port, connections, PATIENCE_SECONDS)
        self._tells = Lane("127.0.0.1", port, connections, PATIENCE_SECONDS)
        self._run = f"{random.getrandbits(32):08x}"
        self._number = 0
        self._outstanding = 0
        self._asking = False
        self._ticker: Ticker | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.began = 0.0

    async def open(self) -> None:
        """Connect, and send the first request. Raises `OSError` if nobody listens."""
        await self._asks.open()
        await self._tells.open()
        self.began = time.perf_counter()
        self._asking = True
        self._ticker = Ticker(asyncio.get_running_loop(), TICK_SECONDS, self._tick)
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Hang up."""
        if self._ticker is not None:
            self._ticker.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._asks.close()
        await self._tells.close()

    @property
    def now(self) -> float:
        """Seconds since the first request."""
        return time.perf_counter() - self.began

    async def finish(self, seconds: float) -> int:
        """Ask no more; return when every notice was accepted, or after `seconds`: how many were
        not."""
        self._asking = False
        end = self.now + seconds
        while (self._outstanding or self._asks.busy) and self.now < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # an event set from a dozen places would be no better
        return self._outstanding

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._asks.sweep()
            self._tells.sweep()

    # Asking

    def _tick(self) -> None:
        while self._asking:
            due = self.began + self._number / self._rate
            now = time.perf_counter()
            if due > now:
                return
            self.worst_lag = max(self.worst_lag, now - due)
            self._ask(due, now - due)

    def _ask(self, due: float, lag: float) -> None:
        number, self._number = self._number, self._number + 1
        known = number % 2 == 0
        user = f'"buyeruid":"person-{self._random.randrange(self._people)}"' if known else ""
        body = (_BODY % (f"{self._run}-{number}", TMAX_MS, PAID_CPM, user)).encode()
        data = (
            f"POST /openrtb2/demo HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

        def heard(answer: Answer | None, problem: str, seconds: float) -> None:
            usual = False
            if problem in BROKEN:
                _count(self.truth.problems, f"request: {problem}")
            elif answer is not None and answer.status == 200:
                usual = (KNOWN if known else STRANGER) in answer.body
                self._sold(answer.body)
            status = answer.status if answer else 0 if problem in BROKEN else GAVE_UP
            self._heard(Asked(due - self.began, seconds, status, usual, lag))

        self._asks.put(Call(due, data, heard))

    # Telling

    def _sold(self, body: bytes) -> None:
        """The auction: what will be told of the bid, and when."""
        bid = orjson.loads(body)["seatbid"][0]["bid"][0]
        self.truth.bids.add(bid["id"])
        draw = self._random.random()
        if draw < self._mix.win_share:
            self._later(0.01, bid["id"], "win", bid["nurl"])
            self._later(0.05, bid["id"], "billing", bid["burl"])
            pixels = {found[1]: unescape(found[0]) for found in _PIXEL.finditer(bid["adm"])}
            self._later(0.1, bid["id"], "impression", pixels["impression"])
            if self._random.random() < CLICK_SHARE:
                self._later(0.6, bid["id"], "click", pixels["click"])
        elif draw < sum(self._mix):
            self._later(0.01, bid["id"], "loss", bid["lurl"])

    def _later(self, seconds: float, bid: str, kind: str, url: str) -> None:
        """Tell it after `seconds` and a little; once in a while a second time."""
        parts = urlsplit(url.replace("${AUCTION_PRICE}", str(PAID_CPM)))
        data = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode()
        delays = [seconds * self._random.uniform(1.0, 4.0)]
        if self._random.random() < TWICE_SHARE:
            delays.append(delays[0] + self._random.uniform(0.0, 1.0))
        told = self.truth.told.setdefault((kind, bid), Told())
        loop = asyncio.get_running_loop()
        self._outstanding += len(delays)
        for delay in delays:
            loop.call_later(delay, self._tell, kind, told, data)

    def _tell(self, kind: str, told: Told, data: bytes) -> None:
        told.sent += 1

        def heard(answer: Answer | None, problem: str, _: float) -> None:
            if answer is not None and answer.status == ACCEPTED[kind]:
                told.accepted += 1
                self._outstanding -= 1
                return
            if problem in BROKEN:
                _count(self.truth.problems, f"notice: {problem}")
            else:
                said = str(answer.status) if answer else problem
                _count(self.truth.refused, f"{kind} {said}")
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._tell, kind, told, data)

        self._tells.put(Call(time.perf_counter(), data, heard))


def usual_share(asked: Sequence[Asked], since: float, until: float) -> float:
    """Of the requests due in this time, how many got the usual bid; 0 if there were none."""
    found = [one.usual for one in asked if since <= one.due < until]
    return sum(found) / len(found) if found else 0.0


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1
