"""The commands about money: `bidder budget reconcile`, and `bidder report lift`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bidder.cli_base import CONFIG, Config, catalogue_in, fail, settings_in, with_store
from bidder.settings import Settings

if TYPE_CHECKING:
    from bidder.store.links import Links

DAY_SECONDS = 86400
LEAST_PEOPLE = 2


def register(budget: typer.Typer) -> None:
    """Add the commands."""

    @budget.callback()
    def _about() -> None:
        """What campaigns have spent."""

    @budget.command()
    def reconcile(config: Config = CONFIG) -> None:
        """Tell the store again what the log says was spent: after it was restored from a copy."""
        from bidder.metrics import Metrics
        from bidder.notices import reconciling
        from bidder.notices.applying import Applier
        from bidder.store.coalesce import Scripts

        given, campaigns = settings_in(config), catalogue_in(config).campaigns
        seconds = hold_seconds(config)
        differ: list[bool] = []

        async def run(links: "Links") -> str:
            scripts = Scripts(links)
            applier = Applier(scripts, Metrics(), given.retention.ledger, seconds)
            events = given.state_dir / "events"
            days = await reconciling.reconcile(
                events, links, scripts, applier, campaigns, seconds, time.time()
            )
            differ.extend(not day.agrees for day in days)
            return reconciling.render(days)

        typer.echo(with_store(given, run))
        if any(differ):
            raise fail("the store and the log differ")


def lift(
    given: Settings,
    campaign: str,
    days: int,
    since: float | None,
    until: float | None,
) -> str:
    """What the ads of a campaign (its path) changed. Raises `ValueError` if nobody was held out."""
    from bidder.events import lift as lifting

    who = lifting.groups(given.state_dir / "events", campaign, since, until)
    if min(len(who.treated), len(who.control)) < LEAST_PEOPLE:
        sizes = f"{len(who.treated)} people were bid on and {len(who.control)} held out"
        raise ValueError(f"{campaign}: {sizes}: `control` of the campaign says how many shall be")

    async def run(links: "Links") -> str:
        told = await _activity(links, [*who.treated, *who.control], campaign.partition("/")[0])
        end = days * DAY_SECONDS

        def sales(person: str, start: float) -> list[int]:
            return [v for t, v in told[person][0] if start < t <= start + end]

        def came(person: str, start: float) -> bool:
            return any(start < t <= start + end for t in told[person][1])

        compared = lifting.compare(
            who,
            {"came back": came, "bought": lambda p, t: bool(sales(p, t))},
            {"spent": lambda p, t: sum(sales(p, t)) / 1e6},
        )
        return lifting.render(campaign, who, compared, days)

    return with_store(given, run)


async def _activity(
    links: "Links", people: list[str], advertiser: str
) -> dict[str, tuple[list[tuple[int, int]], list[int]]]:
    """By person: time and value of what was bought there, and the times of visits."""
    from bidder.crm.activity import PURCHASES, VISITS, opened
    from bidder.ids import hash32
    from bidder.store import keys

    found = {}
    for start in range(0, len(people), 1000):
        part = people[start : start + 1000]
        answers = await links.bulk([("GET", keys.activity(person)) for person in part])
        for person, raw in zip(part, answers, strict=True):
            own = [row for row in opened(raw) if row["advertiser"] == hash32(advertiser)]
            bought = [(int(r["time"]), int(r["value"])) for r in own if r["kind"] in PURCHASES]
            found[person] = (bought, [int(r["time"]) for r in own if r["kind"] in VISITS])
    return found


def hold_seconds(config: Path) -> dict[str, int]:
    """By exchange: how long after a bid its last notice may usually come."""
    import os

    from bidder.exchanges.loading import load
    from bidder.server import loading

    return loading.hold_seconds(load(config / "exchanges", os.environ))
