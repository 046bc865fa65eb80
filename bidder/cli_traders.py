"""The commands for traders: is it right, why (not), what came of it, and stop."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bidder import cli_money, settings
from bidder.cli_base import (
    CONFIG,
    Config,
    Moment,
    catalogue_in,
    fail,
    moment,
    running_store,
    settings_in,
    with_store,
)
from bidder.yamlfiles import InvalidFile

if TYPE_CHECKING:
    from bidder.store.links import Links

PANEL = "For traders"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=PANEL)(check)
    app.command(name="explain", rich_help_panel=PANEL)(explain_request)
    app.command(rich_help_panel=PANEL)(report)
    app.command(rich_help_panel=PANEL)(stop)
    app.command(rich_help_panel=PANEL)(start)


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
        directory, moment(now), exchanges=names(directory / "exchanges"), segments=segments
    )
    typer.echo("\n".join([*problems, text]))
    raise typer.Exit(1 if problems else code)


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
    from bidder.serving import Serving

    given, at = settings_in(config), moment(now).timestamp()
    try:
        catalogue, rest = loading.check(config, given, at)
        serving = Serving(catalogue, *rest)
        offer = opportunity(decode(request.read_bytes()), exchange)
    except (CannotLoad, InvalidRequest, OSError) as problem:
        raise fail(str(problem)) from None
    if exchange not in serving.exchanges:
        raise fail(f"no exchange {exchange!r}; there are {', '.join(sorted(serving.exchanges))}")
    typer.echo(asyncio.run(explained(serving, given, running_store(given), offer, at)))


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
        raise fail(f"no format {format!r}; there are table, csv and json")
    events = settings_in(config).state_dir / "events"
    start = moment(since).timestamp() if since else None
    end = moment(until).timestamp() if until else None
    if what == "intrusiveness":
        typer.echo(_felt(events, config, start, end, plot))
        return
    if what not in ("", "lift"):
        raise fail(f"no report {what!r}; there are intrusiveness and lift")
    try:
        if what:
            given = settings_in(config)
            typer.echo(cli_money.lift(given, campaign, days, start, end))
            return
        table = made(events, [name.strip() for name in by.split(",")], start, end, zone=zone)
    except ValueError as problem:
        raise fail(str(problem)) from None
    typer.echo(render(table, format))  # type: ignore[arg-type]  # checked above


def _felt(
    events: Path, config: Path, since: float | None, until: float | None, picture: Path | None
) -> str:
    """The report on intrusiveness; draws it too, if asked to."""
    from bidder.events import intrusiveness

    settings = {item.path: item.intrusiveness for item in catalogue_in(config).line_items}
    found = intrusiveness.report(events, settings, since, until)
    if picture is not None:
        intrusiveness.plot(found, picture)
    return intrusiveness.render(found)


def stop(
    what: Annotated[
        str, typer.Argument(help="all, or the path of an advertiser, campaign or line item.")
    ],
    config: Config = CONFIG,
) -> None:
    """Stop bidding, on all workers within two seconds, until `bidder start`."""
    _change_stops("SADD", what, config)
    typer.echo(f"stopped {what}")


def start(
    what: Annotated[str, typer.Argument(help="What `bidder stop` stopped.")],
    config: Config = CONFIG,
) -> None:
    """Bid again for what was stopped."""
    removed = _change_stops("SREM", what, config)
    typer.echo(f"started {what}" if removed else f"{what} was not stopped")


def _change_stops(command: str, what: str, config: Path) -> bool:
    from bidder.store import keys

    given = settings_in(config)
    known = {"all", *_paths(config)}
    if command == "SADD" and what not in known:
        from bidder.yamlfiles import nearest

        close = nearest(what, known)
        raise fail(f"nothing is called {what!r}" + (f"; {close}" if close else ""))

    async def run(links: "Links") -> bool:
        (changed,) = await links.bulk([(command, keys.STOPS, what)])
        return bool(changed)

    return with_store(given, run)


def _paths(config: Path) -> set[str]:
    """What can be stopped: advertisers, campaigns and line items, by path."""
    catalogue = catalogue_in(config)
    return {
        *(advertiser.id for advertiser in catalogue.advertisers),
        *(campaign.path for campaign in catalogue.campaigns),
        *(item.path for item in catalogue.line_items),
    }
