"""What was bid, won, shown and spent, by whatever a trader asks?

DuckDB reads the files of the log, plain and compressed, into a database of its own on disk, counts
every event once, and adds up. What it counts:

- Everything about a bid belongs to the hour and day in which the bid was made: so the spend of a
  day is what the daily budget counts, and rates compare like with like.
- Spend is `cost_micros` of the first billing of a bid to have come: a billing notice, the inference
  that takes its place, or the impression where the exchange has no billing notice. The budget's
  counters take the first as well.
- A bid that was billed was won, whether or not a win notice came.
- What a notice is about is what its bid says; if the bid is not in the log, what the notice says.
- Amounts are in the advertiser's currency, part of every row's key: currencies are never added.
  `requests` and `eligible` know no currency: with several, each row shows the same number.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from math import floor
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import duckdb

from bidder.events.files import log_files
from bidder.money import MICROS

ATTEMPTS = 5
"""A file may be compressed or deleted between listing and reading: then list again."""

_PARTS = {
    "hour": "hour",
    "day": "hour[:10]",
    "advertiser": "split_part(line_item, '/', 1)",
    "campaign": "concat_ws('/', split_part(line_item, '/', 1), split_part(line_item, '/', 2))",
    "line_item": "line_item",
    "creative": "concat_ws('/', line_item, creative)",
    "size": "size",
    "country": "country",
    "deal": "deal",
    "publisher": "publisher",
    "domain": "domain",
    "exchange": "exchange",
    "device": "device",
}
DIMENSIONS = tuple(_PARTS)
"""What a report can be by. Campaigns, line items and creatives are written as paths."""

_REQUESTS_BY = frozenset({"hour", "day", "exchange"})
_ELIGIBLE_BY = _REQUESTS_BY | {"advertiser", "campaign", "line_item"}
"""What is known of requests on which we did not bid, and of those that reached a line item."""

_COLUMNS = {
    "hour": "strftime(timezone($zone, to_timestamp(second)), '%Y-%m-%d %H:00')",
    "line_item": "coalesce(line_item, '')",
    "creative": "coalesce(creative, '')",
    "exchange": "coalesce(exchange, '')",
    "size": "coalesce(size, '')",
    "country": "coalesce(country, '')",
    "deal": "coalesce(deal, '')",
    "publisher": "coalesce(publisher, '')",
    "domain": "coalesce(domain, '')",
    "device": "coalesce(device, '')",
}
"""What the dimensions are made of: the columns of `line` of which a report takes those it needs."""

_IMPORT = """
CREATE TABLE line AS
SELECT type, time, bid_id, cost_micros, value_micros, requests, eligible,
       floor(if(type IN ('bid', 'requests'), time, bid_time))::BIGINT AS second,
       coalesce(bills, false) AS bills,
       coalesce("order", '') AS "order",
       split_part(coalesce(line_item, ''), '/', 1) AS whose,
       coalesce(account_currency, '') AS currency,
       {columns}
       parse_dirpath(filename) AS writer
FROM read_json($paths, format = 'newline_delimited', ignore_errors = true, filename = true,
               columns = {{
    type: 'VARCHAR', time: 'DOUBLE', bid_id: 'VARCHAR', bid_time: 'DOUBLE', line_item: 'VARCHAR',
    creative: 'VARCHAR', exchange: 'VARCHAR', size: 'VARCHAR', country: 'VARCHAR', deal: 'VARCHAR',
    publisher: 'VARCHAR', domain: 'VARCHAR', device: 'VARCHAR', account_currency: 'VARCHAR',
    cost_micros: 'BIGINT', value_micros: 'BIGINT', bills: 'BOOLEAN', "order": 'VARCHAR',
    requests: 'BIGINT', eligible: 'MAP(VARCHAR, BIGINT)'}})
WHERE type IN ('bid', 'win', 'billing', 'impression', 'click', 'conversion', 'requests')
  AND time IS NOT NULL
  AND (bid_id IS NOT NULL OR type = 'requests')
  AND ($since IS NULL OR second >= $since)
  AND ($until IS NULL OR second < $until)
"""
"""One row per line, numbered by rowid in the order of each writer's lines."""

