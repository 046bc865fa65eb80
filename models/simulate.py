"""What would logged rows look like? Simulated people, sites and ads, for the demo and bench models.

No real data. The rows go through `bidder.scoring.features` from real Opportunity, Profile, History
and catalogue values, so that they are what serving makes. What click and sale depend on is in
`click_odds` and `sale_odds`; the direction of each effect is taken from the study named beside it,
the sizes are our assumptions. A trained demo model shows how the bidder works, not how people do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, exp, log, log1p, nan, pi
from random import Random
from zoneinfo import ZoneInfo

import numpy as np

from bidder.campaigns import catalogue as cat
from bidder.ids import hash32
from bidder.openrtb import request as wire
from bidder.openrtb.opportunity import Opportunity, Slot, opportunity
from bidder.person import NO_HISTORY, Basket, History, Profile
from bidder.scoring import features
from models.table import Table

START = 1_767_225_600
"""2026-01-01 00:00 UTC: the rows lie in the `DAYS` after it."""
DAYS = 60
HOUR, DAY, WEEK, MONTH = 3600, 86400, 7 * 86400, 30 * 86400
MORE_CLICKS, MORE_SALES = 60.0, 4.0
"""Clicks and sales are drawn this many times too often and weighted back: case-control sampling."""
_ADVERTISERS, _SITES = 8, 60
_SIZES = ((300, 250), (300, 250), (728, 90), (320, 50), (160, 600), (300, 600), (970, 250))
_TOPICS = ("IAB1-2", "IAB2", "IAB3-1", "IAB7", "IAB8-5", "IAB10", "IAB12", "IAB17-44", "IAB18-1",
           "IAB19-6", "IAB20")  # fmt: skip
_AGENTS = {
    "desktop": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/138.0 Safari/537.36",
    "mobile": "Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/138.0 Mobile Safari/537.36",
    "phone": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Version/18.5 Mobile Safari",
    "tablet": "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) Version/18.5 Safari",
    "mac": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Firefox/140.0",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One billed impression, before anybody knows what came of it."""

    time: int
    person: str
    profile: Profile
    history: History
    opportunity: Opportunity
    slot: Slot
    size: tuple[int, int]
    line_item: cat.LineItem
    creative: cat.Creative
    liking: float
    """Log-odds that features do not show: of this site and creative."""


def table(impressions: int, seed: int) -> Table:
    """This many simulated impressions, oldest first."""
    random = Random(seed)
    cases = sorted(_cases(impressions, random), key=lambda case: case.time)
    rows = np.empty((len(cases), len(features.NAMES)))
    clicks, sales, weights = [], [], []
    for index, case in enumerate(cases):
        context = features.context(case.opportunity, case.profile, case.time)
        rows[index] = features.row(
            context, case.slot, case.size, case.history, case.line_item, case.creative
        )
        click, weight = _draw(_chance(click_odds(case)), MORE_CLICKS, random)
        sale = False
        if click:
            sale, factor = _draw(_chance(sale_odds(case)), MORE_SALES, random)
            weight *= factor
        clicks.append(click)
        sales.append(sale)
        weights.append(weight * MORE_CLICKS)  # so that a click without a sale weighs about 1
    return Table(
        rows=rows,
        time=np.array([case.time for case in cases], dtype=np.float64),
        person=np.array([case.person for case in cases], dtype=np.str_),
        advertiser=np.array([c.line_item.campaign.advertiser.id for c in cases], dtype=np.str_),
        line_item=np.array([case.line_item.path for case in cases], dtype=np.str_),
        click=np.array(clicks),
        conversion=np.array(sales),
        view_conversion=np.zeros(len(cases), dtype=bool),
        conversion_delay=np.where(sales, 0.0, np.nan),
        elapsed=np.full(len(cases), np.inf),
        paid_cpm=np.zeros(len(cases)),
        value_cpm=np.zeros(len(cases)),
        p_click=np.zeros(len(cases)),
        p_conversion=np.zeros(len(cases)),
        p_view=np.zeros(len(cases)),
        model=np.full(len(cases), ""),
        weight=np.array(weights),
    )


