"""Reading back: crashes cost at most the torn line, and the tail gives each line exactly once."""

import asyncio
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.events.files import SKEW_SECONDS, file_name, log_files
from bidder.events.keeping import applied, compress, expire, keep
from bidder.events.log import EventLog
from bidder.events.reading import Tail, Tally, read
from bidder.events.schema import BidEvent, NoBidEvent, RequestsEvent, WinEvent, encode


def drained(tail: Tail, limit: int = 7) -> list[str]:
    """What is new, by bid id."""
    found: list[str] = []
    while batch := tail.batch(limit):
        assert len(batch) <= limit
        found += [event.bid_id for event in batch]  # type: ignore[union-attr]
    return found


def plain(directory: Path, sequence: int, content: bytes, started: float = 1000.0) -> Path:
    """A file of a writer, written at once."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / file_name(started, sequence)
    path.write_bytes(content)
    return path


@given(data=st.data())
@settings(max_examples=200)
def test_a_crash_at_any_byte_costs_at_most_the_torn_line(data: st.DataObject, make: Any) -> None:
    kinds = data.draw(st.lists(st.sampled_from([BidEvent, WinEvent]), max_size=8))
    events = [make(kind, str(n), time=float(n)) for n, kind in enumerate(kinds)]
    lines = [encode(event) for event in events]
    cut = data.draw(st.integers(0, sum(map(len, lines))))
    whole = [n for n in range(len(lines)) if sum(map(len, lines[: n + 1])) - 1 <= cut]
    later = make(WinEvent, "later", time=100.0)
    with TemporaryDirectory() as name:
        directory = Path(name)
        plain(directory / "w0", 1, b"".join(lines)[:cut])
        plain(directory / "w0", 2, encode(later))
        tally = Tally()
        assert list(read(directory, tally=tally)) == [*(events[n] for n in whole), later]
        tail = Tail(directory)
        notices = [str(n) for n in whole if kinds[n] is WinEvent]
        assert drained(tail) == [*notices, "later"]
        assert tail.lag_bytes() == 0
        tail.close()
        rest = cut - sum(len(lines[n]) for n in whole)
        assert tally.torn == (rest > 0)


def test_read_merges_writers_and_keeps_to_the_times(tmp_path: Path, make: Any) -> None:
    for writer, times in (("w0", [1.0, 3.0, 5.0]), ("w1", [2.0, 4.0, 6.0])):
        lines = b"".join(encode(make(WinEvent, str(time), time=time)) for time in times)
        plain(tmp_path / writer, 1, lines, started=0.0)
    assert [event.time for event in read(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert [event.time for event in read(tmp_path, since=2.0, until=5.0)] == [2, 3, 4]
    assert list(read(tmp_path / "nowhere")) == []


def test_files_too_old_or_too_new_are_not_opened(tmp_path: Path, make: Any) -> None:
    day = 86400.0
    for n in range(4):
        content = encode(make(WinEvent, str(n), time=n * day))
        plain(tmp_path / "w0", n + 1, content, started=n * day)
    held = [file.sequence for file in log_files(tmp_path) if file.may_hold(2 * day, 2 * day + 1)]
    assert held == [2, 3]  # the second ends just then: the clock is trusted to the hour
    assert SKEW_SECONDS == 3600
    assert [event.time for event in read(tmp_path, 2 * day, 2 * day + 1)] == [2 * day]


def test_garbage_and_foreign_lines_are_counted(tmp_path: Path, make: Any) -> None:
    good = encode(make(WinEvent))
    garbage = b'\x00\xff\n{"type":"nonsense","time":1}\n\n' + good[:30] + b"\n"
    plain(tmp_path / "w0", 1, good + garbage + good)
    tally = Tally()
    assert len(list(read(tmp_path, tally=tally))) == 2
    assert (tally.lines, tally.torn) == (6, 4)
    tail = Tail(tmp_path)
    assert drained(tail) == ["b", "b"]
    assert tail.tally.torn == 4
    tail.close()


def test_the_tail_passes_over_bids_and_takes_the_rest(tmp_path: Path, make: Any) -> None:
    kinds = [BidEvent, WinEvent, BidEvent]
    lines = b"".join(encode(make(kind)) for kind in kinds)
    no_bid = encode(NoBidEvent(time=1.0, request_id="r", exchange="demo", reason=1))
    requests = RequestsEvent(time=1.0, exchange="demo", requests=5, bids=1)
    plain(tmp_path / "w0", 1, lines + no_bid + encode(requests))
    tail = Tail(tmp_path)
    assert tail.lag_bytes() == len(lines + no_bid + encode(requests))
    assert tail.batch(10) == [make(WinEvent), requests]
    assert tail.batch(10) == []
    assert tail.tally.lines == 2
    assert tail.lag_bytes() == 0
    tail.close()


def test_the_tail_waits_for_the_end_of_a_line(tmp_path: Path, make: Any) -> None:
    line = encode(make(WinEvent))
    path = plain(tmp_path / "w0", 1, line[:50])
    tail = Tail(tmp_path)
    assert tail.batch(10) == []
    assert tail.lag_bytes() == 0
    with path.open("ab") as file:
        file.write(line[50:])
    assert tail.batch(10) == [make(WinEvent)]
    tail.close()


def test_a_line_longer_than_a_chunk(tmp_path: Path, make: Any) -> None:
    long = make(WinEvent, person="p" * 1_000_000)
    plain(tmp_path / "w0", 1, encode(make(WinEvent)) + encode(long) + encode(make(WinEvent)))
    tail = Tail(tmp_path)
    assert [tail.batch(1)[0] for _ in range(3)] == [make(WinEvent), long, make(WinEvent)]
    tail.close()


def test_what_was_not_saved_comes_again(tmp_path: Path, make: Any) -> None:
    plain(tmp_path / "w0", 1, b"".join(encode(make(WinEvent, str(n))) for n in range(6)))
    tail = Tail(tmp_path)
    tail.batch(2)
    tail.save(tail.reached())
    tail.batch(2)
    tail.close()
    again = Tail(tmp_path)
    assert drained(again) == ["2", "3", "4", "5"]
    again.close()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("tear"), st.integers(0, 2), st.integers(1, 100)),
        st.tuples(st.just("rotate"), st.integers(0, 2), st.none()),
        st.tuples(st.just("batch"), st.integers(1, 5), st.booleans()),
        st.tuples(st.just("restart"), st.none(), st.none()),
        st.tuples(st.just("keep"), st.none(), st.none()),
    ),
    max_size=40,
)


@given(steps=steps)
@settings(max_examples=80)
def test_the_tail_gives_each_line_once(steps: list[Any], make: Any) -> None:
    """Whatever writers, crashes, rotations, restarts and compression do between its batches."""
    sequence, written, got = [1, 1, 1], [], []  # type: ignore[var-annotated]
    torn = [False] * 3
    with TemporaryDirectory() as name:
        directory = Path(name)
        for writer in range(3):
            plain(directory / f"w{writer}", 1, b"")
        tail = Tail(directory)
        for step, value, detail in steps:
            if step in ("write", "tear", "rotate"):
                if step == "rotate" or torn[value]:  # after a crash there is a new file
                    sequence[value] += 1
                    plain(directory / f"w{value}", sequence[value], b"")
                    torn[value] = False
                path = directory / f"w{value}" / file_name(1000.0, sequence[value])
                event = make(BidEvent if detail is False else WinEvent, f"{len(written)}")
                if step == "write":
                    with path.open("ab") as file:
                        file.write(encode(event))
                    written.append((value, event))
                elif step == "tear":
                    with path.open("ab") as file:
                        file.write(encode(event)[:detail])
                    torn[value] = True
            elif step == "batch":
                got += tail.batch(value)
                tail.save(tail.reached())
            elif step == "restart":
                tail.close()
                tail = Tail(directory)
            else:
                keep(directory, days=1e6, now=0.0)
        while batch := tail.batch(3):
            got += batch
        assert tail.lag_bytes() == 0
        tail.close()
        for writer in range(3):
            mine = [event for by, event in written if by == writer]
            notices = [event for event in mine if isinstance(event, WinEvent)]
            assert [event for event in got if event in notices] == notices
        assert len(got) == sum(isinstance(event, WinEvent) for _, event in written)
        assert len(list(read(directory))) == len(written)


async def test_the_tail_beside_a_living_log(tmp_path: Path, make: Any) -> None:
    line = len(encode(make(WinEvent, "000")))
    log = EventLog(tmp_path / "w0", rotate_bytes=10 * line)
    tail = Tail(tmp_path)
    got: list[str] = []
    for start in range(0, 200, 20):
        commits = [log.commit(make(WinEvent, f"{n:03}")) for n in range(start, start + 20)]
        await asyncio.gather(*commits)
        got += drained(tail)
        assert len(got) == start + 20  # what was acknowledged can be applied
        tail.save(tail.reached())
        keep(tmp_path, days=1.0, now=0.0)
    await log.close()
    tail.close()
    assert got == [f"{n:03}" for n in range(200)]
    assert sum(file.compressed for file in log_files(tmp_path)) >= 5
    assert [event.bid_id for event in read(tmp_path)] == got  # type: ignore[union-attr]


def test_only_finished_and_applied_files_are_compressed(tmp_path: Path, make: Any) -> None:
    first = plain(tmp_path / "w0", 1, encode(make(WinEvent, "1")))
    second = plain(tmp_path / "w0", 2, encode(make(WinEvent, "2")) + b'{"torn')
    empty = plain(tmp_path / "w0", 3, b"")
    plain(tmp_path / "w0", 4, encode(make(WinEvent, "4")))
    assert applied(tmp_path) == [empty]
    tail = Tail(tmp_path)
    tail.batch(1)
    assert applied(tmp_path) == [empty]  # nothing was saved yet
    tail.batch(1)
    tail.save(tail.reached())
    assert applied(tmp_path) == [first, empty]
    tail.batch(10)
    tail.save(tail.reached())
    assert applied(tmp_path) == [first, second, empty]
    keep(tmp_path, days=1e6, now=0.0)
    assert sorted(path.name[16:] for path in (tmp_path / "w0").iterdir()) == [
        "000001.jsonl.zst", "000002.jsonl.zst", "000004.jsonl",
    ]  # fmt: skip
    tail.save(tail.reached())
    assert [event.bid_id for event in read(tmp_path)] == ["1", "2", "4"]  # type: ignore[union-attr]
    tail.close()


def test_a_crash_while_compressing_leaves_one_truth(tmp_path: Path, make: Any) -> None:
    path = plain(tmp_path / "w0", 1, encode(make(WinEvent, "1")))
    plain(tmp_path / "w0", 2, b"")
    content = path.read_bytes()
    compress([path])
    path.write_bytes(content)  # as if the crash came before it was removed
    assert len(list(read(tmp_path))) == 1
    tail = Tail(tmp_path)
    assert tail.batch(5) == []
    tail.close()
    expire(tmp_path, days=1e6, now=0.0)
    assert not path.exists()
    assert len(list(read(tmp_path))) == 1


def test_old_compressed_files_are_deleted(tmp_path: Path, make: Any) -> None:
    paths = [plain(tmp_path / "w0", n, encode(make(WinEvent, str(n)))) for n in (1, 2, 3, 4)]
    for path, written in zip(paths, [0, 50_000, 0, 0], strict=True):
        os.utime(path, (written, written))
    compress(paths[:2])
    expire(tmp_path, days=1, now=100_000)
    assert [event.bid_id for event in read(tmp_path)] == ["2", "3", "4"]  # type: ignore[union-attr]


def test_a_file_compressed_between_listing_and_reading(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plain(tmp_path / "w0", 1, encode(make(WinEvent, "1")))
    second = plain(tmp_path / "w0", 2, encode(make(WinEvent, "2")))
    plain(tmp_path / "w0", 3, encode(make(WinEvent, "3")))
    listed = list(log_files(tmp_path))
    monkeypatch.setattr("bidder.events.reading.log_files", lambda directory: iter(listed))
    compress([first])
    second.unlink()
    assert [event.bid_id for event in read(tmp_path)] == ["1", "3"]  # type: ignore[union-attr]


def test_the_tail_starts_before_there_is_a_log(tmp_path: Path, make: Any) -> None:
    tail = Tail(tmp_path / "events")
    assert tail.batch(10) == []
    assert tail.lag_bytes() == 0
    plain(tmp_path / "events" / "w7", 1, encode(make(WinEvent)))
    assert tail.batch(10) == [make(WinEvent)]
    tail.save(tail.reached())
    tail.close()


def test_what_was_read_before_a_file_that_cannot_be_is_handed_out_first(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("w0", "w1"):
        plain(tmp_path / name, 1, encode(make(WinEvent, name)))
    tail, opened, usual = Tail(tmp_path), [], Path.open

    def too_many(self: Path, *given: Any, **named: Any) -> Any:
        opened.append(self)
        if 2 <= len(opened) <= 3:
            raise OSError(24, "Too many open files")
        return usual(self, *given, **named)

    monkeypatch.setattr(Path, "open", too_many)
    (first,) = tail.batch(10)
    with pytest.raises(OSError, match="Too many"):
        tail.batch(10)
    (second,) = tail.batch(10)
    assert {first.bid_id, second.bid_id} == {"w0", "w1"}  # type: ignore[union-attr]
    tail.close()