_BIDS_SQL = """
WITH bid AS (
    SELECT arg_min({{ {fields} currency: currency }}, (type <> 'bid', time, rowid)) AS about,
           bool_or(type = 'bid') AS bid,
           bool_or(type IN ('win', 'billing') OR type = 'impression' AND bills) AS won,
           bool_or(type = 'impression') AS impression,
           bool_or(type = 'click') AS click,
           coalesce(arg_min(coalesce(cost_micros, 0), (time, rowid))
               FILTER (type = 'billing' OR type = 'impression' AND bills), 0) AS cost,
           bid_id
    FROM line WHERE type <> 'requests' GROUP BY bid_id
), conversion AS (
    SELECT bid_id, count(*) AS conversions, sum(value) AS value
    FROM (SELECT arg_min(bid_id, (time, rowid)) AS bid_id,
                 coalesce(arg_min(coalesce(value_micros, 0), (time, rowid)), 0) AS value
          FROM line WHERE type = 'conversion'
          GROUP BY if("order" = '', bid_id, whose), "order")
    GROUP BY bid_id
)
SELECT unnest(about), count(*) FILTER (bid), count(*) FILTER (won), count(*) FILTER (impression),
       count(*) FILTER (click), coalesce(sum(conversions), 0), sum(cost), coalesce(sum(value), 0)
FROM bid LEFT JOIN conversion USING (bid_id)
GROUP BY about
"""
"""What became of each bid, then summed. A line's own order decides between equal times."""

_HEARD_SQL = """
WITH heard AS (
    SELECT writer, time, exchange, hour, any_value(requests) AS requests,
           any_value(eligible) AS eligible
    FROM line WHERE type = 'requests' GROUP BY ALL
)
"""
_REQUESTS_SQL = _HEARD_SQL + "SELECT {keys} sum(requests) FROM heard GROUP BY ALL"
_ELIGIBLE_SQL = (
    _HEARD_SQL
    + """
SELECT {keys} sum(reached) FROM (
    SELECT hour, exchange, unnest(map_keys(eligible)) AS line_item,
           unnest(map_values(eligible)) AS reached
    FROM heard
) GROUP BY ALL
"""
)

_NOTHING = ("", 0, 0, 0, 0, 0, 0, 0)
"""Currency and counts where there were requests and no bid."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a report. Amounts are in `currency`; a rate without a denominator is None."""

    key: tuple[str, ...]
    """The values of the dimensions, in the order asked for; empty = unknown."""
    currency: str
    requests: int | None
    """None where the dimensions say more than is known of requests without a bid."""
    eligible: int | None
    """Requests on which a line item was a candidate; summed over line items."""
    bids: int
    wins: int
    impressions: int
    clicks: int
    conversions: int
    spend_micros: int
    value_micros: int
    """Of the conversions."""

    @property
    def win_rate(self) -> float | None:
        """Wins per bid."""
        return _ratio(self.wins, self.bids)

    @property
    def cpm(self) -> float | None:
        """Spend per thousand impressions."""
        return _ratio(self.spend_micros * 1000, self.impressions * MICROS)

    @property
    def ctr(self) -> float | None:
        """Clicks per impression."""
        return _ratio(self.clicks, self.impressions)

    @property
    def ecpc(self) -> float | None:
        """Spend per click."""
        return _ratio(self.spend_micros, self.clicks * MICROS)

    @property
    def ecpa(self) -> float | None:
        """Spend per conversion."""
        return _ratio(self.spend_micros, self.conversions * MICROS)

    @property
    def roas(self) -> float | None:
        """Value of the conversions per spend."""
        return _ratio(self.value_micros, self.spend_micros)


@dataclass(frozen=True, slots=True)
class Table:
    """A report: its dimensions and its rows, ordered by key and currency."""

    by: tuple[str, ...]
    rows: tuple[Row, ...]


