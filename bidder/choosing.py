"""Which line item speaks in each slot, and at what price? Plain work over one request's values.

`engine.decide` and `explain` run the same code; `explain` passes a `Trace`, which keeps for each
line item why it is out.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from random import Random
from typing import NamedTuple

from bidder import capping
from bidder.campaigns.catalogue import Creative, LineItem
from bidder.capping import Kind, Ledger, Record, Rule
from bidder.creatives.fit import fits
from bidder.exchanges.profile import Exchange
from bidder.ids import hash32
from bidder.money import MICROS
from bidder.openrtb.opportunity import DealOffer, Opportunity, Slot
from bidder.person import History, Profile
from bidder.pricing import Estimate, modifier, shade, value
from bidder.reasons import NoBid
from bidder.scoring import features
from bidder.serving import Serving
from bidder.targeting import survivors
from bidder.targeting.index import MAX_CANDIDATES, deal_for

MAX_DEALS = 16
"""Deals of one slot that we look at."""
OWN_AUCTION = 500
"""From here on `at` is the exchange's own (§3.2.1)."""
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Trace:
    """Why each line item is out: the last reason counts, since it is the furthest it got."""

    def __init__(self) -> None:
        self.reasons: dict[int, NoBid] = {}
        self.notes: dict[int, str] = {}

    def out(self, index: int, reason: NoBid, note: str = "") -> None:
        """Line item `index` got no further than this."""
        self.reasons[index] = reason
        self.notes[index] = note


class Candidate(NamedTuple):
    """A line item that may speak in a slot, before it is scored."""

    line_item: LineItem
    creative: Creative
    size: tuple[int, int]
    rules: tuple[Rule, ...]
    factor: float
    """The trader's modifiers and the pacing, multiplied."""
    rate: float
    """What turns its currency into the bid's."""
    most_micros: int
    """The highest value it can come to, CPM micros of the bid's currency."""


class Market(NamedTuple):
    """One way to buy a slot: its open auction, or one of its deals."""

    deal: DealOffer | None
    floor_micros: int
    """In the bid's currency."""
    auction: int
    """1 first price, 2 second price, 3 fixed price."""


class Scored(NamedTuple):
    """A candidate's worth in CPM micros of the bid's currency, and what it rests on."""

    value_micros: int
    estimate: Estimate
    features: list[float | None]


class Choice(NamedTuple):
    """One bid we are about to make; prices are CPM micros of `currency`."""

    slot: Slot
    market: Market
    candidate: Candidate
    scored: Scored
    price_micros: int
    currency: str

    @property
    def line_item(self) -> LineItem:
        """Who speaks."""
        return self.candidate.line_item

    def reservation(self, now: int, hold_seconds: int, page: int, bid_key: bytes) -> Record:
        """What stands in the ledger until we know whether the ad was shown."""
        item = self.line_item
        return Record(
            time=now,
            kind=Kind.RESERVATION,
            advertiser=item.campaign.advertiser.id32,
            campaign=item.campaign.id32,
            line_item=item.id32,
            creative=self.candidate.creative.id32,
            hold=hold_seconds,
            page=page,
            bid_key=bid_key,
        )


class Asker(NamedTuple):
    """Who is asking, as far as we may know."""

    profile: Profile
    ledger: Ledger
    known: bool


