"""Whoever is forgotten leaves the files, whatever state those are in, and nothing else does."""

import asyncio
import os
import time
from pathlib import Path

import msgspec
import pytest

from bidder.events import keeping, reading
from bidder.events.compacting import compact, mentions
from bidder.events.files import files_of
from bidder.events.forgotten import FILE, FORGOTTEN_FIELDS, Forgotten
from bidder.events.log import EventLog
from bidder.events.output import ROTATE
from bidder.events.schema import AnyEvent, BidEvent, Event, ImpressionEvent, encode
from bidder.tombstones import Tombstones

KEY = bytes(range(32))
GONE, STAYS = "G" * 16, "S" * 16
TIME = 1_795_000_000.0


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIDDER_TOMBSTONE_KEY", KEY.hex())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events"


def shown(person: str, number: int = 0) -> ImpressionEvent:
    return ImpressionEvent(
        time=TIME + number,
        bid_id=f"bid-{number}",
        exchange="demo",
        line_item="shop/a/b",
        creative="c",
        bid_time=TIME,
        bid_cpm_micros=1_000_000,
        currency="EUR",
        account_currency="EUR",
        rate=1.0,
        hold="w0",
        ids=(1, 2, 3, 4),
        person=person,
        cost_micros=number,
    )


def written(log: Path, *lines: bytes, name: str = "20261118T110640-000001.jsonl") -> Path:
    path = log / "worker-0" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path


def forget(log: Path, *people: str) -> Forgotten:
    forgotten = Forgotten(log, Tombstones([KEY]))
    forgotten.add(people)
    return forgotten


def compacted(log: Path) -> tuple[int, int, int]:
    done = compact(log, Forgotten(log, Tombstones([KEY])), time.monotonic, lambda _: None)
    return done.rewritten, done.lines, done.open_files


def test_lines_keep_their_places_and_what_the_accounts_need(log: Path) -> None:
    lines = [encode(shown(GONE if number % 3 else STAYS, number)) for number in range(9)]
    path = written(log, *lines)
    os.utime(path, (1000, 1000))
    forget(log, GONE)
    assert compacted(log) == (1, 6, 0)
    after = path.read_bytes().splitlines(keepends=True)
    assert list(map(len, after)) == list(map(len, lines))
    assert path.stat().st_mtime == 1000
    for number, line in enumerate(after):
        event = msgspec.json.decode(line, type=AnyEvent)
        assert event == shown("" if number % 3 else STAYS, number)
    assert compacted(log) == (0, 0, 0)


def test_offsets_stay_true(log: Path) -> None:
    path = written(log, *[encode(shown(GONE, number)) for number in range(4)])
    written(log, encode(shown(STAYS, 4)), name="20261118T110641-000002.jsonl")
    tail = reading.Tail(log)
    first = tail.batch(2)
    tail.save(tail.reached())
    tail.close()
    forget(log, GONE)
    assert compacted(log)[0] == 1
    again = reading.Tail(log)
    rest = again.batch(10)
    again.close()
    assert [event.bid_id for event in first + rest] == [f"bid-{n}" for n in range(5)]  # type: ignore[union-attr]
    assert again.tally.torn == 0
    assert path.exists()


def test_compressed_files_torn_lines_and_leftovers_of_crashes(log: Path) -> None:
    torn = encode(shown(GONE, 2))[:-10]
    path = written(log, encode(shown(GONE, 1)), encode(shown(STAYS, 3)), torn)
    keeping.compress([path])
    copy = path.with_name(path.name)
    copy.write_bytes(encode(shown(GONE, 1)))  # a crash between replacing and deleting
    leftover = path.with_name(path.name + ".zst.tmp")
    leftover.write_bytes(encode(shown(GONE, 1)))
    forget(log, GONE)
    assert compacted(log) == (1, 2, 0)
    (file,) = files_of(log / "worker-0")
    assert file.compressed
    with reading.opened(file.path) as stream:
        inside = stream.read()
    assert GONE.encode() not in inside
    assert STAYS.encode() in inside
    assert {each.name for each in path.parent.iterdir()} == {"lock", file.path.name}


