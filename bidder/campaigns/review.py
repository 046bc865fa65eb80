"""What in a readable campaign file cannot work, or will not do what its writer means?

Each rule yields problems of one document; what only shows across files is in `loading`.
"""

from collections.abc import Container, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from bidder.campaigns import catalogue, schema
from bidder.campaigns.compiling import flights, insecure, max_cpm
from bidder.campaigns.splits import EVERYONE, applied
from bidder.campaigns.vocabulary import USUAL_SIZES
from bidder.openrtb.apps import app_id
from bidder.yamlfiles import Document, Key, Problem, nearest

File = Document[schema.Advertiser]
Keys = tuple[Key, ...]
T = TypeVar("T")


def review(
    file: File,
    now: datetime,
    exchanges: Container[str] | None,
    segments: Container[str] | None,
) -> Iterator[Problem]:
    """All problems of `file`. Names of exchanges and segments are checked where they are given."""
    written = file.value
    if written.advertiser == "all":
        yield file.problem(
            "error", ("advertiser",), "'all' is a reserved name", "`bidder stop all` stops everyone"
        )
    yield from _twins(file, ("campaigns",), [each.id for each in written.campaigns])
    for number, campaign in enumerate(written.campaigns):
        keys = ("campaigns", number)
        yield from _campaign(file, campaign, keys, now)
        for position, item in enumerate(campaign.line_items):
            below = (*keys, "line_items", position)
            found = list(_whole(file, campaign, item, below, now, exchanges, segments))
            yield from found
            yield from _arms(file, item, below)
            for place, arm in enumerate(item.split):
                where, alone = (*below, "split", place), applied(item, arm)
                for problem in _whole(file, campaign, alone, where, now, exchanges, segments):
                    if problem.message not in {known.message for known in found}:
                        yield problem


def _twins(file: File, keys: Keys, ids: Iterable[str]) -> Iterator[Problem]:
    """Ids that stand twice in the list at `keys`."""
    first: dict[str, int] = {}
    for position, name in enumerate(ids):
        if name in first:
            line = file.line_of(*keys, first[name], "id")
            where: Keys = (*keys, position, "id")
            if file.line_of(*where) <= line:  # an alias of the first: show where the alias stands
                where = (*keys, position)
            yield file.problem("error", where, f"{name!r} is taken", f"first on line {line}")
        first.setdefault(name, position)


# Campaigns: time and money


def _campaign(
    file: File, campaign: schema.Campaign, keys: Keys, now: datetime
) -> Iterator[Problem]:
    yield from _twins(file, (*keys, "line_items"), [each.id for each in campaign.line_items])
    yield from _flights(file, campaign, keys, now)
    yield from _budget(file, campaign, keys)
    if campaign.control >= 50:
        yield file.problem(
            "warning", (*keys, "control"), f"holds out {campaign.control:g} % of people", "5 to 20?"
        )


def _flights(
    file: File, written: schema.Campaign | schema.LineItem, keys: Keys, now: datetime
) -> Iterator[Problem]:
    compiled = flights(written.all_flights, file.value.timezone)
    for position, flight in enumerate(compiled):
        if flight.start and flight.end and flight.end <= flight.start:
            where = (*_flight_keys(written, keys, position), "end")
            yield file.problem("error", where, "ends before it starts")
    if compiled and all(flight.end and flight.end <= now for flight in compiled):
        last = max(flight.end for flight in compiled if flight.end)
        where = _flight_keys(written, keys, None)
        day = last.astimezone(file.value.timezone)
        message = f"ended on {day - timedelta(microseconds=1):%Y-%m-%d}: it will not spend"
        yield file.problem("warning", where, message)


def _flight_keys(
    written: schema.Campaign | schema.LineItem, keys: Keys, position: int | None
) -> Keys:
    if written.flights is None:
        return (*keys, "flight")
    return (*keys, "flights") if position is None else (*keys, "flights", position)


def _budget(file: File, campaign: schema.Campaign, keys: Keys) -> Iterator[Problem]:
    budget, below = campaign.budget, (*keys, "budget")
    currency = file.value.currency
    yield from _daily(file, campaign, (*below, "daily"), budget.total, budget.daily, currency)
    yield from _daily(
        file,
        campaign,
        (*below, "daily_impressions"),
        budget.total_impressions,
        budget.daily_impressions,
        "impressions",
    )
    per_minute = file.value.limits.max_spend_per_minute
    if per_minute and budget.daily and budget.daily > per_minute * 1440:
        message = f"{budget.daily:g} {currency} a day, above what limits.max_spend_per_minute"
        hint = f"it leaves at most {per_minute * 1440:g} {currency} a day"
        yield file.problem("warning", (*below, "daily"), f"{message} allows", hint)


