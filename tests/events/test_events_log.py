"""The log: nothing acknowledged is lost, a refusing disk stalls it, and it comes back by itself."""

import asyncio
import errno
import os
import resource
import shutil
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from bidder.events.files import log_files
from bidder.events.log import EventLog, LogUnavailable
from bidder.events.output import Disk
from bidder.events.reading import Tally, read
from bidder.events.schema import BidEvent, WinEvent, encode


class FaultyDisk(Disk):
    """A disk that does as told: each fault is one `OSError`, or a write that stops half-way."""

    def __init__(self) -> None:
        self.full_after: int | None = None
        """Bytes that a write still takes before ENOSPC."""
        self.broken: set[str] = set()
        self.syncs = 0
        self.gate = Flag()
        self.gate.set()

    def _check(self, name: str) -> None:
        if name in self.broken:
            raise OSError(errno.EIO, f"{name} broken")

    def create(self, path: Path) -> int:
        self._check("create")
        return super().create(path)

    def write(self, fd: int, data: bytes) -> int:
        self.gate.wait()
        self._check("write")
        if self.full_after is not None:
            if self.full_after == 0:
                raise OSError(errno.ENOSPC, "no space left")
            data = data[: self.full_after]
            self.full_after -= len(data)
        return super().write(fd, data)

    def sync(self, fd: int) -> None:
        self._check("sync")
        self.syncs += 1
        super().sync(fd)

    def truncate(self, fd: int, size: int) -> None:
        self._check("truncate")
        super().truncate(fd, size)


