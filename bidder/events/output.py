"""How do lines get into files, so that a failing disk tears none and loses none?

A write that stops half-way is cut back to its last whole line, or the file is left for a new one:
a reader never sees a whole line vanish, nor a torn one before a whole one.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from bidder.events.files import file_name, files_of, sync_directory

ROTATE = "rotate"
"""A file of this name in a writer's folder asks for the one under way to be ended; then it goes."""


class Disk:
    """The file operations of a log, in one place so that tests can make each of them fail."""

    def create(self, path: Path) -> int:
        """A new file, opened for appending. Raises `FileExistsError` if there is one."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)

    def write(self, fd: int, data: bytes) -> int:
        """Append; returns how many bytes were taken, which may be fewer."""
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        """Return when what was written is on the disk."""
        getattr(os, "fdatasync", os.fsync)(fd)  # macOS has only the latter

    def truncate(self, fd: int, size: int) -> None:
        """Cut back to `size` bytes."""
        os.ftruncate(fd, size)


class Output:
    """The open file of one writer and the lines that must go to it; used by one thread only."""

    def __init__(
        self,
        directory: Path,
        rotate_bytes: int,
        rotate_seconds: float,
        clock: Callable[[], float],
        disk: Disk,
    ) -> None:
        self.pending = b""
        """Whole lines not yet written; survives failures."""
        self._directory = directory
        self._rotate_bytes = rotate_bytes
        self._rotate_seconds = rotate_seconds
        self._clock = clock
        self._disk = disk
        self._lock = -1
        self._path = directory
        self._fd = -1
        self._size = 0
        self._started = 0.0
        self._unsynced = b""

    def write(self) -> None:
        """Write `pending`. On `OSError` it holds the lines that did not get there."""
        self._open_if_needed()
        written = 0
        try:
            while written < len(self.pending):
                taken = self._disk.write(self._fd, self.pending[written:])
                if not taken:
                    raise OSError("the disk takes nothing")
                written += taken
        except OSError:
            self._keep_whole_lines(written)
            raise
        self._size += written
        self._unsynced = self.pending
        self.pending = b""

    def sync(self) -> None:
        """Return when all that was written is on the disk.

        On `OSError` nobody knows what is: the last group goes into a new file once more.
        """
        try:
            self._disk.sync(self._fd)
        except OSError:
            self.pending = self._unsynced + self.pending
            self._unsynced = b""
            self._abandon()
            raise
        self._unsynced = b""

    def rotate_if_due(self) -> None:
        """Begin a new file if this one is large or old enough, or if asked to. Raises `OSError`."""
        self._open_if_needed()
        old = abs(self._clock() - self._started) >= self._rotate_seconds  # a clock may jump back
        asked = os.path.exists(self._directory / ROTATE)
        if self._size >= self._rotate_bytes or (self._size and (old or asked)):
            self.sync()
            self._abandon()
            self._open_if_needed()
        if asked:
            (self._directory / ROTATE).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of file and lock."""
        self._abandon()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _keep_whole_lines(self, written: int) -> None:
        """Cut a half-written line off the file, or leave the file for a new one."""
        whole = self.pending.rfind(b"\n", 0, written) + 1
        self.pending = self.pending[whole:]
        try:
            self._disk.truncate(self._fd, self._size + whole)
            self._size += whole
        except OSError:
            self._abandon()

    def _abandon(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open_if_needed(self) -> None:
        if self._fd >= 0 and not self._still_there():
            self.close()  # someone removed or moved the directory: begin again in a new one
        if self._fd >= 0:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        files = files_of(self._directory)
        self._started = self._clock()
        sequence = files[-1].sequence + 1 if files else 1
        self._path = self._directory / file_name(self._started, sequence)
        self._fd = self._disk.create(self._path)
        self._size = 0
        sync_directory(self._directory)

    def _still_there(self) -> bool:
        try:
            return os.stat(self._path).st_ino == os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False

    def _take_lock(self) -> None:
        """One writer per directory, or "all but the last file are finished" would be untrue."""
        if self._lock >= 0:
            return
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise OSError(f"another process writes to {self._directory}") from error
        self._lock = lock
