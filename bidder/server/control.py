"""What do supervisor and workers say to each other? JSON lines over a socket pair.

A worker that sees the end of it has lost its supervisor, and drains.
"""

import asyncio
from collections.abc import AsyncIterator
from logging import getLogger
from socket import socket
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from bidder.metrics import Snapshot

MAX_LINE_BYTES = 64 << 20


class Ready(Struct, frozen=True, tag="ready"):
    """The worker serves."""


class Cells(Struct, frozen=True, tag="cells"):
    """The worker's metrics, once a second and at its end."""

    snapshot: Snapshot


class Reloaded(Struct, frozen=True, tag="reloaded"):
    """What became of a reload; `problem` is empty if it was applied."""

    problem: str = ""
    model: str = ""


class Reload(Struct, frozen=True, tag="reload"):
    """Load the configuration again."""


class Drain(Struct, frozen=True, tag="drain"):
    """Stop accepting, finish what is under way, and end."""


FromWorker = Ready | Cells | Reloaded
FromSupervisor = Reload | Drain

T = TypeVar("T")
_encoder = msgspec.json.Encoder()
_logger = getLogger(__name__)


class Channel(Generic[T]):
    """One end of the pair; `T` is what comes in."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: object
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)

    @classmethod
    async def open(cls, end: socket, kind: object) -> "Channel[T]":
        """The channel on this end of the pair."""
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=MAX_LINE_BYTES)
        return cls(reader, writer, kind)

    def send(self, message: FromWorker | FromSupervisor) -> None:
        """Say it; to someone who is gone, in vain."""
        if not self._writer.is_closing():
            self._writer.write(_encoder.encode(message) + b"\n")

    async def drain(self) -> None:
        """Return when what was said has left."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    async def messages(self) -> AsyncIterator[T]:
        """What the other side says, until it is gone. The last line of one that was killed may be
        torn; what cannot be read is said and passed over."""
        while True:
            try:
                line = await self._reader.readline()
            except (ConnectionError, ValueError):
                return
            if not line.endswith(b"\n"):
                return
            try:
                message = self._decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
                _logger.warning("a line between supervisor and worker cannot be read: %s", problem)
                continue
            yield message

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
