"""Which rows can be learnt from? The event log, joined into one row per billed impression.

    python -m models.dataset --state .state --out build/dataset

Every new file of the log is staged (`models.dataset_staging`), then each day of which anything is
new is joined: features as logged, price, click, conversions, delays. Run it as often as you like:
what is done is not done again, and the same log makes the same rows. DuckDB works on disk beyond
`--memory`.

Left out, and counted: bids without the permission `train`, people who were erased (see
`bidder.events.forgotten`), and features of another version. A purchase counts once, for the ad that
`bidder.notices.attribution` names among all that its buyer had seen and clicked.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import msgspec
from rich.console import Console
from rich.table import Table as Shown

from bidder.campaigns import compiled
from bidder.notices.attribution import Contact, Touch, Windows, attribute
from bidder.scoring import features
from bidder.server.loading import CATALOGUE, PUBLISHED
from models import dataset_sql as sql
from models.dataset_staging import Day, Progress, Staging, State, load, save

USUAL_WINDOWS = Windows(click_seconds=30 * 86400, view_seconds=86400)
"""Of line items that no campaign names any more."""
WindowsOf = Callable[[int], Windows | None]


@dataclass
class Dataset:
    """One dataset folder and the log it is made from. Not for two processes at once."""

    log: Path
    """`<state>/events`."""
    out: Path
    windows: WindowsOf = lambda _: USUAL_WINDOWS
    memory: str = "2GB"
    threads: int = 2
    progress: Progress = lambda _: None
    state: State = field(init=False)

    def update(self) -> State:
        """Take up what is new in the log. Raises `OSError`, `duckdb.Error`."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.state = load(self.out)
        with _database(self.memory, self.threads) as database:
            staging = Staging(self.log, self.out, self.state, database, self.progress)
            staging.update()
            self._credit(database, staging.paths("notices"))
            days = {day for batch in self.state.batches.values() for day in batch.days}
            for day in sorted(days - set(self.state.closed)):
                self._join(database, day, staging.paths("bids", day), staging.paths("notices", day))
        save(self.out, self.state)
        return self.state

    def _credit(self, database: duckdb.DuckDBPyConnection, notices: list[str]) -> None:
        """The table `credit`: each purchase once, under the ad that `attribute` names."""
        database.execute(sql.CREDIT)
        if not notices:
            return
        database.execute(sql.SALES, {"paths": notices})
        told = database.execute(sql.TOLD_AGAIN).fetchall()[0]
        self.state.orders, self.state.orders_told_again = (int(count) for count in told)
        database.execute(f"INSERT INTO credit {sql.LOOSE}")
        sales = {key: (at, value) for key, at, value in database.execute(sql.BOUND).fetchall()}
        credited = []
        for key, contacts in _grouped(database.execute(sql.CONTACTS, {"paths": notices})):
            at, value = sales[key]
            credit = attribute(contacts, at, self.windows)
            if credit is not None:
                contact = credit.contact
                credited.append((contact.bid.decode(), contact.touch, at, value))
        self.state.orders_without_contact = len(sales) - len(credited)
        if credited:
            database.executemany("INSERT INTO credit VALUES (?, ?, ?, ?)", credited)

    def _join(
        self, database: duckdb.DuckDBPyConnection, day: str, bids: list[str], notices: list[str]
    ) -> None:
        """Write the rows of one day, unless the same went in as the last time."""
        if not notices:
            return
        target = self.out / "rows" / day / "rows.parquet"
        made_of = self._made_of(database, day, notices)
        known = self.state.days.get(day)
        if known is not None and known.made_of == made_of and target.exists() == (known.rows > 0):
            return
        database.execute(sql.HEARD, {"paths": notices})
        if not bids:
            orphans = database.execute("SELECT count(*) FROM heard").fetchall()[0][0]
            self.state.days[day] = Day(made_of, orphans=orphans)
            return
        database.execute(sql.TWICE, {"paths": bids})
        counts = _record(database, sql.COUNTS, {"paths": bids})
        database.execute(sql.BILLED, {"paths": bids})
        counts |= _record(database, sql.LEFT_OUT)
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_suffix(".new")
        database.execute(sql.WRITE_ROWS.format(target=scratch))
        made = _record(database, sql.MADE, {"path": str(scratch)})
        if made["rows"]:
            scratch.replace(target)
        else:
            scratch.unlink()
            target.unlink(missing_ok=True)
        self.state.days[day] = Day(made_of=made_of, **counts, **made)
        save(self.out, self.state)
        self.progress(f"joined {day}: {counts['bids']} bids, {made['rows']} rows")

    def _made_of(self, database: duckdb.DuckDBPyConnection, day: str, notices: list[str]) -> str:
        """A hash of the staged batches, erasures and credits that the day's rows follow from."""
        mixed = blake2b(f"{features.VERSION} {self.state.forgotten_bytes}".encode(), digest_size=8)
        for name, batch in sorted(self.state.batches.items()):
            if day in batch.days:
                mixed.update(repr((name, sorted(batch.files.items()))).encode())
        credits = database.execute(sql.CREDITS_HEARD, {"paths": notices})
        while rows := credits.fetchmany(10_000):
            mixed.update(repr(rows).encode())
        return mixed.hexdigest()


