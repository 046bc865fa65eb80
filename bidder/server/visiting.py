"""What do browsers get from ``/track/visit`` and ``/sync/{exchange}``? A pixel, once it is noted.

What is permitted is put into a list in the store, a few times a second, and written from there by
the supervisor: nothing of it happens on the loop that bids. While the store is away, a bounded
number waits here.
"""

from collections import deque
from collections.abc import Callable, Mapping
from random import Random

import msgspec

from bidder.crm.batch import Change
from bidder.crm.browsers import Partner, Told, cookie_header, cookie_in, sync, visit
from bidder.crm.pseudonyms import Pseudonyms
from bidder.privacy import Rules, permission_from_query
from bidder.server.edge import Answer
from bidder.server.tracking import PIXEL
from bidder.store import keys
from bidder.store.links import Links

VISIT_PATH = "/track/visit"
SYNC_PATH = "/sync/"
FLUSH_SECONDS = 0.1
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
        advertisers: Callable[[], frozenset[str]],
        login_key: bytes,
        random: Random,
        wall: Callable[[], float],
    ) -> None:
        """`login_key` is shared with the advertisers' servers. `random` must be a safe one."""
        self._links = links
        self._key = keys.inbox(host)
        self._pseudonyms = pseudonyms
        self._rules = rules
        self._partners = partners
        self._advertisers = advertisers
        self._login_key = login_key
        self._random = random
        self._wall = wall
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)

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
            )
        else:
            exchange = path.removeprefix(SYNC_PATH)
            partner = self._partners.get(exchange)
            if partner is None:
                return Answer(404)
            told = sync(
                exchange, partner, query, cookie, permission, self._pseudonyms, self._random, now
            )
        if told.change is not None:
            self._waiting.append(_encoder.encode(told.change))
        return _answer(told)

    async def flush(self) -> None:
        """Hand over what waits. Raises `StoreUnavailable`, and then it still waits."""
        some = [self._waiting[place] for place in range(min(len(self._waiting), 1000))]
        if not some:
            return
        await self._links.bulk([("RPUSH", self._key, *some), ("EXPIRE", self._key, INBOX_SECONDS)])
        for _ in some:
            self._waiting.popleft()


def takes(path: str) -> bool:
    """Whether this path is one of ours."""
    return path == VISIT_PATH or path.startswith(SYNC_PATH)


def decode(raw: bytes) -> Change:
    """A change as `flush` encoded it. Raises `msgspec.MsgspecError`."""
    return msgspec.msgpack.decode(raw, type=Change)


def _answer(told: Told) -> Answer:
    headers = dict(_HEADERS)
    if told.cookie:
        headers["Set-Cookie"] = cookie_header(told.cookie)
    if told.status == 302:
        return Answer(302, headers={**headers, "Location": told.location})
    if told.status == 200:
        return Answer(200, PIXEL, {**headers, "Content-Type": "image/gif"})
    return Answer(told.status, headers=_HEADERS)
