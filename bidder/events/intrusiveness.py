"""How intrusive were our ads felt to be, by whom, and what did ceilings and costs do about it?

From the event log: each bid carries the intrusiveness it was made at, each sampled no-bid the line
items that the ceiling silenced. An ad counts as shown if its impression or its billing came.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import duckdb

from bidder.campaigns.catalogue import Intrusiveness
from bidder.events.forgotten import Forgotten
from bidder.events.report import imported
from bidder.money import MICROS, from_micros
from bidder.reasons import NoBid

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
BANDS = 10
MOST_EXPOSED = 10

_READ = """
CREATE TEMP TABLE line AS
SELECT *, floor(if(type IN ('bid', 'no_bid'), time, bid_time)) AS second
FROM read_json($paths, format = 'newline_delimited', ignore_errors = true, columns = {
    type: 'VARCHAR', time: 'DOUBLE', bid_id: 'VARCHAR', bid_time: 'DOUBLE', line_item: 'VARCHAR',
    person: 'VARCHAR', intrusiveness: 'DOUBLE', value_cpm_micros: 'BIGINT', rate: 'DOUBLE',
    account_currency: 'VARCHAR', cost_micros: 'BIGINT', bills: 'BOOLEAN', "order": 'VARCHAR',
    weight: 'DOUBLE', line_items: 'MAP(VARCHAR, BIGINT)'})
WHERE type IN ('bid', 'no_bid', 'billing', 'impression', 'click', 'conversion')
  AND ($since IS NULL OR second >= $since) AND ($until IS NULL OR second < $until)
"""
_BIDS = """
CREATE TEMP TABLE bid AS
WITH made AS (
    SELECT bid_id, any_value(line_item) AS line_item, any_value(person) AS person,
           any_value(account_currency) AS currency,
           coalesce(any_value(intrusiveness), 0) AS felt,
           any_value(value_cpm_micros * coalesce(rate, 1)) AS value_cpm_micros
    FROM line WHERE type = 'bid' GROUP BY bid_id
), heard AS (
    SELECT bid_id, bool_or(type IN ('impression', 'billing')) AS shown,
           bool_or(type = 'click') AS click,
           coalesce(arg_min(cost_micros, time)
               FILTER (type = 'billing' OR type = 'impression' AND bills), 0) AS cost_micros,
           count(DISTINCT coalesce("order", '')) FILTER (type = 'conversion') AS conversions
    FROM line WHERE type NOT IN ('bid', 'no_bid') GROUP BY bid_id
)
SELECT made.*, coalesce(shown, false) AS shown, coalesce(click, false) AS click,
       coalesce(cost_micros, 0) AS cost_micros, coalesce(conversions, 0) AS conversions,
       concat_ws('/', split_part(line_item, '/', 1), split_part(line_item, '/', 2)) AS campaign
FROM made LEFT JOIN heard USING (bid_id)
"""
_ABOVE = ", ".join(f"count(*) FILTER (shown AND felt > {limit})" for limit in THRESHOLDS)
_CAMPAIGNS = f"""
SELECT campaign, any_value(currency), count(*), count(*) FILTER (shown),
       coalesce(avg(felt) FILTER (shown), 0),
       coalesce(quantile_cont(felt, [0.1, 0.5, 0.9, 0.99]) FILTER (shown), [0, 0, 0, 0]),
       [{_ABOVE}],
       sum(cost_micros), sum(conversions), avg(felt * coalesce(cost.cpm_micros, 0)),
       avg(value_cpm_micros)
FROM bid LEFT JOIN cost USING (line_item) GROUP BY campaign ORDER BY campaign
"""
_SILENCED = """
SELECT concat_ws('/', split_part(path, '/', 1), split_part(path, '/', 2)), sum(weight)
FROM (SELECT unnest(map_entries(line_items)) AS entry, coalesce(weight, 1) AS weight
      FROM line WHERE type = 'no_bid'), LATERAL (SELECT entry.key AS path, entry.value AS reason)
WHERE reason = $reason GROUP BY ALL
"""
_BANDED = """
SELECT least(floor(felt * $bands), $bands - 1)::INT AS band, count(*), sum(click::INT),
       sum(conversions)
