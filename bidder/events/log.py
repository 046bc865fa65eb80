"""How is an event written down without making a bid wait for the disk?

`append` puts a line into memory and returns; `commit` returns when the line is on the disk. One
thread per log takes what has gathered, writes it, and calls fsync once for all who wait (group
commit, as databases do it). When the disk refuses, the log is `stalled`: the engine stops bidding,
those who wait get `LogUnavailable`, lines stay in memory up to a bound, and the thread tries again
until it succeeds.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from threading import Thread

from bidder.events.output import Disk, Output
from bidder.events.schema import Event, encode

GROUP_BYTES = 1 << 20
"""Most that one write takes."""
IDLE_SECONDS = 1.0
"""How often an idle log looks at the age of its file."""
RETRY_SECONDS = (0.05, 1.0)
"""First and longest pause before a failed disk is tried again."""
ROOM_LEFT = 7 / 8
"""The share of the buffer at which bidding stops: requests in flight still find room."""

_logger = logging.getLogger(__name__)

Waiter = tuple[int, "asyncio.Future[None]"]
"""The position in the stream of bytes that must be on disk, and who waits for it."""


class LogUnavailable(Exception):
    """The event is not known to be on the disk: whoever sent it must send it again."""


class EventLog:
    """The log of one process. `append`, `commit` and `close` belong to the event loop's thread.

    `directory` is `<state>/events/<writer>`, with a `writer` no other living process uses.
    `patience_seconds`: a commit or a write that takes longer counts as failed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        buffer_bytes: int = 64 << 20,
        rotate_bytes: int = 64 << 20,
        rotate_seconds: float = 3600.0,
        gather_seconds: float = 0.02,
        patience_seconds: float = 2.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        disk: Disk | None = None,
    ) -> None:
        self.lost_lines = 0
        """Lines refused because the buffer was full or the log closed."""
        self.written_bytes = 0
        self.error = ""
        """Why the disk refuses; empty while it does not."""

        self._buffer_bytes = buffer_bytes
        self._stall_bytes = int(buffer_bytes * ROOM_LEFT)
        self._gather_seconds = gather_seconds
        self._patience_seconds = patience_seconds
        self._monotonic = monotonic

        self._lines: deque[bytes] = deque()
        self._waiters: deque[Waiter] = deque()
        self._accepted = 0
        """Bytes ever put into `_lines`; only the loop's thread writes it."""
        self._taken = 0
        """Bytes ever taken out of `_lines`; only the log's thread writes it."""

        self._awake = False
        self._wake = Flag()
        self._urgent = Flag()
        self._stop = Flag()
        self._busy_since = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._output = Output(
            directory, rotate_bytes, rotate_seconds, clock, disk if disk is not None else Disk()
        )
        self._thread = Thread(target=self._run, name=f"log-{directory.name}", daemon=True)
        self._thread.start()

    @property
    def buffered_bytes(self) -> int:
        """Bytes accepted and not yet written."""
        return self._accepted - self.written_bytes

    @property
    def stalled(self) -> bool:
        """The log cannot be written, or does not keep up: do not bid."""
        busy_since = self._busy_since
        return (
            self.error != ""
            or self._accepted - self.written_bytes >= self._stall_bytes
            or (busy_since != 0.0 and self._monotonic() - busy_since > self._patience_seconds)
        )

    def append(self, event: Event) -> None:
        """Write `event` soon. Never waits; a full buffer refuses it and counts `lost_lines`."""
        line = encode(event)
        if self._has_room(line):
            self._accept(line)
        else:
            self.lost_lines += 1

    def _has_room(self, line: bytes) -> bool:
        waiting = self._accepted - self.written_bytes
        return waiting + len(line) <= self._buffer_bytes and self._closing is None

    def _accept(self, line: bytes) -> None:
        self._lines.append(line)
        self._accepted += len(line)
        if not self._awake:
            self._awake = True
            self._wake.set()

    async def commit(self, event: Event) -> None:
        """Return when `event` is on the disk.

        Raises `LogUnavailable` if that cannot be said: the line may still be written later, which
        does no harm, as readers count an event once.
        """
        line = encode(event)
        if self.stalled or not self._has_room(line):
            raise LogUnavailable(self.error or "the log does not keep up")
        self._loop = asyncio.get_running_loop()
        done = self._loop.create_future()
        # Before the line: so the round that writes a line always knows that someone waits for it.
        self._waiters.append((self._accepted + len(line), done))
        self._accept(line)
        self._urgent.set()
        self._wake.set()
        try:
            async with asyncio.timeout(self._patience_seconds):
                await done
        except TimeoutError:
            raise LogUnavailable("the disk takes too long") from None

    async def close(self) -> None:
        """Write and sync what is left, end the thread. Raises `LogUnavailable` if lines are lost.

        A disk that hangs is waited for as long as `patience_seconds`.
        """
        if self._closing is None:
            loop = asyncio.get_running_loop()
            self._closing = (loop, loop.create_future())
            self._stop.set()
            self._urgent.set()
            self._wake.set()
        try:
            async with asyncio.timeout(self._patience_seconds):
                await asyncio.shield(self._closing[1])
        except TimeoutError:
            raise LogUnavailable("the disk takes too long") from None
        if self.buffered_bytes or self.error:
            raise LogUnavailable(f"{self.buffered_bytes} bytes not written: {self.error}")

    def _run(self) -> None:
        """The thread."""
        try:
            self._write_until_stopped()
        except BaseException as error:
            self._fail(f"the log's thread has ended: {error!r}")
            raise
        finally:
            self._output.close()
            if self._closing is not None:
                loop, closed = self._closing
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_resolve, [closed], "")

    def _write_until_stopped(self) -> None:
        """Rounds until stopped, then more for what is left, unless the disk refuses."""
        pause = RETRY_SECONDS[0]
        self._round()  # opens the file: a place that cannot be written is known at once
        while not self._stop.is_set():
            if self.error:
                self._stop.wait(pause)
                pause = min(2 * pause, RETRY_SECONDS[1])
            else:
                pause = RETRY_SECONDS[0]
                if not self._waiters and self._accepted - self._taken < GROUP_BYTES:
                    self._gather()
            self._round()
        while not self._round(last=True) and not self.error:
            pass

    def _gather(self) -> None:
        """Sleep until there is something, then a little longer unless somebody waits for it."""
        if self._lines or self._wake.wait(IDLE_SECONDS):
            self._urgent.wait(self._gather_seconds)
        self._wake.clear()
        self._urgent.clear()
        # After the flags and before lines are taken: a line that comes later sets them again.
        self._awake = False

    def _round(self, last: bool = False) -> bool:
        """Write one group, sync if anyone waits. Returns whether nothing is left."""
        output = self._output
        self._busy_since = self._monotonic()
        try:
            if not output.pending:
                output.pending = self._take()
            try:
                output.write()
            finally:
                self.written_bytes = self._taken - len(output.pending)
            reached = self.written_bytes
            if last or (self._waiters and self._waiters[0][0] <= reached):
                output.sync()
                self._settle(reached, "")
            if not last:
                output.rotate_if_due()
        except OSError as error:
            self.written_bytes = self._taken - len(output.pending)
            self._fail(str(error))
        else:
            if self.error:
                _logger.warning("event log can be written again")
            self.error = ""
        finally:
            self._busy_since = 0.0
        return not (self._lines or output.pending)

    def _take(self) -> bytes:
        group: list[bytes] = []
        size = 0
        lines = self._lines
        while lines and size < GROUP_BYTES:
            line = lines.popleft()  # atomic, unlike swapping the list under an append
            group.append(line)
            size += len(line)
        self._taken += size
        return b"".join(group)

    def _fail(self, reason: str) -> None:
        if not self.error:
            _logger.error("event log cannot be written: %s", reason)
        self.error = reason
        self._settle(self._accepted, reason)

    def _settle(self, reached: int, error: str) -> None:
        """Answer those who wait for bytes up to `reached`."""
        futures: list[asyncio.Future[None]] = []
        while self._waiters and self._waiters[0][0] <= reached:
            futures.append(self._waiters.popleft()[1])
        loop = self._loop
        if futures and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, futures, error)


def _resolve(futures: "list[asyncio.Future[None]]", error: str) -> None:
    for future in futures:
        if future.done():
            continue  # its caller gave up
        if error:
            future.set_exception(LogUnavailable(error))
        else:
            future.set_result(None)
