"""Who writes what the CRM and the browsers report, while we serve? The supervisor, beside the bids.

``POST /crm/events`` on the ops port writes at once and answers with what it could not take. Visits
come by the list that the workers fill. Once a day everyone is judged again, so that segments and
records drop out by themselves, and merges that a crash left are ended.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time

import msgspec
from aiohttp import web

from bidder.crm import setup
from bidder.crm.batch import Written
from bidder.crm.building import everyone
from bidder.crm.live import BadEvent, category_words, receive
from bidder.crm.merging import Lives, finish_merges
from bidder.crm.rights.desk import NotFound
from bidder.crm.segments import Segments
from bidder.events.log import LogUnavailable
from bidder.server.people_ops import desk_of
from bidder.server.selling import Seller
from bidder.server.visiting import decode, decode_refusal
from bidder.settings import Settings
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Scripts
from bidder.store.links import Links

POLL_SECONDS = 0.1
AT_ONCE = 500
MERGES_SECONDS = 30.0
REFRESH_SECONDS = 86400.0
REFRESH_AT_ONCE = 100
REFRESH_PAUSE_SECONDS = 0.02
BODY_BYTES = 8 << 20
_KEY_MISSING = (
    "BIDDER_CRM_KEY lacks a key that was given before: whoever was erased, or objected, when it "
    "was in use may be taken for somebody new; keep it as long as tombstones last (docs/crm.md)"
)


class Intake:
    """What comes in about people on this host. Make it in a running event loop."""

    def __init__(
        self,
        links: Links,
        given: Settings,
        host: str,
        segments: Segments,
        advertisers: Mapping[int, str],
        seller: Seller,
    ) -> None:
        self._links = links
        self._inbox, self._refusals = keys.inbox(host), keys.refusals(host)
        self._desk = desk_of(given, links, Scripts(links))
        self._pseudonyms = setup.pseudonyms(given)
        kept = given.retention
        self._lives = Lives(kept.identifier, kept.ledger, given.rights.tombstone)
        self._seller = seller
        self.writer = setup.writer(
            links, given, segments, advertisers, seller.sold, self._desk.silenced
        )

    async def post(self, body: bytes) -> tuple[int, object]:
        """The status and the answer to ``POST /crm/events``. 503: send it all again, later."""
        now = time()
        try:
            received = receive(body, self._pseudonyms, now)
            if received.categories:
                words = category_words(received.categories)
                await self._links.bulk([("HSET", keys.CATEGORIES, *words)])
            written = await self.writer.write(received.changes, int(now))
        except BadEvent as problem:
            return 422, {"error": str(problem)}
        except (StoreUnavailable, LogUnavailable) as problem:
            return 503, {"error": str(problem)}
        rejected = [
            {"event": place, "reason": why} for place, why in sorted(received.rejected.items())
        ]
        return 200, {"accepted": len(received.changes), "rejected": rejected} | _said(written)

    async def drain(self) -> None:
        """Write the visits that wait in the list. Raises `StoreUnavailable`, `LogUnavailable`."""
        while True:
            (waiting,) = await self._links.bulk([("LRANGE", self._inbox, 0, AT_ONCE - 1)])
            if not waiting:
                return
            changes = []
            for raw in waiting:
                try:
                    changes.append(decode(raw))
                except msgspec.MsgspecError:
                    continue  # not ours: it goes with the rest
            await self.writer.write(changes, int(time()))
            await self._links.bulk([("LTRIM", self._inbox, len(waiting), -1)])

    async def obey(self) -> None:
        """Judge the consent strings that permitted nothing, and do as those say that withdraw.

        Raises `StoreUnavailable`; they are judged again then.
        """
        while True:
            (waiting,) = await self._links.bulk([("LRANGE", self._refusals, 0, 0)])
            if not waiting:
                return
            with contextlib.suppress(msgspec.MsgspecError):
                refusal = decode_refusal(waiting[0])
                for source, value in refusal.ids:
                    with contextlib.suppress(NotFound):  # a cookie that nothing was kept of
                        await self._desk.consent_seen(
                            f"{source}:{value}", refusal.consent, refusal.source, "browser"
                        )
            await self._links.bulk([("LTRIM", self._refusals, 1, -1)])

    async def look_for_keys(self) -> None:
        """Warn where a key is no longer given under whose names somebody may have been erased, or
        have objected, since less than such wishes last."""
        now, given = int(time()), self._pseudonyms.marks()
        with contextlib.suppress(StoreUnavailable):
            await self._links.bulk([("HSET", keys.CRM_KEYS, mark, now) for mark in given])
            (flat,) = await self._links.bulk([("HGETALL", keys.CRM_KEYS)])
            last = {flat[at].decode(): int(flat[at + 1]) for at in range(0, len(flat), 2)}
            old = now - self._lives.objection
            if any(at > old for mark, at in last.items() if mark not in given):
                print(_KEY_MISSING, file=sys.stderr)

    async def end_merges(self) -> None:
        """End the merges that were cut off. Raises `StoreUnavailable`."""
        await finish_merges(self._links, Scripts(self._links), int(time()), self._lives)

    async def refresh(self) -> None:
        """Judge everyone again, a few at a time: what no longer holds drops out."""
        async for people in everyone(self._links):
            for start in range(0, len(people), REFRESH_AT_ONCE):
                await self.writer.refresh(people[start : start + REFRESH_AT_ONCE], int(time()))
                await asyncio.sleep(REFRESH_PAUSE_SECONDS)

    def routes(self, admits: Callable[[web.Request], bool]) -> list[web.RouteDef]:
        """The calls on the ops port; `admits`: the token is right."""

        async def post(request: web.Request) -> web.Response:
            if not admits(request):
                return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
            body = bytearray()
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > BODY_BYTES:
                    return web.Response(status=413)
            status, said = await self.post(bytes(body))
            return web.Response(
                status=status, body=msgspec.json.encode(said), content_type="application/json"
            )

        return [web.post("/crm/events", post)]


def _said(written: Written) -> dict[str, int]:
    return {name: getattr(written, name) for name in ("people", "new", "merged", "erased")}


def host_of(given: Settings) -> str:
    """What the list of this installation's visits is called: its state folder, on its host."""
    from socket import gethostname

    from bidder.ids import hash32

    return f"{hash32(f'{gethostname()}:{Path(given.state_dir)}'):08x}"
