"""Which clients does nobody wish for? Those that hang up, never read, never finish, send too much.

Each function plays one kind for a while, on connections of its own beside the honest traffic, and
returns how often it did what it is there for. None sends more than a few dozen connections' worth.
"""

import asyncio
import gzip
import socket
import struct
import time
from collections import Counter
from contextlib import suppress
from random import Random

from loadtest.load.wire import BadAnswer, parse

_PAUSE_SECONDS = 0.02
_RESET = struct.pack("ii", 1, 0)
BODY = (
    b'{"id":"rude","at":1,"imp":[{"id":"1","banner":{"format":[{"w":300,"h":250}]}}],'
    b'"site":{"domain":"news.example"},"regs":{"gdpr":0}}'
)
SLOW_CLIENTS = 50
DEAF_CLIENTS = 10
DEAF_PAUSE_SECONDS = 0.25
"""Between 16 requests and the next: they are to be slow readers, not a flood."""
SMALL_SEGMENT_BYTES = 536
CHUNK = b"8000\r\n" + b" " * 0x8000 + b"\r\n"


def request(body: bytes, length: int | None = None, more: str = "") -> bytes:
    """A bid request with this body; `length` is what the head claims."""
    claimed = len(body) if length is None else length
    head = f"POST /openrtb2/demo HTTP/1.1\r\nHost: x\r\nContent-Length: {claimed}\r\n{more}\r\n"
    return head.encode() + body


async def hang_up(port: int, seconds: float, random: Random) -> int:
    """Hang up in the middle of a request, or of its answer; by FIN or by RST."""
    whole, times, end = request(BODY), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(whole[: random.randrange(1, len(whole))] if random.random() < 0.5 else whole)
        if random.random() < 0.5:
            found: socket.socket = writer.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if random.random() < 0.5:
            await asyncio.sleep(random.uniform(0.0, 0.003))  # so that it has begun to answer
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        times += 1
        await asyncio.sleep(_PAUSE_SECONDS)
    return times


async def never_read(port: int, seconds: float) -> int:
    """Ask and ask on one connection and take no answer; how many connections the bidder ended."""
    whole = request(BODY) * 16
    ended = await asyncio.gather(*[_deaf(port, whole, seconds) for _ in range(DEAF_CLIENTS)])
    return sum(ended)


async def _deaf(port: int, data: bytes, seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    end = time.monotonic() + seconds
    with socket.socket() as plain:
        # Small segments and a small window: else the kernel of the bidder's machine takes megabytes
        # of answers for a reader on the loopback interface, and the bidder never sees it is slow.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT_BYTES)
        plain.setblocking(False)
        await loop.sock_connect(plain, ("127.0.0.1", port))
        try:
            while time.monotonic() < end:
                with suppress(TimeoutError):
                    await asyncio.wait_for(loop.sock_sendall(plain, data), 0.5)
                await asyncio.sleep(DEAF_PAUSE_SECONDS)
        except OSError:
            return True  # cut off, as it should be
    return False


async def never_finish(port: int, seconds: float) -> int:
    """Send a request a byte at a time; how many connections the bidder ended before its end."""
    ended = await asyncio.gather(*[_dribble(port, seconds) for _ in range(SLOW_CLIENTS)])
    return sum(ended)


async def _dribble(port: int, seconds: float) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    whole, end, at = request(BODY), time.monotonic() + seconds, 0
    try:
        while time.monotonic() < end:
            writer.write(whole[at : at + 1])
            await writer.drain()
            at = min(at + 1, len(whole) - 1)
            with suppress(TimeoutError):
                if not await asyncio.wait_for(reader.read(1024), 0.2):
                    return True
    except OSError:
        return True
    finally:
        writer.close()
    return False


async def send_too_much(port: int, seconds: float) -> Counter[int]:
    """Bodies over the limit: said so, in chunks, and packed into little; status -> how many."""
    bomb = await asyncio.to_thread(gzip.compress, bytes(200 << 20), 9)  # takes a second
    tricks = [
        request(b"", length=1 << 40),
        b"POST /openrtb2/demo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + CHUNK * 40,
        request(bomb, more="Content-Encoding: gzip\r\n"),
        request(bomb),
    ]
    statuses: Counter[int] = Counter()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        statuses[await _status(port, tricks[number % len(tricks)])] += 1
        number += 1
        await asyncio.sleep(_PAUSE_SECONDS)
    return statuses


async def _status(port: int, data: bytes) -> int:
    """The answer's status; 0 = the connection ended without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            while (found := parse(answer)) is None:
                more = await reader.read(65536)
                if not more:
                    return 0
                answer += more
        return found.status
    except (OSError, BadAnswer, TimeoutError):
        return 0
    finally:
        writer.close()
