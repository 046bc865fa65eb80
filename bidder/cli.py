"""The commands. Each reads the configuration folder, does one thing, and says what it did.

Rooms are imported where a command needs them, so that `bidder check` does not wait for LightGBM.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bidder import cli_crm, cli_money, cli_rights, settings
from bidder.settings import Settings
from bidder.yamlfiles import InvalidFile

if TYPE_CHECKING:
    from bidder.campaigns.catalogue import Catalogue
    from bidder.store.links import Links

T = TypeVar("T")
STORE_URL = "store.url"
"""In the state folder: where the embedded store of a running bidder is."""
DAY_SECONDS = 86400
PATIENCE_SECONDS = 30.0

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
people_app = typer.Typer(no_args_is_help=True, help="People in the store.")
app.add_typer(people_app, name="people")
events_app = typer.Typer(no_args_is_help=True, help="The event log.")
app.add_typer(events_app, name="events")
budget_app = typer.Typer(no_args_is_help=True, help="What campaigns have spent.")
app.add_typer(budget_app, name="budget")

Config = Annotated[Path, typer.Option("--config", help="The configuration folder.")]
Moment = Annotated[str, typer.Option(help="ISO 8601, UTC if no zone is given; default: now.")]
CONFIG = Path("config")


@app.command()
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
    from bidder.server.supervisor import Supervisor, WorkerDied
    from bidder.store.breaker import StoreUnavailable
    from bidder.store.connect import BadStoreUrl, located
    from bidder.store.embedded import EmbeddedStoreError

    given = _settings(config)
    try:
        for keys_of in (settings.token_keys, settings.crm_keys, settings.tombstone_keys):
            keys_of(given.state_dir)  # made here, once, before the workers look
        url, embedded = located(given.store.url, given.state_dir)
    except (BadStoreUrl, EmbeddedStoreError, ValueError, OSError) as problem:
        raise _fail(str(problem)) from None
    try:
        (given.state_dir / STORE_URL).write_text(url)
        if seed is not None:
            asyncio.run(_seed(url, seed, given))
        uvloop.run(Supervisor(config, given, url).run(lambda: _announce(given)))
    except (CannotLoad, WorkerDied, StoreUnavailable, LogUnavailable, OSError) as problem:
        raise _fail(str(problem)) from None
    finally:
        if embedded is not None:
            embedded.stop()
            (given.state_dir / STORE_URL).unlink(missing_ok=True)


@app.command(hidden=True)
def worker(
    index: int,
    store: Annotated[str, typer.Option()],
    control: Annotated[int, typer.Option()],
    config: Config = CONFIG,
) -> None:
    """One worker of `serve`, which starts it."""
    from bidder.server import worker as process
    from bidder.server.loading import CannotLoad

    try:
        process.main(index, config, store, control)
    except (CannotLoad, InvalidFile, OSError, ValueError) as problem:
        raise _fail(f"worker {index}: {problem}") from None


@app.command(name="compile", hidden=True)
def compile_campaigns(config: Config = CONFIG) -> None:
    """Check the configuration and lay it ready for the workers: what `serve` does at a reload."""
    from bidder.server import loading

    given = _settings(config)
    try:
        loading.publish(loading.check(config, given, time.time()), given)
    except (loading.CannotLoad, OSError) as problem:
        raise _fail(str(problem)) from None


@app.command()
def check(
    directory: Annotated[Path, typer.Argument(help="The configuration folder.")] = CONFIG,
    now: Moment = "",
) -> None:
    """Check the configuration: every error with file, line, found, expected, nearest name."""
    from bidder.campaigns import check as campaigns
    from bidder.crm.segments import names as segment_names
    from bidder.exchanges.loading import InvalidExchanges, names
    from bidder.exchanges.loading import load as load_exchanges

    problems: list[str] = []
    try:
        load_exchanges(directory / "exchanges", os.environ)
    except InvalidExchanges as found:
        problems = list(found.problems)
    try:
        settings.load(directory)
    except InvalidFile as found:
        problems += [str(problem) for problem in found.problems]
    segments = None
    try:
        segments = segment_names(directory / "segments")
    except InvalidFile as found:
        problems += [str(problem) for problem in found.problems]
    text, code = campaigns.run(
        directory, _moment(now), exchanges=names(directory / "exchanges"), segments=segments
    )
    typer.echo("\n".join([*problems, text]))
    raise typer.Exit(1 if problems else code)


@app.command(name="explain")
def explain_request(
    request: Annotated[Path, typer.Argument(help="A bid request as JSON.")],
    config: Config = CONFIG,
    exchange: Annotated[str, typer.Option(help="The exchange it came from.")] = "demo",
    now: Moment = "",
) -> None:
    """Why would we bid on this request, or not? Nothing is spent or logged."""
    from bidder.openrtb.opportunity import opportunity
    from bidder.openrtb.request import InvalidRequest, decode
    from bidder.server import loading
    from bidder.server.explaining import explained
    from bidder.server.loading import CannotLoad

    given, at = _settings(config), _moment(now).timestamp()
    try:
        serving = loading.serving(config, given, loading.check(config, given, at))
        offer = opportunity(decode(request.read_bytes()), exchange)
    except (CannotLoad, InvalidRequest, OSError) as problem:
        raise _fail(str(problem)) from None
    if exchange not in serving.exchanges:
        raise _fail(f"no exchange {exchange!r}; there are {', '.join(sorted(serving.exchanges))}")
    typer.echo(asyncio.run(explained(serving, given, _running_store(given), offer, at)))


@app.command()
def report(
    what: Annotated[
        str,
        typer.Argument(
            help="intrusiveness: how ads were felt; lift: what they changed. Left out: all else."
        ),
    ] = "",
    by: Annotated[str, typer.Option(help="Dimensions, separated by commas.")] = "line_item,day",
    since: Moment = "",
    until: Moment = "",
    zone: Annotated[str, typer.Option(help="Time zone of hours and days.")] = "UTC",
    format: Annotated[str, typer.Option(help="table, csv or json.")] = "table",
    plot: Annotated[Path | None, typer.Option(help="Of intrusiveness: a picture too.")] = None,
    campaign: Annotated[str, typer.Option(help="Of lift: advertiser/campaign.")] = "",
    days: Annotated[int, typer.Option(help="Of lift: what is done how long after counts.")] = 28,
    config: Config = CONFIG,
) -> None:
    """What was bid, won, shown, clicked, sold and spent, from the event log."""
    from bidder.events.rendering import render
    from bidder.events.report import report as made

    if format not in ("table", "csv", "json"):
        raise _fail(f"no format {format!r}; there are table, csv and json")
    events = _settings(config).state_dir / "events"
    start = _moment(since).timestamp() if since else None
    end = _moment(until).timestamp() if until else None
    if what == "intrusiveness":
        typer.echo(_felt(events, config, start, end, plot))
        return
    if what not in ("", "lift"):
        raise _fail(f"no report {what!r}; there are intrusiveness and lift")
    try:
        if what:
            given = _settings(config)
            typer.echo(cli_money.lift(given, _with_store, campaign, days, start, end))
            return
        table = made(events, [name.strip() for name in by.split(",")], start, end, zone=zone)
    except ValueError as problem:
        raise _fail(str(problem)) from None
    typer.echo(render(table, format))  # type: ignore[arg-type]  # checked above


def _felt(
    events: Path, config: Path, since: float | None, until: float | None, picture: Path | None
) -> str:
    """The report on intrusiveness; draws it too, if asked to."""
    from bidder.events import intrusiveness

    settings = {item.path: item.intrusiveness for item in _catalogue(config).line_items}
    found = intrusiveness.report(events, settings, since, until)
    if picture is not None:
        intrusiveness.plot(found, picture)
    return intrusiveness.render(found)


@app.command()
def stop(
    what: Annotated[
        str, typer.Argument(help="all, or the path of an advertiser, campaign or line item.")
    ],
    config: Config = CONFIG,
) -> None:
    """Stop bidding, on all workers within two seconds, until `bidder start`."""
    _change_stops("SADD", what, config)
    typer.echo(f"stopped {what}")


@app.command()
def start(
    what: Annotated[str, typer.Argument(help="What `bidder stop` stopped.")],
    config: Config = CONFIG,
) -> None:
    """Bid again for what was stopped."""
    removed = _change_stops("SREM", what, config)
    typer.echo(f"started {what}" if removed else f"{what} was not stopped")


@people_app.command(name="load")
def people_load(file: Path, config: Config = CONFIG) -> None:
    """Load people from JSON Lines: identifiers and profile of each."""
    from bidder.people.loading import load
    from bidder.tombstones import Tombstones

    given = _settings(config)

    async def run(links: "Links") -> str:
        with file.open("rb") as lines:
            loaded = await load(
                links,
                lines,
                time.time(),
                Random(SystemRandom().getrandbits(128)),
                ttl_seconds=given.retention.profile,
                tombstones=Tombstones(settings.tombstone_keys(given.state_dir)),
                report=lambda line, reason: typer.echo(f"{file}:{line}: {reason}", err=True),
            )
        return (
            f"{loaded.people} people loaded, {loaded.new} of them new; {loaded.bad} bad lines, "
            f"{loaded.kept_apart} identifiers kept apart"
        )

    typer.echo(_with_store(given, run))


@people_app.command(name="show")
def people_show(
    person: Annotated[str, typer.Argument(metavar="ID", help="A person id, or source:value.")],
    config: Config = CONFIG,
) -> None:
    """Everything held about one person."""
    from bidder.capping import Ledger
    from bidder.people.showing import describe, find

    given = _settings(config)

    async def run(links: "Links") -> str:
        held = await find(links, person)
        if held is None:
            return ""
        return describe(held, lambda raw: Ledger(raw, int(time.time())).records())

    text = _with_store(given, run)
    if not text:
        raise _fail(f"nobody is known as {person!r}")
    typer.echo(text)


def main() -> None:
    """The script `bidder`."""
    app()


def _settings(config: Path) -> Settings:
    try:
        return settings.load(config)
    except InvalidFile as found:
        raise _fail("\n".join(map(str, found.problems))) from None


def _moment(text: str) -> datetime:
    if not text:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _fail(f"{text!r} is not a time such as 2026-11-21T20:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _fail(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(1)


def _announce(given: Settings) -> None:
    listen = given.listen
    base = f"http://{listen.host}:{listen.port}"
    print(f"ready: bids on {base}, ops on http://{listen.ops_host}:{listen.ops_port}")
    print(f"try:   curl -s -d @config/demo/request.json {base}/openrtb2/demo", flush=True)


def _running_store(given: Settings) -> str:
    """The URL of the store, empty if it is embedded and no bidder runs."""
    if given.store.url != "embedded":
        return given.store.url
    try:
        return (given.state_dir / STORE_URL).read_text()
    except FileNotFoundError:
        return ""


def _with_store(given: Settings, what: Callable[["Links"], Awaitable[T]]) -> T:
    """Run `what` on the store; an embedded one that no bidder runs is started for it."""
    from bidder.store.breaker import StoreUnavailable
    from bidder.store.connect import BadStoreUrl, located
    from bidder.store.embedded import EmbeddedStoreError

    url, embedded = _running_store(given), None
    try:
        if not url:
            url, embedded = located(given.store.url, given.state_dir)
        return asyncio.run(_on_links(url, what))
    except (StoreUnavailable, BadStoreUrl, EmbeddedStoreError, OSError) as problem:
        raise _fail(f"the store: {problem}") from None
    finally:
        if embedded is not None:
            embedded.stop()


async def _on_links(url: str, what: Callable[["Links"], Awaitable[T]]) -> T:
    async with _links(url) as links:
        return await what(links)


@asynccontextmanager
async def _links(url: str) -> AsyncIterator["Links"]:
    from bidder.store.breaker import Breaker
    from bidder.store.connect import connect
    from bidder.store.links import Links

    client = connect(url)
    clock = asyncio.get_running_loop().time
    links = Links(client, Breaker(clock), timeout_seconds=PATIENCE_SECONDS)
    try:
        await links.ping()
        yield links
    finally:
        await links.aclose()
        await client.aclose()


async def _seed(url: str, file: Path, given: Settings) -> None:
    """Load demo people, at most once a day: their times are relative to the load."""
    from bidder.people.loading import load
    from bidder.store import keys
    from bidder.tombstones import Tombstones

    async with _links(url) as links:
        (fresh,) = await links.bulk([("SET", keys.SEEDED, "1", "NX", "EX", str(DAY_SECONDS))])
        if fresh is None:
            return
        with file.open("rb") as lines:
            await load(
                links, lines, time.time(), Random(SystemRandom().getrandbits(128)),
                ttl_seconds=given.retention.profile,
                tombstones=Tombstones(settings.tombstone_keys(given.state_dir)),
            )  # fmt: skip


def _change_stops(command: str, what: str, config: Path) -> bool:
    from bidder.store import keys

    given = _settings(config)
    known = {"all", *_paths(config)}
    if command == "SADD" and what not in known:
        from bidder.yamlfiles import nearest

        close = nearest(what, known)
        raise _fail(f"nothing is called {what!r}" + (f"; did you mean {close!r}?" if close else ""))

    async def run(links: "Links") -> bool:
        (changed,) = await links.bulk([(command, keys.STOPS, what)])
        return bool(changed)

    return _with_store(given, run)


def _catalogue(config: Path) -> "Catalogue":
    """The campaigns of a configuration; ends the command if they are wrong."""
    from bidder.campaigns.loading import load

    try:
        catalogue, _ = load(config / "campaigns", now=datetime.now(UTC))
    except InvalidFile as found:
        sys.exit("\n".join(map(str, found.problems)))
    return catalogue


def _paths(config: Path) -> set[str]:
    """What can be stopped: advertisers, campaigns and line items, by path."""
    catalogue = _catalogue(config)
    return {
        *(advertiser.id for advertiser in catalogue.advertisers),
        *(campaign.path for campaign in catalogue.campaigns),
        *(item.path for item in catalogue.line_items),
    }


cli_rights.register(people_app, events_app, _settings, _with_store, _fail)
cli_money.register(budget_app, _settings, _with_store, _catalogue, _fail)
cli_crm.register(app, _settings, _with_store, _catalogue, _fail)
