"""The commands by which a company's own data becomes people and segments."""

import gc
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from bidder.cli_base import CONFIG, Config, catalogue_in, fail, settings_in, with_store
from bidder.settings import Settings
from bidder.yamlfiles import InvalidFile

if TYPE_CHECKING:
    from bidder.campaigns.catalogue import Catalogue
    from bidder.crm.building import Preview
    from bidder.crm.crew import Crew
    from bidder.crm.importing import Imported
    from bidder.crm.segments import Segments
    from bidder.crm.taking import Taker
    from bidder.crm.writing import Writer
    from bidder.store.links import Links

SHOWN_OVERLAPS = 15
MUCH_BYTES = 40_000_000
"""Files that come to less are imported by one process: others take a second to begin."""
MOST_PROCESSES = 4


def register(crm: typer.Typer, segments: typer.Typer) -> None:
    """Add the commands."""
    crm.command(name="import")(import_)
    crm.command(name="demo")(demo)
    segments.command(name="preview")(preview)
    segments.command(name="build")(build)


def import_(
    mapping: Annotated[Path, typer.Argument(help="What the columns mean (docs/crm.md).")],
    files: Annotated[list[Path], typer.Argument(help="CSV, JSON Lines or Parquet.")],
    config: Config = CONFIG,
    rejects: Annotated[Path | None, typer.Option(help="Where refused rows are listed.")] = None,
    processes: Annotated[
        int, typer.Option(min=0, help="That read and write; 0: by the files' size.")
    ] = 0,
) -> None:
    """Import contacts, orders, events and messages. Doing it again changes nothing."""
    given, now = settings_in(config), int(time.time())
    catalogue_in(config)  # ends the command where it is wrong
    try:
        task = _task(config, mapping, now)
    except (InvalidFile, ValueError) as found:
        raise fail(_shown(found)) from None
    listed = rejects or given.state_dir / "imports" / f"rejected-{now}.csv"

    async def run(links: "Links") -> str:
        began, before = time.monotonic(), await _memory(links)
        done = await _imported(links, task, files, listed, processes)
        seconds = time.monotonic() - began
        return _summary(done, seconds, await _memory(links) - before, listed)

    typer.echo(with_store(given, run))


def demo(
    folder: Path,
    people: Annotated[int, typer.Option(help="Customers of the invented shop.")] = 20_000,
    seed: int = 1,
) -> None:
    """Invent the files of a French shop for lamps."""
    from bidder.crm.retailer import make

    for path in make(folder, people, int(time.time()), seed):
        typer.echo(f"{path}  {path.stat().st_size:,} bytes")


def preview(config: Config = CONFIG) -> None:
    """Size, overlap and examples of every segment. Stores nothing."""
    from bidder.crm import building, setup

    given, rules = settings_in(config), _rules(config)

    async def run(links: "Links") -> str:
        keep = setup.retention(given).records
        with _Bar() as bar:
            found = await building.preview(
                links, rules, keep, int(time.time()), lambda done: bar.show("judging", done, 0)
            )
        return _previewed(found, time.time())

    typer.echo(with_store(given, run))


def build(config: Config = CONFIG) -> None:
    """Judge everyone again and write their segments."""
    from bidder.crm import building, setup

    given, rules = settings_in(config), _rules(config)
    names = _advertisers(catalogue_in(config))

    async def run(links: "Links") -> str:
        began = time.monotonic()
        writer = setup.writer(links, given, rules, names)
        with _Bar() as bar:
            written = await building.build(
                links, writer, int(time.time()), lambda done: bar.show("judging", done, 0)
            )
        seconds = time.monotonic() - began
        return (
            f"{written.people:,} people in {len(rules.ordered)} segments, {seconds:.1f} s, "
            f"{written.people / max(seconds, 0.001):,.0f} people/s"
        )

    typer.echo(with_store(given, run))


