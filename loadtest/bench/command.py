"""How fast is the bidder per core? ``python -m loadtest bench``, which is `make bench`."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import msgspec
import orjson
import typer
from rich.console import Console
from rich.text import Text

from bidder.store.embedded import EmbeddedStore, EmbeddedStoreError
from loadtest.bench import settings, workload
from loadtest.bench.measure import Cores, Side, compare
from loadtest.bench.servers import NotReady, free_port, pinned, serving, two_cores
from loadtest.bench.workload import Workload
from loadtest.load.bodies import read
from loadtest.load.generator import GeneratorFailed, Generators
from loadtest.load.ops import OpsUnreachable
from loadtest.load.probe import NothingToMeasure, probe

SERVE = "{python} -m bidder serve --config {config}"
LOAD = "{python} -m bidder people load {people} --config {config}"
TRAIN = "{python} -m models.demo --trees {trees} --leaves {leaves} --out {models}"
COMPILE = "{python} -m models.compile {models}"

_console = Console(width=100)


@dataclass(frozen=True, slots=True)
class Commands:
    """How the bidder is made ready and started; an empty one is left out.

    They may name ``{python} {config} {people} {models} {trees} {leaves} {port} {ops_port}``, and
    find PORT, OPS_PORT and STATE_DIR in their environment.
    """

    serve: str
    load: str
    train: tuple[str, ...]
    ops: bool
    """It has an ops port, which says when it is ready."""


def bench(
    people: Annotated[int | None, typer.Option(help="People in the store.", min=1)] = None,
    line_items: Annotated[int | None, typer.Option(min=1)] = None,
    seconds: Annotated[float, typer.Option(help="Length of each step.", min=0.5)] = 10.0,
    repeats: Annotated[int, typer.Option(help="Interleaved repeats.", min=1)] = 3,
    connections: Annotated[int, typer.Option(min=1)] = 64,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("build/bench.json"),
    folder: Annotated[Path, typer.Option(help="Where the workload goes.")] = Path("build/bench"),
    serve: Annotated[str, typer.Option(help="Starts the bidder.")] = SERVE,
    load: Annotated[str, typer.Option(help="Loads the people; '' leaves it out.")] = LOAD,
    train: Annotated[str, typer.Option(help="Makes the models; '' leaves it out.")] = TRAIN,
    ops: Annotated[bool, typer.Option(help="The bidder has an ops port.")] = True,
    compiled: Annotated[
        bool, typer.Option(help="Score by compiled trees: needs the extra `compiled`.")
    ] = False,
) -> None:
    """CPU per request of the bidder against a bare aiohttp application, each on one core.

    Ends with 1 if something kept the figures from counting, with 2 if there are none."""
    work = _workload(people, line_items)
    makes = (train, COMPILE) if compiled else (train,)
    commands = Commands(serve, load, tuple(filter(None, makes)), ops)
    models = folder.absolute() / ("models-compiled" if compiled else "models")
    try:
        figures = _bench(work, commands, folder.absolute(), models, seconds, repeats, connections)
    except (
        NotReady,
        NothingToMeasure,
        GeneratorFailed,
        OpsUnreachable,
        EmbeddedStoreError,
        subprocess.CalledProcessError,
    ) as error:
        _console.print(Text(f"loadtest bench: {error}", style="red"))
        raise typer.Exit(2) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
    for name, value in figures.items():
        if not isinstance(value, dict | list):
            _console.print(
                f"{name:20} {value:.4g}" if isinstance(value, float) else f"{name:20} {value}"
            )
    for note in figures["notes"]:
        _console.print(Text(note, style="yellow"))
    if figures["notes"]:
        _console.print(Text("So these figures do not count.", style="red"))
        raise typer.Exit(1)


def _workload(people: int | None, line_items: int | None) -> Workload:
    work = workload.load()
    return msgspec.structs.replace(
        work, people=people or work.people, line_items=line_items or work.line_items
    )


def _bench(
    work: Workload,
    commands: Commands,
    folder: Path,
    models: Path,
    seconds: float,
    repeats: int,
    connections: int,
) -> dict[str, Any]:
    cores = Cores(*two_cores())
    with ExitStack() as stack:
        stack.enter_context(pinned(cores.client))
        _say("writing the workload")
        workload.write(work, folder, time.time())
        for stale in ("state", "store"):
            shutil.rmtree(folder / stale, ignore_errors=True)
        store = stack.enter_context(EmbeddedStore(folder / "store"))
        settings.write(folder / "config", work, store_url=store.url, models=models)
        sent = read(folder / "bodies.jsonl")

        def load_on(port: int) -> Generators:
            url = f"http://127.0.0.1:{port}/openrtb2/{work.exchange}"
            probe(url, sent, work.drawn, Random(work.seed))
            load = Generators(url, sent, connections=connections, people=work.drawn, seed=work.seed)
            return stack.enter_context(load)

        port, pid, ops = start_bidder(stack, work, commands, folder, models, cores.server)
        bidder = Side("bidder", load_on(port), (pid,), ops)
        port, pid = _start_bare(stack, folder, cores.server)
        bare = Side("bare", load_on(port), (pid,))
        figures = compare(bidder, bare, seconds, repeats, cores, _say)
    figures["workload"] = msgspec.to_builtins(work)
    figures["notes"] += _unexpected(figures, work)
    return figures


def start_bidder(
    stack: ExitStack,
    work: Workload,
    commands: Commands,
    folder: Path,
    models: Path,
    core: int | None,
) -> tuple[int, int, str]:
    """Its port, its pid and the URL of its ops port, once it has models and people."""
    port, ops_port = free_port(), free_port()
    names = {
        "python": sys.executable,
        "config": folder / "config",
        "people": folder / "people.jsonl",
        "models": models,
        "trees": work.models.trees,
        "leaves": work.models.leaves,
        "port": port,
        "ops_port": ops_port,
    }
    environment = {
        "PORT": str(port),
        "OPS_PORT": str(ops_port),
        "STATE_DIR": str(folder / "state"),
    }
    _prepare(commands, names, environment)
    _say("starting the bidder")
    ops = f"http://127.0.0.1:{ops_port}" if commands.ops else ""
    ready = f"{ops}/-/ready" if ops else f"127.0.0.1:{port}"
    command = _words(commands.serve, names)
    pid = stack.enter_context(serving(command, environment, core, folder / "bidder.log", ready))
    return port, pid, ops


def _start_bare(stack: ExitStack, folder: Path, core: int) -> tuple[int, int]:
    """Its port and its pid."""
    port = free_port()
    command = [sys.executable, "-m", "loadtest.bench.bare", str(port)]
    log = folder / "bare.log"
    return port, stack.enter_context(serving(command, {}, core, log, f"127.0.0.1:{port}"))


def _prepare(commands: Commands, names: dict[str, Any], environment: dict[str, str]) -> None:
    """Models, made once for a folder, and people, loaded anew each time."""
    if not any(Path(names["models"]).glob("*")):
        _say("making the models")
        for command in commands.train:
            subprocess.run(_words(command, names), check=True)
    if commands.load:
        _say("loading the people")
        subprocess.run(_words(commands.load, names), check=True, env=os.environ | environment)


def _words(command: str, names: dict[str, Any]) -> list[str]:
    return [word.format(**names) for word in shlex.split(command)]


def _unexpected(figures: dict[str, Any], work: Workload) -> list[str]:
    notes = []
    if figures["bid_rate"] < work.expected.min_bid_rate:
        notes.append(f"Only {figures['bid_rate']:.0%} answered with a bid: not the workload meant.")
    rows, (least, most) = figures["rows_scored"], work.expected.rows_scored
    if rows is not None and not least <= rows <= most:
        notes.append(f"{rows:.1f} rows scored a request: not the workload meant.")
    return notes


def _say(text: str) -> None:
    _console.print(Text(f"{time.strftime('%H:%M:%S')} {text}"))
