"""What do browsers get from ``/track/visit`` and ``/sync/{exchange}``? A pixel, once it is noted.

What is permitted is put into a list in the store before the browser gets its answer, and written
from there by the supervisor: a worker that ends takes nothing with it, and nothing of the work
happens on the loop that bids. While the store is away, a bounded number waits here.

What is not permitted is neither looked up nor noted, with one exception: a consent string that can
be read, and that refuses, of a browser that has our cookie. It may be the withdrawal of a consent
(GDPR, Art. 7(3)), and goes to those who judge that.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from random import Random

import msgspec

from bidder.crm.batch import Change
from bidder.crm.browsers import Partner, Refusal, Told, cookie_header, cookie_in, sync, visit
from bidder.crm.pseudonyms import Pseudonyms
from bidder.privacy import Rules, permission_from_query
from bidder.server.edge import Answer
from bidder.server.tracking import PIXEL
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.link import Command
from bidder.store.links import Links

VISIT_PATH = "/track/visit"
SYNC_PATH = "/sync/"
FLUSH_SECONDS = 0.1
"""How often what a store that was away did not take is tried again."""
AT_ONCE = 1000
MOST_WAITING = 20_000
INBOX_SECONDS = 7 * 86400
"""A list that no supervisor reads is forgotten."""
_HEADERS = {"Cache-Control": "no-store, max-age=0"}
_encoder = msgspec.msgpack.Encoder()


class Visiting:
    """The endpoints of one worker."""

    def __init__(
        self,
        links: Links,
        host: str,
        pseudonyms: Pseudonyms,
        rules: Rules,
        partners: Mapping[str, Partner],
        advertisers: Callable[[], Mapping[str, str]],
        login_key: bytes,
        random: Random,
        wall: Callable[[], float],
    ) -> None:
        """`advertisers`: id -> domain. `login_key` is shared with their servers. `random` must be a
        safe one."""
        self._links = links
        self._inbox, self._refusals = keys.inbox(host), keys.refusals(host)
        self._pseudonyms = pseudonyms
        self._rules = rules
        self.partners = partners
        self._advertisers = advertisers
        self._login_key = login_key
        self._random = random
        self._wall = wall
        self._waiting: deque[tuple[str, bytes]] = deque()
        """The list that each is for, and what is for it."""
        self._came = 0
        self._handed = 0
        """How many ever came to wait, and how many of these no longer do."""
        self._pushing: asyncio.Task[None] | None = None

    async def take(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """`answer`, once what it is to change is in the store; a store that is away is not waited
        for, and gets it later."""
        answer = self.answer(path, query, headers)
        with contextlib.suppress(StoreUnavailable):
            await self.flush()
        return answer

    def answer(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """The answer to one call; what it is to change waits for `flush`."""
        now = self._wall()
        gpc = headers.get("Sec-GPC", "").strip() == "1"
        permission = permission_from_query(query, self._rules, now, gpc=gpc)
        cookie = cookie_in(headers.get("Cookie", ""))
        if path == VISIT_PATH:
            told = visit(
                query,
                cookie,
                permission,
                self._pseudonyms,
                self._advertisers(),
                self._login_key,
                self._random,
                now,
                headers.get("Referer", ""),
            )
        else:
            exchange = path.removeprefix(SYNC_PATH)
            partner = self.partners.get(exchange)
            if partner is None:
                return Answer(404)
            told = sync(
                exchange, partner, query, cookie, permission, self._pseudonyms, self._random, now
            )
        if told.change is not None:
            self._wait(self._inbox, told.change)
        if told.refusal is not None:
            self._wait(self._refusals, told.refusal)
        return _answer(told)

    async def flush(self) -> None:
        """Hand over what waits by now. Raises `StoreUnavailable`, and then it still waits."""
        wanted = self._came
        while self._handed < wanted:
            if self._pushing is None or self._pushing.done():
                self._pushing = asyncio.create_task(self._push())
            await asyncio.shield(self._pushing)

    async def _push(self) -> None:
        some = [self._waiting[place] for place in range(min(len(self._waiting), AT_ONCE))]
        by_list: dict[str, list[bytes]] = {}
        for name, raw in some:
            by_list.setdefault(name, []).append(raw)
        commands: list[Command] = []
        for name, raws in by_list.items():
            commands += [("RPUSH", name, *raws), ("EXPIRE", name, INBOX_SECONDS)]
        before = self._handed
        await self._links.bulk(commands)
        for _ in range(len(some) - (self._handed - before)):  # some were dropped meanwhile
            self._waiting.popleft()
            self._handed += 1

    def _wait(self, name: str, what: Change | Refusal) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._handed += 1
        self._waiting.append((name, _encoder.encode(what)))
        self._came += 1


def takes(path: str) -> bool:
    """Whether this path is one of ours."""
    return path == VISIT_PATH or path.startswith(SYNC_PATH)


def decode(raw: bytes) -> Change:
    """A change as `flush` encoded it. Raises `msgspec.MsgspecError`."""
    return msgspec.msgpack.decode(raw, type=Change)


def decode_refusal(raw: bytes) -> Refusal:
    """A refusal as `flush` encoded it. Raises `msgspec.MsgspecError`."""
    return msgspec.msgpack.decode(raw, type=Refusal)


def _answer(told: Told) -> Answer:
    headers = dict(_HEADERS)
    if told.cookie:
        headers["Set-Cookie"] = cookie_header(told.cookie)
    if told.status == 302:
        return Answer(302, headers={**headers, "Location": told.location})
    if told.status == 200:
        return Answer(200, PIXEL, {**headers, "Content-Type": "image/gif"})
    return Answer(told.status, headers=_HEADERS)
