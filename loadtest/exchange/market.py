"""What does a market ask, and what becomes of the answers?

`Market` joins a world, its auctions, its invoice and its truth. It does no I/O and its clock is
simulated, so that a trial can drive a bidder in process at full speed; `http` drives the same
market over the network. The requests, the competitors and the chance of every slot depend on the
seed alone, never on what the bidder does.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import exp
from typing import Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import orjson

from loadtest.world import Chance, People, Truth, View, Visits, World, load_world
from loadtest.world.bodies import Bodies
from loadtest.world.draws import exponential, mix, normal, uniform
from loadtest.world.prices import competing_cpm

from . import auction
from .auction import Lot, Outcome
from .delivery import Click, Event, conversion_delay, deliveries, times
from .lawful import RULES, Json, Violation, bids_of, currency_of, violations
from .macros import decimal, substitute
from .markup import Calls, calls, origin
from .tally import Tally

CONVERSION = (
    "conversion?cid={click_id}&order={order}&value={value}&gdpr={gdpr}&gdpr_consent={consent}"
)
"""How a sale is told, unless asked otherwise; see `Market`."""

Log = Callable[[str, dict[str, Any]], None]
"""Takes the name of a log (`invoice`, `truth`) and one row."""


@dataclass(frozen=True, slots=True)
class Request:
    """One bid request, with what the market must know to settle it."""

    time: float
    """Simulated, epoch seconds."""
    body: bytes
    headers: dict[str, str]
    json: Json
    """The parsed body. Parts are shared between requests: read only."""
    gzip: bool
    """An HTTP driver should compress the body."""
    view: View
    key: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A won slot on its way to the browser."""

    request: Request
    bid: Json
    key: int
    advertiser: str
    currency: str
    price_micros: int
    macros: dict[str, str]