def test_a_crash_leaves_the_old_file_or_the_new_one(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(log, encode(shown(GONE, 1)))
    before = path.read_bytes()
    forget(log, GONE)

    def power_cut(_: int) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", power_cut)
        with pytest.raises(OSError, match="power cut"):
            compacted(log)
    assert path.read_bytes() == before
    assert compacted(log) == (1, 1, 0)
    assert not list(path.parent.glob("*.tmp"))


async def test_a_file_that_is_being_written_is_ended_first(log: Path) -> None:
    writer = EventLog(log / "worker-0", gather_seconds=0.001)
    await writer.commit(shown(GONE, 1))
    forget(log, GONE)
    pauses = 0

    def pause(seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        writer.append(shown(STAYS, 2))  # wakes the writer, as traffic would
        time.sleep(0.002)

    done = await asyncio.to_thread(
        compact, log, Forgotten(log, Tombstones([KEY])), time.monotonic, pause
    )
    await writer.commit(shown(STAYS, 3))
    await writer.close()
    assert (done.rewritten, done.lines, done.open_files) == (1, 1, 0)
    assert len(files_of(log / "worker-0")) == 2
    assert not (log / "worker-0" / ROTATE).exists()
    everything = b"".join(file.path.read_bytes() for file in files_of(log / "worker-0"))
    assert GONE.encode() not in everything
    assert b"bid-1" in everything
    assert b"bid-3" in everything


async def test_a_writer_that_does_not_hear_is_reported(log: Path) -> None:
    writer = EventLog(log / "worker-0")
    await writer.commit(shown(GONE, 1))
    forget(log, GONE)
    now = iter(range(0, 1000, 10))
    done = compact(log, Forgotten(log, Tombstones([KEY])), lambda: next(now), lambda _: None)
    assert done.open_files == 1
    assert [event.person for event in reading.read(log)] == [""]  # type: ignore[union-attr]
    await writer.close()
    assert compacted(log) == (1, 1, 0)


def test_the_list_survives_torn_lines_and_is_taken_up_as_it_grows(log: Path) -> None:
    first, second = forget(log, GONE), Forgotten(log)
    second.refresh()
    assert second.covers(GONE, TIME)
    with (log / FILE).open("ab") as file:
        file.write(b'{"mark":"torn')
    first.add(["T" * 16])
    second.refresh()
    assert second.covers("T" * 16, TIME)
    assert first.add([GONE], until=TIME) == []
    second.refresh()
    assert second.covers(GONE, TIME), "what is forgotten for good stays so"
    first.add([GONE], until=TIME, lower=True)
    second.refresh()
    assert second.covers(GONE, TIME - 1)
    assert not second.covers(GONE, TIME)
    assert not second.covers("", 0)
    assert GONE not in (log / FILE).read_text()


def test_mentions(log: Path) -> None:
    path = written(log, encode(shown(GONE, 1)), encode(shown(STAYS, 2)), b'{"person":"' + b"\xff\n")
    keeping.compress([path])
    written(log, encode(shown(STAYS, 3)), name="20261118T110641-000002.jsonl")
    found = [event.bid_id for event in mentions(log, [STAYS])]  # type: ignore[union-attr]
    assert found == ["bid-2", "bid-3"]


def test_nobody_forgotten_costs_no_look(log: Path) -> None:
    written(log, encode(shown(STAYS, 1)))
    assert compacted(log) == (0, 0, 0)
    assert not Forgotten(log)


KEPT = {
    "time", "bid_id", "exchange", "line_item", "creative", "price_cpm_micros", "currency",
    "value_cpm_micros", "account_currency", "rate", "first_price", "floor_cpm_micros", "size",
    "deal", "model", "country", "device", "os", "browser", "domain", "publisher", "bid_time",
    "bid_cpm_micros", "hold", "ids", "hold_until", "day", "reason", "minimum_to_win_cpm_micros",
    "cost_micros", "inferred", "bills", "value_micros", "kind", "explored", "p_win", "propensity",
    "shading",
}  # fmt: skip
"""Fields that an event of somebody forgotten keeps: they are of the ad, the place or the money."""


def test_of_every_field_of_the_log_it_is_decided_whether_it_stays() -> None:
    """Whoever adds a field to an event about people must say here what it becomes."""
    kinds: list[type[Event]] = [BidEvent, *_kinds_with_people()]
    for kind in kinds:
        undecided = set(kind.__struct_fields__) - KEPT - FORGOTTEN_FIELDS.keys() - {"order"}
        assert not undecided, f"{kind.__name__}: {sorted(undecided)}"
    assert not KEPT & FORGOTTEN_FIELDS.keys()


def _kinds_with_people() -> list[type[Event]]:
    found, left = [], [Event]
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        if "person" in kind.__struct_fields__:
            found.append(kind)
    return found
