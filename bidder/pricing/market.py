"""What was learnt of the market, and may it be served? Win rates for shading, traffic for pacing.

`models.shading` writes them into the directory `market` beside the click models: `manifest.json`
and one JSON file, whose SHA-256 the manifest has. Without the directory nothing is learnt yet; a
damaged one is refused. Files are read once and checked in memory: what is checked is loaded.
"""

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import Struct

from bidder.pricing.curve import Traffic
from bidder.pricing.shading import FIRST_PRICE, UNTAUGHT, Shader
from bidder.pricing.winrate import WinRate

DIRECTORY = "market"
MANIFEST = "manifest.json"
CONTENT = "market.json"
LAYOUT = 1

T = TypeVar("T")


class MarketError(Exception):
    """A market directory that cannot be served: which file, what is wrong, what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}; make one with `python -m models.shading fit`")


class Cell(Struct, frozen=True):
    """One win rate as it stands in the file: `rates[i]` of auctions are won at `prices[i]`."""

    prices: list[int]
    """CPM micros."""
    rates: list[float]


class Content(Struct, frozen=True):
    """What stands in `market.json`."""

    cells: dict[str, Cell]
    """By the names of `shading.cells`."""
    requests: list[float]
    """Bid requests by hour of the week, UTC; empty = not counted."""
    hours: list[float]
    """In how many hours of the log they were counted."""


class LearntFrom(Struct, frozen=True):
    """Which bids. Times are seconds since the epoch."""

    source: str
    bids: int
    wins: int
    told: int
    """Bids of which the price to beat is known."""
    first: float
    last: float


class Probe(Struct, frozen=True):
    """A first-price bid that serving must make as fitting did."""

    exchange: str
    currency: str
    deal: str
    size: str
    hour: int
    floor_micros: int
    value_micros: int
    bid_micros: int


class Manifest(Struct, frozen=True):
    """What stands in `manifest.json`."""

    layout: int
    created: str
    """ISO 8601, UTC."""
    learnt_from: LearntFrom
    sha256: str
    """Of `market.json`."""
    exploration: float
    """The share of first-price bids to draw at random."""
    metrics: dict[str, float] = {}
    settings: dict[str, float] = {}
    probes: list[Probe] = []

    @property
    def version(self) -> str:
        """12 hexadecimal digits by which logs name it."""
        return self.sha256[:12]


class Learnt(NamedTuple):
    """What serves."""

    shader: Shader
    traffic: Traffic


NOTHING = Learnt(UNTAUGHT, Traffic())


def load(models: Path) -> Learnt:
    """What stands in `market` below the directory of the models; `NOTHING` where there is none.

    Reads files: at a reload, call it in a thread. Raises `MarketError`.
    """
    directory = models / DIRECTORY
    path = directory / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return NOTHING
    except OSError as error:
        raise MarketError(path, f"cannot be opened ({error.strerror})") from None
    manifest = _decoded(path, raw, Manifest)
    if manifest.layout != LAYOUT:
        raise MarketError(path, f"has layout {manifest.layout}, this bidder reads {LAYOUT}")
    if not 0 <= manifest.exploration < 1:
        raise MarketError(path, f"cannot explore a share of {manifest.exploration}")
    path = directory / CONTENT
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MarketError(path, f"cannot be opened ({error.strerror})") from None
    if sha256(raw).hexdigest() != manifest.sha256:
        raise MarketError(path, f"is damaged: its SHA-256 is not the one in {MANIFEST}")
    return _learnt(path, manifest, _decoded(path, raw, Content))


def _learnt(path: Path, manifest: Manifest, content: Content) -> Learnt:
    rates = {}
    for name, cell in content.cells.items():
        try:
            rates[name] = WinRate(np.array(cell.prices, float), np.array(cell.rates))
        except ValueError as error:
            raise MarketError(path, f"has no win rate for {name!r} ({error})") from None
    try:
        traffic = Traffic(content.requests, content.hours)
    except ValueError as error:
        raise MarketError(path, f"has no traffic ({error})") from None
    shader = Shader(rates, manifest.exploration, manifest.version)
    for probe in manifest.probes:
        bid = shader.bid(
            probe.value_micros, probe.floor_micros, FIRST_PRICE, probe.exchange, probe.currency,
            probe.deal, probe.size, probe.hour,
        )  # fmt: skip
        if bid != probe.bid_micros:
            raise MarketError(path, f"bids {bid} here where fitting bid {probe.bid_micros}")
    return Learnt(shader, traffic)


def write(directory: Path, manifest: Manifest, content: bytes) -> None:
    """Write a market directory, the manifest last: who reads in the middle keeps what it has."""
    directory.mkdir(parents=True, exist_ok=True)
    about = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    for name, text in ((CONTENT, content), (MANIFEST, about)):
        scratch = directory / f".{name}.new"
        scratch.write_bytes(text)
        scratch.replace(directory / name)


def _decoded(path: Path, raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MarketError(path, f"cannot be read ({error})") from None
