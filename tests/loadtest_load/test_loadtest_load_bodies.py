"""What is read from files, and what goes out."""

from itertools import islice
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest

from loadtest.load.bodies import People, endless, message, read, written

URL = urlsplit("http://127.0.0.1:8080/openrtb2/demo?x=1")


def test_lines_and_recorded_lines_and_a_single_object(tmp_path: Path) -> None:
    lines = tmp_path / "bodies.jsonl"
    lines.write_text('{"id":"1","imp":[]}\n\n{"src":"a","body":{"id":"2","imp":[]}}\n')
    assert read(lines) == [b'{"id":"1","imp":[]}', b'{"id":"2","imp":[]}']
    single = tmp_path / "request.json"
    single.write_text('{\n "id": "3",\n "imp": []\n}\n')
    assert read(single) == [b'{\n "id": "3",\n "imp": []\n}']


@pytest.mark.parametrize(("text", "where"), [('{"imp":[]}\n{oops', ":2"), ("[1]\n[2]", ":1")])
def test_the_line_at_fault_is_named(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "bodies.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=where):
        read(path)


def test_length_is_right_whatever_fills_the_slots() -> None:
    template = message(
        URL, b'{"id":"r{{n}}","imp":[],"user":{"buyeruid":"u{{person}}"},"tmax": 80}'
    )
    sent = written(template, number=7, person=42)
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /openrtb2/demo?x=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")
    assert b"Content-Length: %d" % len(body) in head
    assert body == b'{"id":"r000000000007","imp":[],"user":{"buyeruid":"u00000042"},"tmax": 80}'
    assert template.tmax_seconds == 0.08


def test_a_body_without_slots_or_tmax_goes_out_as_it_is() -> None:
    template = message(URL, b'{"imp":[]}')
    assert written(template, 1, 2).endswith(b'\r\n\r\n{"imp":[]}')
    assert template.tmax_seconds == 0


def test_every_body_in_turn_and_no_number_twice() -> None:
    messages = [message(URL, b'{"k":%d,"id":"{{n}}","p":"{{person}}"}' % k) for k in range(5)]
    runs = [
        list(islice(endless(messages, People(1000, 2.0), Random(3), first, 2), 50))
        for first in (0, 1)
    ]
    bodies = [data.partition(b"\r\n\r\n")[2] for run in runs for data, _ in run]
    assert len(set(bodies)) == 100
    assert sorted({body[5:6] for body in bodies[:5]}) == [b"0", b"1", b"2", b"3", b"4"]
    people = [int(body.split(b'"p":"')[1][:8]) for body in bodies]
    assert max(people) < 1000
    assert sum(person < 250 for person in people) > 30, "half of them, with a skew of 2"