class _Task(NamedTuple):
    """What an import reads with, and what it needs to write: the same in each of its processes."""

    config: Path
    mapping: Path
    now: int
    given: Settings
    rules: "Segments"
    catalogue: "Catalogue"
    taker: "Taker"

    @asynccontextmanager
    async def writer(self, links: "Links", name: str) -> AsyncIterator["Writer"]:
        """Writes on these links; sales go to the log `name`."""
        from bidder.crm import setup
        from bidder.events.log import EventLog
        from bidder.server.people_ops import desk_of
        from bidder.server.selling import Seller
        from bidder.store.coalesce import Scripts

        named = setup.advertiser_names(self.taker.mapping.advertiser)
        log = EventLog(self.given.state_dir / "events" / name)
        try:
            yield setup.writer(
                links,
                self.given,
                self.rules,
                {**_advertisers(self.catalogue), **named},
                Seller(self.catalogue, log).sold,
                desk_of(self.given, links, Scripts(links)).silenced,
            )
        finally:
            await log.close()

    @asynccontextmanager
    async def writing(self, url: str) -> AsyncIterator["Writer"]:
        """The same on links of its own."""
        from bidder.store.opening import opened

        async with (
            opened(url) as links,
            self.writer(links, f"import-{os.getpid()}") as writer,
        ):
            yield writer


def _task(config: Path, mapping: Path, now: int) -> _Task:
    """Raises `InvalidFile` and `ValueError`."""
    from bidder import settings
    from bidder.campaigns.loading import load
    from bidder.crm import mapping as mappings
    from bidder.crm import setup
    from bidder.crm.taking import Taker

    given, meaning = settings.load(config), mappings.load(mapping)
    catalogue, _ = load(config / "campaigns", now=datetime.now(UTC))
    keep = setup.retention(given).records
    taker = Taker(meaning, setup.pseudonyms(given, meaning.country), keep, now)
    return _Task(config, mapping, now, given, setup.segments(config), catalogue, taker)


def _begin(
    config: Path, mapping: Path, url: str, now: int
) -> "tuple[Taker, AbstractAsyncContextManager[Writer]]":
    """What a process of an import reads and writes with."""
    task = _task(config, mapping, now)
    return task.taker, task.writing(url)


async def _imported(
    links: "Links", task: _Task, files: list[Path], listed: Path, processes: int
) -> "Imported":
    from bidder.crm import setup
    from bidder.crm.importing import Checkpoint, Rejects, fingerprint, import_files
    from bidder.store.opening import growing

    present = [path for path in files if path.exists()]
    meaning = task.taker.mapping
    same = fingerprint(meaning, present, setup.retention(task.given))
    state = Checkpoint(task.given.state_dir / "imports" / f"{same}.json", task.now)
    if state.now != task.now:  # it goes on as it began
        task = _task(task.config, task.mapping, state.now)
    refused = Rejects(listed)
    ours = task.given.store.url == "embedded"
    gc.disable()  # millions of values that all live on, and no circles among them
    try:
        with _Bar() as bar, _crew(links, task, present, processes) as crew:
            async with (
                task.writer(links, "import") as writer,
                growing(links) if ours else nullcontext(),
            ):
                done = await import_files(
                    links, writer, task.taker, present, refused, state, bar.show, crew
                )
    finally:
        gc.enable()
        refused.close()
    done.problems += [f"{path}: no such file" for path in files if not path.exists()]
    return done


@contextmanager
def _crew(
    links: "Links", task: _Task, files: list[Path], processes: int
) -> Iterator["Crew | None"]:
    """The processes that an import of these files is worth; None: this one alone."""
    from bidder.crm.crew import Crew

    size = sum(path.stat().st_size for path in files)
    if not links.url or processes == 1 or (processes == 0 and size < MUCH_BYTES):
        yield None
        return
    begin = partial(_begin, task.config, task.mapping, links.url, task.now)
    crew = Crew(processes or min(os.cpu_count() or 1, MOST_PROCESSES), begin)
    try:
        yield crew
    finally:
        crew.close()


def _advertisers(catalogue: "Catalogue") -> dict[int, str]:
    return {each.id32: each.id for each in catalogue.advertisers}


