"""How are the sides of a bench started? Each pinned to its core, ended with the bench."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

READY_SECONDS = 900.0
"""Reading 10,000 line items from YAML takes its time."""
_DRAIN_SECONDS = 30.0


class NotReady(RuntimeError):
    """A server did not start; the message names its log."""


def two_cores() -> tuple[int, int]:
    """The core for the server under test, and the one for everything else.

    Raises `NotReady` where this process may use only one.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise NotReady("a bench needs two cores: one for the server, one for client and store")
    return cores[0], cores[1]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run on one core; so do all processes started inside, until they end."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def serving(
    command: Sequence[str], environment: Mapping[str, str], core: int | None, log: Path, ready: str
) -> Iterator[int]:
    """A server process on `core` (None = wherever there is room), from ready to drained; its pid.

    `ready` is a URL that answers 200 once it is, or ``host:port`` that accepts connections.
    """
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        with pinned(core) if core is not None else nullcontext():
            process = subprocess.Popen(
                command, env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT
            )
        stack.callback(_end, process)
        deadline = time.monotonic() + READY_SECONDS
        while not _is_ready(ready):
            if process.poll() is not None:
                raise NotReady(f"{command[0]} ended with {process.returncode}: {_tail(log)}")
            if time.monotonic() > deadline:
                raise NotReady(f"not ready after {READY_SECONDS:.0f} s: {_tail(log)}")
            time.sleep(0.1)
        yield process.pid


def _is_ready(ready: str) -> bool:
    try:
        if ready.startswith("http"):
            with urlopen(ready, timeout=2) as answer:
                return bool(answer.status == 200)
        host, _, port = ready.rpartition(":")
        socket.create_connection((host, int(port)), timeout=2).close()
    except (URLError, OSError):
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_DRAIN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{' / '.join(lines[-5:]) or 'it said nothing'} ({log})"
