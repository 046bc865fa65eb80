"""The first ledger of somebody is what the script would write."""

import numpy as np
import pytest

from bidder import capping
from bidder.capping import Channel, Kind, Record
from bidder.capping.first import first_ledger
from bidder.capping.ledger import MAX_RECORDS, RECORD_DTYPE
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.links import Links

NOW, YEAR = 1_795_000_000, 396 * 86400


def sent(*hours_ago: int) -> list[bytes]:
    """Records of texts."""
    return [
        Record(
            NOW - 3600 * ago, Kind.IMPRESSION, 20, 0, 0, 0, ago.to_bytes(8, "little"), Channel.SMS
        ).pack()
        for ago in hours_ago
    ]


@pytest.mark.parametrize("hours", [(1,), (5, 4, 3), (9, 9, 2), tuple(range(128, 0, -1))])
async def test_a_first_ledger_is_what_the_script_writes(
    links: Links, hours: tuple[int, ...]
) -> None:
    rows = sent(*hours)
    await capping.absorb_all(Scripts(links), [("somebody", rows)], NOW, YEAR)
    (written,) = await links.bulk([("GET", keys.ledger("somebody"))])
    assert first_ledger(rows, NOW) == written


def test_what_must_be_folded_is_left_to_the_script() -> None:
    assert first_ledger(sent(*range(MAX_RECORDS + 1)), NOW) == b""
    assert first_ledger([], NOW) == b""


def test_the_columns_are_those_of_a_record() -> None:
    record = Record(1, Kind.CLICK, 2, 3, 4, 5, b"\6" + bytes(7), Channel.PUSH, 7, 8, measured=True)
    (row,) = np.frombuffer(record.pack(), RECORD_DTYPE)
    same = ("time", "advertiser", "campaign", "line_item", "creative", "hold", "page", "measured")
    assert {name: row[name] for name in same} == {name: getattr(record, name) for name in same}
    assert row["what"] == Kind.CLICK | Channel.PUSH << 4
    assert row["key"].tobytes() == record.bid_key
