"""What do the models of people see of each? One row of numbers per person, from what the CRM told.

Times become days before `now` on a logarithmic scale, counts and money likewise: what is twice as
much is the same step everywhere. Nothing here is a name, and nothing is known later than `now`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from bidder import settings
from bidder.crm import activity, setup
from bidder.crm.activity import DTYPE, Keep, Kind
from bidder.crm.asking import DAY, Crowd, Mask
from bidder.crm.building import everyone
from bidder.crm.deriving import fresh
from bidder.money import MICROS
from bidder.people.reading import decode_profile
from bidder.settings import Settings
from bidder.store import keys
from bidder.store.coalesce import Reader
from bidder.store.connect import located
from bidder.store.links import Links
from bidder.store.opening import opened

STORE_URL = "store.url"
"""In the state folder of a running bidder: where its embedded store is."""
NEVER_DAYS = 400.0
"""What "never" counts as: longer than anything is kept."""
VISITS = (Kind.VISIT, Kind.PRODUCT, Kind.BASKET, Kind.APP_VISIT)
T = TypeVar("T")
Table = npt.NDArray[np.float64]


class People(NamedTuple):
    """Everybody in the store who did not object."""

    ids: list[str]
    segments: list[frozenset[str]]
    raws: list[bytes]
    """Their records."""


class Features(NamedTuple):
    """`values[i, j]` is what `names[j]` is of person i."""

    names: list[str]
    values: Table


async def read(links: Links, keep: Keep, now: int) -> People:
    """Who is there, and what they did. Raises `StoreUnavailable`."""
    reader, people = Reader(links), People([], [], [])
    async for some in everyone(links):
        asked = [key for person in some for key in (keys.profile(person), keys.activity(person))]
        values = await reader.get_many(asked)
        for place, person in enumerate(some):
            profile = decode_profile(values[2 * place])
            if not profile.opted_out and not profile.withdrawn:
                people.ids.append(person)
                people.segments.append(frozenset(profile.segments))
                people.raws.append(values[2 * place + 1] or b"")
    return people._replace(raws=fresh(people.raws, keep, now))


def before(raws: Sequence[bytes], ends: npt.NDArray[np.int64]) -> list[bytes]:
    """The records of each person that are older than the end given for them."""
    cut = []
    for raw, end in zip(raws, ends.tolist(), strict=True):
        times = np.frombuffer(raw, DTYPE)["time"]
        cut.append(raw[: int(np.searchsorted(times, end)) * activity.RECORD_BYTES])
    return cut


def behaviour(
    crowd: Crowd, now: npt.NDArray[np.int64] | int, categories: Sequence[str]
) -> Features:
    """What people do on the site, in the app and with messages, and what they look at: all that
    somebody may do who never bought. `now` may differ from person to person."""
    looked = crowd.of(0, (Kind.PRODUCT, Kind.BASKET))
    visits, sent = crowd.of(0, VISITS), crowd.of(0, (Kind.EMAIL_SENT,))
    read_ = crowd.of(0, (Kind.EMAIL_OPENED, Kind.EMAIL_CLICKED))
    since = np.broadcast_to(np.asarray(now, np.int64), crowd.size)
    columns = {
        "days since a visit": _ago(crowd.latest(visits), since),
        "visits": _log(crowd.count(visits)),
        "visits in 30 days": _log(crowd.count(_lately(crowd, visits, since))),
        "products seen": _log(crowd.count(crowd.of(0, (Kind.PRODUCT,)))),
        "baskets": _log(crowd.count(crowd.of(0, (Kind.BASKET,)))),
        "app": _log(crowd.count(crowd.of(0, (Kind.APP_VISIT,)))),
        "messages": _log(crowd.count(sent)),
        "messages read": crowd.count(read_) / np.maximum(crowd.count(sent), 1),
    }
    total = np.maximum(crowd.count(looked), 1)
    for category in categories:
        rows = looked & (crowd.category == activity.category_id(category))
        columns[f"interest in {category}"] = crowd.count(rows) / total
    return Features(list(columns), np.stack(list(columns.values()), axis=1))


def buying(crowd: Crowd, now: int) -> Features:
    """Recency, frequency and money, where they buy, and for how long they have been known."""
    orders = crowd.orders(0)
    since = np.full(crowd.size, now)
    in_store = crowd.count(crowd.of(0, (Kind.STORE_PURCHASE,)))
    spent = np.maximum(orders.spent, 0) / MICROS
    first = crowd.earliest(np.ones(len(crowd.time), bool))
    columns = {
        "days known": _ago(first, since),
        "days since an order": _ago(orders.last, since),
        "orders": _log(orders.count),
        "spent": _log(spent),
        "value of an order": _log(spent / np.maximum(orders.count, 1)),
        "buys in stores": in_store / np.maximum(orders.count, 1),
    }
    return Features(list(columns), np.stack(list(columns.values()), axis=1))


def joined(*parts: Features) -> Features:
    """All columns, side by side."""
    names = [name for part in parts for name in part.names]
    return Features(names, np.concatenate([part.values for part in parts], axis=1))


def on_store(config: Path, what: Callable[[Links, Settings], Awaitable[T]]) -> T:
    """Run `what` on the installation's store; an embedded one is started if no bidder runs it.

    Raises `InvalidFile`, `StoreUnavailable`, `EmbeddedStoreError`.
    """
    given = settings.load(config)
    running = Path(given.state_dir) / STORE_URL
    url, server = (running.read_text(), None) if running.exists() else located(
        given.store.url, given.state_dir
    )  # fmt: skip

    async def run() -> T:
        async with opened(url) as links:
            return await what(links, given)

    try:
        return asyncio.run(run())
    finally:
        if server is not None:
            server.stop()


def categories_of(config: Path) -> list[str]:
    """The product categories that the segments know."""
    return sorted(setup.segments(config).interests)


def keep_of(given: Settings) -> Keep:
    """How long records count."""
    return setup.retention(given).records


def _ago(time: npt.NDArray[np.int64], now: npt.NDArray[np.int64]) -> Table:
    days = np.where(time > 0, (now - time) / DAY, NEVER_DAYS)
    return _log(np.clip(days, 0, NEVER_DAYS))


def _log(values: npt.NDArray[np.generic]) -> Table:
    return np.log1p(values.astype(np.float64))


def _lately(crowd: Crowd, rows: Mask, now: npt.NDArray[np.int64]) -> Mask:
    recent: Mask = rows & (crowd.time > now[crowd.who] - 30 * DAY)
    return recent
