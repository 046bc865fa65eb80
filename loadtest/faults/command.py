"""How is a bidder broken from a shell? ``python -m loadtest faults``."""

from pathlib import Path
from typing import Annotated

import orjson
import typer
import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.bench.servers import NotReady
from loadtest.faults.catalogue import FAULTS, Fault
from loadtest.faults.judging import FOREIGN_SHARE, Row
from loadtest.faults.run import NothingToBreak, trial
from loadtest.faults.scene import DidNotBite

SENDER_LATE_SHARE = 0.05
_COLUMNS = (
    "fault", "requests", "late", "sent late", "5xx", "conn. errors", "notices", "refused", "lost",
    "double", "usual bids", "while broken", "back after", "others",
)  # fmt: skip


def faults(
    only: Annotated[
        list[str] | None, typer.Option(help="The name of a fault; may be given several times.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Bid requests a second.", min=1, max=2000)] = 200.0,
    seconds: Annotated[
        float, typer.Option(help="How long things stay broken.", min=0.5, max=60)
    ] = 4.0,
    seed: Annotated[int, typer.Option()] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
    names: Annotated[bool, typer.Option("--list", help="Say which faults there are.")] = False,
) -> None:
    """Break a bidder of our own in a dozen ways under load; what was late, lost or counted twice.

    Starts `bidder serve` with a store, a folder and ports of its own for each fault, and ends it
    again: nothing that runs on this machine is touched. Takes some 20 seconds a fault. Ends with
    status 1 if a promise was broken. docs/faults.md has a line on each.
    """
    console = Console()
    if not console.is_terminal:
        console.width = 150
    if names:
        for fault in FAULTS:
            console.print(Text.assemble((f"{fault.name:<20}", "bold"), fault.says))
        return
    chosen = _chosen(only or [])
    rows, failures = [], []
    for fault in chosen:
        console.print(Text(f"{fault.name}: {fault.says}"))
        try:
            row, notes = uvloop.run(trial(fault, rate=rate, seconds=seconds, seed=seed))
        except (NotReady, NothingToBreak, DidNotBite, OSError) as problem:
            failures.append(fault.name)
            console.print(Text(f"  nothing was proven: {problem}", style="red"))
            continue
        rows.append(row)
        for note in notes:
            console.print(Text(f"  {note}"))
        if row.late and row.foreign > FOREIGN_SHARE:
            console.print(Text("  late answers are not judged: see the last column", "yellow"))
        if row.sender_late > SENDER_LATE_SHARE * row.requests:
            text = f"  {row.sender_late} were sent late, by us: a quieter machine tells more"
            console.print(Text(text, style="yellow"))
        for promise in row.broken:
            console.print(Text(f"  broken: {promise}", style="red"))
    console.print(_table(rows))
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        figures = {"rows": [row.as_json() for row in rows], "not_proven": failures}
        json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    if failures or any(row.broken for row in rows):
        raise typer.Exit(1)


def _chosen(names: list[str]) -> list[Fault]:
    known = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}")
    return [known[name] for name in names] if names else list(FAULTS)


def _table(rows: list[Row]) -> Table:
    caption = "others: CPU of this machine that was neither the bidder's nor ours"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "fault" else "right", no_wrap=True)
    for row in rows:
        back = "never" if row.recover_seconds is None else f"{row.recover_seconds:.1f} s"
        cells = (
            row.fault, f"{row.requests:,}", f"{row.late:,}", f"{row.sender_late:,}",
            row.answers_5xx, row.connection_errors, f"{row.notices:,}", row.notices_refused,
            row.lost, row.double,
            f"{row.usual_before:.0%}", f"{row.usual_during:.0%}", back,
            f"{row.foreign:.0%}",
        )  # fmt: skip
        style = "red" if row.broken else ""
        table.add_row(*map(str, cells), style=style)
    return table
