"""What did the server answer? HTTP/1.1 answers read from the bytes that came so far.

Only what a load generator asks: status, body, whether the connection may be used again (RFC 9112).
Compressed bodies are left as they are.
"""

from typing import NamedTuple

_END_OF_HEAD = b"\r\n\r\n"
_NO_BODY = frozenset({204, 304})


class BadAnswer(ValueError):
    """The bytes are not an HTTP/1.1 answer."""


class Answer(NamedTuple):
    """One answer. `body` is without chunk framing; `compressed` says that it is not plain."""

    status: int
    body: bytes
    keep_alive: bool
    compressed: bool

    @property
    def is_bid(self) -> bool:
        """It holds at least one bid; a compressed 200 is taken for one, as nobody looks inside."""
        return self.status == 200 and (self.compressed or b'"price"' in self.body)


def parse(data: bytes, ended: bool = False) -> Answer | None:
    """The one answer in `data`, None while it is not complete.

    `ended` says that the server closed the connection: what ends an answer without a length.
    Raises `BadAnswer` for anything that is not an answer, or is followed by more bytes.
    """
    split = data.find(_END_OF_HEAD)
    if split < 0:
        if len(data) > 65_536 or (data and not _could_be_answer(data)):
            raise BadAnswer(f"not an HTTP answer: {data[:40]!r}")
        return None
    if not _could_be_answer(data):
        raise BadAnswer(f"not an HTTP answer: {data[:40]!r}")
    try:
        status = int(data[9:12])
    except ValueError:
        raise BadAnswer(f"no status in {data[:40]!r}") from None
    rest = split + len(_END_OF_HEAD)
    if 100 <= status < 200:  # an interim answer: the real one follows (RFC 9110 §15.2)
        return parse(data[rest:], ended)
    head = data[:split].lower()
    closing = b"\r\nconnection: close" in head or data[5:8] == b"1.0"
    framed = _body(head, status, data, rest, ended)
    if framed is None:
        return None
    body, delimited = framed
    compressed = b"\r\ncontent-encoding:" in head
    return Answer(status, body, delimited and not closing and not ended, compressed)


def _could_be_answer(data: bytes) -> bool:
    return data[:5] == b"HTTP/"[: len(data)]


def _body(
    head: bytes, status: int, data: bytes, start: int, ended: bool
) -> tuple[bytes, bool] | None:
    """The body, and whether the answer itself said where it ends; None while incomplete."""
    if status in _NO_BODY:
        end = start
    elif (at := head.find(b"\r\ncontent-length:")) >= 0:
        line_end = head.find(b"\r", at + 2)
        length = head[at + 17 : line_end if line_end >= 0 else len(head)].strip()
        if not length.isdigit():
            raise BadAnswer(f"content-length {length!r}")
        end = start + int(length)
    elif b"\r\ntransfer-encoding: chunked" in head:
        return _chunks(data, start)
    else:
        return (data[start:], False) if ended else None
    if len(data) < end:
        return None
    if len(data) > end:
        raise BadAnswer("more bytes than one answer")
    return data[start:end], True


def _chunks(data: bytes, at: int) -> tuple[bytes, bool] | None:
    """A chunked body (RFC 9112 §7.1); trailers are skipped."""
    parts: list[bytes] = []
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return None
        try:
            size = int(data[at:line_end].split(b";", 1)[0], 16)
        except ValueError:
            raise BadAnswer(f"chunk size {data[at : min(line_end, at + 20)]!r}") from None
        at = line_end + 2
        if size == 0:
            return _after_trailers(data, at, b"".join(parts))
        if len(data) < at + size + 2:
            return None
        parts.append(data[at : at + size])
        at += size + 2


def _after_trailers(data: bytes, at: int, body: bytes) -> tuple[bytes, bool] | None:
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return None
        empty, at = line_end == at, line_end + 2
        if empty:
            if len(data) > at:
                raise BadAnswer("more bytes than one answer")
            return body, True
