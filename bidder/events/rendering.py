"""How is a report shown? As a table to read, or as CSV or JSON to compute with."""

import csv
import json
from collections.abc import Callable
from io import StringIO
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table as Screen

from bidder.events.report import Row, Table
from bidder.money import from_micros

Format = Literal["table", "csv", "json"]
Value = int | float | None

_COLUMNS: dict[str, tuple[Callable[[Row], Value], str]] = {
    "requests": (lambda row: row.requests, ",d"),
    "eligible": (lambda row: row.eligible, ",d"),
    "bids": (lambda row: row.bids, ",d"),
    "wins": (lambda row: row.wins, ",d"),
    "win_rate": (lambda row: row.win_rate, ".1%"),
    "impressions": (lambda row: row.impressions, ",d"),
    "clicks": (lambda row: row.clicks, ",d"),
    "conversions": (lambda row: row.conversions, ",d"),
    "spend": (lambda row: from_micros(row.spend_micros), ",.2f"),
    "cpm": (lambda row: row.cpm, ",.2f"),
    "ctr": (lambda row: row.ctr, ".2%"),
    "ecpc": (lambda row: row.ecpc, ",.2f"),
    "ecpa": (lambda row: row.ecpa, ",.2f"),
    "value": (lambda row: from_micros(row.value_micros), ",.2f"),
    "roas": (lambda row: row.roas, ".2f"),
}
"""Column -> its value, and how a reader sees it. Spend and value have six exact decimals."""


def render(table: Table, format: Format = "table", width: int = 200) -> str:
    """The report as text: `width` characters wide, or raw values with rates as fractions."""
    if format == "csv":
        return _csv(table)
    if format == "json":
        return json.dumps([_record(table, row) for row in table.rows], indent=1) + "\n"
    return _screen(table, width)


def _record(table: Table, row: Row) -> dict[str, str | Value]:
    values = {name: value(row) for name, (value, _) in _COLUMNS.items()}
    return {**dict(zip(table.by, row.key, strict=True)), "currency": row.currency, **values}


def _csv(table: Table) -> str:
    out = StringIO()
    writer = csv.DictWriter(out, [*table.by, "currency", *_COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_record(table, row) for row in table.rows)
    return out.getvalue()


def _screen(table: Table, width: int) -> str:
    screen = Screen(box=box.SIMPLE_HEAD)
    for name in (*table.by, "currency"):
        screen.add_column(name.replace("_", " "), overflow="fold")
    for name in _COLUMNS:
        screen.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row in table.rows:
        values = [(value(row), shown) for value, shown in _COLUMNS.values()]
        screen.add_row(
            *(part or "-" for part in row.key),
            row.currency or "-",
            *("-" if value is None else format(value, shown) for value, shown in values),
        )
    out = StringIO()
    Console(file=out, width=width).print(screen)
    return out.getvalue()
