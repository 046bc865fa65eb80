"""The commands that run the bidder: `bidder serve`, and the processes that it starts."""

import asyncio
import sys
import time
from pathlib import Path
from random import Random, SystemRandom
from typing import Annotated

import typer

from bidder import settings
from bidder.cli_base import CONFIG, STORE_URL, Config, fail, settings_in
from bidder.settings import Settings

DAY_SECONDS = 86400


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command(hidden=True)(worker)
    app.command(name="compile", hidden=True)(compile_campaigns)


def serve(
    config: Config = CONFIG,
    seed: Annotated[
        Path | None,
        typer.Option(help="People to load first (JSON Lines), unless it was done today."),
    ] = None,
) -> None:
    """Serve exchanges, notices and the ops port until SIGTERM or Ctrl-C."""
    import uvloop

    from bidder.events.log import LogUnavailable
    from bidder.server.loading import CannotLoad
    from bidder.server.supervisor import Supervisor
    from bidder.server.workers import WorkerDied
    from bidder.store.breaker import StoreUnavailable
    from bidder.store.connect import BadStoreUrl, located
    from bidder.store.embedded import EmbeddedStoreError

    given = settings_in(config)
    try:
        for keys_of in settings.ALL_KEYS:
            keys_of(given.state_dir)  # made here, once, before the workers look
        url, embedded = located(given.store.url, given.state_dir)
    except (BadStoreUrl, EmbeddedStoreError, ValueError, OSError) as problem:
        raise fail(str(problem)) from None
    try:
        (given.state_dir / STORE_URL).write_text(url)
        if seed is not None:
            asyncio.run(_seed(url, seed, given))
        uvloop.run(Supervisor(config, given, url, embedded).run(lambda: _announce(given)))
    except (CannotLoad, WorkerDied, StoreUnavailable, LogUnavailable, OSError) as problem:
        raise fail(str(problem)) from None
    finally:
        if embedded is not None:
            embedded.stop()
            (given.state_dir / STORE_URL).unlink(missing_ok=True)


def worker(
    index: int,
    state: Annotated[Path, typer.Option()],
    store: Annotated[str, typer.Option()],
    control: Annotated[int, typer.Option()],
) -> None:
    """One worker of `serve`, which starts it."""
    from bidder.server import worker as process
    from bidder.server.loading import CannotLoad

    try:
        process.main(index, state, store, control)
    except (CannotLoad, OSError, ValueError) as problem:
        raise fail(f"worker {index}: {problem}") from None


def compile_campaigns(config: Config = CONFIG) -> None:
    """Put the configuration into service: what `serve`, which says on standard input by which
    settings, has done at a reload."""
    from bidder.server import loading

    try:
        given = Settings.model_validate_json(sys.stdin.buffer.read())
        loading.publish(config, given, time.time())
    except ValueError as problem:
        raise fail(str(problem)) from None


def _announce(given: Settings) -> None:
    listen = given.listen
    base = f"http://{listen.host}:{listen.port}"
    print(f"ready: bids on {base}, ops on http://{listen.ops_host}:{listen.ops_port}")
    print(f"try:   curl -s -d @config/demo/request.json {base}/openrtb2/demo", flush=True)


async def _seed(url: str, file: Path, given: Settings) -> None:
    """Load demo people, at most once a day: their times are relative to the load."""
    from bidder.people.loading import load
    from bidder.store import keys
    from bidder.store.opening import opened
    from bidder.tombstones import Tombstones

    async with opened(url) as links:
        (fresh,) = await links.bulk([("SET", keys.SEEDED, "1", "NX", "EX", str(DAY_SECONDS))])
        if fresh is None:
            return
        with file.open("rb") as lines:
            await load(
                links, lines, time.time(), Random(SystemRandom().getrandbits(128)),
                ttl_seconds=given.retention.profile,
                tombstones=Tombstones(settings.tombstone_keys(given.state_dir)),
            )  # fmt: skip
