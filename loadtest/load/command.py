"""How is load put on a bidder from a shell? ``python -m loadtest run``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from time import monotonic
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loadtest.load import bodies as bodies_of
from loadtest.load.bodies import People
from loadtest.load.find import Found, find
from loadtest.load.generator import GeneratorFailed, Generators, Progress, Step, address
from loadtest.load.ops import OpsUnreachable, scrape
from loadtest.load.page import COLUMNS, page
from loadtest.load.probe import NothingToMeasure, probe
from loadtest.load.result import Result
from loadtest.load.strangers import recognised
from loadtest.load.usage import Watch, is_here

DEMO_REQUEST = Path("config/demo/request.json")

Url = Annotated[str, typer.Argument(help="Where bid requests go, http://HOST:PORT/openrtb2/NAME.")]


def run(
    url: Url,
    rate: Annotated[str, typer.Option(help="Requests a second; several, by commas, are steps.")],
    duration: Annotated[float, typer.Option(help="Seconds of each step.", min=0.1)] = 10.0,
    connections: Annotated[int, typer.Option(min=1)] = 64,
    processes: Annotated[int, typer.Option(help="Generator processes.", min=1)] = 1,
    bodies: Annotated[
        Path | None, typer.Option(help="JSON Lines of bodies. Else the demo's, by many people.")
    ] = None,
    people: Annotated[
        int, typer.Option(help="How many people {{person}} in bodies may be.", min=1)
    ] = 1_000_000,
    skew: Annotated[float, typer.Option(help="Above 1: some come back more often.")] = 1.0,
    timeout: Annotated[float, typer.Option(help="Seconds until an answer is given up.")] = 2.0,
    seed: Annotated[int, typer.Option()] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots here.")] = None,
    ops: Annotated[str | None, typer.Option(help="URL of the bidder's ops port.")] = None,
    find_highest: Annotated[
        bool, typer.Option("--find", help="Search the highest rate, beginning at RATE.")
    ] = False,
    p99: Annotated[float, typer.Option(help="With --find: the limit, in milliseconds.")] = 10.0,
    unknown_people: Annotated[
        bool, typer.Option(help="Go on though nobody seems to be in the store.")
    ] = False,
) -> None:
    """Open-loop load at a constant or stepped rate; latency from when each request was due."""
    console = Console()
    if not console.is_terminal:
        console.width = 120
    who = People(people, skew)
    try:
        rates = _rates(rate)
        if find_highest and len(rates) > 1:
            raise ValueError(f"--find begins at one --rate, not at {len(rates)}")
        host, port = address(urlsplit(url))
        sent = bodies_of.read(bodies) if bodies else bodies_of.demo(DEMO_REQUEST)
        before = scrape(ops) if ops else {}
        probe(url, sent, who, Random(seed))
        if not unknown_people:
            recognised(url, sent, who, Random(seed))
        with Generators(
            url,
            sent,
            connections=connections,
            processes=processes,
            people=who,
            timeout=timeout,
            seed=seed,
        ) as generators:
            measure = _measured(generators, port if is_here(host) else 0, console)
            if find_highest:
                found = find(lambda r: measure(Step(r, duration)), rates[0], p99)
                results: Sequence[Result] = found.trials
                notes = [_verdict(found, p99)]
            else:
                results = [measure(Step(one, duration)) for one in rates]
                notes = []
        counters = _gained(before, scrape(ops)) if ops else {}
    except (NothingToMeasure, GeneratorFailed, OpsUnreachable, ValueError, OSError) as error:
        console.print(Text(f"loadtest run: {error}", style="red"))
        raise typer.Exit(2) from None
    _show(console, results, notes)
    if json:
        _write(
            json, orjson.dumps(_figures(url, results, notes, counters), option=orjson.OPT_INDENT_2)
        )
    if html:
        _write(html, page(url, results, notes).encode())


def _rates(text: str) -> list[float]:
    try:
        rates = [float(one) for one in text.split(",")]
    except ValueError:
        raise ValueError(f"--rate {text!r} is not numbers with commas between") from None
    if any(not 0 < one <= 1_000_000 for one in rates):
        raise ValueError(f"--rate {text!r}: each rate must be above 0, at most 1,000,000")
    return rates


def _measured(generators: Generators, port: int, console: Console) -> Callable[[Step], Result]:
    """Runs one step, showing how it goes and watching who serves on `port` (0: another machine)."""

    def measure(step: Step) -> Result:
        watch = Watch(port=port)
        began = monotonic()
        with Live(console=console, refresh_per_second=2, transient=True) as live:

            def on_progress(latest: Sequence[Progress]) -> None:
                watch.sample()
                live.update(_line(step, monotonic() - began, latest))

            result = generators.run(step, on_progress)
        usage = watch.usage()
        if not usage.processes:
            unseen = "CPU and memory unknown: no process of this machine that we may see listens."
            return replace(result, notes=(*result.notes, unseen))
        return replace(result, usage=usage)

    return measure


def _line(step: Step, elapsed: float, latest: Sequence[Progress]) -> Text:
    answered = sum(one.answered for one in latest)
    bids = sum(one.bids for one in latest)
    recent = sorted(latency for one in latest for latency in one.recent)
    p50 = recent[len(recent) // 2] * 1e3 if recent else 0.0
    p99 = recent[int(len(recent) * 0.99)] * 1e3 if recent else 0.0
    return Text(
        f"{min(elapsed, step.seconds):5.1f}/{step.seconds:g} s  asked {step.rate:,.0f}/s  "
        f"achieved {answered / max(elapsed, 0.001):,.0f}/s  bids {bids / max(answered, 1):.0%}  "
        f"late {sum(one.late for one in latest):,}  failed {sum(one.failed for one in latest):,}  "
        f"p50 {p50:.1f} ms  p99 {p99:.1f} ms"
    )


def _verdict(found: Found, p99: float) -> str:
    limit = f"p99 under {p99:g} ms and under 0.1 % late"
    if found.best is None and found.limited_by_generator:
        return (
            f"Nothing is known of the bidder: even at {found.trials[-1].asked_rps:,.0f} a second "
            f"the generator is the bottleneck ({found.why}). Use more --processes, or another "
            "machine."
        )
    if found.best is None:
        return f"No rate tried was carried with {limit}: {found.why}."
    highest = f"{found.best.asked_rps:,.0f} requests a second"
    if found.limited_by_generator:
        return f"At least {highest} with {limit}; beyond that the generator is the bottleneck."
    return f"Highest rate with {limit}: {highest}."


def _show(console: Console, results: Sequence[Result], notes: Sequence[str]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption="latency in ms")
    for name, _ in COLUMNS:
        table.add_column(name.removesuffix(" ms"), justify="right", no_wrap=True)
    for result in results:
        table.add_row(*(cell(result) for _, cell in COLUMNS))
    console.print(table)
    for result in results:
        statuses = "  ".join(f"{status}: {count:,}" for status, count in result.statuses.items())
        errors = "  ".join(f"{kind}: {count:,}" for kind, count in result.errors.items())
        console.print(
            f"{result.asked_rps:,.0f}/s  answers {statuses or 'none'}  "
            f"time-outs {result.timeouts:,}  never sent {result.unsent:,}  {errors}"
        )
    for result in results:
        for note in result.notes:
            console.print(Text(f"{result.asked_rps:,.0f}/s  {note}", style="yellow"))
    for note in notes:
        console.print(Text(note, style="bold"))


def _figures(
    url: str, results: Sequence[Result], notes: Sequence[str], counters: dict[str, float]
) -> dict[str, Any]:
    return {
        "url": url,
        "steps": [result.as_json() for result in results],
        "notes": list(notes),
        "counters": counters,
    }


def _gained(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What the counters of the bidder gained during the run."""
    return {
        name: value - before.get(name, 0.0)
        for name, value in after.items()
        if name.partition("{")[0].endswith("_total") and value != before.get(name, 0.0)
    }


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
