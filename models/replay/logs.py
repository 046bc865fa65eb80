"""Which auctions are replayed? Logged ones: a table with a header, and a JSON of training prices.

The protocol is that of Cai et al. 2017 on iPinYou: episodes of 1,000 auctions, the first half of
the file for whatever is tuned, the second half to be judged on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EPISODE = 1000
MICROS_PER_UNIT = 10_000
"""Logged prices are CPM in hundredths (iPinYou: Chinese fen); we reckon in CPM micros."""
_CLICK = ("click", "clicks", "clk", "label")
_PRICE = ("market_price", "market price", "marketprice", "payprice", "paying_price", "price", "mp")
_PCTR = ("pctr", "p_ctr", "pclick", "p_click", "predicted_ctr", "ctr_pred")
_EPISODE = ("episode", "episode_id", "episodes")


class LogError(ValueError):
    """Auctions or prices that cannot be replayed; the message says which file and why."""


@dataclass(frozen=True, slots=True)
class Auctions:
    """Auctions by episode: arrays of shape (episodes, longest episode), padded at the end.

    A padding auction has price infinity, so that no bid wins it.
    """

    click: Floats
    price: Floats
    """The lowest winning bid, CPM micros."""
    pctr: Floats
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def real(self) -> NDArray[np.bool_]:
        """Where auctions stand rather than padding."""
        return np.arange(self.price.shape[1]) < self.lengths[:, None]


@dataclass(frozen=True, slots=True)
class Campaign:
    """One file of auctions: what may be learnt from, and what counts."""

    name: str
    history: Auctions
    judged: Auctions
    cpm: float
    """Mean price paid in training, CPM micros."""
    histogram: Floats
    """How many training auctions had the price 0, 1, 2...; empty if not known."""


def read(auctions: Path, prices: Path) -> Campaign:
    """One campaign. Raises `LogError`."""
    cpm, histogram = _prices(prices)
    columns, episode = _columns(auctions)
    starts = _starts(len(columns[0]), episode)
    half = len(starts) // 2
    if half == 0:
        raise LogError(
            f"{auctions}: {len(columns[0])} auctions make {len(starts)} episode(s): at least two "
            f"are needed, one to learn from and one to judge on (an episode column, or more than "
            f"{EPISODE} auctions)"
        )
    ends = np.append(starts[1:], len(columns[0]))
    name = auctions.name.split(".")[0]
    parts = [_padded(columns, starts[s], ends[s]) for s in (slice(half), slice(half, None))]
    return Campaign(name, parts[0], parts[1], cpm, histogram)


def pairs(directory: Path) -> list[tuple[Path, Path]]:
    """Every `<campaign>.auctions.tsv.gz` with its `<campaign>.prices.json`. Raises `LogError`."""
    found = sorted(directory.glob("*.auctions.tsv.gz")) + sorted(directory.glob("*.auctions.tsv"))
    if not found:
        raise LogError(f"{directory}: no <campaign>.auctions.tsv.gz in it")
    return [(path, path.with_name(path.name.split(".")[0] + ".prices.json")) for path in found]


def _prices(path: Path) -> tuple[float, Floats]:
    try:
        content = json.loads(path.read_text())
        cpm = content["cost_train"] / content["imp_train"]
        histogram = np.array(content.get("price_counter_train", ()), dtype=float)
    except OSError as error:
        raise LogError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise LogError(f"{path}: not the expected JSON ({error})") from None
    except (KeyError, ZeroDivisionError) as error:
        raise LogError(f"{path}: cost_train and imp_train are needed ({error})") from None
    if not (np.isfinite(cpm) and cpm > 0 and histogram.ndim == 1 and (histogram >= 0).all()):
        raise LogError(f"{path}: cost_train / imp_train is {cpm}, or a price count is below 0")
    return cpm * MICROS_PER_UNIT, histogram if histogram.sum() > 0 else histogram[:0]


def _columns(path: Path) -> tuple[list[Floats], Any]:
    """Click, price in CPM micros and pctr, and the episode column or None."""
    table = _table(path)
    names = {name.strip().lower(): name for name in table.column_names}
    click, price = _named(names, _CLICK), _named(names, _PRICE)
    pctr = _named(names, _PCTR) or next((n for key, n in names.items() if "ctr" in key), None)
    missing = [
        what
        for what, name in (("click", click), ("market_price", price), ("pctr", pctr))
        if name is None
    ]
    if missing:
        raise LogError(f"{path}: no {' or '.join(missing)} column in {table.column_names}")
    if len(table) == 0:
        raise LogError(f"{path}: a header and no auctions")
    columns = [_numbers(path, table, str(name)) for name in (click, price, pctr)]
    if not np.isin(columns[0], (0, 1)).all():
        raise LogError(f"{path}: a click in {click} is neither 0 nor 1")
    if (columns[1] < 0).any():
        raise LogError(f"{path}: a price in {price} is below 0")
    if (columns[2] < 0).any() or (columns[2] > 1).any() or not columns[2].any():
        raise LogError(f"{path}: {pctr} is not a probability, or always 0")
    columns[1] = columns[1] * MICROS_PER_UNIT
    episode = _named(names, _EPISODE)
    return columns, None if episode is None else table.column(episode).to_numpy()


def _named(names: dict[str, str], wanted: Sequence[str]) -> str | None:
    found = next((names[name] for name in wanted if name in names), None)
    if found is None:  # `pctr_lr` and the like
        starts = [name for name in names if name.startswith(f"{wanted[0]}_")]
        found = names[starts[0]] if len(starts) == 1 else None
    return found


def _table(path: Path) -> pa.Table:
    try:
        with pa.input_stream(path, compression="detect") as stream:
            content = stream.read()
        if not content.strip():
            raise LogError(f"{path}: empty")
        comma = b"\t" not in content.split(b"\n", 1)[0]
        parse = csv.ParseOptions(delimiter="," if comma else "\t")
        return csv.read_csv(pa.BufferReader(content), parse_options=parse)
    except LogError:
        raise
    except (OSError, EOFError, pa.ArrowException) as error:
        raise LogError(f"{path}: cannot be read ({error})") from None


def _numbers(path: Path, table: pa.Table, name: str) -> Floats:
    try:
        column = pc.cast(table.column(name), pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise LogError(f"{path}: {name} is not all numbers ({error})") from None
    if not np.isfinite(column).all():
        line = int(np.flatnonzero(~np.isfinite(column))[0]) + 2
        raise LogError(f"{path}: {name} is missing or not finite on line {line}")
    found: Floats = np.asarray(column, dtype=np.float64)
    return found


def _starts(rows: int, episode: Any) -> NDArray[np.int64]:
    """Where episodes start: where the column changes, else every 1,000 auctions."""
    if episode is None:
        return np.arange(0, rows, EPISODE)
    changes = np.flatnonzero(episode[1:] != episode[:-1]) + 1
    return np.concatenate((np.zeros(1, np.int64), changes))


def _padded(
    columns: Sequence[Floats], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Auctions:
    lengths = ends - starts
    shape = (len(starts), int(lengths.max()))
    real = np.arange(shape[1]) < lengths[:, None]
    filled = []
    for column, padding in zip(columns, (0.0, np.inf, 0.0), strict=True):
        block = np.full(shape, padding)
        block[real] = column[starts[0] : ends[-1]]
        filled.append(block)
    return Auctions(filled[0], filled[1], filled[2], lengths)