def _daily(
    file: File,
    campaign: schema.Campaign,
    keys: Keys,
    total: float | None,
    daily: float | None,
    unit: str,
) -> Iterator[Problem]:
    """A daily budget against the total it is to spend in the days of the flights."""
    if total is None or daily is None:
        return
    if daily > total:
        message = f"{daily:g} {unit} a day, above the total of {total:g}"
        yield file.problem("warning", keys, message)
    days = _days(flights(campaign.all_flights, file.value.timezone), file.value.timezone)
    # A thousandth is forgiven: traders round the division.
    if days and daily * days < total * 0.999:
        message = f"{daily:g} {unit} a day for {days} days cannot spend the total of {total:g}"
        yield file.problem("error", keys, message, f"at least {total / days:.2f} a day")


def _days(compiled: Iterable[catalogue.Flight], zone: ZoneInfo) -> int:
    """Days, in `zone`, on which any of the flights runs; 0 if there is no end to them."""
    spans = []
    for flight in compiled:
        if flight.start is None or flight.end is None:
            return 0
        last = flight.end.astimezone(UTC) - timedelta(microseconds=1)
        spans.append(
            (flight.start.astimezone(zone).date(), last.astimezone(zone).date()),
        )
    days, reached = 0, date.min
    for first, until in sorted(spans):
        begin = max(first, reached + timedelta(days=1)) if reached > date.min else first
        days += max(0, (until - begin).days + 1)
        reached = max(reached, until)
    return days


# Line items


def _line_item(
    file: File, campaign: schema.Campaign, item: schema.LineItem, keys: Keys, now: datetime
) -> Iterator[Problem]:
    yield from _twins(file, (*keys, "creatives"), [each.id for each in item.creatives])
    yield from _flights(file, item, keys, now)
    yield from _nested(file, campaign, item, keys)
    yield from _bid(file, campaign, item, keys)
    asked = item.audience
    if item.unknown_people == "serve" and (asked.any_of or asked.all_of or asked.none_of):
        message = "has no effect: who is unknown cannot be in, or out of, the audience"
        yield file.problem("warning", (*keys, "unknown_people"), message)
    yield from _product_ads(file, item, keys)
    wanted = {rule.segment for rule in (*asked.any_of, *asked.all_of)}
    for position, rule in enumerate(asked.none_of):
        if rule.segment in wanted and not rule.within:
            where = (*keys, "audience", "none_of", position)
            message = f"{rule.segment!r} is both asked for and ruled out"
            yield file.problem("warning", where, message)


def _whole(
    file: File,
    campaign: schema.Campaign,
    item: schema.LineItem,
    keys: Keys,
    now: datetime,
    exchanges: Container[str] | None,
    segments: Container[str] | None,
) -> Iterator[Problem]:
    """All that is wrong with one line item, or with an arm that stands at `keys`."""
    yield from _line_item(file, campaign, item, keys, now)
    yield from _names(file, item, keys, exchanges, segments)
    for place, creative in enumerate(item.creatives):
        yield from _creative(file, creative, item, (*keys, "creatives", place), exchanges)


def _arms(file: File, item: schema.LineItem, keys: Keys) -> Iterator[Problem]:
    """Arms that do not add up, or change nothing."""
    yield from _twins(file, (*keys, "split"), [arm.id for arm in item.split])
    total = sum(arm.percent for arm in item.split)
    if total > EVERYONE:
        yield file.problem("error", (*keys, "split"), f"the arms take {total:g} % of people")
    for place, arm in enumerate(item.split):
        if arm.model_fields_set <= {"id", "percent"}:
            message = "is like the line item itself: it changes nothing"
            yield file.problem("warning", (*keys, "split", place), message)


def _product_ads(file: File, item: schema.LineItem, keys: Keys) -> Iterator[Problem]:
    """Rules for showing products that leave nothing to show, or change nothing."""
    rule, where = item.product_ads, (*keys, "product_ads")
    if rule is None:
        return
    products = sum(creative.product for creative in item.creatives)
    if not products:
        yield file.problem("warning", where, "has no effect: no creative has product: true")
    elif products == len(item.creatives):
        hint = "give a creative without product: true"
        yield file.problem("warning", where, "nothing to show until it holds", hint)
        if rule.after_generic:
            message = "never comes to pass: every creative shows products"
            yield file.problem("error", (*where, "after_generic"), message, hint)


def _nested(
    file: File, campaign: schema.Campaign, item: schema.LineItem, keys: Keys
) -> Iterator[Problem]:
    """Flights of the line item that lie outside all of its campaign's."""
    outer = flights(campaign.all_flights, file.value.timezone)
    inner = flights(item.all_flights, file.value.timezone)
    for position, flight in enumerate(inner):
        if outer and not any(_overlap(flight, other) for other in outer):
            where = _flight_keys(item, keys, position)
            yield file.problem("warning", where, "outside the flights of its campaign")


def _overlap(one: catalogue.Flight, other: catalogue.Flight) -> bool:
    def before(end: datetime | None, start: datetime | None) -> bool:
        return end is not None and start is not None and end <= start

    return not before(one.end, other.start) and not before(other.end, one.start)