class Market:
    """A world at work for one bidder; make one for each bidder, with the same seed, to compare."""

    def __init__(
        self,
        world: World | str,
        seed: int = 0,
        *,
        people: int | None = None,
        hours: float = 24.0,
        start: float | None = None,
        requests_per_second: float | None = None,
        exchange: str = "demo",
        log: Log | None = None,
        recorded: Iterable[bytes] | None = None,
        endpoint: str = "",
        conversion: str = CONVERSION,
        click_id: str = "cid",
    ) -> None:
        """`start` (epoch seconds) defaults to the world's; `recorded` replaces its requests.

        `endpoint` is the bidder's URL: ads call its origin, those of the bid's notice URLs, and
        loopback. `conversion` is where the shop tells a sale, seen from the URL of the click, with
        places for `click_id`, `order`, `value` (decimal), `currency`, `gdpr` (0 or 1) and `consent`
        (a TC string); the first is what the click's redirect has in its query as `click_id`.

        `requests_per_second`, averaged over a week, replaces the rate that follows from habits;
        recorded requests come at that rate, by default one a second.
        """
        self.world = load_world(world) if isinstance(world, str) else world
        self.exchange = exchange
        self.start = self.world.start.timestamp() if start is None else start
        self.end = self.start + hours * 3600
        self.people = People(self.world, seed, people or self.world.people.count, self.start)
        self.truth = Truth(self.world, self.people, seed, hours)
        self.tally = Tally()
        self._log = log
        self._origin = origin(endpoint)
        self._conversion = conversion
        self._click_id = click_id
        self._rates = {self.world.currency: 1.0, **self.world.rates}
        views = None
        if requests_per_second is not None:
            views = requests_per_second / requests_per_view(self.world)
        visits = Visits(self.world, self.people, seed, views)
        if recorded is None:
            self._requests = self._made(visits)
        else:
            self._requests = self._replayed(visits, recorded, requests_per_second or 1.0)

    def next_request(self) -> Request | None:
        """The next request in order of time; None when the hours are over."""
        request = next(self._requests, None)
        self._organic(self.end if request is None else request.time)
        if request is not None:
            self.tally.requests += 1
        return request

    def answer(self, request: Request, body: bytes | None) -> list[Event]:
        """Hold the auctions for an answer (None or empty = no bid); the calls that follow from it.

        Events come in no order; some lie days ahead.
        """
        if not body:
            self.tally.no_bids += 1
            return []
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            self.tally.add_violations([Violation("answer", -1, f"no JSON: {error}")])
            self.tally.no_bids += 1
            return []
        broken = violations(request.json, answer, self._rates)
        bids = bids_of(answer) if isinstance(answer, dict) else []
        if bids and (currency := currency_of(answer)) not in self._rates:
            broken.append(Violation("currency", -1, f"the world has no rate for {currency}"))
        if broken:
            self.tally.add_violations(broken)
        if not bids:
            self.tally.no_bids += 1
            return []
        self.tally.answers_with_bid += 1
        self.tally.bids += len(bids)
        return self._auctions(request, answer, bids, broken)

    def late(self, request: Request) -> None:
        """The answer to this request came after `tmax`, and is ignored."""
        self.tally.late += 1

    def failed(self, request: Request) -> None:
        """There was no answer, or not one that HTTP calls a success."""
        self.tally.errors += 1

    def redirected(self, event: Event, location: str | None) -> list[Event]:
        """What follows from a click that was answered with this Location: perhaps a conversion."""
        click = event.click
        if click is None or not click.sale_value_micros or not location:
            return []
        found = _query(location).get(self._click_id)
        if not found:
            return []
        url = conversion_url(
            self._conversion,
            click_id=found[0],
            order=f"order-{click.key:016x}",
            value=decimal(click.sale_value_micros),
            currency=self.world.currency,
            gdpr=str(int(self.people.under_gdpr(click.person))),
            consent=self.people.tc_string(click.person),
        )
        told = Event(click.sale_time, urljoin(click.url, url), "conversion")
        return deliveries(self.world.delivery, mix(click.key, 54), told)

    def served(self, event: Event, markup: str) -> list[Event]:
        """What follows from markup that came with the answer to a win notice."""
        shown = event.pending
        return self._show(shown, self._calls(shown, markup)) if shown else []

    def chance(
        self, request: Request, imp_id: str, advertiser: str, creative: str, size: str
    ) -> tuple[Chance, float]:
        """For judging: the truth of an ad in a slot, and the CPM (world's currency) to beat."""
        number = next(n for n, imp in enumerate(request.json["imp"]) if imp["id"] == imp_id)
        ad = self.truth.ad(advertiser, creative, size)
        view = request.view
        chance = self.truth.chance(
            view.person, ad, view.publisher.category, self._kind(view), request.time
        )
        return chance, self._competing(request, mix(request.key, 300 + number))

    def crm(self) -> Iterator[bytes]:
        """The lines of `people.jsonl`: what the bidder may know of people."""
        return self.people.records(self.exchange)

    def summary(self) -> dict[str, Any]:
        """All counts so far, with the distribution of impressions per person."""
        return self.tally.summary(self.world, self.truth.exposures())

    def _made(self, visits: Visits) -> Iterator[Request]:
        bodies = Bodies(self.world, self.people)
        for view in visits:
            if view.time >= self.end:
                return
            for part, post in enumerate(bodies.posts(view)):
                key = mix(view.key, 400 + part)
                yield Request(view.time, post.body, post.headers, post.json, post.gzip, view, key)

    def _replayed(
        self, visits: Visits, recorded: Iterable[bytes], rate: float
    ) -> Iterator[Request]:
        headers = {"content-type": "application/json", "x-openrtb-version": "2.6"}
        views = iter(visits)
        for number, line in enumerate(recorded):
            body = recorded_body(line)
            view = next(views)._replace(time=self.start + number / rate)
            raw = orjson.dumps(body)
            yield Request(view.time, raw, headers, body, False, view, view.key)

    def _auctions(
        self, request: Request, answer: Json, bids: list[tuple[str, Json]], broken: list[Violation]
    ) -> list[Event]:
        events: list[Event] = []
        reasons = {v.bid: RULES[v.rule].loss for v in reversed(broken)}
        currency = currency_of(answer)
        slots: dict[str, list[tuple[str, Json]]] = {}
        for number, (seat, bid) in enumerate(bids):
            reason = reasons.get(number, reasons.get(-1, 0))
            if reason:
                lost = Outcome(False, 0, reason, 0)
                events += self._lose(
                    request, answer, seat, bid, lost, mix(request.key, 900 + number)
                )
            else:
                slots.setdefault(bid["impid"], []).append((seat, bid))
        for number, imp in enumerate(request.json["imp"]):
            offers = slots.pop(imp["id"], None)
            if offers is None:
                continue
            key = mix(request.key, 300 + number)
            lot = self._lot(request, imp, key)
            outcomes = auction.settle(lot, [bid for _, bid in offers], currency, self._rates)
            for place, ((seat, bid), outcome) in enumerate(zip(offers, outcomes, strict=True)):
                if outcome.won:
                    events += self._win(request, answer, seat, bid, outcome, key)
                else:
                    events += self._lose(request, answer, seat, bid, outcome, mix(key, 60 + place))
        return events

    def _lot(self, request: Request, imp: Json, key: int) -> Lot:
        prices = self.world.prices
        u = uniform(key, 10)
        fault = 0
        if u < prices.error_share:
            fault = auction.INTERNAL_ERROR
        elif u < prices.error_share + prices.deal_loss_share:
            fault = auction.LOST_TO_DEAL
        return Lot(imp, request.json.get("at", 2), self._competing(request, key), fault)

    def _competing(self, request: Request, key: int) -> float:
        prices = self.world.prices
        factor = prices.known_person_factor if self.people.known[request.view.person] else 1.0
        return competing_cpm(prices, key, 20) * factor

    def _lose(
        self, request: Request, answer: Json, seat: str, bid: Json, outcome: Outcome, key: int
    ) -> list[Event]:
        self.tally.losses[outcome.reason] += 1
        url = bid.get("lurl")
        if not url or not isinstance(url, str):
            return []
        macros = _macros(request, answer, seat, bid, outcome)
        time = request.time + 0.05 + exponential(key, 34, self.world.delivery.loss_seconds)
        event = Event(time, substitute(url, macros), "loss")
        return deliveries(self.world.delivery, mix(key, 50), event)

    def _win(
        self, request: Request, answer: Json, seat: str, bid: Json, outcome: Outcome, key: int
    ) -> list[Event]:
        self.tally.wins += 1
        macros = _macros(request, answer, seat, bid, outcome)
        currency = currency_of(answer)
        advertiser = bid["adomain"][0]
        shown = Shown(request, bid, key, advertiser, currency, outcome.price_micros, macros)
        markup = bid.get("adm") or ""
        events = []
        if url := bid.get("nurl"):
            when = times(self.world.delivery, key, request.time).win
            pending = None if markup else shown
            told = Event(when, substitute(url, macros), "win", pending=pending)
            events = deliveries(self.world.delivery, mix(key, 51), told)
            if pending is not None:  # the markup comes once, whatever is sent again
                events[1:] = [again._replace(pending=None) for again in events[1:]]
        if markup:
            events += self._show(shown, self._calls(shown, markup))
        return events

    def _calls(self, shown: Shown, markup: str) -> Calls:
        """What a browser calls of the markup, at the origins that the bidder goes by."""
        named = (shown.bid.get(name) or "" for name in ("nurl", "burl", "lurl"))
        origins = {self._origin, *map(origin, named)}
        return calls(substitute(markup, shown.macros), origins)

    def _show(self, shown: Shown, called: Calls) -> list[Event]:
        """The ad reaches the browser, or not; it is billed and seen once, and perhaps clicked."""
        delivery, key = self.world.delivery, shown.key
        if uniform(key, 12) >= delivery.render_share:
            self.tally.not_rendered += 1
            return []
        when = times(delivery, key, shown.request.time)
        cost = (shown.price_micros + 500) // 1000
        test = shown.request.json.get("test") == 1  # not billable, §3.2.1
        if not test:
            self.tally.bill(shown.currency, cost)
        self._write_invoice(shown, when.render, 0 if test else cost)
        events: list[Event] = []
        if (url := shown.bid.get("burl")) and not test:
            told = Event(when.render, substitute(url, shown.macros), "billing")
            events += deliveries(delivery, mix(key, 52), told, delivery.billing_lost_share)
        for number, url in enumerate(called.impressions):
            seen = Event(when.render + 0.05, url, "impression")
            events += deliveries(delivery, mix(key, 70 + number), seen, delivery.pixel_lost_share)
        if (click := self._see(shown, called, when.render, when.click)) is not None and click.url:
            pressed = Event(when.click, click.url, "click", click)
            events += deliveries(delivery, mix(key, 53), pressed)
            for number, url in enumerate(called.click_trackers):
                tracked = Event(when.click, url, "click")
                events += deliveries(delivery, mix(key, 1000 + number), tracked)
        return events

    def _see(self, shown: Shown, called: Calls, seen_at: float, click_at: float) -> Click | None:
        """The person sees the ad: the truth is computed, recorded, and chance falls."""
        truth, view, key = self.truth, shown.request.view, shown.key
        person = view.person
        bid = shown.bid
        size = f"{bid.get('w')}x{bid.get('h')}"
        ad = truth.ad(shown.advertiser, str(bid.get("crid") or ""), size)
        chance = truth.chance(person, ad, view.publisher.category, self._kind(view), seen_at)
        truth.shown(person, ad.advertiser, seen_at)
        clicked = uniform(key, 13) < chance.click
        sold = clicked and uniform(key, 14) < chance.sale
        value = self._sale_value(person, key) if sold else 0
        sale_at = click_at + conversion_delay(self.world.delivery, key) if sold else 0.0
        self.tally.see(chance, clicked, value)
        if clicked:
            truth.clicked(person, ad.advertiser, click_at)
        if sold:
            truth.bought(person, ad.advertiser, sale_at)
        self._write_truth(shown, chance, seen_at, clicked, value)
        if not clicked:
            return None
        return Click(
            key, person, ad.advertiser, str(bid["id"]), called.click, click_at, value, sale_at
        )

    def _sale_value(self, person: int, key: int) -> int:
        """Micros of the world's currency, around the value of the person's basket."""
        basket = float(self.people.basket_value[person])
        value = basket * exp(0.2 * normal(key, 15))
        return max(round(value * 100), 1) * 10_000

    def _kind(self, view: View) -> str:
        return self.people.device(view.person, view.device).kind

    def _organic(self, until: float) -> None:
        for sale in self.truth.organic_sales(until):
            self.tally.organic_sales += sale.happens
            self.tally.organic_sales_without_ads += sale.without_ads
            if self._log is not None:
                self._log("truth", {"type": "organic_sale", **sale._asdict()})

    def _write_invoice(self, shown: Shown, time: float, cost: int) -> None:
        if self._log is None:
            return
        row = {"time": time, "request": shown.request.json["id"], "imp": shown.bid["impid"]}
        row |= {"bid": shown.bid["id"], "advertiser": shown.advertiser, "cid": shown.bid.get("cid")}
        row |= {"currency": shown.currency, "price_cpm_micros": shown.price_micros}
        self._log("invoice", row | {"cost_micros": cost})

    def _write_truth(
        self, shown: Shown, chance: Chance, time: float, clicked: bool, value: int
    ) -> None:
        if self._log is None:
            return
        row: dict[str, Any] = {"type": "impression", "time": time, "bid": shown.bid["id"]}
        row |= {"request": shown.request.json["id"], "imp": shown.bid["impid"]}
        row |= {"person": shown.request.view.person, "advertiser": shown.advertiser}
        row |= {"p_click": chance.click, "p_sale": chance.sale, "exposures": chance.exposures}
        row |= {"remembered": chance.slow, "just_now": chance.fast, "clicked": clicked}
        self._log("truth", row | {"sale_value_micros": value})


