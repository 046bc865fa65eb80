"""An import lets our own server's file grow, and puts the bound back however it ends."""

import pytest

from bidder.store.links import Links
from bidder.store.opening import growing

SETTING = "auto-aof-rewrite-min-size"


async def bound(links: Links) -> int:
    ((_, value),) = await links.bulk([("CONFIG", "GET", SETTING)])
    return int(value)


async def stopped(links: Links) -> None:
    async with growing(links, 12_345_678):
        assert await bound(links) == 12_345_678
        raise RuntimeError("stopped")


async def test_the_bound_is_put_back_also_when_the_import_fails(links: Links) -> None:
    before = await bound(links)
    with pytest.raises(RuntimeError, match="stopped"):
        await stopped(links)
    assert await bound(links) == before
