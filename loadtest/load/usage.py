"""What does the bidder use? CPU and memory, as the OS counts them, of those who serve on a port.

Processes are found anew at every look, so that workers which start or die in the middle count.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Set
from ipaddress import ip_address

import psutil

from loadtest.load.result import Usage


def is_here(host: str) -> bool:
    """Whether `host` is this machine. Raises `OSError` if it has no address."""
    own = {one.address for some in psutil.net_if_addrs().values() for one in some}
    found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    return bool(found & own) or any(
        address.is_loopback or address.is_unspecified for address in map(ip_address, found)
    )


def servers(port: int) -> list[int]:
    """The pids of those who serve on a TCP port of this machine: those that listen, or above them
    the topmost process of the same executable, such as the supervisor of several workers."""
    ours = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    return sorted({_topmost(pid, ours) for pid in listeners(port)})


def _topmost(pid: int, ours: Set[int]) -> int:
    """As far up from `pid` as the executable is the same, and not to one of `ours`."""
    top = pid
    try:
        process = psutil.Process(pid)
        program = process.exe()
        while (above := process.parent()) and above.pid not in ours and above.exe() == program:
            process, top = above, above.pid
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    return top


def listeners(port: int) -> list[int]:
    """The pids that listen on a TCP port of this machine, as far as we may see them."""
    found = set()
    for process in psutil.process_iter():
        try:
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    found.add(process.pid)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return sorted(found)


class Watch:
    """CPU and memory of some processes and their children, from now until `usage()`.

    They are `pids`, and whoever serves on `port` (0: none) of this machine at any look. Those that
    turn up later count from then, their children from the start. `without` are pids left out with
    their children, such as a store that a bidder started.
    """

    def __init__(
        self,
        pids: Iterable[int] = (),
        port: int = 0,
        without: Iterable[int] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._pids = frozenset(pids)
        self._port = port
        self._roots: set[int] = set()
        self._without = frozenset(without)
        self._clock = clock
        self._began = clock()
        self._names: dict[int, str] = {}
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._rss: dict[int, int] = {}
        self._peak = 0
        self._look()

    def sample(self) -> None:
        """Look again; a few times a second is enough."""
        self._look()

    def usage(self) -> Usage:
        """What was used since this watch began."""
        self.sample()
        rows = tuple(
            (pid, self._names[pid], self._last[pid] - self._first[pid], self._rss[pid])
            for pid in self._last
        )
        return Usage(
            cpu_seconds=sum(row[2] for row in rows),
            elapsed=self._clock() - self._began,
            peak_rss_bytes=self._peak,
            processes=rows,
        )

    def _look(self) -> None:
        new = self._pids.union(servers(self._port) if self._port else ()) - self._roots
        self._roots |= new
        running = {process.pid for process in self._processes(new)}
        together = 0
        for process in self._processes(self._roots):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    rss = process.memory_info().rss
                    name = process.name()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            cpu = times.user + times.system
            pid = process.pid
            self._names[pid] = name
            self._first.setdefault(pid, cpu if pid in running else 0.0)
            self._last[pid] = cpu
            self._rss[pid] = max(self._rss.get(pid, 0), rss)
            together += rss
        self._peak = max(self._peak, together)

    def _processes(self, roots: Iterable[int]) -> list[psutil.Process]:
        """Those of `roots` that live, with all below them."""
        found: dict[int, psutil.Process] = {}
        todo = [pid for pid in roots if pid not in self._without]
        while todo:
            pid = todo.pop()
            if pid in found:
                continue
            try:
                process = psutil.Process(pid)
                children = process.children()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            found[pid] = process
            todo += [child.pid for child in children if child.pid not in self._without]
        return list(found.values())
