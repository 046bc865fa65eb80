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
