"""A worker's memory moves into huge pages where there are such, and nothing else changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bidder.server import huge_pages

ROLLUP = Path("/proc/self/smaps_rollup")
SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
GATHERING = """
from pathlib import Path
from bidder.server import huge_pages
def huge_mb():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return [int(line.split()[1]) // 1024 for line in lines if line.startswith("AnonHugePages")][0]
objects = [str(each) for each in range(1_000_000)]
before = huge_mb()
huge_pages.gather()
assert objects == [str(each) for each in range(1_000_000)]
print(before, huge_mb())
"""


@pytest.mark.skipif(
    not ROLLUP.exists() or not SWITCH.exists() or "[never]" in SWITCH.read_text(),
    reason="this kernel has no huge pages to give",
)
def test_most_of_a_heap_is_moved_and_reads_as_before() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", GATHERING], env=env, capture_output=True, text=True, check=True
    )
    before, after = map(int, told.stdout.split())
    assert after >= before + 30  # of some 60 MB


def test_where_no_maps_are_nothing_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huge_pages, "_MAPS", tmp_path / "absent")
    monkeypatch.setattr("ctypes.CDLL", None)  # would be called
    huge_pages.gather()


MAPS = """\
00400000-00c00000 rw-p 00000000 fe:00 1234 /usr/bin/python3.11
01e7f000-02834000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 
7f0000500000-7f0000600000 rw-p 00000000 00:00 0 
7f0001000000-7f0001400000 ---p 00000000 00:00 0 
7f0002000000-7f0002400000 rw-s 00000000 00:01 77 /dev/shm/of others
7ffc00000000-7ffc00800000 rw-p 00000000 00:00 0 [stack]
"""  # noqa: W291 - as the kernel writes it


def test_only_private_memory_of_a_whole_huge_page_is_moved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maps, advised = tmp_path / "maps", []

    class Library:
        @staticmethod
        def madvise(start: int, length: int, _: int) -> int:
            advised.append((hex(start), length >> 20))
            return -1  # refused: no reason to fail

    maps.write_text(MAPS)
    monkeypatch.setattr(huge_pages, "_MAPS", maps)
    monkeypatch.setattr("ctypes.CDLL", lambda _: Library)
    monkeypatch.setattr("mmap.MADV_HUGEPAGE", 14, raising=False)
    huge_pages.gather()
    assert advised[::2] == [("0x2000000", 8), ("0x7f0000000000", 4)] == advised[1::2]