def _rules(config: Path) -> "Segments":
    from bidder.crm import setup

    try:
        return setup.segments(config)
    except InvalidFile as found:
        raise fail(_shown(found)) from None


def _shown(found: Exception) -> str:
    return "\n".join(map(str, found.problems)) if isinstance(found, InvalidFile) else str(found)


async def _memory(links: "Links") -> int:
    """Bytes that the store uses; 0 where that is spread over a Cluster."""
    if links.only is None:
        return 0
    (info,) = await links.bulk([("INFO", "memory")])
    for line in info.decode().splitlines():
        if line.startswith("used_memory:"):
            return int(line.partition(":")[2])
    return 0


def _summary(done: "Imported", seconds: float, grown: int, listed: Path) -> str:
    tally, written = done.tally, done.written
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    each = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    people = max(written.people, 1)
    lines = [
        f"{tally.rows:,} rows: {tally.rejected:,} rejected, {tally.passed_over:,} of other kinds, "
        f"{tally.outdated:,} too old",
        f"{written.people:,} people written, {written.new:,} of them new, {written.merged:,} "
        f"merged; {written.records:,} events",
        f"{written.objected:,} objected to profiling, {written.erased:,} were erased before, "
        f"{written.outdated:,} not heard of for too long",
        f"{tally.dropped:,} identifiers unusable, "
        f"{tally.kept_apart + written.kept_apart:,} links kept apart, "
        f"{tally.bridged:,} bridged links not made",
        f"{seconds:.1f} s, {written.people / max(seconds, 0.001):,.0f} people/s; "
        f"{written.bytes / people:,.0f} bytes a person as written, "
        f"{grown / people:,.0f} in the store's memory; peak memory {peak:,.0f} MB, "
        f"{each:,.0f} MB the largest of its children",
    ]
    if done.skipped:
        lines.append(f"{done.skipped:,} batches had been written by an import that was stopped")
    if tally.rejected:
        lines.append(f"rejected rows: {listed}")
    return "\n".join([*lines, *done.problems])


def _previewed(found: "Preview", now: float) -> str:
    lines = [f"{found.people:,} people", ""]
    width = max((len(name) for name in found.sizes), default=0)
    ordered = sorted(found.sizes.items(), key=lambda item: -item[1].people)
    for name, size in ordered:
        share = 100 * size.people / max(found.people, 1)
        span = (
            f"seen {_age(now - size.newest)} to {_age(now - size.oldest)} ago"
            if size.people
            else ""
        )
        lines.append(f"{name:<{width}}  {size.people:>9,}  {share:5.1f} %  {size.means}")
        if size.people:
            lines.append(f"{'':<{width}}  {'':>9}           {span}; {', '.join(size.examples)}")
    lines += ["", "overlaps, as a share of the smaller"]
    pairs = []
    for (one, other), both in found.overlaps.items():
        smaller = min(found.sizes[one].people, found.sizes[other].people)
        pairs.append((both / smaller, both, one, other))
    for share, both, one, other in sorted(pairs, reverse=True)[:SHOWN_OVERLAPS]:
        lines.append(f"{100 * share:5.1f} %  {both:>9,}  {one} and {other}")
    return "\n".join(lines)


def _age(seconds: float) -> str:
    return f"{seconds / 86400:.0f}d" if seconds >= 2 * 86400 else f"{seconds / 3600:.0f}h"


class _Bar:
    """A progress bar on a terminal; nothing elsewhere."""

    def __enter__(self) -> "_Bar":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description:<8}"), BarColumn(), TextColumn("{task.completed:,.0f}"),
            TimeElapsedColumn(), console=Console(file=sys.stderr),
            disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._tasks: dict[str, object] = {}
        self._bar.start()
        return self

    def show(self, what: str, done: int, total: int) -> None:
        """`done` of `total` (0 = unknown) of one kind of work."""
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total or None)
        self._bar.update(self._tasks[what], completed=done)  # type: ignore[arg-type]

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
