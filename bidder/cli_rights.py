"""The commands for people's rights: what `bidder people` and `bidder events` do beside loading.

Who asks is checked by whoever runs the command: see `docs/rights.md`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from bidder.settings import Settings

if TYPE_CHECKING:
    from bidder.crm.rights import Desk
    from bidder.store.links import Links

T = TypeVar("T")
Config = Annotated[Path, typer.Option("--config", help="The configuration folder.")]
Who = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A person id, source:value, email:ADDRESS, phone:NUMBER or crm:ADVERTISER/NUMBER.",
    ),
]
CONFIG = Path("config")
WithStore = Callable[[Settings, Callable[["Links"], Awaitable[T]]], T]
REWRITE_SECONDS = 60.0


def register(
    people: typer.Typer,
    events: typer.Typer,
    settings_in: Callable[[Path], Settings],
    with_store: WithStore[str],
    fail: Callable[[str], typer.Exit],
) -> None:
    """Add the commands. `with_store` runs something on the store, `fail` makes an exit of 1."""

    def at_desk(config: Path, act: "Callable[[Desk, Settings], Awaitable[str]]") -> None:
        from bidder.crm.rights import BadPatch, NotFound
        from bidder.server.people_ops import desk_of
        from bidder.store.coalesce import Scripts

        given = settings_in(config)

        async def run(links: "Links") -> str:
            return await act(desk_of(given, links, Scripts(links)), given)

        try:
            typer.echo(with_store(given, run))
        except (NotFound, BadPatch, ValueError) as problem:
            raise fail(str(problem)) from None

    @people.command()
    def export(person: Who, config: Config = CONFIG) -> None:
        """Everything held about one person, the log included, as JSON (Art. 15 and 20)."""

        async def act(desk: "Desk", given: Settings) -> str:
            from bidder.server.loading import published_names

            document = await desk.export(person, published_names(given), "command")
            return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()

        at_desk(config, act)

    @people.command()
    def rectify(
        person: Who,
        patch: Annotated[str, typer.Argument(help='JSON: {"profile": {...}, "remove": [...]}')],
        config: Config = CONFIG,
    ) -> None:
        """Correct what is held about one person (Art. 16)."""

        async def act(desk: "Desk", _: Settings) -> str:
            return f"corrected; reference {await desk.rectify(person, patch.encode(), 'command')}"

        at_desk(config, act)

    @people.command()
    def erase(person: Who, config: Config = CONFIG) -> None:
        """Delete everything about one person, and let no import bring them back (Art. 17)."""

        async def act(desk: "Desk", _: Settings) -> str:
            done = await desk.erase(person, "command")
            return (
                f"erased: {done.keys} keys, {done.identifiers} identifiers; reference "
                f"{done.reference}\nthe log no longer shows them; `bidder events compact` takes "
                "them out of its files"
            )

        at_desk(config, act)

    @people.command(name="object")
    def object_(person: Who, config: Config = CONFIG) -> None:
        """Stop profiling one person, and keep no more than that they asked for it (Art. 21)."""

        async def act(desk: "Desk", _: Settings) -> str:
            from bidder.crm.rights import Wish

            return f"objected; reference {await desk.wish(person, Wish('object'), 'command')}"

        at_desk(config, act)

    @people.command()
    def code(person: Who, config: Config = CONFIG) -> None:
        """A one-time code by which one person opens /me. Make sure it is they who get it."""

        async def act(desk: "Desk", _: Settings) -> str:
            return await desk.new_code(person, "command")

        at_desk(config, act)

    @people.command()
    def consent(
        person: Who,
        string: Annotated[str, typer.Argument(help="A TC string.")],
        source: Annotated[str, typer.Option(help="The domain or app it was given on.")],
        config: Config = CONFIG,
    ) -> None:
        """Take note of a consent string: keep it as proof, or obey its refusal (Art. 7)."""

        async def act(desk: "Desk", _: Settings) -> str:
            return (await desk.consent_seen(person, string, source, "command")).value

        at_desk(config, act)

    @events.command()
    def compact(config: Config = CONFIG) -> None:
        """Take those who were erased or objected out of the log's files."""
        from bidder.crm.rights.audit import Audit
        from bidder.events.compacting import compact as compacted
        from bidder.events.forgotten import Forgotten

        given = settings_in(config)
        log = given.state_dir / "events"
        try:
            done = compacted(log, Forgotten(log), time.monotonic, time.sleep)
            counts = {"files": done.rewritten, "lines": done.lines, "open": done.open_files}
            Audit(given.state_dir, SystemRandom()).write(
                time.time(), "compact", "command", counts=counts
            )
        except (OSError, ValueError) as problem:
            raise fail(str(problem)) from None
        typer.echo(
            f"{done.files} files looked through, {done.rewritten} written anew, "
            f"{done.lines} lines changed"
        )
        if given.store.url == "embedded":
            typer.echo(with_store(given, rewritten))
        if done.open_files:
            raise fail(f"{done.open_files} files are still being written to: run it again")


async def rewritten(links: "Links") -> str:
    """Let our own store write its file anew: what was deleted still stands in the old one."""
    if links.only is None:
        return "the store is a Cluster: have each server rewrite its files (BGREWRITEAOF)"
    await links.bulk([("BGREWRITEAOF",)])
    end = time.monotonic() + REWRITE_SECONDS
    while time.monotonic() < end:
        (state,) = await links.bulk([("INFO", "persistence")])
        if b"aof_rewrite_in_progress:0" in state and b"aof_rewrite_scheduled:0" in state:
            return "the store's file is written anew"
        await asyncio.sleep(0.05)
    return "the store is still writing its file anew"
