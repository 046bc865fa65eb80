"""One bid from its answer to its sale."""

from pathlib import Path
from random import Random
from typing import Any

from bidder.events.files import file_name
from bidder.events.follow import follow
from bidder.events.keeping import compress
from bidder.events.schema import BidEvent, BillingEvent, ClickEvent, WinEvent, encode
from bidder.ids import new_bid_id, to_text


def test_everything_about_one_bid_in_order(tmp_path: Path, make: Any) -> None:
    random = Random(1)
    now = 1_700_000_000.0
    wanted, other = (to_text(new_bid_id(now, random)) for _ in range(2))
    bid = make(BidEvent, wanted, time=now)
    win = make(WinEvent, wanted, time=now)
    billing = make(BillingEvent, wanted, time=now + 1)
    click = make(ClickEvent, wanted, time=now + 9, click_id=other)
    decoy = make(ClickEvent, other, time=now + 9, click_id=wanted)
    for writer, files in {"w0": [[click, decoy]], "w1": [[win, billing], [billing, bid]]}.items():
        (tmp_path / writer).mkdir()
        for n, events in enumerate(files, 1):
            path = tmp_path / writer / file_name(now, n)
            path.write_bytes(b"".join(map(encode, events)))
    compress([tmp_path / "w1" / file_name(now, 1)])
    assert follow(tmp_path, wanted) == [bid, win, billing, billing, click]
    assert follow(tmp_path, "not a bid id") == []


def test_files_that_ended_before_the_bid_are_not_read(tmp_path: Path, make: Any) -> None:
    now = 1_700_000_000.0
    bid = make(BidEvent, to_text(new_bid_id(now, Random(1))), time=now)
    (tmp_path / "w0").mkdir()
    old = tmp_path / "w0" / file_name(now - 90_000, 1)
    old.mkdir()  # reading it would fail
    (tmp_path / "w0" / file_name(now - 5000, 2)).write_bytes(b"")
    (tmp_path / "w0" / file_name(now, 3)).write_bytes(encode(bid))
    assert follow(tmp_path, bid.bid_id) == [bid]
