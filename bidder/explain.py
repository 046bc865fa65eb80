"""Why did we bid, or not? The stages of `engine.decide` on one request, nothing spent or logged.

The same functions run in the same order; what each leaves out is kept with its reason. Money is not
leased: a campaign counts as funded if its budgets are not spent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from msgspec import Struct

from bidder.campaigns.catalogue import LineItem
from bidder.capping import Ledger
from bidder.choice import Asker, Choice
from bidder.choosing import Chooser
from bidder.creatives.fit import blocked_by
from bidder.engine import Policy, Seen, audience, candidates, nobody, permitted, seen
from bidder.exchanges.profile import Exchange
from bidder.money import from_micros
from bidder.openrtb.opportunity import Opportunity
from bidder.person import NOBODY
from bidder.privacy import Permission
from bidder.reasons import NoBid
from bidder.serving import Serving
from bidder.store.coalesce import Reader
from bidder.targeting import survivors
from bidder.targeting.index import Accepting
from bidder.trace import Detail, Trace
from bidder.wording import missed, off_air, said, who, words

SEED = 1
STORE_SECONDS = 1.0


class Stage(Struct, frozen=True):
    """How many line items were left after one stage, over all slots."""

    name: str
    left: int
    note: str = ""


class Explanation(Struct, frozen=True):
    """What happened to one request."""

    permission: Permission
    person: str
    """Empty for nobody."""
    stages: list[Stage]
    reasons: dict[str, tuple[NoBid, Detail]]
    """Path of each line item that does not bid -> why, and the numbers behind it."""
    choices: list[Choice]
    reason: NoBid
    """Why there is no bid at all; `UNKNOWN` if there is one."""


class Explainer:
    """Runs the stages of one request, keeping what each leaves out."""

    def __init__(
        self,
        serving: Serving,
        policy: Policy,
        reader: Reader | None,
        funded: int,
        paces: Mapping[int, float],
        now: float,
    ) -> None:
        """`funded`: mask of the line items whose campaign has money left. Without a `reader` the
        request is decided as if the store were away."""
        self._serving = serving
        self._policy = policy
        self._reader = reader
        self._paces = paces
        self._now = now
        self._trace = Trace()
        self._stages: list[Stage] = []
        serving.schedule.fund(funded)

    async def explain(self, offer: Opportunity, exchange: Exchange) -> Explanation:
        """Every stage of `offer`."""
        serving, now = self._serving, self._now
        allowed, offer = permitted(offer, self._policy.privacy, now)
        self._stage("loaded", [serving.index.everyone])
        masks, reason = self._candidates(offer, exchange, allowed)
        if not any(masks):
            return self._explanation(allowed, "", [], reason)

        asking = await self._asking(offer, exchange, allowed)
        person = asking.person
        before, masks = masks, audience(serving, masks, person, now)
        missing = asking.absent or NoBid.NOT_IN_AUDIENCE
        for earlier, later in zip(before, masks, strict=True):
            self._out(earlier & ~later, missing, lambda item: missed(item, person, now))
        self._stage("speak to this person", masks, who(asking, allowed, offer))
        if not any(masks):
            return self._explanation(allowed, person.id, [], missing)

        asker = Asker(person.profile, asking.ledger, bool(person.id), person.id)
        trace = self._trace
        chooser = Chooser(serving, offer, exchange, asker, self._paces, now, Random(SEED), trace)
        choices = chooser.choose(masks)
        self._name_lists(offer)
        self._stages.append(Stage("bid", len(choices), f"{chooser.rows_scored} rows scored"))
        reason = NoBid.UNKNOWN if choices else chooser.reason
        return self._explanation(allowed, person.id, choices, reason)

    def _name_lists(self, offer: Opportunity) -> None:
        """Say which list of the request keeps a creative out."""
        trace = self._trace
        for index, reason in trace.reasons.items():
            if reason is not NoBid.BLOCKED_BY_PUBLISHER:
                continue
            item = self._serving.line_items[index]
            lists = {
                blocked_by(creative, item.campaign.advertiser, slot, offer)
                for creative in item.creatives
                if creative.id == trace.details[index]
                for slot in offer.slots
            }
            if named := sorted(lists - {""}):
                trace.details[index] = f"{trace.details[index]}, by {' and '.join(named)}"

    def _candidates(
        self, offer: Opportunity, exchange: Exchange, allowed: Permission
    ) -> tuple[list[int], NoBid]:
        """`engine.candidates`, dimension by dimension."""
        serving, now = self._serving, self._now
        index, schedule, offset = serving.index, serving.schedule, offer.utc_offset_minutes
        if not offer.slots:
            self._out(index.everyone, NoBid.NO_SLOT)
            self._stage("find a slot", [0], "no imp that a banner or a native ad could fill")
            return [], NoBid.NO_SLOT
        for reason, accepting in schedule.reasons(now, offset):
            says = off_air(reason, now, offset)
            self._out(index.everyone & ~accepting, reason, says)
        start = schedule.mask(now, offset)
        self._stage("on air", [start])
        masks, reason = candidates(serving, offer, exchange, allowed, now)
        if reason is NoBid.BLOCKED_BY_PUBLISHER:
            self._out(start, reason, lambda item: f"seat {exchange.seat or 'none'} may not bid")
            self._stage("have a seat that may bid", masks)
            return masks, reason
        accepted = index.request_mask(offer, start)
        self._leave_out(index.request_reasons(offer), 0)
        self._stage("accept the place, device and site", [accepted])
        of_slots = [index.slot_mask(slot, accepted) for slot in offer.slots]
        anywhere = _either(of_slots)
        for slot in offer.slots:
            self._leave_out(index.slot_reasons(slot), anywhere)
        self._stage("accept a slot", of_slots)
        if absent := nobody(offer, allowed):
            self._out(anywhere & ~index.needs_nobody, absent)
            asking = Seen(NOBODY, Ledger(b"", int(now)), absent)
            self._stage("need not know the person", masks, who(asking, allowed, offer))
        return masks, reason

    def _explanation(
        self, allowed: Permission, person: str, choices: list[Choice], reason: NoBid
    ) -> Explanation:
        items, trace = self._serving.line_items, self._trace
        bidding = {choice.line_item.index for choice in choices}
        reasons = {
            items[index].path: (reason, trace.details.get(index, ""))
            for index, reason in sorted(trace.reasons.items())
            if index not in bidding
        }
        return Explanation(
            permission=allowed,
            person=person,
            stages=self._stages,
            reasons=reasons,
            choices=choices,
            reason=reason,
        )

    async def _asking(self, offer: Opportunity, exchange: Exchange, allowed: Permission) -> Seen:
        now = int(self._now)
        if self._reader is None:
            absent = nobody(offer, allowed) or NoBid.STORE_UNAVAILABLE
            return Seen(NOBODY, Ledger(b"", now), absent)
        order = self._policy.identifiers
        return await seen(self._reader, offer, exchange, allowed, order, STORE_SECONDS, now)

    def _leave_out(self, dimensions: Iterable[Accepting], kept: int) -> None:
        """The line items that a dimension is against, but for those in `kept`."""
        for reason, accepting, says in dimensions:
            against = self._serving.index.everyone & ~accepting & ~kept
            self._out(against, reason, lambda _, says=says: says)  # type: ignore[misc]

    def _out(
        self, mask: int, reason: NoBid, says: Callable[[LineItem], str] = lambda item: ""
    ) -> None:
        """These line items are out; what put them out first stays, as it comes first in time."""
        for index in survivors(mask, mask.bit_count()):
            if index not in self._trace.reasons:
                self._trace.out(index, reason, says(self._serving.line_items[index]))

    def _stage(self, name: str, masks: Sequence[int], note: str = "") -> None:
        self._stages.append(Stage(name, _either(masks).bit_count(), note))


def _either(masks: Sequence[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


def render(explanation: Explanation) -> str:
    """The explanation as text for a terminal."""
    allowed = explanation.permission
    may = [name for name in allowed.__struct_fields__ if getattr(allowed, name) is True]
    lines = [f"permission: {', '.join(may) or f'nothing ({allowed.reason})'}"]
    for stage in explanation.stages:
        note = f"   ({stage.note})" if stage.note else ""
        lines.append(f"{stage.left:>7} {stage.name}{note}")
    lines += [_bid(choice) for choice in explanation.choices]
    if not explanation.choices:
        lines.append(f"no bid: {words(explanation.reason)}")
    currency = explanation.choices[0].currency if explanation.choices else ""
    for path, (reason, detail) in explanation.reasons.items():
        text = said(detail, currency)
        lines.append(f"out  {path}: {words(reason)}" + (f": {text}" if text else ""))
    return "\n".join(lines)


def _bid(choice: Choice) -> str:
    scored, market = choice.scored, choice.market
    size = "x".join(map(str, choice.candidate.size)) if choice.candidate.size[0] else "native"
    deal = f" on deal {market.deal.id}" if market.deal else ""
    return (
        f"bid  imp {choice.slot.imp_id}: {choice.line_item.path} with "
        f"{choice.candidate.creative.id} ({size}) at {from_micros(choice.price_micros):.4f} "
        f"{choice.currency} CPM{deal}; worth {from_micros(scored.value_micros):.4f}, "
        f"floor {from_micros(market.floor_micros):.4f}, "
        f"P(click) {scored.estimate.p_click:.5f}, "
        f"P(conversion | click) {scored.estimate.p_conversion:.5f}, "
        f"P(sale after a view) {scored.estimate.p_view:.6f}"
    )
