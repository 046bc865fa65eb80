"""How does a bidder speak HTTP? A client that can also speak oddly, on raw sockets.

HTTP/1.1 framing by RFC 9112; sections in the docstrings are its.
"""

import asyncio
import gzip
import ssl
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from urllib.parse import urlsplit

SECONDS = 5.0
"""How long any answer may take before the bidder counts as hung."""
_LONGEST_LINE = 64 * 1024


class BrokenAnswer(Exception):
    """The bidder closed the connection, hung, or did not speak HTTP."""


class Closed(BrokenAnswer):
    """The bidder closed the connection instead of answering."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. Header names are lower case; the body is without its framing."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> bytes:
        """The body without its content coding. Raises `BrokenAnswer` if it cannot be inflated."""
        if self.headers.get("content-encoding", "identity") == "identity":
            return self.body
        try:
            return gzip.decompress(self.body)
        except (OSError, EOFError, zlib.error) as error:
            raise BrokenAnswer(f"body cannot be inflated: {error}") from None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a bidder listens."""

    host: str
    port: int
    path: str
    secure: bool

    @classmethod
    def at(cls, url: str) -> "Target":
        """The target of an http or https URL. Raises `ValueError` for any other."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {url!r}")
        secure = parts.scheme == "https"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, parts.port or (443 if secure else 80), path, secure)

    @property
    def origin(self) -> str:
        """Scheme, host and port (RFC 6454)."""
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}"

    def head(self, method: str, headers: dict[str, str], version: str = "1.1") -> bytes:
        """A request line and headers, with the empty line after them."""
        lines = [f"{method} {self.path} HTTP/{version}", f"host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def post(
        self, body: bytes, headers: dict[str, str] | None = None, version: str = "1.1"
    ) -> bytes:
        """A whole POST of a bid request."""
        given = {"content-type": "application/json", "x-openrtb-version": "2.6"}
        given |= {"content-length": str(len(body))}
        return self.head("POST", given | (headers or {}), version) + body


@dataclass(slots=True)
class Connection:
    """An open connection. Use it as ``async with Connection(target) as connection``."""

    target: Target
    reader: asyncio.StreamReader = field(init=False)
    writer: asyncio.StreamWriter = field(init=False)

    async def __aenter__(self) -> "Connection":
        context = ssl.create_default_context() if self.target.secure else None
        opening = asyncio.open_connection(
            self.target.host, self.target.port, ssl=context, limit=_LONGEST_LINE
        )
        try:
            self.reader, self.writer = await asyncio.wait_for(opening, SECONDS)
        except (OSError, TimeoutError, UnicodeError) as error:
            raise BrokenAnswer(f"cannot connect: {error!r}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        try:
            await asyncio.wait_for(self.writer.wait_closed(), SECONDS)
        except (OSError, TimeoutError):
            return  # what the other end did with a dead connection is of no interest

    async def send(self, *pieces: bytes, pause: float = 0.0) -> None:
        """Write pieces, each in a segment of its own, `pause` seconds apart."""
        try:
            for piece in pieces:
                self.writer.write(piece)
                await asyncio.wait_for(self.writer.drain(), SECONDS)
                if len(pieces) > 1:
                    await asyncio.sleep(pause)
        except (OSError, TimeoutError):
            return  # refused in the middle of a body: the answer says why

    async def answer(self) -> Answer:
        """The next answer. Raises `BrokenAnswer`."""
        try:
            return await asyncio.wait_for(self._answer(), SECONDS)
        except TimeoutError:
            raise BrokenAnswer(f"no answer in {SECONDS:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed("connection closed before a whole answer") from None
        except (ValueError, asyncio.LimitOverrunError) as error:
            raise BrokenAnswer(f"not HTTP: {error}") from None

    async def exchange(self, request: bytes) -> Answer:
        """Send one request and take its answer."""
        await self.send(request)
        return await self.answer()

    async def closed(self) -> bool:
        """Did the other end close the connection, without another byte?"""
        try:
            return await asyncio.wait_for(self.reader.read(1), SECONDS) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    async def _answer(self) -> Answer:
        line = (await self.reader.readuntil(b"\r\n")).split(None, 2)
        if len(line) < 2 or not line[0].startswith(b"HTTP/1."):
            raise ValueError(f"status line {b' '.join(line)[:60]!r}")
        status = int(line[1])
        headers: dict[str, str] = {}
        while (raw := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = raw.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if status in (100, 102, 103):
            return await self._answer()
        return Answer(status, headers, await self._body(status, headers))

    async def _body(self, status: int, headers: dict[str, str]) -> bytes:
        """Message body length, §6.3."""
        if status in (204, 304):
            # None may follow; if a length is announced it is a fault that the 204 check reports.
            length = int(headers.get("content-length", 0))
            return await self.reader.readexactly(length) if length else b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                parts.append((await self.reader.readexactly(size + 2))[:-2])
            while await self.reader.readuntil(b"\r\n") != b"\r\n":
                continue  # trailers
            return b"".join(parts)
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()


async def ask(target: Target, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    """Post one bid request on a connection of its own."""
    async with Connection(target) as connection:
        return await connection.exchange(target.post(body, headers))


async def get(url: str) -> Answer:
    """Call a notice or tracking URL, as it is, without following a redirect."""
    try:
        target = Target.at(url)
        head = target.head("GET", {"connection": "close"})
    except ValueError as error:
        raise BrokenAnswer(f"cannot be called: {error}") from None
    async with Connection(target) as connection:
        return await connection.exchange(head)


async def wire_seconds(target: Target) -> float:
    """How long there and back takes without any bidder: the fastest of a few TCP handshakes."""
    taken = []
    for _ in range(5):
        began = perf_counter()
        async with Connection(replace(target, secure=False)):
            taken.append(perf_counter() - began)
    return min(taken)


def chunked(body: bytes, sizes: Sequence[int]) -> bytes:
    """The body in the chunked coding (§7.1), in chunks of these sizes over and over."""
    out, place, number = [], 0, 0
    while place < len(body):
        piece = body[place : place + sizes[number % len(sizes)]]
        out.append(b"%x\r\n%s\r\n" % (len(piece), piece))
        place += len(piece)
        number += 1
    return b"".join(out) + b"0\r\n\r\n"
