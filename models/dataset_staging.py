"""What of the log is new? It is laid down as Parquet, by the day (UTC) of the bid.

Finished files are read once, in batches; one that still grows is read again when it has grown. What
is staged of people who were erased since is taken out; what was staged from files that the log no
longer has is deleted, and the days it spoke of are closed: their rows stay as they are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from glob import escape
from hashlib import blake2b
from pathlib import Path
from shutil import rmtree

import duckdb
import msgspec
from msgspec import Struct

from bidder.events.files import LogFile, log_files
from bidder.events.forgotten import FILE as FORGOTTEN
from bidder.events.forgotten import Forgotten
from bidder.scoring import features
from models import dataset_sql as sql

STATE = "dataset.json"
LAYOUT = 2
"""Of what is staged: all is read again where it lies as an older version laid it."""
BATCH_BYTES = 256 << 20
PACKED = 8
"""How many times smaller a compressed file is, about."""

Progress = Callable[[str], None]
Named = tuple[str, LogFile]
"""A file of the log and `<writer>/<sequence>`, which it keeps when it is compressed."""


class Staged(Struct, frozen=True):
    """One batch of log files that lies staged."""

    files: dict[str, int]
    """`<writer>/<sequence>` -> bytes when it was read."""
    lines: int
    torn: int
    whole: bool
    """Nothing will be added to any of them."""
    days: tuple[str, ...]


class Day(Struct, frozen=True):
    """What came of the bids of one day."""

    made_of: str
    """A hash of all that went in: the same hash, the same rows."""
    bids: int = 0
    duplicate_bids: int = 0
    duplicate_notices: int = 0
    orphans: int = 0
    """Bids that were heard of, and do not stand in the log."""
    clicks_without_billing: int = 0
    billed: int = 0
    without_permission: int = 0
    erased: int = 0
    other_features: int = 0
    rows: int = 0
    clicks: int = 0
    conversions: int = 0
    view_conversions: int = 0


class State(Struct):
    """`dataset.json`: what is staged, what is joined, and up to when the log was read."""

    feature_version: str = features.VERSION
    layout: int = 1
    as_of: float = 0.0
    """The time of the latest event read: what is not heard of by then may still come."""
    batches: dict[str, Staged] = {}
    days: dict[str, Day] = {}
    closed: list[str] = []
    """Days whose log has been deleted in part."""
    unreadable: list[str] = []
    forgotten_bytes: int = 0
    orders: int = 0
    orders_told_again: int = 0
    orders_without_contact: int = 0


def load(out: Path) -> State:
    """The state of a dataset folder; a new one if it has none, or one of other features."""
    try:
        known = msgspec.json.decode((out / STATE).read_bytes(), type=State)
    except FileNotFoundError:
        return State(layout=LAYOUT)
    same = known.feature_version == features.VERSION and known.layout == LAYOUT
    return known if same else State(layout=LAYOUT)


def save(out: Path, state: State) -> None:
    """Write `dataset.json` in one step. Raises `OSError`."""
    scratch = out / f".{STATE}.new"
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=1))
    scratch.replace(out / STATE)


@dataclass
class Staging:
    """The staged part of one dataset folder. Not for two processes at once."""

    log: Path
    out: Path
    state: State
    database: duckdb.DuckDBPyConnection
    progress: Progress

    def update(self) -> None:
        """Take up what is new, let go of what is gone. Raises `OSError`, `duckdb.Error`."""
        files = [(f"{file.writer}/{file.sequence:06d}", file) for file in log_files(self.log)]
        self._let_go({name for name, _ in files})
        batches = list(_batches(self._new(files)))
        fresh: set[str] = set()
        for number, batch in enumerate(batches, 1):
            made = self._stage_or_split(batch)
            fresh.update(made)
            lines = sum(self.state.batches[name].lines for name in made)
            self.progress(f"staged {number} of {len(batches)}: {len(batch)} files, {lines} lines")
        self._forget(fresh)
        save(self.out, self.state)

    def paths(self, kind: str, day: str = "*") -> list[str]:
        """The staged files of batches on record, so that a crash's leftovers do not count."""
        found = (self.out / "staged" / kind).glob(f"{day}/*.parquet")
        return sorted(
            escape(str(path)) for path in found if path.name.split("-")[0] in self.state.batches
        )

    def _new(self, files: list[Named]) -> list[Named]:
        whole = {
            name for batch in self.state.batches.values() if batch.whole for name in batch.files
        }
        grown = {n: size for b in self.state.batches.values() for n, size in b.files.items()}
        return [
            (name, file)
            for name, file in files
            if name not in whole and (file.finished or grown.get(name) != _size(file))
        ]

    def _let_go(self, present: set[str]) -> None:
        for name, batch in list(self.state.batches.items()):
            if not present.intersection(batch.files):
                self._drop(name)
                self.state.closed = sorted({*self.state.closed, *batch.days})

    def _stage_or_split(self, batch: list[Named]) -> list[str]:
        """Names of the batches made. A file that cannot be read costs only itself."""
        try:
            return [self._stage(batch)]
        except (duckdb.Error, OSError) as problem:
            if len(batch) > 1:
                return [name for one in batch for name in self._stage_or_split([one])]
            name, file = batch[0]
            self.progress(f"cannot be read: {file.path} ({problem})")
            self.state.unreadable = sorted({*self.state.unreadable, name})
            return []

    def _stage(self, batch: list[Named]) -> str:
        sizes = {name: _size(file) for name, file in batch}
        paths = [escape(str(_present(file))) for _, file in batch]
        self.database.execute(sql.READ, {"paths": paths})
        lines, torn, latest = self.database.execute(sql.TOLD).fetchall()[0]
        for older in [n for n, b in self.state.batches.items() if sizes.keys() & b.files.keys()]:
            self._drop(older)  # a file that has grown since
        name = blake2b("\n".join(sizes).encode(), digest_size=8).hexdigest()
        self._drop(name)  # what a crash left
        days = {day for kind in ("bids", "notices") for day in self._lay_down(kind, name)}
        self.state.as_of = max(self.state.as_of, latest)
        self.state.unreadable = [one for one in self.state.unreadable if one not in sizes]
        whole = all(file.finished for _, file in batch)
        self.state.batches[name] = Staged(sizes, lines, torn, whole, tuple(sorted(days)))
        save(self.out, self.state)
        return name

    def _lay_down(self, kind: str, name: str) -> Iterator[str]:
        """Write what was read under its days, which are returned."""
        scratch = self.out / "staged" / f".{kind}"
        rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        query = sql.BIDS if kind == "bids" else sql.NOTICES
        self.database.execute(sql.COPY.format(query=query, folder=scratch, name=name))
        for made in sorted(scratch.glob("day=*/*.parquet")):
            day = made.parent.name.removeprefix("day=")
            target = self.out / "staged" / kind / day
            target.mkdir(parents=True, exist_ok=True)
            made.replace(target / made.name)
            yield day
        rmtree(scratch)

    def _drop(self, name: str) -> None:
        for left in (self.out / "staged").glob(f"*/*/{name}-*.parquet"):
            left.unlink()
        self.state.batches.pop(name, None)

    def _forget(self, fresh: set[str]) -> None:
        """Take the erased out of what is staged and of the rows.

        All of it when the list has grown, else of what was staged just now.
        """
        forgotten = Forgotten(self.log)
        forgotten.refresh()
        if not forgotten:
            return
        size = (self.log / FORGOTTEN).stat().st_size
        everything = size != self.state.forgotten_bytes
        for kind in ("staged/bids", "staged/notices", "rows"):
            for file in sorted((self.out / kind).glob("*/*.parquet")):
                if everything or file.name.split("-")[0] in fresh:
                    self._forget_in(file, kind, forgotten)
        self.state.forgotten_bytes = size

    def _forget_in(self, file: Path, kind: str, forgotten: Forgotten) -> None:
        """In one file. Who came back after it is forgotten here too, as far as the file goes."""
        person, when = ("_person", "_time") if kind == "rows" else ("person", "time")
        found = self.database.execute(
            f"SELECT {person}, min({when}) FROM read_parquet($path) "
            f"WHERE {person} <> '' GROUP BY ALL",
            {"path": escape(str(file))},
        ).fetchall()
        gone = [[name] for name, first in found if forgotten.covers(name, first)]
        if not gone:
            return
        self.database.execute("CREATE OR REPLACE TEMP TABLE gone (person VARCHAR)")
        self.database.executemany("INSERT INTO gone VALUES (?)", gone)
        scratch = file.with_suffix(".new")
        query = sql.WITHOUT[kind].format(target=scratch)
        self.database.execute(query, {"path": escape(str(file))})
        scratch.replace(file)
        self.progress(f"took {len(gone)} erased people out of {file}")


def _batches(new: list[Named]) -> Iterator[list[Named]]:
    """Files in handy groups. One that still grows goes alone: it will be read again."""
    group: list[Named] = []
    size = 0
    for name, file in new:
        if not file.finished:
            yield [(name, file)]
            continue
        group.append((name, file))
        size += _size(file) * (PACKED if _present(file).suffix == ".zst" else 1)
        if size >= BATCH_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _size(file: LogFile) -> int:
    return _present(file).stat().st_size


def _present(file: LogFile) -> Path:
    """Where the file is, should it have been compressed since it was listed."""
    if file.path.exists() or file.compressed:
        return file.path
    return file.path.with_name(file.path.name + ".zst")