FROM bid WHERE shown GROUP BY band ORDER BY band
"""
_PEOPLE = """
SELECT person, count(*), avg(felt), max(felt) FROM bid
WHERE shown AND person <> '' GROUP BY person ORDER BY 2 DESC, 3 DESC, 1
"""


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """One campaign. What ads are felt as is 0..1; amounts are micros of `currency`."""

    campaign: str
    currency: str
    bids: int
    impressions: int
    mean: float
    quantiles: tuple[float, ...]
    """10, 50, 90 and 99 % of impressions are felt as at most this."""
    above: tuple[float, ...]
    """Share of impressions above each of `THRESHOLDS`."""
    spend_micros: int
    conversions: int
    silenced: float
    """Requests on which the ceiling silenced it and nobody else of ours bid; from a sample."""
    taken_off_cpm_micros: float
    """What intrusiveness took off the value of a bid on average, at the `cost_cpm` of today."""
    value_cpm_micros: float
    """Mean value of a bid, after that."""

    @property
    def spend_forgone_micros(self) -> float:
        """What the silenced requests would have cost, had they sold as those bid on."""
        return self.silenced * self.spend_micros / self.bids if self.bids else 0.0

    @property
    def conversions_forgone(self) -> float:
        """What they would have brought: an upper bound, as ads that intrude sell less."""
        return self.silenced * self.conversions / self.bids if self.bids else 0.0


@dataclass(frozen=True, slots=True)
class Band:
    """Impressions felt as `low` to `low` + 1 / `BANDS`."""

    low: float
    impressions: int
    clicks: int
    conversions: int


@dataclass(frozen=True, slots=True)
class Exposed:
    """One person, by the random id that stands for them."""

    person: str
    impressions: int
    mean: float
    highest: float


@dataclass(frozen=True, slots=True)
class Report:
    """The whole report."""

    campaigns: tuple[CampaignRow, ...]
    bands: tuple[Band, ...]
    people: tuple[Exposed, ...]


def report(
    directory: Path,
    settings: Mapping[str, Intrusiveness],
    since: float | None = None,
    until: float | None = None,
) -> Report:
    """What the log in `directory` says of bids made in `since` <= time < `until`.

    `settings`: those of today by line item path, as the log does not repeat what an ad cost.
    """
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as database:
        if not imported(database, directory, _READ, since, {"since": since, "until": until}):
            return Report((), (), ())
        database.execute(_BIDS)
        database.execute("CREATE TEMP TABLE cost (line_item VARCHAR, cpm_micros BIGINT)")
        for path, given in settings.items():
            database.execute("INSERT INTO cost VALUES ($1, $2)", [path, given.cost_cpm_micros])
        reason = {"reason": int(NoBid.TOO_INTRUSIVE)}
        silenced = dict(database.execute(_SILENCED, reason).fetchall())
        rows = database.execute(_CAMPAIGNS).fetchall()
        bands = database.execute(_BANDED, {"bands": BANDS}).fetchall()
        people = tuple(islice(_exposed(database, directory), MOST_EXPOSED))
    known = {row[0] for row in rows}
    rows += [(name, "", 0, 0, 0, (0,) * 4, (0,) * len(THRESHOLDS), 0, 0, 0, 0)
             for name in sorted(silenced) if name not in known]  # fmt: skip
    return Report(
        tuple(_campaign(row, silenced.get(row[0], 0.0)) for row in rows),
        tuple(Band(band / BANDS, *map(int, counts)) for band, *counts in bands),
        people,
    )


def _exposed(database: duckdb.DuckDBPyConnection, directory: Path) -> Iterator[Exposed]:
    """People, those shown most first, without those of whom the log no longer speaks."""
    forgotten = Forgotten(directory)
    forgotten.refresh()
    rows = database.execute(_PEOPLE)
    while row := rows.fetchone():
        if not forgotten.covers(row[0], 0.0):
            yield Exposed(*row)


def _campaign(row: Sequence[object], silenced: float) -> CampaignRow:
    campaign, currency, bids, shown, mean, quantiles, above, spend, sold, taken, value = row
    return CampaignRow(
        campaign=str(campaign),
        currency=str(currency or ""),
        bids=_int(bids),
        impressions=_int(shown),
        mean=_float(mean),
        quantiles=tuple(map(_float, quantiles)),  # type: ignore[call-overload]  # a list of SQL
        above=tuple(_float(n) / max(_int(shown), 1) for n in above),  # type: ignore[attr-defined]
        spend_micros=_int(spend),
        conversions=_int(sold),
        silenced=silenced,
        taken_off_cpm_micros=_float(taken),
        value_cpm_micros=_float(value),
    )


def _int(value: object) -> int:
    return int(value or 0)  # type: ignore[call-overload,no-any-return]  # a number or NULL of SQL


def _float(value: object) -> float:
    return float(value or 0)  # type: ignore[arg-type]  # as above


def render(found: Report) -> str:
    """The report as text for a terminal."""
    if not found.campaigns:
        return "nothing was bid"
    heads = " ".join(f"{'>' + format(t, 'g'):>6}" for t in THRESHOLDS)
    lines = [f"{'campaign':<40} {'shown':>9} {'mean':>5} {'p50':>5} {'p90':>5} {'p99':>5} {heads}"]
    for row in found.campaigns:
        _, *upper = row.quantiles
        quantiles = " ".join(f"{q:>5.2f}" for q in upper)
        shares = " ".join(f"{share:>6.1%}" for share in row.above)
        lines.append(
            f"{row.campaign:<40} {row.impressions:>9} {row.mean:>5.2f} {quantiles} {shares}"
        )
    lines += ["", "what ceiling and cost did"]
    for row in found.campaigns:
        lines.append(
            f"  {row.campaign}: the ceiling silenced about {row.silenced:,.0f} requests (at the "
            f"rates of its bids {from_micros(round(row.spend_forgone_micros)):,.2f} {row.currency} "
            f"and {row.conversions_forgone:,.1f} conversions, beside "
            f"{row.spend_micros / MICROS:,.2f} and {row.conversions}); cost_cpm took "
            f"{row.taken_off_cpm_micros / MICROS:.2f} CPM off a bid worth "
            f"{row.value_cpm_micros / MICROS:.2f} after it"
        )
    lines += [
        "",
        f"{'felt as':<12} {'shown':>9} {'clicks':>8} {'conversions':>12} {'per 1,000':>10}",
    ]
    for band in found.bands:
        felt = f"{band.low:.1f} to {band.low + 1 / BANDS:.1f}"
        rate = 1000 * band.conversions / band.impressions
        counts = f"{band.impressions:>9} {band.clicks:>8} {band.conversions:>12}"
        lines.append(f"{felt:<12} {counts} {rate:>10.2f}")
    lines += ["", "most exposed people (by the random id that stands for them)"]
    for person in found.people:
        lines.append(
            f"  {person.person:<18} {person.impressions:>6} ads, felt as {person.mean:.2f} "
            f"on average and {person.highest:.2f} at most"
        )
    return "\n".join(lines)


def plot(found: Report, path: Path) -> None:
    """The distribution over impressions, and conversions per thousand by how ads were felt."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for place, row in enumerate(found.campaigns):
        low, middle, high, top = row.quantiles
        left.plot([low, high], [place, place], color="tab:blue", linewidth=6, alpha=0.5)
        left.plot([high, top], [place, place], color="tab:blue")
        left.plot(middle, place, "o", color="tab:blue")
    left.set_yticks(range(len(found.campaigns)), [row.campaign for row in found.campaigns])
    left.set(xlim=(0, 1), xlabel="felt as: middle, 10 to 90 %, up to 99 % of impressions")
    at = [band.low + 0.5 / BANDS for band in found.bands]
    right.bar(at, [band.impressions for band in found.bands], width=0.09, color="lightgrey")
    right.set(xlim=(0, 1), xlabel="felt as", ylabel="impressions")
    rates = right.twinx()
    per_thousand = [1000 * band.conversions / band.impressions for band in found.bands]
    rates.plot(at, per_thousand, "o-", color="tab:red")
    rates.set_ylabel("conversions per 1,000 impressions", color="tab:red")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