def requests_per_view(world: World) -> float:
    """How many requests a page view makes on average."""
    places = world.places
    total = sum(places.imps)
    extra = sum(n * share for n, share in enumerate(places.imps)) / total
    return 1 + extra * places.separate_share


def recorded_body(line: bytes) -> Any:
    """The request in a line of a recording, which may hold it as `body`."""
    parsed = orjson.loads(line)
    return parsed.get("body", parsed) if isinstance(parsed, dict) else parsed


def conversion_url(template: str, **values: str) -> str:
    """The template with its places filled. Raises `ValueError` if it has others, or is broken."""
    try:
        return template.format(**{name: quote(value, safe="") for name, value in values.items()})
    except (LookupError, AttributeError) as error:
        raise ValueError(f"no place is called {error}") from None


def _query(url: str) -> dict[str, list[str]]:
    try:
        return parse_qs(urlsplit(url).query)
    except ValueError:
        return {}


def _macros(
    request: Request, answer: Json, seat: str, bid: Json, outcome: Outcome
) -> dict[str, str]:
    """Values of the substitution macros (§4.4) for one bid."""
    return {
        "ID": str(request.json["id"]),
        "BID_ID": str(answer.get("bidid") or ""),
        "IMP_ID": str(bid.get("impid") or ""),
        "SEAT_ID": seat,
        "AD_ID": str(bid.get("adid") or ""),
        "PRICE": decimal(outcome.price_micros) if outcome.won else "",
        "CURRENCY": currency_of(answer),
        "MBR": "",
        "LOSS": "" if outcome.won else str(outcome.reason),
        "MIN_TO_WIN": decimal(outcome.minimum_micros) if outcome.minimum_micros else "",
        "MULTIPLIER": "1",
    }