def _bid(
    file: File, campaign: schema.Campaign, item: schema.LineItem, keys: Keys
) -> Iterator[Problem]:
    bid, limit = item.bid, file.value.limits.max_cpm
    most = max_cpm(file.value, item)
    if bid.modifiers and bid.max_cpm is None:
        where = (*keys, "bid", "modifiers")
        yield file.problem("error", where, "a modifier needs a max_cpm beside it")
    elif most is None:
        hint = "give bid.max_cpm, or limits.max_cpm of the advertiser"
        yield file.problem("error", (*keys, "bid"), "no highest bid", hint)
    if bid.max_cpm is not None and limit is not None and bid.max_cpm > limit:
        where = (*keys, "bid", "max_cpm")
        message = f"{bid.max_cpm:g} is above limits.max_cpm of the advertiser"
        yield file.problem("warning", where, message, f"bids stop at {limit:g}")
    goal = item.goal or campaign.goal
    if goal is None:
        hint = "give cpm, cpc, cpa or roas here or in the campaign"
        yield file.problem("error", (*keys, "goal"), "missing", hint)
    elif most is not None and goal.cpm is not None and goal.cpm > most:
        where = (*keys, "goal", "cpm") if item.goal else (*keys, "bid", "max_cpm")
        message = f"the goal of {goal.cpm:g} CPM is above the highest bid"
        yield file.problem("warning", where, message, f"bids stop at {most:g}")


# Names


def _names(
    file: File,
    item: schema.LineItem,
    keys: Keys,
    exchanges: Container[str] | None,
    segments: Container[str] | None,
) -> Iterator[Problem]:
    """Segments and exchanges that do not exist."""
    audience = item.audience
    for part in ("any_of", "all_of", "none_of"):
        for position, rule in enumerate(getattr(audience, part)):
            where = (*keys, "audience", part, position, "segment")
            yield from _known(file, where, "segment", rule.segment, segments)
    for position, rule in enumerate(item.product_ads.any_of if item.product_ads else ()):
        where = (*keys, "product_ads", "any_of", position, "segment")
        yield from _known(file, where, "segment", rule.segment, segments)
    places = item.where.exchanges
    for part in ("allow", "block") if places else ():
        for position, name in enumerate(getattr(places, part)):
            where = _list_keys(file, (*keys, "where", "exchanges"), part, position)
            yield from _known(file, where, "exchange", name, exchanges)
    for position, modifier in enumerate(item.bid.modifiers):
        below = (*keys, "bid", "modifiers", position, "when")
        for name in modifier.when.segment or ():
            yield from _known(file, (*below, "segment"), "segment", name, segments)
        for name in modifier.when.exchange or ():
            yield from _known(file, (*below, "exchange"), "exchange", name, exchanges)


def _list_keys(file: File, keys: Keys, part: str, position: int) -> Keys:
    """Where a value of `Lists` stands: the short form has no `allow`."""
    return (*keys, part, position) if file.has(*keys, part) else (*keys, position)


def _known(
    file: File, keys: Keys, kind: str, name: str, known: Container[str] | None
) -> Iterator[Problem]:
    if known is not None and name not in known:
        names = known if isinstance(known, Iterable) else ()
        yield file.problem("error", keys, f"no {kind} {name!r}", nearest(name, names))


# Creatives


def _creative(
    file: File,
    creative: schema.Creative,
    item: schema.LineItem,
    keys: Keys,
    exchanges: Container[str] | None,
) -> Iterator[Problem]:
    if creative.size and creative.size not in USUAL_SIZES:
        width, height = creative.size
        message = f"{width}x{height} is not a usual size: few slots will take it"
        yield file.problem("warning", (*keys, "size"), message)
    for part in insecure(creative):
        message = "not HTTPS: slots that ask for secure markup, most of them, will not take it"
        yield file.problem("warning", (*keys, *part), message)
    if creative.html and "${CLICK_URL" not in creative.html:
        message = "leads nowhere by ${CLICK_URL}: its clicks will not be counted"
        yield file.problem("warning", (*keys, "html"), message, 'write <a href="${CLICK_URL}">')
    for name in creative.registered:
        yield from _known(file, (*keys, "registered", name), "exchange", name, exchanges)
    if creative.app:
        yield from _app(file, creative.app, item, (*keys, "app"))


def _app(file: File, app: str, item: schema.LineItem, keys: Keys) -> Iterator[Problem]:
    """An app that some of those who see its ad cannot install."""
    system, store = ("ios", "iOS") if app_id(app).isdecimal() else ("android", "Android")
    systems = item.where.os
    allowed = frozenset(systems.allow) - frozenset(systems.block) if systems else frozenset()
    if allowed != {system}:
        message = f"{app} is an app for {store}, and the line item speaks on other systems too"
        hint = f"where: {{os: [{system}]}}"
        yield file.problem("warning", keys, message, hint)
