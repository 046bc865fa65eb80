"""Answers are read the same however the network cuts them up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.wire import Answer, BadAnswer, parse

BID = b'{"id":"1","seatbid":[{"bid":[{"id":"1","impid":"1","price":1.5}]}]}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def with_length(body: bytes, extra: bytes = b"") -> bytes:
    return OK + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\nX-Trailer: 1\r\n\r\n"


@given(body=st.binary(min_size=1, max_size=200), size=st.integers(1, 50), cut=st.integers(0, 400))
def test_incomplete_until_the_last_byte_then_the_whole_body(
    body: bytes, size: int, cut: int
) -> None:
    for data in (with_length(body), chunked(body, size)):
        assert parse(data[: min(cut, len(data) - 1)]) is None
        assert parse(data) == Answer(200, body, keep_alive=True, compressed=False)


def test_no_content_has_no_body() -> None:
    assert parse(b"HTTP/1.1 204 No Content\r\n\r\n") == Answer(204, b"", True, False)


def test_an_answer_without_length_ends_with_the_connection() -> None:
    data = OK + b"\r\n" + BID
    assert parse(data) is None
    assert parse(data, ended=True) == Answer(200, BID, keep_alive=False, compressed=False)


@pytest.mark.parametrize(
    "data",
    [with_length(BID, b"Connection: close\r\n"), with_length(BID).replace(b"1.1", b"1.0")],
)
def test_a_closing_server_is_believed(data: bytes) -> None:
    answer = parse(data)
    assert answer is not None
    assert not answer.keep_alive


def test_header_names_in_any_case_and_interim_answers_skipped() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-LENGTH:2\r\n\r\n{}"
    assert parse(data) == Answer(200, b"{}", True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        OK + b"Content-Length: two\r\n\r\n",
        with_length(b"{}") + b"HTTP/1.1 200",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        chunked(b"{}", 2) + b"more",
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse(data)


@pytest.mark.parametrize(
    ("status", "body", "compressed", "bid"),
    [
        (200, BID, False, True),
        (200, b'{"id":"1","seatbid":[]}', False, False),
        (200, b"{}", False, False),
        (200, b"\x1f\x8b...", True, True),
        (204, b"", False, False),
        (503, BID, False, False),
    ],
)
def test_what_counts_as_a_bid(status: int, body: bytes, compressed: bool, bid: bool) -> None:
    assert Answer(status, body, True, compressed).is_bid is bid
