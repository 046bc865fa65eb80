"""A desk on a real store, people to ask it, and what is left of them anywhere."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.rights import Desk
from bidder.crm.rights.desk import Lives
from bidder.events import reading
from bidder.events.log import EventLog
from bidder.events.schema import BidEvent, ConversionEvent, Event
from bidder.ids import to_text
from bidder.people.loading import load
from bidder.person import Profile
from bidder.privacy import Rules
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.connect import Client
from bidder.store.links import Links
from bidder.tombstones import Tombstones

NOW = 1_795_000_000.0
"""November 2026."""
KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
TOMBSTONES = Tombstones([KEY])
RULES = Rules(vendor_id=1234)


async def _at_once(_: float) -> None:
    """A pause that is over."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
async def desk(links: Links, state: Path) -> Desk:
    return _desk_on(links, state)


def _desk_on(
    links: Links,
    state: Path,
    pause: Callable[[float], Awaitable[None]] = _at_once,
    wall: Callable[[], float] = lambda: NOW,
) -> Desk:
    return Desk(
        links,
        Scripts(links),
        TOMBSTONES,
        state,
        Lives(tombstone=100_000_000, profile=5000, code=60),
        RULES,
        Random(4),
        wall,
        pseudonyms=Pseudonyms([KEY]),
        pause=pause,
    )


async def _loaded(links: Links, **profile: object) -> str:
    """One person with three names and this profile; their id."""
    ids = [("buyeruid.demo", "jo-cookie"), ("ifa", "0f2c-ifa"), ("crm", "C42")]
    line = json.dumps({"ids": ids, "profile": profile}).encode()
    await load(links, [line], NOW, Random(9))
    (raw,) = await links.bulk([("GET", keys.identifier("crm", "C42"))])
    assert raw is not None
    return str(raw.decode())


async def _profile_of(links: Links, person: str) -> Profile:
    (raw,) = await links.bulk([("GET", keys.profile(person))])
    return msgspec.msgpack.decode(raw, type=Profile)


async def _everything_in(client: Client) -> bytes:
    """Every key and every value of the store, dumped."""
    found = b""
    async for key in client.scan_iter():
        found += key + b"\n"
        match await client.type(key):
            case b"string":
                found += await client.get(key)
            case b"hash":
                found += b"".join(
                    part for pair in (await client.hgetall(key)).items() for part in pair
                )
            case b"set":
                found += b"".join(await client.smembers(key))
            case b"zset":
                found += b"".join(await client.zrange(key, 0, -1))
            case kind:
                raise AssertionError(f"a {kind!r} that nobody looks into")
    return found


def _files_under(folder: Path) -> bytes:
    """Every byte of every file, unpacked."""
    found = b""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found += path.name.encode() + b"\n"
            if path.name.endswith(".jsonl.zst"):
                with reading.opened(path) as stream:
                    found += stream.read()
            else:
                found += path.read_bytes()
    return found


def _bid(person: str, number: int = 0) -> BidEvent:
    return BidEvent(
        time=NOW - 100 + number,
        bid_id=to_text(int(NOW).to_bytes(4, "big") + number.to_bytes(8, "big")),
        request_id="req-9" if person != "Z" * 16 else "req-z",
        imp_id="1",
        exchange="demo",
        line_item="shop/a/b",
        creative="c",
        price_cpm_micros=1_000_000,
        currency="EUR",
        value_cpm_micros=2_000_000,
        account_currency="EUR",
        rate=1.0,
        first_price=True,
        person=person,
        features=[1.0, 2.5, None],
        feature_version="v1",
        domain="news.example",
        consent=True,
        train=True,
    )


def _conversion(person: str, number: int, order: str) -> ConversionEvent:
    return ConversionEvent(**_notice(person, number), order=order, value_micros=5_000_000)


def _notice(person: str, number: int) -> dict[str, object]:
    made = _bid(person, number)
    return {
        "time": made.time,
        "bid_id": made.bid_id,
        "exchange": "demo",
        "line_item": "shop/a/b",
        "creative": "c",
        "bid_time": made.time,
        "bid_cpm_micros": 1_000_000,
        "currency": "EUR",
        "account_currency": "EUR",
        "rate": 1.0,
        "hold": "w0",
        "ids": (1, 2, 3, 4),
        "person": person,
    }


async def _logged(state: Path, *events: Event) -> None:
    log = EventLog(state / "events" / "worker-0", clock=lambda: NOW)
    for event in events:
        await log.commit(event)
    await log.close()


@pytest.fixture(scope="session")
def notice() -> Any:
    """Fields of a notice about a person's bid."""
    return _notice


@pytest.fixture(scope="session")
def desk_on() -> Any:
    """Makes a desk; `pause` is how it waits, `wall` its clock."""
    return _desk_on


@pytest.fixture(scope="session")
def loaded() -> Any:
    """Loads one person with every kind of name; their id."""
    return _loaded


@pytest.fixture(scope="session")
def profile_of() -> Any:
    """A person's profile in the store."""
    return _profile_of


@pytest.fixture(scope="session")
def everything_in() -> Any:
    """All keys and values of a store, as bytes."""
    return _everything_in


@pytest.fixture(scope="session")
def files_under() -> Any:
    """The content of all files of a folder, unpacked."""
    return _files_under


@pytest.fixture(scope="session")
def bid() -> Any:
    """A bid event on a person."""
    return _bid


@pytest.fixture(scope="session")
def conversion() -> Any:
    """A conversion event of a person."""
    return _conversion


@pytest.fixture(scope="session")
def logged() -> Any:
    """Writes events to the log of a state folder."""
    return _logged
