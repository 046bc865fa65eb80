"""What do all commands share? The configuration folder, the store, a moment, and how to fail."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bidder import settings
from bidder.settings import Settings
from bidder.yamlfiles import InvalidFile

if TYPE_CHECKING:
    from bidder.campaigns.catalogue import Catalogue
    from bidder.store.links import Links

T = TypeVar("T")
STORE_URL = "store.url"
"""In the state folder: where the embedded store of a running bidder is."""

CONFIG = Path("config")
Config = Annotated[Path, typer.Option("--config", help="The configuration folder.")]
Moment = Annotated[
    str, typer.Option(metavar="TIME", help="ISO 8601, UTC if no zone is given; default: now.")
]


def settings_in(config: Path) -> Settings:
    """The settings of this configuration; ends the command if they are wrong."""
    try:
        return settings.load(config)
    except InvalidFile as found:
        raise fail("\n".join(map(str, found.problems))) from None


def catalogue_in(config: Path) -> "Catalogue":
    """The campaigns of a configuration; ends the command if they are wrong."""
    from bidder.campaigns.loading import load

    try:
        catalogue, _ = load(config / "campaigns", now=datetime.now(UTC))
    except InvalidFile as found:
        sys.exit("\n".join(map(str, found.problems)))
    return catalogue


def moment(text: str) -> datetime:
    """The moment that `text` names, now if it is empty; ends the command if it is none."""
    if not text:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise fail(f"{text!r} is not a time such as 2026-11-21T20:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def fail(message: str) -> typer.Exit:
    """Say why on stderr; raise what it returns, which ends the command with 1."""
    typer.echo(message, err=True)
    return typer.Exit(1)


def running_store(given: Settings) -> str:
    """The URL of the store, empty if it is embedded and no bidder runs."""
    if given.store.url != "embedded":
        return given.store.url
    try:
        return (given.state_dir / STORE_URL).read_text()
    except FileNotFoundError:
        return ""


def with_store(given: Settings, what: Callable[["Links"], Awaitable[T]]) -> T:
    """Run `what` on the store; an embedded one that no bidder runs is started for it."""
    from bidder.store.breaker import StoreUnavailable
    from bidder.store.connect import BadStoreUrl, located
    from bidder.store.embedded import EmbeddedStoreError

    url, embedded = running_store(given), None
    try:
        if not url:
            url, embedded = located(given.store.url, given.state_dir)
        return asyncio.run(_on_links(url, what))
    except (StoreUnavailable, BadStoreUrl, EmbeddedStoreError, OSError) as problem:
        raise fail(f"the store: {problem}") from None
    finally:
        if embedded is not None:
            embedded.stop()


async def _on_links(url: str, what: Callable[["Links"], Awaitable[T]]) -> T:
    from bidder.store.opening import opened

    async with opened(url) as links:
        return await what(links)
