"""How does what a model found become segments? A file of definitions, and lists of people.

The definitions go to `config/segments`, where `bidder check`, campaigns and previews find them like
any other. The members are put on the segments' lists by the same writer as `bidder segments build`;
they stay for `lasts`, unless the model is run again before.
"""

import argparse
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from ruamel.yaml import YAML

from bidder.campaigns.loading import load
from bidder.crm import setup
from bidder.crm.batch import Written
from bidder.crm.building import enlist
from bidder.settings import Settings
from bidder.store.links import Links

LASTS_DAYS = 35


class Found(Struct):
    """One segment that a model found."""

    name: str
    means: str
    people: Collection[str]
    """Person ids."""


def options(model: str, what: str | None) -> argparse.ArgumentParser:
    """What every command asks that makes segments: `--config`, `--seed` and `--write`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m models.{model}",
        description=what,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, default=Path("config"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random")
    parser.add_argument("--write", action="store_true", help="make it segments")
    return parser


def define(config: Path, file: str, found: list[Found], lasts_days: int = LASTS_DAYS) -> Path:
    """Write the definitions to `config/segments/<file>.yaml`, in one step. The path.

    `file` is the model's name, or begins with it and a hyphen.
    """
    path = config / "segments" / f"{file}.yaml"
    rules = [
        {"name": each.name, "means": each.means, "when": {"listed": f"{lasts_days}d"}}
        for each in sorted(found, key=lambda each: each.name)
    ]
    made = path.with_suffix(".new")
    with made.open("w", encoding="utf-8") as out:
        model = file.partition("-")[0]
        out.write(f"# Written by `python -m models.{model}`; the next run writes it anew.\n")
        YAML().dump({"segments": rules}, out)
    made.replace(path)
    return path


async def write(links: Links, given: Settings, config: Path, found: list[Found]) -> Written:
    """Put the people on the lists of segments that `define` has defined.

    Raises `StoreUnavailable`, and `InvalidFile` where the configuration is wrong.
    """
    catalogue, _ = load(config / "campaigns", now=datetime.now(UTC))
    names = setup.advertiser_names(*[each.id for each in catalogue.advertisers])
    writer = setup.writer(links, given, setup.segments(config), names)
    lists: Mapping[str, Collection[str]] = {each.name: each.people for each in found}
    return await enlist(writer, lists, int(time.time()))
