"""What the tests of the CRM share: keys, segments, and a writer on the session's store."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random

import pytest

from bidder.crm.activity import Keep
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.segments import Segments, load
from bidder.crm.writing import Retention, Writer
from bidder.ids import hash32
from bidder.privacy import Rules
from bidder.store.links import Links
from bidder.tombstones import Tombstones

NOW = 1_795_000_000
DAY = 86400
SHOP = "maison-lumen"
YEAR = 396 * DAY
KEEP = Keep(visits=YEAR, orders=YEAR, contacts=YEAR)
RETENTION = Retention(
    profile=YEAR, identifier=YEAR, ledger=YEAR, match=30 * DAY, objection=3 * YEAR, records=KEEP
)
CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture(scope="session")
def shipped() -> Segments:
    """The segments that ship."""
    return load(CONFIG / "segments")


@pytest.fixture
def pseudonyms() -> Pseudonyms:
    """Names hashed under one key."""
    return Pseudonyms([b"k" * 32])


@pytest.fixture
def writer_on(shipped: Segments) -> Callable[..., Writer]:
    """Makes a writer on given links."""
    seeds = count(1)  # two writers never make the same person id

    def make(links: Links, **more: object) -> Writer:
        return Writer(
            links,
            shipped,
            {hash32(SHOP): SHOP},
            RETENTION,
            Tombstones([b"t" * 32]),
            Rules(vendor_id=1234),
            Random(next(seeds)),
            **more,  # type: ignore[arg-type]
        )

    return make
