"""The commands for people's rights: what `bidder people` does beside loading.

Who asks is checked by whoever runs the command: see `docs/rights.md`.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from bidder.cli_base import CONFIG, Config, fail, settings_in, with_store
from bidder.settings import Settings

if TYPE_CHECKING:
    from bidder.crm.rights import Desk
    from bidder.store.links import Links

Who = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A person id, source:value, email:ADDRESS, phone:NUMBER or crm:ADVERTISER/NUMBER.",
    ),
]


def register(people: typer.Typer) -> None:
    """Add the commands."""
    people.command(name="export")(export)
    people.command(name="rectify")(rectify)
    people.command(name="erase")(erase)
    people.command(name="object")(object_)
    people.command(name="code")(code)
    people.command(name="consent")(consent)


def export(person: Who, config: Config = CONFIG) -> None:
    """Everything held about one person, the log included, as JSON (Art. 15 and 20)."""

    async def act(desk: "Desk", given: Settings) -> str:
        from bidder.server.loading import published_names

        document = await desk.export(person, published_names(given), "command")
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()

    _at_desk(config, act)


def rectify(
    person: Who,
    patch: Annotated[str, typer.Argument(help='JSON: {"forget": [...], "remove": [...]}')],
    config: Config = CONFIG,
) -> None:
    """Correct what is held about one person (Art. 16)."""

    async def act(desk: "Desk", _: Settings) -> str:
        return f"corrected; reference {await desk.rectify(person, patch.encode(), 'command')}"

    _at_desk(config, act)


def erase(person: Who, config: Config = CONFIG) -> None:
    """Delete everything about one person, and let no import bring them back (Art. 17)."""

    async def act(desk: "Desk", _: Settings) -> str:
        done = await desk.erase(person, "command")
        return (
            f"erased: {done.keys} keys, {done.identifiers} identifiers; reference "
            f"{done.reference}\nthe log no longer shows them; `bidder events compact` takes "
            "them out of its files"
        )

    _at_desk(config, act)


def object_(person: Who, config: Config = CONFIG) -> None:
    """Stop profiling one person, and keep no more than that they asked for it (Art. 21)."""

    async def act(desk: "Desk", _: Settings) -> str:
        from bidder.crm.rights import Wish

        return f"objected; reference {await desk.wish(person, Wish('object'), 'command')}"

    _at_desk(config, act)


def code(person: Who, config: Config = CONFIG) -> None:
    """A one-time code by which one person opens /me. Make sure it is they who get it."""

    async def act(desk: "Desk", _: Settings) -> str:
        return await desk.new_code(person, "command")

    _at_desk(config, act)


def consent(
    person: Who,
    string: Annotated[str, typer.Argument(help="A TC string.")],
    source: Annotated[str, typer.Option(help="The domain or app it was given on.")],
    config: Config = CONFIG,
) -> None:
    """Take note of a consent string: keep it as proof, or obey its refusal (Art. 7)."""

    async def act(desk: "Desk", _: Settings) -> str:
        return (await desk.consent_seen(person, string, source, "command")).value

    _at_desk(config, act)


def _at_desk(config: Path, act: "Callable[[Desk, Settings], Awaitable[str]]") -> None:
    """Do it where the rights are kept, and print what comes of it."""
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
