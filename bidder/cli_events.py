"""The commands on the event log: `bidder events`."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Annotated

import typer

from bidder.cli_base import CONFIG, Config, fail, settings_in, with_store
from bidder.settings import Settings

if TYPE_CHECKING:
    from bidder.store.links import Links

REWRITE_SECONDS = 60.0


def register(events: typer.Typer) -> None:
    """Add the commands."""

    @events.command()
    def refused(
        again: Annotated[
            bool, typer.Option("--again", help="Try once more to apply them.")
        ] = False,
        config: Config = CONFIG,
    ) -> None:
        """Notices in the log that the store would not take, and why: they count nothing."""
        from bidder.cli_money import hold_seconds
        from bidder.events.refused import refused as listed

        given = settings_in(config)
        events = given.state_dir / "events"
        found = listed(events)
        for one in found:
            at = datetime.fromtimestamp(one.time, UTC)
            typer.echo(f"{at:%Y-%m-%d %H:%M:%S}  {one.type} of bid {one.bid_id}, {one.line_item}")
            typer.echo(f"    {one.problem}")
        if not found:
            typer.echo("none was refused")
        elif again:
            names, seconds = sorted({one.bid_id for one in found}), hold_seconds(config)
            typer.echo(
                with_store(
                    given, lambda links: _applied_again(links, events, names, given, seconds)
                )
            )

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


async def _applied_again(
    links: "Links", events: Path, names: Sequence[str], given: Settings, seconds: dict[str, int]
) -> str:
    """Apply all that the log says of these bids: what had been counted changes nothing."""
    from bidder.events import refused as refusing
    from bidder.events.follow import follow
    from bidder.metrics import Metrics
    from bidder.notices.applying import Applier
    from bidder.store.coalesce import Scripts

    refusing.clear(events)
    note = refusing.noting(events)
    applier = Applier(Scripts(links), Metrics(), given.retention.ledger, seconds, note)
    for bid_id in names:
        await applier.apply(follow(events, bid_id), time.time())
    left = refusing.refused(events)
    return f"notices of {len(names)} bids applied again, {len(left)} refused"


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
