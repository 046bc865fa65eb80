"""Who serves on a port, and what do they use? A supervisor and its workers, whoever listens."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO, NamedTuple

import pytest

from loadtest.load.usage import Watch, is_here, listeners, servers

WORKER = """
import os, socket, sys
listening = socket.socket()
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listening.bind(("127.0.0.1", int(sys.argv[1])))
listening.listen()
print(os.getpid(), flush=True)
sys.stdin.read()
"""
SUPERVISOR = """
import subprocess, sys
def keep():
    return subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
workers = [keep(), keep()]
while workers[0].wait():
    workers[0] = keep()
workers[1].wait()
"""


class Supervised(NamedTuple):
    """A supervisor that starts its first worker again when it is killed."""

    port: int
    pid: int
    said: IO[bytes]
    """A line with its pid from each worker that listens."""

    def worker(self) -> int:
        return int(self.said.readline())


@contextmanager
def supervised() -> Iterator[Supervised]:
    with closing(socket.socket()) as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        command = [sys.executable, "-c", SUPERVISOR, WORKER, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield Supervised(port, process.pid, process.stdout)


def pids(watch: Watch) -> set[int]:
    return {pid for pid, _, _, _ in watch.usage().processes}


def test_a_supervisor_is_watched_with_its_workers_and_with_one_started_again() -> None:
    with supervised() as bidder:
        first = {bidder.worker(), bidder.worker()}
        assert set(listeners(bidder.port)) == first
        assert servers(bidder.port) == [bidder.pid], "and not this process, which started it"
        watch = Watch(port=bidder.port)
        assert pids(watch) == {bidder.pid, *first}
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        again = bidder.worker()
        assert again not in first
        assert pids(watch) == {bidder.pid, *first, again}


def test_a_server_that_comes_after_the_watch_began_is_found() -> None:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        watch = Watch(port=listening.getsockname()[1])
        assert pids(watch) == set()
        listening.listen()
        usage = watch.usage()
    assert os.getpid() in {pid for pid, _, _, _ in usage.processes}
    assert usage.cpu_seconds < 0.5, "what was used before it was found is not the step's"


def test_who_listens_is_found_and_watched() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
        assert listeners(port) == servers(port) == [os.getpid()]
    now = iter([0.0, 2.0])
    watch = Watch([os.getpid()], clock=lambda: next(now))
    usage = watch.usage()
    assert usage.elapsed == 2.0
    assert usage.peak_rss_bytes > 10**7
    assert Watch([os.getpid()], without=[os.getpid()]).usage().processes == ()


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("192.0.2.1", False)],
)
def test_only_addresses_of_this_machine_are_here(host: str, here: bool) -> None:
    assert is_here(host) is here
