"""The command ``python -m loadtest certify``."""

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .rules import RULES, Trial
from .run import GROUPS, Verdict, judge
from .samples import Json, samples
from .shapes import wrong_in_request
from .wire import Target

_RATES = {"EUR": 1.0, "USD": 1.08, "GBP": 0.85}
"""Only to tell a floor in another currency; compared within 5 %."""
_COLOURS = {"pass": "green", "FAIL": "bold red", "unproven": "bold yellow", "skip": "yellow"}
_BROKEN, _UNPROVEN = 1, 3
"""Exit codes; 2 is what typer has for a wrong option."""


def certify(
    url: Annotated[str, typer.Argument(help="Bid endpoint.")],
    request: Annotated[
        list[Path] | None,
        typer.Option(
            help="Requests that the bidder bids on (JSON or JSON Lines), tried first.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A group, or group/rule; may be repeated.")
    ] = None,
    load_requests: Annotated[int, typer.Option(min=1, help="Requests for the deadlines.")] = 200,
    load_rate: Annotated[
        int, typer.Option(min=1, help="Requests per second for the deadlines.")
    ] = 50,
    max_answer_bytes: Annotated[int, typer.Option(min=1, help="Limit on an answer.")] = 32_768,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the verdicts here too.")
    ] = None,
) -> None:
    """Put a bidder through an exchange's acceptance test.

    Exit code 0 if it is accepted with all proven, 1 if a rule is broken, 3 if none is but some
    could not be proven.
    """
    try:
        target = Target.at(url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    names = set(GROUPS) | {f"{rule.group}/{rule.name}" for rule in RULES}
    if unknown := sorted(set(only or ()) - names):
        raise typer.BadParameter(f"no rule is called {', '.join(unknown)}")
    asked = [sample for path in request or () for sample in requests_of(path)]
    trial = Trial(
        target,
        asked + samples(),
        _RATES,
        load_requests=load_requests,
        load_rate=load_rate,
        max_answer_bytes=max_answer_bytes,
    )
    verdicts = uvloop.run(judge(trial, frozenset(only or ())))
    console = Console()
    if not console.is_terminal:
        console.width = 160  # in a file or a pipe nobody's window is too narrow
    console.print(table(url, verdicts))
    if json_out is not None:
        json_out.write_bytes(orjson.dumps([_row(verdict) for verdict in verdicts], option=2))
    outcomes = {verdict.outcome for verdict in verdicts}
    if "FAIL" in outcomes:
        raise typer.Exit(_BROKEN)
    if "unproven" in outcomes:
        raise typer.Exit(_UNPROVEN)


def table(url: str, verdicts: list[Verdict]) -> Table:
    """The verdicts for people: failures say what was seen and where the rule stands."""
    shown = Table(title=escape(f"{url}: {result(verdicts)}"))
    shown.add_column("", no_wrap=True)
    shown.add_column("rule", no_wrap=True)
    for name in ("asks", "stands in", "seen"):
        shown.add_column(name)
    for verdict in verdicts:
        rule, outcome, detail = verdict
        kind = f"[{_COLOURS[outcome]}]{outcome}"
        shown.add_row(kind, verdict.name, escape(rule.text), rule.section, escape(detail))
    return shown


def result(verdicts: list[Verdict]) -> str:
    """The outcome in a line: what is broken, else what an acceptance would rest on no proof of."""
    names: dict[str, list[str]] = {outcome: [] for outcome in _COLOURS}
    for verdict in verdicts:
        names[verdict.outcome].append(verdict.name)
    failed, unproven, skipped = names["FAIL"], names["unproven"], names["skip"]
    found = f"{len(failed)} of {len(verdicts)} rules broken" if failed else "accepted"
    if unproven:
        found += f", {len(unproven)} not proven: {', '.join(unproven)}"
    return found + (f"; {len(skipped)} optional, not done" if skipped else "")


def requests_of(path: Path) -> list[Json]:
    """One JSON document, or one on each line; recorded ones may be wrapped in `body`.

    Raises `typer.BadParameter` for what is no bid request.
    """
    raw = path.read_bytes()
    try:
        return [_request(orjson.loads(raw), str(path))]
    except orjson.JSONDecodeError:
        lines = [(n, line) for n, line in enumerate(raw.splitlines(), 1) if line.strip()]
    if not lines:
        raise typer.BadParameter(f"{path}: no request in it")
    found = []
    for number, line in lines:
        try:
            found.append(_request(orjson.loads(line), f"{path}, line {number}"))
        except orjson.JSONDecodeError as error:
            raise typer.BadParameter(f"{path}, line {number}: not JSON: {error}") from None
    return found


def _request(parsed: Any, place: str) -> Json:
    request: Json = parsed.get("body", parsed) if isinstance(parsed, dict) else parsed
    if wrong := wrong_in_request(request):
        raise typer.BadParameter(f"{place}: not a bid request: {wrong}")
    return request


def _row(verdict: Verdict) -> dict[str, str]:
    rule = verdict.rule
    found = {"rule": verdict.name, "outcome": verdict.outcome}
    return found | {"asks": rule.text, "section": rule.section, "seen": verdict.detail}