async def until(condition: Any) -> None:
    """Let the log's thread work until `condition()`: there is nothing of its to wait on."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to that")


def ids_in(directory: Path, tally: Tally | None = None) -> list[str]:
    return [event.bid_id for event in read(directory, tally=tally)]  # type: ignore[union-attr]


async def test_what_is_appended_is_there_after_close(tmp_path: Path, make: Any) -> None:
    log = EventLog(tmp_path / "w0")
    bids = [make(BidEvent, str(n), time=float(n)) for n in range(1000)]
    for bid in bids:
        log.append(bid)
    await log.close()
    await log.close()
    assert list(read(tmp_path)) == bids
    assert log.written_bytes == sum(len(encode(bid)) for bid in bids)
    assert log.buffered_bytes == 0


async def test_a_commit_returns_after_its_line_was_synced(tmp_path: Path, make: Any) -> None:
    disk = FaultyDisk()
    log = EventLog(tmp_path / "w0", disk=disk)
    disk.gate.clear()
    waiting = asyncio.create_task(log.commit(make(WinEvent)))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert disk.syncs == 0
    disk.gate.set()
    await waiting
    assert disk.syncs == 1
    assert ids_in(tmp_path) == ["b"]
    await log.close()


async def test_many_commits_share_few_syncs_and_keep_their_order(tmp_path: Path, make: Any) -> None:
    disk = FaultyDisk()
    log = EventLog(tmp_path / "w0", disk=disk)
    order: list[int] = []

    async def commit(n: int) -> None:
        await log.commit(make(WinEvent, str(n)))
        order.append(n)

    disk.gate.clear()
    first = asyncio.create_task(commit(0))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(commit(n)) for n in range(1, 500)]
    await asyncio.sleep(0)
    disk.gate.set()
    await asyncio.gather(first, *rest)
    assert order == list(range(500))
    assert ids_in(tmp_path) == [str(n) for n in range(500)]
    assert disk.syncs <= 3
    await log.close()


@pytest.mark.parametrize("room", [0, 1, 100, 400, 500])
@pytest.mark.parametrize("truncate", [True, False])
async def test_a_full_disk_stalls_and_the_log_recovers(
    tmp_path: Path, make: Any, room: int, truncate: bool
) -> None:
    disk = FaultyDisk()
    log = EventLog(tmp_path / "w0", disk=disk, gather_seconds=0)
    await log.commit(make(WinEvent, "before"))
    disk.full_after = room
    disk.broken = set() if truncate else {"truncate"}
    for n in range(3):
        log.append(make(BidEvent, f"bid{n}"))
    with pytest.raises(LogUnavailable):
        await log.commit(make(WinEvent, "refused"))
    await until(lambda: log.stalled)
    assert log.error
    with pytest.raises(LogUnavailable):
        await log.commit(make(WinEvent, "refused at once"))
    disk.full_after = None
    await until(lambda: not log.stalled)
    await log.commit(make(WinEvent, "after"))
    await log.close()
    tally = Tally()
    written = ids_in(tmp_path, tally)
    assert [name for name in written if name != "refused"] == [
        "before", "bid0", "bid1", "bid2", "after",
    ]  # fmt: skip
    assert tally.torn == 0 or not truncate
    assert len(list(log_files(tmp_path))) <= (1 if truncate else 2)


async def test_a_failed_sync_writes_the_group_again_elsewhere(tmp_path: Path, make: Any) -> None:
    disk = FaultyDisk()
    log = EventLog(tmp_path / "w0", disk=disk)
    disk.broken = {"sync"}
    with pytest.raises(LogUnavailable):
        await log.commit(make(WinEvent, "a"))
    assert log.stalled
    disk.broken = set()
    await until(lambda: not log.stalled)
    await log.commit(make(WinEvent, "b"))
    await log.close()
    files = list(log_files(tmp_path))
    assert files[-1].path.read_bytes() == encode(make(WinEvent, "a")) + encode(make(WinEvent, "b"))


async def test_a_real_limit_on_file_size(tmp_path: Path, make: Any) -> None:
    line = len(encode(make(WinEvent, "0000")))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = EventLog(tmp_path / "w0")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (line * 10 + 5, hard))
        committed = [f"{n:04}" for n in range(10)]
        for bid_id in committed:
            await log.commit(make(WinEvent, bid_id))
        with pytest.raises(LogUnavailable, match="large"):
            await log.commit(make(WinEvent, "0010"))
        assert log.stalled
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await until(lambda: not log.stalled)
    await log.commit(make(WinEvent, "last"))
    await log.close()
    tally = Tally()
    assert ids_in(tmp_path, tally) == [*committed, "0010", "last"]
    assert tally.torn == 0


async def test_a_removed_directory_is_made_again(tmp_path: Path, make: Any) -> None:
    log = EventLog(tmp_path / "w0")
    await log.commit(make(WinEvent, "gone"))
    shutil.rmtree(tmp_path / "w0")
    await log.commit(make(WinEvent, "here"))
    await log.close()
    assert ids_in(tmp_path) == ["here"]


async def test_a_place_that_cannot_be_written_stalls_from_the_start(
    tmp_path: Path, make: Any
) -> None:
    (tmp_path / "events").write_text("a file where the directory should be")
    log = EventLog(tmp_path / "events" / "w0")
    log.append(make(BidEvent, "early"))
    await until(lambda: log.stalled)
    (tmp_path / "events").unlink()
    await until(lambda: not log.stalled)
    await log.close()
    assert ids_in(tmp_path / "events") == ["early"]


async def test_two_logs_in_one_directory(tmp_path: Path, make: Any) -> None:
    first = EventLog(tmp_path / "w0")
    await first.commit(make(WinEvent, "first"))
    second = EventLog(tmp_path / "w0")
    await until(lambda: second.stalled)
    assert "another process" in second.error
    await first.close()
    await until(lambda: not second.stalled)
    await second.commit(make(WinEvent, "second"))
    await second.close()
    assert ids_in(tmp_path) == ["first", "second"]


async def test_a_full_buffer_refuses_and_counts(tmp_path: Path, make: Any) -> None:
    disk = FaultyDisk()
    disk.broken = {"create"}
    line = len(encode(make(BidEvent, "00")))
    log = EventLog(tmp_path / "w0", disk=disk, buffer_bytes=line * 8)
    for n in range(10):
        log.append(make(BidEvent, f"{n:02}"))
    assert log.stalled
    assert log.lost_lines == 2
    with pytest.raises(LogUnavailable):
        await log.commit(make(WinEvent))
    disk.broken = set()
    await until(lambda: not log.stalled)
    await log.close()
    assert ids_in(tmp_path) == [f"{n:02}" for n in range(8)]


async def test_a_disk_that_hangs_counts_as_stalled(tmp_path: Path, make: Any) -> None:
    disk = FaultyDisk()
    now = 100.0
    log = EventLog(
        tmp_path / "w0", disk=disk, patience_seconds=0.05, gather_seconds=0, monotonic=lambda: now
    )
    disk.gate.clear()
    with pytest.raises(LogUnavailable, match="too long"):
        await log.commit(make(WinEvent))
    assert not log.stalled
    now += 1
    assert log.stalled
    with pytest.raises(LogUnavailable, match="too long"):
        await log.close()
    disk.gate.set()


async def test_close_says_what_it_could_not_write(tmp_path: Path, make: Any) -> None:
    disk = FaultyDisk()
    disk.broken = {"write"}
    log = EventLog(tmp_path / "w0", disk=disk)
    log.append(make(BidEvent))
    with pytest.raises(LogUnavailable, match="not written"):
        await log.close()
    log.append(make(BidEvent))
    assert log.lost_lines == 1
    with pytest.raises(LogUnavailable):
        await log.commit(make(WinEvent))


async def test_files_end_by_size(tmp_path: Path, make: Any) -> None:
    line = len(encode(make(WinEvent, "0")))
    log = EventLog(tmp_path / "w0", rotate_bytes=2 * line, clock=lambda: 1_700_000_000.0)
    for n in range(5):
        await log.commit(make(WinEvent, str(n)))
    await log.close()
    files = list(log_files(tmp_path))
    assert [file.path.stat().st_size // line for file in files] == [2, 2, 1]
    assert [file.path.name for file in files] == [
        f"20231114T221320-00000{n}.jsonl" for n in (1, 2, 3)
    ]
    assert ids_in(tmp_path) == list("01234")


async def test_files_end_by_age(tmp_path: Path, make: Any) -> None:
    now = 1_700_000_000.0
    log = EventLog(tmp_path / "w0", rotate_seconds=60, clock=lambda: now)
    await log.commit(make(WinEvent, "0"))
    now += 61
    await log.commit(make(WinEvent, "1"))  # ends the file, unless an idle look at it was first
    await log.commit(make(WinEvent, "2"))
    await log.close()
    files = list(log_files(tmp_path))
    assert len(files) == 2
    assert b'"bid_id":"2"' in files[1].path.read_bytes()
    assert files[0].ended == files[1].started == now
    assert ids_in(tmp_path) == list("012")


async def test_order_of_files_survives_a_clock_that_jumps_back(tmp_path: Path, make: Any) -> None:
    for n, now in enumerate([2_000_000_000.0, 1_000_000_000.0]):
        log = EventLog(tmp_path / "w0", clock=lambda now=now: now)  # type: ignore[misc]
        await log.commit(make(WinEvent, str(n)))
        await log.close()
    assert ids_in(tmp_path) == ["0", "1"]


async def test_append_does_no_file_work(tmp_path: Path, make: Any) -> None:
    disk = FaultyDisk()
    log = EventLog(tmp_path / "w0", disk=disk)
    disk.gate.clear()  # the thread is stuck in a write: append must not notice
    for n in range(100):
        log.append(make(BidEvent, str(n)))
    assert log.buffered_bytes > 0
    disk.gate.set()
    await log.close()
    assert len(ids_in(tmp_path)) == 100
    assert os.listdir(tmp_path) == ["w0"]
