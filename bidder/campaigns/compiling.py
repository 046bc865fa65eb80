"""What does a campaign file come to? From what traders write to the values of `catalogue`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from bidder.campaigns import catalogue, schema
from bidder.campaigns.lists import Lists
from bidder.campaigns.splits import variants
from bidder.campaigns.vocabulary import POSITIONS, WEEKDAYS
from bidder.money import to_micros
from bidder.openrtb.apps import app_id

Hash = Callable[[str], int]
"""Path -> 32-bit id: `bidder.ids.hash32` outside tests."""

_ALWAYS = catalogue.When()
_FACTS = {"app": "bundle", "category": "categories"}
"""Dimensions of a modifier that `Opportunity` calls otherwise."""


@dataclass(frozen=True)
class Compiled:
    """One file. The line items still have index 0."""

    advertiser: catalogue.Advertiser
    campaigns: tuple[catalogue.Campaign, ...]
    line_items: tuple[catalogue.LineItem, ...]


def compiled(written: schema.Advertiser, hash32: Hash) -> Compiled:
    """What `written` comes to, with ids by `hash32`."""
    limits = written.limits
    advertiser = catalogue.Advertiser(
        id=written.advertiser,
        id32=hash32(written.advertiser),
        domain=written.domain,
        currency=written.currency,
        zone=written.timezone,
        max_cpm_micros=to_micros(limits.max_cpm or 0),
        max_spend_per_minute_micros=to_micros(limits.max_spend_per_minute or 0),
        categories=frozenset(written.categories),
        active=written.status == "active",
    )
    campaigns = tuple(_campaign(advertiser, each, hash32) for each in written.campaigns)
    items = [
        _line_item(written, below, variant, campaign, hash32, arm)
        for below, campaign in zip(written.campaigns, campaigns, strict=True)
        for item in below.line_items
        for variant, arm in variants(item, f"{campaign.path}/{item.id}")
    ]
    return Compiled(advertiser, campaigns, tuple(items))


def flights(written: Iterable[schema.Flight], zone: ZoneInfo) -> tuple[catalogue.Flight, ...]:
    """Flights with their times in `zone`, where they do not name their own."""
    return tuple(catalogue.Flight(_start(f.start, zone), _end(f.end, zone)) for f in written)


def max_cpm(written: schema.Advertiser, item: schema.LineItem) -> float | None:
    """The most `item` may bid: its own maximum, under the advertiser's limit; None if neither."""
    given = [cpm for cpm in (item.bid.max_cpm, written.limits.max_cpm) if cpm is not None]
    return min(given, default=None)


def _start(moment: date | None, zone: ZoneInfo) -> datetime | None:
    if isinstance(moment, datetime):
        return moment if moment.tzinfo else moment.replace(tzinfo=zone)
    return datetime.combine(moment, time(), zone) if moment else None


def _end(moment: date | None, zone: ZoneInfo) -> datetime | None:
    if moment is None or isinstance(moment, datetime):
        return _start(moment, zone)
    return _start(moment + timedelta(days=1), zone)


def _campaign(
    advertiser: catalogue.Advertiser, written: schema.Campaign, hash32: Hash
) -> catalogue.Campaign:
    path = f"{advertiser.id}/{written.id}"
    budget = written.budget
    return catalogue.Campaign(
        id=written.id,
        path=path,
        id32=hash32(path),
        advertiser=advertiser,
        flights=flights(written.all_flights, advertiser.zone),
        budget=catalogue.Budget(
            total_micros=to_micros(budget.total or 0),
            daily_micros=to_micros(budget.daily or 0),
            total_impressions=budget.total_impressions or 0,
            daily_impressions=budget.daily_impressions or 0,
            pacing=budget.pacing,
        ),
        active=advertiser.active and written.status == "active",
        control_percent=written.control,
    )


def _line_item(
    above: schema.Advertiser,
    between: schema.Campaign,
    written: schema.LineItem,
    campaign: catalogue.Campaign,
    hash32: Hash,
    arm: catalogue.Arm | None,
) -> catalogue.LineItem:
    path = f"{campaign.path}/{written.id}"
    caps = (
        *_caps(written.frequency, "line_item"),
        *_caps(between.frequency, "campaign"),
        *_caps(above.frequency, "advertiser"),
    )
    silences = (*written.silence, *between.silence, *above.silence)
    audience = _audience(written.audience)
    free = audience.anyone and not caps and not silences
    usual: Literal["skip", "serve"] = "serve" if free else "skip"
    return catalogue.LineItem(
        index=0,
        id=written.id,
        path=path,
        id32=hash32(path),
        campaign=campaign,
        audience=audience,
        where=_where(written.where),
        when=_when(written.when),
        bid=catalogue.Bid(
            max_cpm_micros=to_micros(max_cpm(above, written) or 0),
            modifiers=tuple(_modifier(each) for each in written.bid.modifiers),
        ),
        goal=_goal(written.goal or between.goal),
        caps=tuple(dict.fromkeys(caps)),
        intrusiveness=_intrusiveness(
            written.intrusiveness or between.intrusiveness or above.intrusiveness
        ),
        creatives=tuple(_creative(path, each, hash32) for each in written.creatives),
        unknown_people=written.unknown_people or usual,
        flights=flights(written.all_flights, campaign.advertiser.zone),
        active=campaign.active and written.status == "active",
        silences=tuple(dict.fromkeys(catalogue.Silence(s.after, s.for_, s.of) for s in silences)),
        product_ads=_product_ads(written.product_ads),
        about=_about(written.about, campaign.advertiser),
        arm=arm,
    )


