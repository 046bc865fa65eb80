"""How large are the pages that a worker's memory lies in? 2 MB, where the kernel has such.

A decision reads objects from all over the heap. The processor remembers where some 1,500 pages are
(its TLB): 6 MB of the usual pages of 4 kB, all of a worker's in huge ones. A decision takes a tenth
less in them (docs/performance.md). The kernel gives huge pages by itself only to what is asked for
in one piece of 2 MB; Python asks for 1 MB at a time.
"""

import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path

_SIZE = 2 << 20
_COLLAPSE = 25
"""`MADV_COLLAPSE` of Linux 6.1: move what is there already, now; older ones do it by and by."""
_MAPS = Path("/proc/self/maps")


def gather() -> None:
    """Move this process's memory into huge pages, and let the kernel keep it so.

    Takes some milliseconds for each MB. What cannot be moved stays where it is: huge pages are a
    favour, so nothing here fails, and where there are none nothing is done.
    """
    if not _MAPS.exists() or not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for start, end in _private(_MAPS.read_text()):
        advise(start, end - start, mmap.MADV_HUGEPAGE)
        advise(start, end - start, _COLLAPSE)


def _private(maps: str) -> Iterator[tuple[int, int]]:
    """Where huge pages fit into memory that no file stands behind; see proc_pid_maps(5)."""
    for line in maps.splitlines():
        span, modes, _, _, inode, *name = line.split(maxsplit=5)
        if modes != "rw-p" or inode != "0" or name not in ([], ["[heap]"]):
            continue
        first, last = [int(each, 16) for each in span.split("-")]
        start, end = -(-first // _SIZE) * _SIZE, last // _SIZE * _SIZE
        if start < end:
            yield start, end
