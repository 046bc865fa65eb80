"""Which keys are there? All that match a pattern, on every server, without stopping any."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from bidder.store.link import into, pack
from bidder.store.links import Links

COUNT = 4000
"""Keys a server looks at per call: about a millisecond of it."""


async def scan(links: Links, pattern: str) -> AsyncIterator[list[str]]:
    """Keys that match `pattern` (as SCAN has it), some at a time.

    What is there all the time comes at least once, and may come twice. Raises `StoreUnavailable`,
    `hiredis.ReplyError`.
    """
    for link in links.every():
        cursor = b"0"
        while True:
            links.breaker.guard()
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            command = ("SCAN", cursor, "MATCH", pattern, "COUNT", COUNT)
            link.send(pack(command), (into(answer),))
            reply = await answer
            if isinstance(reply, Exception):
                raise reply
            cursor, found = reply
            if found:
                yield [key.decode() for key in found]
            if cursor == b"0":
                break
