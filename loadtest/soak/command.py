"""How is a bidder soaked from a shell? ``python -m loadtest soak``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import orjson
import typer
import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.bench.servers import NotReady
from loadtest.faults.installation import Installation
from loadtest.soak.run import PEOPLE, Soaked, highest
from loadtest.soak.run import soak as run_soak


def soak(
    minutes: Annotated[float, typer.Option(help="How long.", min=0.2, max=24 * 60)] = 15.0,
    rate: Annotated[
        float | None,
        typer.Option(help="Bid requests a second. Else `--share` of the highest carried.", min=1),
    ] = None,
    share: Annotated[
        float, typer.Option(help="Of the highest rate carried, which is sought first.")
    ] = 0.7,
    workers: Annotated[int, typer.Option(min=1, max=64)] = 1,
    seed: Annotated[int, typer.Option()] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the memory here (PNG).")] = None,
) -> None:
    """Load a bidder of our own for long, with notices: does memory grow, do log and counters agree?

    Starts `bidder serve` with a store, a folder and ports of its own; 15 % of its bids are won,
    billed and seen, 20 % lost. Ends with status 1 if memory grows, an answer in ten thousand is
    late, or a single notice is missing from the log or from a counter, or stands there twice.
    """
    console = Console()
    if not console.is_terminal:
        console.width = 120
    try:
        best = None
        if rate is None:
            with _running(workers) as installation:
                best = uvloop.run(highest(installation, seed))
            if not best:
                raise ValueError("the bidder does not carry the first rate tried")
            console.print(f"It carries {best:,.0f} requests a second, with their notices.")
            rate = best * share
        console.print(f"{rate:,.0f} requests a second for {minutes:g} minutes...")
        with _running(workers) as installation:
            found = uvloop.run(run_soak(installation, rate, minutes * 60, seed, best))
    except (NotReady, OSError, ValueError) as problem:
        console.print(Text(f"loadtest soak: {problem}", style="red"))
        raise typer.Exit(2) from None
    _show(console, found)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
        json.write_bytes(orjson.dumps(found.as_json(), option=options))
    if plot is not None:
        _draw(plot, found)
    if found.broken:
        raise typer.Exit(1)


@contextmanager
def _running(workers: int) -> Iterator[Installation]:
    with TemporaryDirectory(prefix="loadtest-soak-") as folder:
        installation = Installation(Path(folder), workers=workers, people=PEOPLE)
        try:
            installation.start()
            yield installation
        finally:
            installation.stop()


def _show(console: Console, found: Soaked) -> None:
    console.print(
        f"{found.requests:,} requests, {found.bids:,} bids, {found.notices:,} notices taken; "
        f"late {found.late:,} (and {found.sender_late:,} where we were late ourselves); "
        f"p50 {found.p50_ms:.1f}  p99 {found.p99_ms:.1f}  p99.9 {found.p999_ms:.1f}  "
        f"max {found.max_ms:.1f} ms"
    )
    console.print(
        f"lost {sum(found.lost.values())}, double {sum(found.double.values())}, "
        f"bids not in the log {found.unlogged_bids}"
    )
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption="memory after the warm-up, in MB")
    for name in ("process", "mean", "peak", "per minute", "± (95 %)", "grows"):
        table.add_column(name, justify="left" if name == "process" else "right", no_wrap=True)
    for one in found.memory:
        kept = one.process == "store"
        table.add_row(
            one.process,
            f"{one.mean_bytes / 1e6:.1f}",
            f"{one.peak_bytes / 1e6:.1f}",
            f"{one.slope * 60 / 1e6:+.2f}",
            f"{one.slope_error * 60 / 1e6 * 1.96:.2f}",
            "what it was given" if kept else "yes" if one.grows else "no",
        )
    console.print(table)
    for note in found.notes:
        console.print(Text(note, style="yellow"))
    for promise in found.broken:
        console.print(Text(f"broken: {promise}", style="red"))


def _draw(path: Path, found: Soaked) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, seen in sorted(found.samples.items()):
        axes.plot([at / 60 for at, _ in seen], [size / 1e6 for _, size in seen], label=name)
    axes.set(
        title=f"Resident memory at {found.rate:,.0f} requests a second",
        xlabel="minutes",
        ylabel="MB",
        ylim=(0, None),
    )
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