def _product_ads(written: schema.ProductAds | None) -> catalogue.ProductAds | None:
    if written is None:
        return None
    return catalogue.ProductAds(written.basket, _rules(written.any_of), written.after_generic)


def _about(written: schema.About | None, advertiser: catalogue.Advertiser) -> catalogue.About:
    if written is None:
        return catalogue.About(categories=advertiser.categories)
    return catalogue.About(
        categories=frozenset(written.categories) or advertiser.categories,
        keywords=frozenset(word.lower() for word in written.keywords),
    )


def _caps(written: Iterable[schema.Cap], level: catalogue.Level) -> list[catalogue.Cap]:
    return [
        catalogue.Cap(
            level=cap.of or level,
            count=cap.max or 0,
            seconds=cap.per or 0,
            min_gap_seconds=cap.min_gap or 0,
            channels=frozenset(cap.channels),
        )
        for cap in written
    ]


def _audience(written: schema.Audience) -> catalogue.Audience:
    return catalogue.Audience(
        any_of=_rules(written.any_of),
        all_of=_rules(written.all_of),
        none_of=_rules(written.none_of),
    )


def _rules(written: Iterable[schema.SegmentRule]) -> tuple[catalogue.SegmentRule, ...]:
    return tuple(catalogue.SegmentRule(rule.segment, rule.within) for rule in written)


def _where(written: schema.Where) -> catalogue.Where:
    if not written.model_fields_set:
        return catalogue.Where()
    lists = {
        name: catalogue.Allow(frozenset(rule.allow), frozenset(rule.block))
        for name, rule in written
        if isinstance(rule, Lists)
    }
    return catalogue.Where(
        **lists,
        around=tuple(catalogue.Radius(c.latitude, c.longitude, c.km) for c in written.around),
        deals=frozenset(written.deals),
        positions=frozenset(POSITIONS[name] for name in written.positions),
        min_viewability=written.min_viewability,
    )


def _when(written: schema.When | None) -> catalogue.When:
    if written is None:
        return _ALWAYS
    hours = frozenset(day * 24 + hour for day in written.days for hour in written.hours)
    return catalogue.When(hours, written.zone)


def _modifier(written: schema.Modifier) -> catalogue.Modifier:
    when = {
        _FACTS.get(name, name): frozenset(_fact(name, value) for value in values)
        for name, values in written.when
        if values is not None
    }
    return catalogue.Modifier(when, written.times)


def _fact(name: str, value: Any) -> str:
    """A value of a condition as `pricing` compares it."""
    if name == "size":
        return f"{value[0]}x{value[1]}"
    if name == "weekday":
        return WEEKDAYS[value]
    return str(POSITIONS[value] if name == "position" else value)


def _goal(written: schema.Goal | None) -> catalogue.Goal:
    assert written is not None, "`review` refuses a line item without a goal"
    for kind in ("cpm", "cpc", "cpa", "roas"):
        if (amount := getattr(written, kind)) is not None:
            break
    windows = written.attribution
    return catalogue.Goal(kind, to_micros(amount), windows.click, windows.view)


def _intrusiveness(written: schema.Intrusiveness | None) -> catalogue.Intrusiveness:
    if written is None:
        return catalogue.Intrusiveness()
    return catalogue.Intrusiveness(written.ceiling, to_micros(written.cost_cpm))


def _creative(above: str, written: schema.Creative, hash32: Hash) -> catalogue.Creative:
    path = f"{above}/{written.id}"
    width, height = written.size or (0, 0)
    return catalogue.Creative(
        id=written.id,
        path=path,
        id32=hash32(path),
        width=width,
        height=height,
        image_url=written.image or "",
        html=written.html or "",
        native=_native(written.native) if written.native else None,
        click_url=written.click,
        attributes=frozenset(written.attributes),
        categories=frozenset(written.categories),
        apis=frozenset(written.apis),
        language=written.language or "",
        secure=not insecure(written),
        registered=dict(written.registered),
        product=written.product,
        expandable=frozenset(written.expandable),
        app=app_id(written.app or ""),
    )


def insecure(written: schema.Creative) -> list[tuple[str, ...]]:
    """The keys of a creative at which something is not HTTPS."""
    native = written.native
    parts: list[tuple[tuple[str, ...], str]] = [
        (("image",), written.image or ""),
        (("html",), written.html or ""),
        (("click",), written.click),
        (("native", "image", "url"), native.image.url if native and native.image else ""),
        (("native", "icon", "url"), native.icon.url if native and native.icon else ""),
    ]
    return [keys for keys, text in parts if "http://" in text.lower()]


def _native(written: schema.Native) -> catalogue.NativeAsset:
    image, icon = written.image, written.icon
    return catalogue.NativeAsset(
        title=written.title,
        description=written.description,
        sponsored_by=written.sponsored_by,
        cta=written.cta,
        image_url=image.url if image else "",
        image_width=image.w if image else 0,
        image_height=image.h if image else 0,
        icon_url=icon.url if icon else "",
        icon_width=icon.w if icon else 0,
        icon_height=icon.h if icon else 0,
    )
