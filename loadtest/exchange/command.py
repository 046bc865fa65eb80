"""The command ``python -m loadtest exchange``.

Each bidder gets a market of its own: several are never in one auction. The markets run side by side
with the same people, requests, competing bids and luck, so that bidders are compared in pairs.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from urllib.parse import urlsplit

import orjson
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from loadtest.world import load_world, world_names

from .http import trade
from .lawful import RULES
from .market import CONVERSION, Market, conversion_url, recorded_body
from .markup import origin

_console = Console()


def exchange(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL...", help="Bid endpoints; several are not in one auction."),
    ] = None,
    world: Annotated[str, typer.Option(help=f"One of {', '.join(world_names())}.")] = (
        "repetition-neutral"
    ),
    seed: Annotated[int, typer.Option(help="The same seed makes the same market.", min=0)] = 1,
    hours: Annotated[float, typer.Option(help="Simulated hours.", min=0)] = 0.1,
    speed: Annotated[str, typer.Option(help="Simulated seconds per real second, or `max`.")] = "1",
    rate: Annotated[
        float, typer.Option(help="Requests per real second; 0 = as habits have it.", min=0)
    ] = 0,
    people: Annotated[int, typer.Option(help="People; 0 = as the world has it.", min=0)] = 0,
    connections: Annotated[int, typer.Option(help="Requests in flight at most.", min=1)] = 64,
    name: Annotated[str, typer.Option(help="Name the bidder knows the exchange by.")] = "demo",
    conversion: Annotated[
        str,
        typer.Option(
            help="Where a sale is told, seen from the click's URL; {currency} may be in it too."
        ),
    ] = CONVERSION,
    click_id: Annotated[
        str, typer.Option(help="What the click id is called where a click leads to.")
    ] = "cid",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for invoice, truth, people and summary.", file_okay=False),
    ] = None,
    people_out: Annotated[
        Path | None,
        typer.Option(help="Write the CRM's people for the bidder here, and stop.", dir_okay=False),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            help="Send these recorded requests (JSON Lines) instead.", exists=True, dir_okay=False
        ),
    ] = None,
) -> None:
    """Be the exchange: ask for bids, hold auctions, bill, and have people click and buy.

    Several bidders are compared, not set against each other: each has a market of its own, side by
    side with the same people, requests, competing bids and luck. The exchange calls nobody but the
    bidders and the addresses their bids name.
    """
    pace = _speed(speed)
    if rate and not pace:
        raise typer.BadParameter("--rate needs a --speed that is not max")
    described = load_world(world) if world in world_names() else None
    if described is None:
        raise typer.BadParameter(f"no world {world!r}; there are {', '.join(world_names())}")
    settings: dict[str, Any] = {
        "people": people or None,
        "hours": hours,
        "start": time.time(),
        "requests_per_second": rate / pace if rate else None,
        "exchange": name,
        "conversion": _template(conversion),
        "click_id": click_id,
    }
    if people_out is not None:
        _write(people_out, Market(described, seed, **settings).crm())
        return
    if not urls or not all(map(origin, urls)):
        raise typer.BadParameter("name the http:// URL of a bidder, or --people-out")
    recorded = _lines(replay)
    with ExitStack() as stack:
        books = [stack.enter_context(Books(_folder(out, url, len(urls)))) for url in urls]
        markets = [
            Market(described, seed, **settings, log=book.write, recorded=recorded, endpoint=url)
            for url, book in zip(urls, books, strict=True)
        ]
        uvloop.run(_trade_all(list(zip(markets, urls, strict=True)), pace, connections))
        for market, url, book in zip(markets, urls, books, strict=True):
            book.close(market)
            _console.print(table(url, market))
    if any(market.tally.violations or market.tally.errors for market in markets):
        raise typer.Exit(1)


class Books:
    """The files of one market: `invoice.jsonl`, `truth.jsonl`, `people.jsonl`, `summary.json`."""

    def __init__(self, folder: Path | None) -> None:
        """Without a folder nothing is kept."""
        self.folder = folder
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> "Books":
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._files = {n: (self.folder / f"{n}.jsonl").open("wb") for n in ("invoice", "truth")}
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def write(self, name: str, row: dict[str, Any]) -> None:
        """Add a row to `invoice` or `truth`."""
        if self._files:
            self._files[name].write(orjson.dumps(row) + b"\n")

    def close(self, market: Market) -> None:
        """Write what is known only at the end."""
        if self.folder is not None:
            _write(self.folder / "people.jsonl", market.crm())
            text = orjson.dumps(market.summary(), option=orjson.OPT_INDENT_2)
            (self.folder / "summary.json").write_bytes(text)


def table(url: str, market: Market) -> Table:
    """The counts of a market, for people."""
    summary = market.summary()
    shown = Table(title=f"{summary['world']}: {url}", show_header=False)
    for name, value in summary.items():
        if isinstance(value, float):
            shown.add_row(name, f"{value:.2f}")
        elif isinstance(value, int | str):
            shown.add_row(name, f"{value:,}" if isinstance(value, int) else value)
    for kind, count in summary["calls"].items():
        shown.add_row(f"call: {kind}", f"{count:,}")
    for rule, count in market.tally.violations.items():
        where = RULES[rule]
        example = market.tally.examples[rule][0]
        shown.add_row(
            f"[red]broken: {rule}", f"{count:,} x {where.text} ({where.section}): {example}"
        )
    return shown


async def _trade_all(pairs: list[tuple[Market, str]], speed: float, connections: int) -> None:
    await asyncio.gather(
        *(trade(market, url, speed=speed, connections=connections) for market, url in pairs)
    )


def _speed(text: str) -> float:
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < inf:
        raise typer.BadParameter(f"--speed is a number above 0 or max, not {text!r}")
    return speed


def _template(text: str) -> str:
    try:
        conversion_url(text, click_id="", order="", value="", currency="", gdpr="", consent="")
    except ValueError as error:
        raise typer.BadParameter(f"--conversion {text!r}: {error}") from None
    return text


def _folder(out: Path | None, url: str, bidders: int) -> Path | None:
    if out is None or bidders == 1:
        return out
    return out / urlsplit(url).netloc.replace(":", "-")


def _lines(path: Path | None) -> list[bytes] | None:
    if path is None:
        return None
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            right = isinstance(recorded_body(line), dict)
        except orjson.JSONDecodeError:
            right = False
        if not right:
            raise typer.BadParameter(f"--replay {path}: request {number} is no JSON object")
    return lines


def _write(path: Path, lines: Iterator[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(lines)