class Chooser:
    """Chooses for one request; what its slots and candidates share is worked out once."""

    def __init__(
        self,
        serving: Serving,
        offer: Opportunity,
        exchange: Exchange,
        asker: Asker,
        paces: Mapping[int, float],
        now: float,
        random: Random,
        trace: Trace | None = None,
    ) -> None:
        """`paces`: 32-bit campaign id -> factor on the value that spreads its spend."""
        self.rows_scored = 0
        self.cut = 0
        """Candidates left out because there were more than `MAX_CANDIDATES`."""
        self._serving = serving
        self._offer = offer
        self._exchange = exchange
        self._profile = asker.profile
        self._ledger = asker.ledger
        self._known = asker.known
        self._paces = paces
        self._now = int(now)
        self._random = random
        self._trace = trace
        self._currency = self._agreed_currency()
        self._context: features.Context | None = None
        self._histories: dict[int, History] = {}
        self._row = features.new_row()

    def choose(self, masks: Sequence[int]) -> list[Choice]:
        """The bids to make, given the candidates of each slot as a mask.

        Per slot at most one bid in the open auction and one per deal; an advertiser speaks in at
        most one slot of a request.
        """
        choices: list[Choice] = []
        page = page_of(self._offer)
        taken = self._ledger.advertisers_on(page) if page else set()
        for slot, mask in zip(self._offer.slots, masks, strict=True):
            candidates = self._candidates(slot, mask, taken) if mask else []
            scored: dict[int, Scored] = {}
            for market in self._markets(slot) if candidates else ():
                choice = self._best(slot, market, candidates, scored)
                if choice is not None:
                    choices.append(choice)
                    if self._known:
                        candidates = self._after(choice, candidates)
            taken.update([c.line_item.campaign.advertiser.id32 for c in choices if c.slot is slot])
        return choices

    def _candidates(self, slot: Slot, mask: int, taken: set[int]) -> list[Candidate]:
        """The line items of `mask` that may speak in `slot`, by what they can pay at most."""
        found = []
        line_items = self._serving.line_items
        for index in survivors(mask, MAX_CANDIDATES):
            candidate = self._candidate(line_items[index], slot, taken)
            if isinstance(candidate, Candidate):
                found.append(candidate)
            elif self._trace is not None:
                self._trace.out(index, candidate)
        self.cut += max(mask.bit_count() - MAX_CANDIDATES, 0)
        found.sort(key=_most, reverse=True)
        return found

    def _candidate(self, item: LineItem, slot: Slot, taken: set[int]) -> Candidate | NoBid:
        """The line item with a creative that fits and may be shown, or why there is none."""
        if item.campaign.advertiser.id32 in taken:
            return NoBid.SAME_PAGE
        if item.audience.all_of and not self._serving.audiences.all_of(
            item.index, self._profile.segments, self._now
        ):
            return NoBid.NOT_IN_AUDIENCE
        shown = self._creative(item, slot)
        if isinstance(shown, NoBid):
            return shown
        creative, size, rules = shown
        factor = self._paces.get(item.campaign.id32, 1.0)
        if item.bid.modifiers:
            factor *= modifier(item, self._facts(item, slot, size))
        if factor <= 0:
            return NoBid.NO_VALUE
        rate = self._serving.rate(item.campaign.advertiser.currency, self._currency, self._now)
        if rate is None:
            return NoBid.NO_RATE
        most = int(self._serving.highest[item.index] * max(factor, 1.0) * rate)
        return Candidate(item, creative, size, rules, factor, rate, most)

    def _creative(
        self, item: LineItem, slot: Slot
    ) -> tuple[Creative, tuple[int, int], tuple[Rule, ...]] | NoBid:
        """The creative that fits, is not capped, and was shown least; or the furthest reason."""
        reason = NoBid.NO_CREATIVE
        best: tuple[Creative, tuple[int, int], tuple[Rule, ...]] | None = None
        fewest = (0, 0.0)
        advertiser = item.campaign.advertiser
        for creative in item.creatives:
            size = fits(creative, advertiser, slot, self._offer, self._exchange)
            if isinstance(size, NoBid):
                reason = max(reason, size)
                continue
            rules = self._serving.rules_of(item, creative)
            if rules and self._known:
                verdict = capping.verdict(self._ledger, rules, self._now)
                if verdict is not None:
                    reason = max(reason, verdict.reason)
                    continue
            shown = len(self._ledger.exposures(5, creative.id32, 1, self._now))
            rank = (shown, self._random.random())
            if best is None or rank < fewest:
                best, fewest = (creative, size, rules), rank
        return best if best is not None else reason

    def _best(
        self,
        slot: Slot,
        market: Market,
        candidates: Sequence[Candidate],
        scored: dict[int, Scored],
    ) -> Choice | None:
        """The candidate worth most to its advertiser. Those that cannot win are not scored."""
        best: Choice | None = None
        for candidate in candidates:
            if candidate.most_micros < market.floor_micros or (
                best is not None and candidate.most_micros <= best.scored.value_micros
            ):
                if self._trace is None:
                    break
                self._explain_unscored(candidate, market)
                continue
            index = candidate.line_item.index
            if market.deal is not None and not deal_for(
                candidate.line_item, market.deal, self._exchange.seat
            ):
                self._out(index, NoBid.WRONG_DEAL)
                continue
            if market.deal is None and candidate.line_item.where.deals:
                self._out(index, NoBid.WRONG_DEAL)
                continue
            if index not in scored:
                scored[index] = self._score(candidate, slot)
            worth = scored[index]
            price = shade(worth.value_micros, market.floor_micros, market.auction)
            if price <= 0:
                self._out(index, NoBid.BELOW_FLOOR if worth.value_micros else NoBid.NO_VALUE)
            elif best is None or worth.value_micros > best.scored.value_micros:
                if best is not None:
                    self._out(best.line_item.index, NoBid.OUTBID_BY_OURSELVES)
                best = Choice(slot, market, candidate, worth, price, self._currency)
            else:
                self._out(index, NoBid.OUTBID_BY_OURSELVES)
        return best

    def _score(self, candidate: Candidate, slot: Slot) -> Scored:
        """What this candidate's impression is worth."""
        item = candidate.line_item
        advertiser = item.campaign.advertiser
        if self._context is None:
            self._context = features.context(self._offer, self._profile, self._now)
        history = self._histories.get(item.index)
        if history is None:
            history = capping.history(self._ledger, item, self._now)
            self._histories[item.index] = history
        row = self._row
        features.fill(row, self._context, slot, candidate.size, history, item, candidate.creative)
        p_click = p_conversion = 0.0
        scorer = self._serving.scorer
        if item.goal.kind == "cpc":
            p_click = scorer.p_click(row, advertiser.id)
            self.rows_scored += 1
        elif item.goal.kind != "cpm":
            p_click, p_conversion = scorer.score(row, advertiser.id)
            self.rows_scored += 1
        basket = self._profile.baskets.get(advertiser.id)
        estimate = Estimate(
            p_click=p_click,
            p_conversion=p_conversion,
            basket_micros=basket.value_micros if basket is not None else 0,
            since_click=history.since_click,
        )
        worth = int(value(item, estimate, candidate.factor) * candidate.rate)
        return Scored(worth, estimate, features.logged(row))

    def _after(self, choice: Choice, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Who is left once this bid stands in the ledger as a reservation."""
        self._ledger = self._ledger.plus(choice.reservation(self._now, 1, 0, bytes(8)))
        return [
            candidate
            for candidate in candidates
            if capping.verdict(self._ledger, candidate.rules, self._now) is None
        ]

    def _markets(self, slot: Slot) -> Iterator[Market]:
        """The slot's deals, then its open auction; those whose floor we cannot read are left."""
        if not self._currency:
            return
        usual = self._offer.auction
        if not 0 < usual < OWN_AUCTION:
            usual = self._exchange.auction
        for deal in slot.deals[:MAX_DEALS]:
            floor = self._floor(deal.floor_cpm, deal.floor_currency)
            if floor is not None:
                auction = deal.auction if 0 < deal.auction < OWN_AUCTION else usual
                yield Market(deal, floor, auction)
        if not slot.private:
            floor = self._floor(slot.floor_cpm, slot.floor_currency)
            if floor is not None:
                yield Market(None, floor, usual)

    def _floor(self, cpm: float, currency: str) -> int | None:
        """A floor in CPM micros of the bid's currency, rounded up; None without a rate."""
        if not cpm:
            return 0
        rate = self._serving.rate(currency, self._currency, self._now)
        return None if rate is None else ceil(cpm * MICROS * rate - 1e-6)

    def _agreed_currency(self) -> str:
        """What we bid in: the exchange's own, else the first allowed one with a rate."""
        allowed = self._offer.currencies
        own = self._exchange.currency
        if not allowed or own in allowed:
            return own
        for currency in allowed:
            if self._serving.rate(own, currency, self._now) is not None:
                return currency
        return ""

    def _facts(
        self, item: LineItem, slot: Slot, size: tuple[int, int]
    ) -> Mapping[str, frozenset[str]]:
        """What the trader's modifiers ask about, by the names they use."""
        offer = self._offer
        zone = item.campaign.advertiser.zone
        local = datetime.fromtimestamp(self._now, UTC).astimezone(zone)
        facts = {
            name: frozenset((getattr(offer, name),))
            for name in (
                "country", "region", "city", "device", "os", "browser", "language", "exchange",
                "supply", "domain", "bundle", "publisher",
            )
        }  # fmt: skip
        facts["categories"] = offer.categories
        facts["segment"] = frozenset(self._profile.segments)
        facts["size"] = frozenset((f"{size[0]}x{size[1]}" if size[0] else "native",))
        facts["hour"] = frozenset((str(local.hour),))
        facts["weekday"] = frozenset((WEEKDAYS[local.weekday()],))
        facts["position"] = frozenset((str(slot.position),))
        return facts

    def _explain_unscored(self, candidate: Candidate, market: Market) -> None:
        below = candidate.most_micros < market.floor_micros
        reason = NoBid.BELOW_FLOOR if below else NoBid.OUTBID_BY_OURSELVES
        self._out(candidate.line_item.index, reason)

    def _out(self, index: int, reason: NoBid) -> None:
        if self._trace is not None:
            self._trace.out(index, reason)


def page_of(offer: Opportunity) -> int:
    """The page view, as the ledger knows it; 0 = unknown."""
    return hash32(offer.transaction_id) if offer.transaction_id else 0


def _most(candidate: Candidate) -> int:
    return candidate.most_micros