def click_odds(case: Case) -> float:
    """Log-odds of a click on the impression."""
    history, profile, slot = case.history, case.profile, case.slot
    visited = _age(case.time, profile.last_visit)
    basket = profile.baskets.get(case.line_item.campaign.advertiser.id)
    return (
        -6.6
        + case.liking
        # No click without a view: clicks are in proportion to it.
        + log(max(slot.viewability, 0.1) / 0.6)
        # Sahni 2019: a third of the first week's effect falls on day 1.
        + 1.4 * exp(-visited / (3 * DAY))
        + (0.5 * exp(-_age(case.time, basket.updated) / (2 * DAY)) if basket else 0.0)
        # Lambrecht and Tucker 2013: product ads lose until preferences are well defined.
        + ((0.4 if basket else -0.3) if case.creative.product else 0.0)
        # Mercanti-Guérin 2013: repetition is felt as intrusion.
        - 0.60 * log1p(history.impressions_hour)
        - 0.12 * log1p(history.impressions_day + 0.5 * history.other_impressions_day)
        - 0.06 * log1p(history.contacts_week)
        # Sahni 2015: spaced exposures beat bunched ones.
        - (0.2 * exp(-history.since_impression / (6 * HOUR)) if history.impressions_month else 0.0)
        # He et al. 2014: what a person did before says most of what they do next.
        + 0.9 * min(history.clicks_month, 2)
        - (0.8 * exp(-history.since_conversion / WEEK) if history.since_conversion >= 0 else 0.0)
        + {1: 0.2, 3: -0.25}.get(slot.position, 0.0)
        + (0.5 if slot.interstitial else 0.0)
        + (0.15 if case.opportunity.device == "mobile" else 0.0)
        + (0.15 * log(case.size[0] * case.size[1] / 75_000) if case.size[0] else 0.1)
        + (0.25 if not case.opportunity.categories.isdisjoint(profile.interests) else 0.0)
        + 0.2 * cos((case.time / HOUR - 20) / 24 * 2 * pi)
    )


def sale_odds(case: Case) -> float:
    """Log-odds of a sale after the click."""
    profile, history = case.profile, case.history
    basket = profile.baskets.get(case.line_item.campaign.advertiser.id)
    return (
        -3.8
        + 1.0 * exp(-_age(case.time, profile.last_visit) / (4 * DAY))
        + (1.2 * exp(-_age(case.time, basket.updated) / (3 * DAY)) if basket else 0.0)
        + 0.35 * log1p(profile.orders)
        + {"active": 0.3, "won-back": 0.3, "lapsed": -0.4, "prospect": -0.3}.get(profile.stage, 0.0)
        # A bought thing is not bought again next day.
        - (1.5 * exp(-history.since_conversion / WEEK) if history.since_conversion >= 0 else 0.0)
        # Clicks by accident do not buy.
        - (1.0 if case.slot.interstitial else 0.0)
        - (0.4 if case.opportunity.device == "mobile" else 0.0)
    )


def _age(now: int, then: int) -> float:
    return now - then if then else float("inf")


def _chance(odds: float) -> float:
    return 1 / (1 + exp(-odds))


def _draw(chance: float, times: float, random: Random) -> tuple[bool, float]:
    """A draw at `times` the chance, at most a half, and the weight (1 on average) to undo it."""
    drawn = min(chance * times, 0.5)
    if random.random() < drawn:
        return True, chance / drawn
    return False, (1 - chance) / (1 - drawn)


def _cases(count: int, random: Random) -> Iterator[Case]:
    line_items = [_line_item(number, random) for number in range(_ADVERTISERS * 3)]
    liking = {c.id32: random.gauss(0, 0.25) for item in line_items for c in item.creatives}
    sites = {f"site{number}.example": random.gauss(0, 0.35) for number in range(_SITES)}
    made = 0
    while made < count:
        person = f"p{made}" if random.random() < 0.85 else ""
        line_item = random.choice(line_items)
        visit = START + random.random() * DAYS * DAY
        for _ in range(min(random.choice((1, 1, 2, 3, 5)) if person else 1, count - made)):
            time = int(visit + random.expovariate(1 / (4 * DAY)) + 60)
            creative = random.choice(line_item.creatives)
            domain = random.choice(tuple(sites))
            offer = _opportunity(creative, domain, random)
            yield Case(
                time=time,
                person=person,
                profile=_profile(line_item, int(visit), time, random) if person else Profile(),
                history=_history(random) if person else NO_HISTORY,
                opportunity=offer,
                slot=offer.slots[0],
                size=(creative.width, creative.height),
                line_item=line_item,
                creative=creative,
                liking=liking[creative.id32] + sites[domain],
            )
            made += 1


def _line_item(number: int, random: Random) -> cat.LineItem:
    owner = number % _ADVERTISERS
    name = f"advertiser{owner}"
    advertiser = cat.Advertiser(
        id=name, id32=hash32(name), domain=f"{name}.example", currency="EUR",
        zone=ZoneInfo("Europe/Paris"), max_cpm_micros=0, max_spend_per_minute_micros=0,
        categories=frozenset({_TOPICS[owner], _TOPICS[owner + 3]}),
    )  # fmt: skip
    campaign = cat.Campaign(
        id="c", path=f"{name}/c", id32=hash32(f"{name}/c"), advertiser=advertiser, flights=(),
        budget=cat.Budget(),
    )  # fmt: skip
    path = f"{name}/c/l{number}"
    sizes = [*random.sample(_SIZES, 3), (0, 0)]
    segment = ("basket", "viewed", "customer")[number % 3]
    return cat.LineItem(
        index=number, id=f"l{number}", path=path, id32=hash32(path), campaign=campaign,
        audience=cat.Audience(any_of=(cat.SegmentRule(segment),)), where=cat.Where(),
        when=cat.When(), bid=cat.Bid(6_000_000), goal=cat.Goal("cpa", 18_000_000), caps=(),
        intrusiveness=cat.Intrusiveness(), unknown_people="serve",
        creatives=tuple(_creative(path, i, size, random) for i, size in enumerate(sizes)),
    )  # fmt: skip


