"""How does a command, or a process that helps one, come to links of its own? For work in bulk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bidder.store.breaker import Breaker
from bidder.store.connect import connect
from bidder.store.links import Links

PATIENCE_SECONDS = 30.0
"""How long an answer may take: thousands of commands travel together."""


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Links]:
    """Links to the store at `url`, which answers. Raises `StoreUnavailable`."""
    client = connect(url)
    clock = asyncio.get_running_loop().time
    links = Links(client, Breaker(clock), timeout_seconds=PATIENCE_SECONDS, url=url)
    try:
        await links.ping()
        yield links
    finally:
        await links.aclose()
        await client.aclose()


@asynccontextmanager
async def growing(links: Links, most_bytes: int = 1 << 30) -> AsyncIterator[None]:
    """While this lasts, a server of ours lets its append-only file grow to `most_bytes`.

    Otherwise it rewrites the file at each doubling from a quarter of that on, which makes one of
    people who are all new no shorter, and takes the memory and the processor that an import wants.
    Not for ever: a rewritten file is read faster when the server starts. Should we be killed, the
    bound stays until then.
    """
    setting = "auto-aof-rewrite-min-size"
    ((_, before),) = await links.bulk([("CONFIG", "GET", setting)])
    await links.bulk([("CONFIG", "SET", setting, most_bytes)])
    try:
        yield
    finally:
        await links.bulk([("CONFIG", "SET", setting, before)])
