"""What does the bidder use? CPU and memory, as the OS counts them, of those who listen on a port.

Processes are found anew at every look, so that workers which start or die in the middle count.
"""

import time
from collections.abc import Callable, Iterable

import psutil

from loadtest.load.result import Usage


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

    `without` are pids left out with their children, such as a store that a bidder started.
    """

    def __init__(
        self,
        pids: Iterable[int],
        without: Iterable[int] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._roots = tuple(pids)
        self._without = frozenset(without)
        self._clock = clock
        self._began = clock()
        self._names: dict[int, str] = {}
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._rss: dict[int, int] = {}
        self._peak = 0
        self._look(beginning=True)

    def sample(self) -> None:
        """Look again; a few times a second is enough."""
        self._look(beginning=False)

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

    def _look(self, beginning: bool) -> None:
        together = 0
        for process in self._processes():
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
            self._first.setdefault(pid, cpu if beginning else 0.0)
            self._last[pid] = cpu
            self._rss[pid] = max(self._rss.get(pid, 0), rss)
            together += rss
        self._peak = max(self._peak, together)

    def _processes(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        todo = [pid for pid in self._roots if pid not in self._without]
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