def report(
    directory: Path,
    by: Sequence[str],
    since: float | None = None,
    until: float | None = None,
    *,
    zone: str = "UTC",
    memory: str = "1GB",
) -> Table:
    """The bids made at `since` <= time < `until` (to the second), and all that came of them.

    `zone` is the IANA time zone of hours and days. Beyond `memory` DuckDB works on disk, in the
    system's folder for temporary files. Raises `ValueError` on an unknown dimension or zone.
    """
    if unknown := [name for name in by if name not in _PARTS]:
        raise ValueError(f"unknown dimension {unknown[0]!r}; known: {', '.join(DIMENSIONS)}")
    try:
        ZoneInfo(zone)
    except ZoneInfoNotFoundError:
        raise ValueError(f"unknown time zone {zone!r}") from None
    names = tuple(by)
    with _database(memory) as database:
        if not _import_lines(database, directory, names, since, until, zone):
            return Table(names, ())
        return Table(names, tuple(_rows(database, names)))


@contextmanager
def _database(memory: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database on disk, gone afterwards."""
    with TemporaryDirectory(prefix="bidder-report-") as folder:
        database = duckdb.connect(
            f"{folder}/report.duckdb",
            config={
                "memory_limit": memory,
                "temp_directory": f"{folder}/spill",
                "autoinstall_known_extensions": False,  # never fetch anything
            },
        )
        try:
            yield database
        finally:
            database.close()


def _import_lines(
    database: duckdb.DuckDBPyConnection,
    directory: Path,
    by: tuple[str, ...],
    since: float | None,
    until: float | None,
    zone: str,
) -> bool:
    """Fill the table `line`. Returns whether there are any files."""
    parts = [_PARTS[name] for name in by]
    needed = {name for name in _COLUMNS if any(name in part for part in parts)} | {"exchange"}
    columns = ", ".join(
        f"{value if name in needed else 'NULL'} AS {name}" for name, value in _COLUMNS.items()
    )
    asked: dict[str, object] = {
        "since": None if since is None else floor(since),
        "until": None if until is None else floor(until),
    }
    if "hour" in needed:
        asked["zone"] = zone
    query = _IMPORT.format(columns=columns + ",")
    return imported(database, directory, query, since, asked)


def imported(
    database: duckdb.DuckDBPyConnection,
    directory: Path,
    query: str,
    since: float | None,
    parameters: Mapping[str, object],
) -> bool:
    """Run `query`, which reads `$paths`: the files with what was logged from `since` on.

    Returns whether there are any.
    """
    for attempt in range(ATTEMPTS):
        paths = [
            escape(str(file.path)) for file in log_files(directory) if file.may_hold(since, None)
        ]
        if not paths:
            return False
        try:
            database.execute(query, {"paths": paths, **parameters})
        except duckdb.IOException:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            break
    return True


def _rows(database: duckdb.DuckDBPyConnection, by: tuple[str, ...]) -> Iterator[Row]:
    """The rows, from the table `line`."""
    requests = _asked(database, by, _REQUESTS_SQL) if set(by) <= _REQUESTS_BY else None
    eligible = _asked(database, by, _ELIGIBLE_SQL) if set(by) <= _ELIGIBLE_BY else None
    fields = "".join(f"key_{place}: {_PARTS[name]}, " for place, name in enumerate(by))
    answers = database.execute(_BIDS_SQL.format(fields=fields)).fetchall()
    keyed = [(tuple(answer[: len(by)]), answer[len(by) :]) for answer in answers]
    silent = (set(requests or ()) | set(eligible or ())) - {key for key, _ in keyed}
    keyed += [(key, _NOTHING) for key in silent]
    for key, (currency, *counts) in sorted(keyed):
        yield Row(
            key,
            currency,
            None if requests is None else requests.get(key, 0),
            None if eligible is None else eligible.get(key, 0),
            *map(int, counts),
        )


def _asked(
    database: duckdb.DuckDBPyConnection, by: tuple[str, ...], query: str
) -> dict[tuple[str, ...], int]:
    """Key -> requests, or requests on which line items were candidates."""
    answers = database.execute(query.format(keys=_keys(by))).fetchall()
    return {tuple(key): int(count) for *key, count in answers if count is not None}


def _keys(by: tuple[str, ...]) -> str:
    """The dimensions as columns, each followed by a comma."""
    return "".join(f"{_PARTS[name]}, " for name in by)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
