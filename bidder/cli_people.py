"""The commands that load people and show what is held: `bidder people load` and `show`."""

import time
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Annotated

import typer

from bidder import settings
from bidder.cli_base import CONFIG, Config, fail, settings_in, with_store

if TYPE_CHECKING:
    from bidder.store.links import Links


def register(people: typer.Typer) -> None:
    """Add the commands."""
    people.command(name="load")(load)
    people.command(name="show")(show)


def load(file: Path, config: Config = CONFIG) -> None:
    """Load people from JSON Lines: identifiers and profile of each."""
    from bidder.people import loading
    from bidder.server.people_ops import desk_of
    from bidder.store.coalesce import Scripts
    from bidder.tombstones import Tombstones

    given = settings_in(config)

    async def run(links: "Links") -> str:
        with file.open("rb") as lines:
            loaded = await loading.load(
                links,
                lines,
                time.time(),
                Random(SystemRandom().getrandbits(128)),
                ttl_seconds=given.retention.profile,
                tombstones=Tombstones(settings.tombstone_keys(given.state_dir)),
                report=lambda line, reason: typer.echo(f"{file}:{line}: {reason}", err=True),
                on_silence=desk_of(given, links, Scripts(links)).silenced,
            )
        return (
            f"{loaded.people} people loaded, {loaded.new} of them new; {loaded.bad} bad lines, "
            f"{loaded.kept_apart} identifiers kept apart"
        )

    typer.echo(with_store(given, run))


def show(
    person: Annotated[str, typer.Argument(metavar="ID", help="A person id, or source:value.")],
    config: Config = CONFIG,
) -> None:
    """Everything held about one person."""
    from bidder.capping import Ledger
    from bidder.people.showing import describe, find

    given = settings_in(config)

    async def run(links: "Links") -> str:
        held = await find(links, person)
        if held is None:
            return ""
        return describe(held, lambda raw: Ledger(raw, int(time.time())).records())

    text = with_store(given, run)
    if not text:
        raise fail(f"nobody is known as {person!r}")
    typer.echo(text)