def _creative(path: str, number: int, size: tuple[int, int], random: Random) -> cat.Creative:
    full = f"{path}/k{number}"
    html = random.random() < 0.3
    native = cat.NativeAsset(title="A title") if size == (0, 0) else None
    return cat.Creative(
        id=f"k{number}", path=full, id32=hash32(full), width=size[0], height=size[1],
        image_url="" if native or html else "https://cdn.example/k.jpg",
        html="<b></b>" if html and not native else "", native=native,
        click_url="https://shop.example/", language=random.choice(("fr", "fr", "")),
        product=random.random() < 0.5,
    )  # fmt: skip


def _opportunity(creative: cat.Creative, domain: str, random: Random) -> Opportunity:
    """A request through the bidder's own decoder types, with one slot that fits the creative."""
    agent = random.choice(tuple(_AGENTS))
    viewability = random.choice((None, random.betavariate(4, 2.5)))
    imp = wire.Imp(
        id="1",
        instl=int(random.random() < 0.05),
        bidfloor=round(random.lognormvariate(-1.0, 0.8), 2),
        metric=[wire.Metric(type="viewability", value=viewability)],
    )
    if creative.native is None:
        size = wire.Format(w=creative.width, h=creative.height)
        imp.banner = wire.Banner(format=[size], pos=random.choice((None, 1, 1, 3, 4)))
    else:
        imp.native = wire.Native(request="{}")
    site = wire.Inventory(
        domain=domain,
        cat=random.sample(_TOPICS, random.choice((0, 1, 2))),
        publisher=wire.Publisher(id=f"publisher-of-{domain[:5]}"),
    )
    geo = wire.Geo(country="FRA", utcoffset=random.choice((None, 60)))
    device = wire.Device(ua=_AGENTS[agent], language=random.choice(("fr", "fr", "en")), geo=geo)
    app = random.random() < 0.25
    request = wire.BidRequest(
        id="1", imp=[imp], site=None if app else site, app=site if app else None, device=device
    )
    return opportunity(request, random.choice(("demo", "google", "index", "smaato", "xandr")))


def _profile(line_item: cat.LineItem, visit: int, now: int, random: Random) -> Profile:
    """What the CRM knew `now` of somebody who visited at `visit`."""
    orders = min(int(random.expovariate(0.8)), 12)
    ordered = now - int(random.expovariate(1 / (60 * DAY))) - 60 if orders else 0
    basket = random.random() < 0.3
    basket_value = round(random.lognormvariate(3.8, 0.7), 2)
    stages = ("active", "lapsing", "lapsed", "won-back") if orders else ("visitor", "prospect")
    segments = {line_item.audience.any_of[0].segment: visit}
    segments |= {f"s{random.randrange(40)}": visit - random.randrange(MONTH) for _ in range(5)}
    return Profile(
        segments=segments,
        first_seen=visit - random.randrange(365 * DAY),
        last_visit=visit,
        last_order=ordered,
        orders=orders,
        spent_micros=int(orders * random.lognormvariate(4.0, 0.5)) * 1_000_000,
        stage=random.choice(stages),
        baskets={line_item.campaign.advertiser.id: Basket(int(basket_value * 1_000_000), visit)}
        if basket
        else {},
        interests={t: visit - random.randrange(MONTH) for t in random.sample(_TOPICS, 3)},
    )


def _history(random: Random) -> History:
    """Thirty days of one person, from their times of exposure: bunched, as browsing is."""
    shown: list[int] = []
    pace = random.lognormvariate(0.5, 1.0) * DAY
    # Who is here now was often here a moment ago.
    age = random.uniform(60, HOUR) if random.random() < 0.4 else random.expovariate(1 / pace)
    while age < MONTH and len(shown) < 60:
        shown.append(int(age))
        age += random.expovariate(1 / pace if random.random() < 0.4 else 1 / 900)
    day = sum(age < DAY for age in shown)
    week = sum(age < WEEK for age in shown)
    own = sum(random.random() < 0.6 for _ in range(day))
    clicked = random.choice(shown) if shown and random.random() < 0.08 else nan
    bought = int(random.random() * clicked) if clicked > 0 and random.random() < 0.3 else nan
    contact = int(random.expovariate(1 / (9 * DAY))) if random.random() < 0.5 else nan
    return History(
        impressions_hour=sum(age < HOUR for age in shown),
        impressions_day=day,
        impressions_week=week,
        impressions_month=len(shown),
        line_item_impressions_day=own,
        line_item_impressions_week=own + (week - day) // 2,
        clicks_month=int(clicked >= 0),
        conversions_month=int(bought >= 0),
        contacts_week=int(0 <= contact < WEEK),
        since_impression=shown[0] if shown else nan,
        since_click=clicked,
        since_conversion=bought,
        since_contact=contact,
        other_impressions_day=int(random.expovariate(0.5)),
    )
