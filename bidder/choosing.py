"""Which line item speaks in each slot, and at what price? Plain work over one request's values.

`engine.decide` and `explain` run the same code; `explain` passes a `Trace`, which keeps for each
line item why it is out.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from random import Random
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from bidder import capping
from bidder.campaigns.catalogue import LineItem
from bidder.choice import Asker, Candidate, Choice, Contender, Market, Scored
from bidder.exchanges.profile import Exchange
from bidder.ids import hash32
from bidder.money import MICROS
from bidder.openrtb.opportunity import Opportunity, Slot
from bidder.openrtb.spelling import size_name
from bidder.pricing import Estimate, drawn, held_out, in_arm, modifier, value
from bidder.reasons import NoBid
from bidder.rotation import Rotation
from bidder.scoring import features
from bidder.serving import Serving
from bidder.targeting import survivors
from bidder.targeting.facts import Facts
from bidder.targeting.index import MAX_CANDIDATES, deal_for
from bidder.trace import Detail, Refusal, Short, Trace

MAX_DEALS = 16
"""Deals of one slot that we look at."""
MAX_CURRENCIES = 32
"""Currencies of one request of which we look for a rate."""
OUT_OF_REACH = 1 << 62
"""A floor in CPM micros that no bid meets."""
FIRST_PRICE, SECOND_PRICE, FIXED_PRICE = 1, 2, 3
"""`at` (§3.2.1; the last in deals only, §3.2.12). Other numbers are the exchange's own."""


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
        self.reason = NoBid.NO_CANDIDATE
        """The furthest that any line item got which does not bid."""
        self.rows_scored = 0
        self.cut = 0
        """Candidates left out because there were more than `MAX_CANDIDATES`."""
        self.page = hash32(offer.transaction_id) if offer.transaction_id else 0
        """The page view, as the ledger knows it; 0 = unknown."""
        self.ghosts: list[Choice] = []
        """The bids that would have been made if the person were not in a control group."""
        self._serving = serving
        self._offer = offer
        self._exchange = exchange
        self._profile = asker.profile
        self._ledger = asker.ledger
        self._known = asker.known
        self._person = asker.person
        self._paces = paces
        self._now = int(now)
        self._random = random
        self._trace = trace
        self._currency = self._agreed_currency()
        self._context: features.Context | None = None
        self._facts: dict[tuple[int, tuple[int, int], ZoneInfo], Facts] = {}
        self._candidates: dict[int, Candidate | None] = {}
        """Of the slot at hand, by index of the line item."""
        self._scored: dict[tuple[int, int], Scored] = {}
        """By slot and line item."""
        self._rotation = Rotation(
            serving, offer, exchange, asker.profile, asker.ledger, random, known=asker.known
        )

    def choose(self, masks: Sequence[int]) -> list[Choice]:
        """The bids to make, given the candidates of each slot as a mask.

        Per slot at most one bid in the open auction and one per deal; an advertiser speaks in at
        most one slot of a request.
        """
        choices: list[Choice] = []
        taken = self._ledger.advertisers_on(self.page)
        latest: Choice | None = None  # not yet in the ledger: often nothing follows that asks
        for slot, mask in zip(self._offer.slots, masks, strict=True):
            if not mask:
                continue
            self._candidates.clear()
            contenders = self._contenders(mask, taken)
            markets = self._markets(slot) if contenders else []
            if not markets:
                self._all_out(contenders, NoBid.NO_RATE, "the floor's currency")
            for market in markets:
                if latest is not None:
                    self._reserve(latest)
                choice = self._best(slot, market, contenders)
                while choice is not None and held_out(choice.line_item.campaign, self._person):
                    contenders = self._haunted(choice, contenders)
                    choice = self._best(slot, market, contenders)
                if choice is not None:
                    choice = self._drawn(choice)
                    choices.append(choice)
                    taken.add(choice.line_item.campaign.advertiser.id32)
                    latest = choice if self._known else None
        return choices

    def _contenders(self, mask: int, taken: set[int]) -> list[Contender]:
        """The line items of `mask` that may speak, by what they can pay at most."""
        found = []
        line_items = self._serving.line_items
        for index in survivors(mask, MAX_CANDIDATES):
            contender = self._contender(line_items[index], taken)
            if isinstance(contender, Contender):
                found.append(contender)
            else:
                self._out(index, contender.reason, contender.detail)
        cut = mask.bit_count() - MAX_CANDIDATES
        if cut > 0:
            self.cut += cut
            if self._trace is not None:
                for index in survivors(mask, mask.bit_count())[MAX_CANDIDATES:]:
                    self._out(index, NoBid.TOO_MANY_CANDIDATES)
        found.sort(key=_most, reverse=True)
        return found

    def _contender(self, item: LineItem, taken: set[int]) -> Contender | Refusal:
        """The line item with the most it can pay, or why it does not speak here at all."""
        advertiser = item.campaign.advertiser
        if advertiser.id32 in taken:
            return Refusal(NoBid.SAME_PAGE)
        if item.audience.all_of and not self._serving.audiences.all_of(
            item.index, self._profile.segments, self._now
        ):
            return Refusal(NoBid.NOT_IN_AUDIENCE)
        if item.arm is not None and not in_arm(item.arm, self._person or self._offer.request_id):
            return Refusal(NoBid.HELD_OUT, "another arm of the split speaks")
        pace = self._paces.get(item.campaign.id32, 1.0)
        if pace <= 0:
            return Refusal(NoBid.PACED)
        rate = self._serving.rate(advertiser.currency, self._currency, self._now)
        if rate is None:
            bid_in = self._currency or "any currency that the request allows"
            return Refusal(NoBid.NO_RATE, f"{advertiser.currency} to {bid_in}")
        most, limit = self._serving.ceilings[item.index]
        most *= pace
        return Contender(item, pace, rate, int((limit if most > limit else most) * rate))

    def _candidate(self, contender: Contender, slot: Slot) -> Candidate | None:
        """The contender with a creative that fits and may be shown, if it has one. This is the
        costly half, so those that cannot win are spared it."""
        index = contender.line_item.index
        if index not in self._candidates:
            self._candidates[index] = self._dressed(contender, slot)
        return self._candidates[index]

    def _dressed(self, contender: Contender, slot: Slot) -> Candidate | None:
        item = contender.line_item
        shown = self._rotation.pick(item, slot)
        if isinstance(shown, Refusal):
            self._out(item.index, shown.reason, shown.detail)
            return None
        factor = contender.pace
        if item.bid.modifiers:
            factor *= modifier(item, self._facts_of(item, slot, shown.size).of)
            if factor <= 0:
                self._out(item.index, NoBid.NO_VALUE, "a modifier is 0 here")
                return None
        return Candidate(
            item, shown.creative, shown.size, shown.rules, shown.felt, factor, contender.rate
        )

    def _best(self, slot: Slot, market: Market, contenders: Sequence[Contender]) -> Choice | None:
        """The candidate worth most to its advertiser. Those that cannot win are not scored."""
        best: Choice | None = None
        for contender in contenders:
            index, most = contender.line_item.index, contender.most_micros
            too_low = most < market.floor_micros
            beaten = best is not None and most <= best.scored.value_micros
            known = best is not None or self.reason >= NoBid.BELOW_FLOOR
            if (too_low or beaten) and known and self._trace is None:
                break  # they stand in order: no later one can do better, or say more of why not
            candidate = self._candidate(contender, slot)
            if candidate is None:
                continue
            if not self._may_use(candidate.line_item, market):
                self._out(index, NoBid.WRONG_DEAL)
            elif too_low:
                self._out(index, NoBid.BELOW_FLOOR, _short(most, market, False))
            elif beaten:
                self._out(index, NoBid.OUTBID_BY_OURSELVES, _path(best))
            else:
                best = self._better(best, slot, market, candidate)
        return best

    def _better(
        self, best: Choice | None, slot: Slot, market: Market, candidate: Candidate
    ) -> Choice | None:
        """This candidate as a choice if it is worth more than `best`, else `best`."""
        index = candidate.line_item.index
        scored = self._scored.get((slot.index, index))
        if scored is None:
            scored = self._scored[slot.index, index] = self._score(candidate, slot)
        price = self._shaded(scored.value_micros, market, candidate.size)
        if price <= 0:
            reason = NoBid.BELOW_FLOOR if scored.value_micros else NoBid.NO_VALUE
            self._out(index, reason, _short(scored.value_micros, market, True))
            return best
        if best is not None and scored.value_micros <= best.scored.value_micros:
            self._out(index, NoBid.OUTBID_BY_OURSELVES, _path(best))
            return best
        if best is not None:
            self._out(best.line_item.index, NoBid.OUTBID_BY_OURSELVES, candidate.line_item.path)
        return Choice(slot, market, candidate, scored, price, self._currency)

    def _shaded(self, value_micros: int, market: Market, size: tuple[int, int]) -> int:
        """What to bid in this market for a value; 0 if it is below the floor."""
        return self._serving.shader.bid(
            value_micros, market.floor_micros, market.auction, *self._cell(market, size)
        )

    def _cell(self, market: Market, size: tuple[int, int]) -> tuple[str, str, str, str, int]:
        """Where the win rate of this auction is looked up."""
        deal = market.deal.id if market.deal is not None else ""
        hour = self._now // 3600 % 24
        return self._exchange.name, self._currency, deal, size_name(size), hour

    def _drawn(self, choice: Choice) -> Choice:
        """The choice with its chance to win; a few prices are drawn anew, to learn from."""
        market, price, shader = choice.market, choice.price_micros, self._serving.shader
        explored = market.auction == FIRST_PRICE and shader.explores(self._random)
        if explored:
            price = drawn(choice.scored.value_micros, market.floor_micros, self._random)
        cell = self._cell(market, choice.candidate.size)
        chance = shader.chance(price, market.floor_micros, *cell)
        return replace(choice, price_micros=price, explored=explored, p_win=chance)

    def _haunted(self, ghost: Choice, contenders: Sequence[Contender]) -> list[Contender]:
        """Who may bid in place of a choice whose campaign is silent towards this person."""
        campaign = ghost.line_item.campaign
        self.ghosts.append(replace(self._drawn(ghost), explored=False))
        self._out(ghost.line_item.index, NoBid.HELD_OUT, "the person is in the control group")
        return [c for c in contenders if c.line_item.campaign is not campaign]

    def _may_use(self, item: LineItem, market: Market) -> bool:
        """Does the line item bid in this market at all?"""
        if market.deal is None:
            return not item.where.deals
        return deal_for(item, market.deal, self._exchange.seat)

    def _score(self, candidate: Candidate, slot: Slot) -> Scored:
        """What this candidate's impression is worth."""
        item = candidate.line_item
        advertiser = item.campaign.advertiser
        if self._context is None:
            self._context = features.context(self._offer, self._profile, self._now)
        history = capping.history(self._ledger, item)
        row = features.row(self._context, slot, candidate.size, history, item, candidate.creative)
        p_click = p_conversion = p_view = 0.0
        scorer = self._serving.scorer
        if item.goal.kind == "cpc":
            p_click = scorer.p_click(row, advertiser.id)
            self.rows_scored += 1
        elif item.goal.kind != "cpm":
            p_click, p_conversion, p_view = scorer.score_with_views(row, advertiser.id)
            self.rows_scored += 1
        basket = self._profile.baskets.get(advertiser.id)
        estimate = Estimate(
            p_click=p_click,
            p_conversion=p_conversion,
            p_view=p_view,
            basket_micros=basket.value_micros if basket is not None else 0,
            since_click=history.since_click,
            intrusiveness=candidate.felt,
        )
        worth = int(value(item, estimate, candidate.factor) * candidate.rate)
        return Scored(worth, estimate, row)

    def _reserve(self, choice: Choice) -> None:
        """From here on this bid stands in the ledger as a reservation."""
        self._ledger = self._ledger.plus(choice.reservation(self._now, 1, 0, bytes(8)))
        self._rotation.follow(self._ledger)
        self._candidates.clear()

    def _markets(self, slot: Slot) -> list[Market]:
        """The slot's deals, then its open auction; those whose floor we cannot read are left out.

        A deal without a floor of its own has that of the slot (§7.11).
        """
        if not self._currency:
            return []
        found = []
        usual = self._offer.auction
        if usual not in (FIRST_PRICE, SECOND_PRICE):
            usual = self._exchange.auction
        open_floor = self._floor(slot.floor_cpm, slot.floor_currency)
        for deal in slot.deals[:MAX_DEALS]:
            own = self._floor(deal.floor_cpm, deal.floor_currency)
            floor = own if deal.floor_cpm else open_floor
            if floor is not None:
                auction = deal.auction
                if auction not in (FIRST_PRICE, SECOND_PRICE, FIXED_PRICE):
                    auction = usual
                if auction == FIXED_PRICE and not deal.floor_cpm:
                    auction = usual  # no price is fixed
                found.append(Market(deal, floor, auction))
        if not slot.private and open_floor is not None:
            found.append(Market(None, open_floor, usual))
        return found

    def _floor(self, cpm: float, currency: str) -> int | None:
        """A floor in CPM micros of the bid's currency, rounded up; None without a rate.

        One that is no number, or more than any bid, is out of reach.
        """
        if not cpm:
            return 0
        rate = self._serving.rate(currency, self._currency, self._now)
        if rate is None:
            return None
        floor = cpm * MICROS * rate
        return ceil(floor - 1e-6) if floor < OUT_OF_REACH else OUT_OF_REACH

    def _agreed_currency(self) -> str:
        """What we bid in: the exchange's own, else the first allowed one with a rate."""
        allowed = self._offer.currencies
        own = self._exchange.currency
        if not allowed or own in allowed:
            return own
        for currency in allowed[:MAX_CURRENCIES]:
            if self._serving.rate(own, currency, self._now) is not None:
                return currency
        return ""

    def _facts_of(self, item: LineItem, slot: Slot, size: tuple[int, int]) -> Facts:
        """What the trader's modifiers ask about."""
        zone = item.campaign.advertiser.zone
        key = (slot.index, size, zone)
        found = self._facts.get(key)
        if found is None:
            segments = self._profile.segments
            found = Facts(self._offer, segments, slot, size, self._now, zone)
            self._facts[key] = found
        return found

    def _all_out(self, contenders: Sequence[Contender], reason: NoBid, detail: Detail) -> None:
        for contender in contenders:
            self._out(contender.line_item.index, reason, detail)

    def _out(self, index: int, reason: NoBid, detail: Detail = "") -> None:
        if reason > self.reason:
            self.reason = reason
        if self._trace is not None:
            self._trace.out(index, reason, detail)


def _short(micros: int, market: Market, scored: bool) -> Short:
    deal = market.deal.id if market.deal is not None else ""
    return Short(micros, market.floor_micros, deal, scored)


def _most(contender: Contender) -> int:
    return contender.most_micros


def _path(choice: Choice | None) -> str:
    return choice.line_item.path if choice is not None else ""
