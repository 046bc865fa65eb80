"""Real generators against small servers on 127.0.0.1. Only counts are asserted, never speed."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from loadtest.__main__ import main
from loadtest.load.bodies import EVERYONE
from loadtest.load.generator import GeneratorFailed, Generators, Step
from loadtest.load.probe import NothingToMeasure, probe

BODY = b'{"id":"{{n}}","imp":[{"id":"1"}],"tmax":60000}'
BID = b'{"id":"1","seatbid":[{"bid":[{"price":1.5}]}]}'
NO_BID = b"HTTP/1.1 204 No Content\r\n\r\n"
WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BID), BID)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    len(BID),
    BID,
)
CLOSING = WITH_LENGTH.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")
UNTIL_CLOSED = b"HTTP/1.0 200 OK\r\n\r\n" + BID

Answering = Callable[[int], bytes]


@contextmanager
def server(answering: Answering) -> Iterator[str]:
    """A server in a thread; `answering` gives the bytes for request n, empty = hang up."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.split(b"content-length:")[1].split(b"\r\n")[0]
                body = await reader.readexactly(int(length))
                json.loads(body)
                answer = answering(count)
                count += 1
                writer.write(answer)
                if not answer or b"close" in answer[:60] or answer.startswith(b"HTTP/1.0"):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def close() -> None:
        listening.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    try:
        yield f"http://127.0.0.1:{port}/openrtb2/test"
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_two_generators_two_steps_all_kinds_of_answers() -> None:
    kinds = [WITH_LENGTH, CHUNKED, NO_BID, CLOSING, UNTIL_CLOSED]
    with (
        server(lambda n: kinds[n % 5]) as url,
        Generators(url, [BODY], connections=8, processes=2, timeout=30) as generators,
    ):
        for rate in (100, 200):
            result = generators.run(Step(rate, 0.5))
            assert result.sent == result.answered == rate / 2
            assert result.statuses == {200: rate * 0.4, 204: rate * 0.1}
            assert result.bid_rate == pytest.approx(0.8)
            assert (result.errors, result.timeouts, result.unsent, result.late) == ({}, 0, 0, 0)


def test_hang_ups_are_errors_and_the_connection_comes_back() -> None:
    with (
        server(lambda n: b"" if n % 10 == 9 else NO_BID) as url,
        Generators(url, [BODY], connections=2, timeout=30) as generators,
    ):
        result = generators.run(Step(100, 0.5))
    assert result.errors == {"connection lost": 5}
    assert result.statuses == {204: 45}


def test_nobody_there() -> None:
    with server(lambda n: NO_BID) as url:
        pass
    with pytest.raises(GeneratorFailed), Generators(url, [BODY]):
        pass


def test_the_probe_stops_at_the_first_bid() -> None:
    with server(lambda n: WITH_LENGTH if n == 7 else NO_BID) as url:
        assert probe(url, [BODY], EVERYONE, Random(1)) == 8


def test_the_probe_refuses_a_server_without_bids() -> None:
    empty = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with (
        server(lambda n: empty if n % 2 else NO_BID) as url,
        pytest.raises(NothingToMeasure, match=r"100 x 200, 100 x 204.*store empty"),
    ):
        probe(url, [BODY], EVERYONE, Random(1))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    return int(ended.value.code or 0)


def test_the_command_writes_figures_and_a_page(tmp_path: Path) -> None:
    bodies, figures, html = (tmp_path / name for name in ("b.jsonl", "out/f.json", "out/p.html"))
    bodies.write_bytes(BODY)
    with server(lambda n: WITH_LENGTH) as url:
        files = ["--bodies", str(bodies), "--json", str(figures), "--html", str(html)]
        assert run(url, "--rate", "50,100", "--duration", "0.4", *files) == 0
    steps = json.loads(figures.read_bytes())["steps"]
    assert [step["answered"] for step in steps] == [20, 40]
    assert steps[0]["usage"]["peak_rss_bytes"] > 0, "this very process listens"
    assert html.read_text().startswith("<!DOCTYPE html>")


def test_the_command_refuses_zero_bids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_bytes(BODY)
    with server(lambda n: NO_BID) as url:
        assert run(url, "--rate", "50", "--bodies", str(bodies)) == 2
    assert "none of 200 requests" in capsys.readouterr().out


def test_the_command_refuses_a_store_with_nobody_in_it_unless_told_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_bytes(b'{"id":"{{n}}","imp":[{"id":"1"}],"user":{"buyeruid":"{{person}}"}}')
    with server(lambda n: WITH_LENGTH) as url:
        arguments = (url, "--rate", "50", "--duration", "0.2", "--bodies", str(bodies))
        assert run(*arguments) == 2
        assert "store seems empty" in " ".join(capsys.readouterr().out.split())
        assert run(*arguments, "--unknown-people") == 0


def test_who_listens_here_is_not_credited_with_the_work_of_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies, figures = tmp_path / "bodies.jsonl", tmp_path / "figures.json"
    bodies.write_bytes(BODY)
    monkeypatch.setattr("loadtest.load.command.is_here", lambda host: False)
    with server(lambda n: WITH_LENGTH) as url:
        files = ["--bodies", str(bodies), "--json", str(figures)]
        assert run(url, "--rate", "50", "--duration", "0.2", *files) == 0
    step = json.loads(figures.read_bytes())["steps"][0]
    assert step["usage"] is None
    assert any("CPU and memory unknown" in note for note in step["notes"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("http://127.0.0.1:1/", "--rate", "fast"),
        ("http://127.0.0.1:1/", "--rate", "0"),
        ("http://127.0.0.1:1/", "--rate", "10,20", "--find"),
        ("ftp://127.0.0.1/", "--rate", "10"),
        ("http://127.0.0.1:1/", "--rate", "10", "--bodies", "/nonexistent"),
    ],
)
def test_the_command_refuses_nonsense(arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 2


def test_a_search_from_several_rates_says_that_it_begins_at_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("http://127.0.0.1:1/", "--rate", "10,20", "--find") == 2
    assert "--find begins at one --rate, not at 2" in capsys.readouterr().out


def test_a_command_that_cannot_be_imported_takes_no_other_down(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from loadtest import __main__ as commands

    monkeypatch.setitem(commands.COMMANDS, "ghost", ("loadtest.ghost.command", "Not there."))
    for arguments, code, said in ((["ghost"], 2, "ghost is not available"), (["--help"], 0, "run")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert (ended.value.code or 0) == code
        captured = capsys.readouterr()
        assert said in captured.out + captured.err
