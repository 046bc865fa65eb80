"""What is the bidder measured on? One made-up workload, the same for every figure.

`loadtest/bench.yaml` holds the parameters; `write` makes a folder that a bidder can serve from and
a generator can send from. Everything follows from the seed and the day.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import Meta, Struct
from ruamel.yaml import YAML

from loadtest.bench import bodies, campaigns, people
from loadtest.load.bodies import People

PARAMETERS = Path(__file__).parent.parent / "bench.yaml"
DAY_SECONDS = 86400

Positive = Annotated[int, Meta(gt=0)]


class Models(Struct, frozen=True, forbid_unknown_fields=True):
    """How large the click and the conversion model are."""

    trees: Positive
    leaves: Positive


class Expected(Struct, frozen=True, forbid_unknown_fields=True):
    """What a run must come to for its figures to count."""

    min_bid_rate: float
    rows_scored: tuple[float, float]
    """Least and most, per request, on average."""


class Workload(Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of `loadtest/bench.yaml`, explained there."""

    seed: int
    exchange: str
    line_items: Positive
    line_items_per_advertiser: Positive
    people: Positive
    known: Annotated[float, Meta(gt=0, le=1)]
    skew: Annotated[float, Meta(ge=1)]
    bodies: Positive
    consent_strings: Positive
    vendor_id: Positive
    models: Models
    expected: Expected

    @property
    def advertisers(self) -> int:
        """Enough for all line items."""
        return -(-self.line_items // self.line_items_per_advertiser)

    @property
    def drawn(self) -> People:
        """Who is behind the requests: as many strangers on top as `known` asks for."""
        return People(round(self.people / self.known), self.skew)


def load(path: Path = PARAMETERS) -> Workload:
    """The workload of a file. Raises `msgspec.ValidationError` on a wrong parameter."""
    return msgspec.convert(YAML(typ="safe").load(path), Workload)


def write(workload: Workload, folder: Path, now: float) -> None:
    """Write ``config/``, ``people.jsonl`` and ``bodies.jsonl`` under `folder`, once a day.

    A folder that already holds this workload of this day is left as it is.
    """
    day = int(now) // DAY_SECONDS * DAY_SECONDS
    mark = folder / "workload.json"
    parameters = orjson.dumps({**msgspec.to_builtins(workload), "day": day})
    if mark.exists() and mark.read_bytes() == parameters:
        return
    mark.unlink(missing_ok=True)
    campaigns_folder = folder / "config" / "campaigns"
    campaigns_folder.mkdir(parents=True, exist_ok=True)
    for stale in campaigns_folder.glob("*.yaml"):
        stale.unlink()
    for advertiser in made_advertisers(workload):
        campaigns.write(advertiser, campaigns_folder)
    _write_lines(folder / "people.jsonl", made_people(workload, day))
    _write_lines(folder / "bodies.jsonl", iter(made_bodies(workload, day)))
    mark.write_bytes(parameters)


def made_advertisers(workload: Workload) -> Iterator[campaigns.Advertiser]:
    """All advertisers, each with its line items."""
    left = workload.line_items
    for number in range(workload.advertisers):
        count = min(left, workload.line_items_per_advertiser)
        yield campaigns.advertiser(workload.seed, number, count)
        left -= count


def made_people(workload: Workload, day: int) -> Iterator[dict[str, Any]]:
    """Everybody in the store."""
    for number in range(workload.people):
        yield people.person(
            workload.seed, number, workload.advertisers, day, source=f"buyeruid.{workload.exchange}"
        )


def made_bodies(workload: Workload, day: int) -> list[dict[str, Any]]:
    """All bodies, with places for request and person (`loadtest.load.bodies`)."""
    return bodies.made(
        workload.seed,
        workload.bodies,
        day=day,
        consent_strings=workload.consent_strings,
        vendor_id=workload.vendor_id,
    )


def _write_lines(path: Path, values: Iterator[dict[str, Any]]) -> None:
    with path.open("wb") as file:
        for value in values:
            file.write(orjson.dumps(value) + b"\n")
