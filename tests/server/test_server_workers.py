"""How workers live, with small scripts in their place that say over the pair what a test wants."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bidder import metrics
from bidder.metrics import Metrics
from bidder.server import workers as module
from bidder.server.control import Channel, Drain, FromWorker, Ready, Reload
from bidder.server.workers import Process, Workers

PATIENCE_SECONDS = 20.0
SCRIPT = """#!{python}
import json, os, signal, socket, sys
from pathlib import Path

def say(kind, **more):
    control.sendall(json.dumps({{"type": kind, **more}}).encode() + b"\\n")

def hear():
    line = lines.readline()
    return json.loads(line)["type"] if line else ""

control = socket.socket(fileno=int(sys.argv[-1]))
lines = control.makefile()
index = int(sys.argv[4])
state = Path(sys.argv[sys.argv.index("--state") + 1])
with (state / "started").open("a") as file:
    file.write(str(index))
starts = (state / "started").read_text().count(str(index))
{body}
"""
USUAL = """
say("ready")
while (heard := hear()) == "reload":
    say("reloaded")
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def does(state: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Says what the worker processes do."""
    script = state / "worker"
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.05)

    def write(body: str) -> None:
        script.write_text(SCRIPT.format(python=sys.executable, body=body))
        script.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(script))

    return write


@pytest.fixture
async def workers(state: Path) -> AsyncIterator[Workers]:
    made = Workers(2, "unix:///nowhere", state, Metrics())
    yield made
    await in_time(made.close())


async def in_time(what: Awaitable[object]) -> object:
    return await asyncio.wait_for(what, PATIENCE_SECONDS)


async def once(what: Callable[[], bool]) -> None:
    """Return when it is true."""
    while not what():
        await asyncio.sleep(0.01)


def started(state: Path) -> str:
    """The number of each worker that was started, in this order."""
    path = state / "started"
    return path.read_text() if path.exists() else ""


async def test_a_worker_that_only_starts_hears_of_a_reload(
    workers: Workers, state: Path, does: Callable[[str], None]
) -> None:
    """It may have read what was published before."""
    does("""
if index == 0:
    heard = hear()
    say("ready")
    say("reloaded", problem=f"told to {heard}")
""" + USUAL)  # fmt: skip
    starting = asyncio.create_task(workers.start())
    await in_time(once(lambda: sorted(started(state)) == ["0", "1"] and workers.serving == 1))
    assert await in_time(workers.reload()) == ["told to reload"]
    await in_time(starting)
    assert await in_time(workers.reload()) == []


async def test_what_a_worker_is_told_before_it_is_listened_to_reaches_it(
    state: Path, does: Callable[[str], None]
) -> None:
    does(USUAL)
    worker = Process(0, "unix:///nowhere", state)
    worker.reloaded = asyncio.get_running_loop().create_future()
    worker.tell(Reload())
    worker.tell(Drain())
    try:
        await in_time(worker.watch())
    finally:
        worker.process.kill()
    assert worker.reloaded.result().problem == ""
    assert worker.ended.is_set()


async def test_a_worker_killed_in_the_middle_of_a_line_is_started_again(
    workers: Workers, does: Callable[[str], None]
) -> None:
    does("""
if index == 0 and starts == 1:
    say("ready")
    control.sendall(b'{"type":"cells","snapshot":[[["bidder_req')
    os.kill(os.getpid(), signal.SIGKILL)
""" + USUAL)  # fmt: skip
    await in_time(workers.start())
    cells = workers.cells
    await in_time(workers.until(once(lambda: cells().get(metrics.WORKER_RESTARTS) == 1)))
    await in_time(workers.until(once(lambda: workers.serving == 2)))


async def test_an_end_that_nobody_foresaw_keeps_no_one_waiting(
    workers: Workers, does: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(worker: Process, message: FromWorker) -> None:
        raise ArithmeticError("whatever it is")

    does(USUAL)
    monkeypatch.setattr(Process, "_take", fails)
    with pytest.raises(ArithmeticError):
        await in_time(workers.start())
    await in_time(workers.close())


async def test_no_worker_is_started_once_the_end_has_begun(
    workers: Workers, does: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that died just before: it would not be told to end."""
    starts = []

    class Counted(Process):
        def __init__(self, index: int, store_url: str, state: Path) -> None:
            starts.append(index)
            super().__init__(index, store_url, state)

    monkeypatch.setattr(module, "Process", Counted)
    does("""
if index == 0:
    say("ready")
    sys.exit()
""" + USUAL)  # fmt: skip
    await in_time(workers.start())
    await in_time(once(lambda: workers.serving == 1))
    workers.let_go()
    before = list(starts)
    await in_time(workers.until(asyncio.Event().wait()))  # what kept the dead one has returned
    assert starts == before


async def test_a_line_that_is_torn_or_cannot_be_read_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        lines = [b'{"type":"unheard of"}', b"\xff{", b'{"type":"ready"}', b'{"type":"rea']
        theirs.sendall(b"\n".join(lines))
    channel: Channel[FromWorker] = await Channel.open(ours, FromWorker)
    assert [message async for message in channel.messages()] == [Ready()]
    channel.close()
    assert len(caplog.messages) == 2
    assert json.dumps("unheard of")[1:-1] in caplog.messages[0]
