"""The command ``python -m loadtest certify``."""

from pathlib import Path
from typing import Annotated

import orjson
import typer
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .rules import Trial
from .run import Verdict, judge
from .samples import Json, samples
from .wire import Target

_RATES = {"EUR": 1.0, "USD": 1.08, "GBP": 0.85}
"""Only to tell a floor in another currency; compared within 5 %."""
_COLOURS = {"pass": "green", "FAIL": "bold red", "skip": "yellow"}


def certify(
    url: Annotated[str, typer.Argument(help="Bid endpoint.")],
    request: Annotated[
        list[Path] | None,
        typer.Option(help="Requests that the bidder bids on (JSON or JSON Lines), tried first."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A group, or group/rule; may be repeated.")
    ] = None,
    load_requests: Annotated[int, typer.Option(help="Requests for the deadlines.")] = 200,
    load_rate: Annotated[float, typer.Option(help="Requests per second for the deadlines.")] = 50.0,
    max_answer_bytes: Annotated[int, typer.Option(help="Limit on an answer.")] = 32_768,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the verdicts here too.")
    ] = None,
) -> None:
    """Put a bidder through an exchange's acceptance test. Exit code 1 if it fails."""
    try:
        target = Target.at(url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    asked = [sample for path in request or () for sample in _requests(path)]
    trial = Trial(
        target,
        asked + samples(),
        _RATES,
        load_requests=load_requests,
        load_rate=load_rate,
        max_answer_bytes=max_answer_bytes,
    )
    verdicts = uvloop.run(judge(trial, frozenset(only or ())))
    if not verdicts:
        raise typer.BadParameter(f"no rule is called {', '.join(only or ())}")
    console = Console()
    if not console.is_terminal:
        console.width = 160  # in a file or a pipe nobody's window is too narrow
    console.print(table(url, verdicts))
    if json_out is not None:
        json_out.write_bytes(orjson.dumps([_row(verdict) for verdict in verdicts], option=2))
    if any(verdict.outcome == "FAIL" for verdict in verdicts):
        raise typer.Exit(1)


def table(url: str, verdicts: list[Verdict]) -> Table:
    """The verdicts for people: failures say what was seen and where the rule stands."""
    failed = sum(verdict.outcome == "FAIL" for verdict in verdicts)
    skipped = sum(verdict.outcome == "skip" for verdict in verdicts)
    result = f"{failed} of {len(verdicts)} rules broken" if failed else "accepted"
    result += f", {skipped} not tried" if skipped else ""
    shown = Table(title=f"{url}: {result}")
    shown.add_column("", no_wrap=True)
    shown.add_column("rule", no_wrap=True)
    for name in ("asks", "stands in", "seen"):
        shown.add_column(name)
    for rule, outcome, detail in verdicts:
        colour = _COLOURS[outcome]
        name = f"{rule.group}/{rule.name}"
        shown.add_row(f"[{colour}]{outcome}", name, escape(rule.text), rule.section, escape(detail))
    return shown


def _requests(path: Path) -> list[Json]:
    """One JSON document, or one on each line; recorded ones may be wrapped in `body`."""
    raw = path.read_bytes()
    try:
        parsed = [orjson.loads(raw)]
    except orjson.JSONDecodeError:
        parsed = [orjson.loads(line) for line in raw.splitlines() if line.strip()]
    return [line.get("body", line) for line in parsed]


def _row(verdict: Verdict) -> dict[str, str]:
    rule = verdict.rule
    found = {"rule": f"{rule.group}/{rule.name}", "outcome": verdict.outcome}
    return found | {"asks": rule.text, "section": rule.section, "seen": verdict.detail}