def row_files(dataset: Path) -> list[Path]:
    """The Parquet files of a dataset, by day."""
    return sorted((dataset / "rows").glob("*/rows.parquet"))


def as_of(dataset: Path) -> float:
    """Up to when the log of a dataset was read, seconds since the epoch."""
    return load(dataset).as_of


def windows_published(state: Path) -> WindowsOf:
    """The attribution windows of the line items in service, by 32-bit id.

    Those of a line item that is no longer in service are the usual ones.
    """
    path = state / PUBLISHED / CATALOGUE
    if not path.exists():
        return lambda _: USUAL_WINDOWS
    windows = {
        item.id32: Windows(item.goal.click_window_seconds, item.goal.view_window_seconds)
        for item in compiled.decode(path.read_bytes()).line_items
    }
    return lambda line_item: windows.get(line_item, USUAL_WINDOWS)


def _grouped(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[int, list[Contact]]]:
    """Purchase -> what its buyer had seen and clicked before."""
    current, contacts = -1, list[Contact]()
    while found := cursor.fetchmany(10_000):
        for sale, at, kind, line_item, bid_id in found:
            if sale != current and contacts:
                yield current, contacts
                contacts = []
            current = sale
            touch: Touch = "click" if kind == "click" else "view"
            contacts.append(Contact(at, touch, line_item, bid_id.encode()))
    if contacts:
        yield current, contacts


def _record(database: duckdb.DuckDBPyConnection, query: str, values: Any = None) -> dict[str, int]:
    """The one row of an answer, by column."""
    answer = database.execute(query, values)
    names = [column[0] for column in answer.description or ()]
    return {name: int(value) for name, value in zip(names, answer.fetchall()[0], strict=True)}


@contextmanager
def _database(memory: str, threads: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database on disk, gone afterwards."""
    with TemporaryDirectory(prefix="bidder-dataset-") as folder:
        database = duckdb.connect(
            f"{folder}/dataset.duckdb",
            config={
                "memory_limit": memory,
                "threads": threads,
                "temp_directory": f"{folder}/spill",
                "preserve_insertion_order": False,  # a sort decides the order, where it matters
                "autoinstall_known_extensions": False,  # never fetch anything
            },
        )
        try:
            yield database
        finally:
            database.close()


def summary(state: State) -> dict[str, int]:
    """All counts of a dataset."""
    found = {
        "files": sum(len(batch.files) for batch in state.batches.values()),
        "lines": sum(batch.lines for batch in state.batches.values()),
        "torn lines": sum(batch.torn for batch in state.batches.values()),
        "unreadable files": len(state.unreadable),
    }
    for name in Day.__struct_fields__[1:]:
        found[name.replace("_", " ")] = sum(getattr(day, name) for day in state.days.values())
    for name in ("orders", "orders_told_again", "orders_without_contact"):
        found[name.replace("_", " ")] = getattr(state, name)
    return found


def main() -> None:
    """Update a dataset and say what is in it, how long it took, and the memory it took."""
    parser = argparse.ArgumentParser(prog="python -m models.dataset", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--state", type=Path, default=Path(".state"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("build/dataset"), metavar="DIR")
    parser.add_argument("--memory", default="2GB", help="what DuckDB may take")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the counts here, too")
    given = parser.parse_args()
    console = Console()
    begun = time.monotonic()
    dataset = Dataset(
        given.state / "events", given.out, windows_published(given.state), given.memory,
        given.threads, console.log,
    )  # fmt: skip
    counts = summary(dataset.update())
    shown = Shown(title=str(given.out), show_header=False)
    for name, count in counts.items():
        shown.add_row(name, f"{count:,}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    took = time.monotonic() - begun
    shown.add_row("seconds", f"{took:.1f}")
    shown.add_row("peak memory", f"{peak / 1e9:.2f} GB")
    console.print(shown)
    if given.json:
        told = counts | {"seconds": round(took, 1), "peak_bytes": peak}
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1))


if __name__ == "__main__":
    main()
