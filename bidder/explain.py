"""Why did we bid, or not? The stages of `engine.decide` on one request, nothing spent or logged.

The same functions run in the same order; what each leaves out is kept with its reason. Money is not
leased: a campaign counts as funded if its budgets are not spent.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random

from msgspec import Struct

from bidder import people
from bidder.choosing import Asker, Choice, Chooser, Trace
from bidder.engine import Policy, audience, candidates, opened, permitted
from bidder.exchanges.profile import Exchange
from bidder.money import from_micros
from bidder.openrtb.opportunity import Opportunity
from bidder.person import NOBODY, Person
from bidder.privacy import Permission
from bidder.reasons import NoBid
from bidder.serving import Serving
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Reader
from bidder.targeting import survivors

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
    reasons: dict[str, tuple[NoBid, str]]
    """Path of each line item that does not bid -> why, and a note."""
    choices: list[Choice]
    reason: NoBid
    """Why there is no bid at all, if there is none."""


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
        serving, now, trace = self._serving, self._now, self._trace
        allowed, offer = permitted(offer, self._policy.privacy, now)
        self._stage("loaded", [serving.index.everyone] * max(len(offer.slots), 1))
        self._leave_out(self._open_masks(offer))
        self._leave_out(serving.index.request_reasons(offer))
        someone = allowed.target and allowed.cap
        masks = candidates(serving, offer, exchange, now, someone=someone)
        self._slot_reasons(offer, masks)
        note = "" if someone else f"no permission to know the person: {allowed.reason}"
        if not offer.slots:
            note = "no slot that a banner or native creative could fill"
        self._stage("accept the request and a slot", masks, note)

        person, note = await self._person(offer, exchange, allowed)
        before = masks
        masks = audience(serving, masks, person, now)
        missing = NoBid.NOT_IN_AUDIENCE if person.id else NoBid.UNKNOWN_PERSON
        for earlier, later in zip(before, masks, strict=True):
            self._out(earlier & ~later, missing)
        self._stage("speak to this person", masks, note)

        known = bool(person.id) and allowed.cap
        asker = Asker(person.profile, opened(person), known)
        chooser = Chooser(serving, offer, exchange, asker, self._paces, now, Random(SEED), trace)
        choices = chooser.choose(masks)
        self._stages.append(Stage("bid", len(choices), f"{chooser.rows_scored} candidates scored"))
        return self._explanation(allowed, person, choices)

    def _explanation(
        self, allowed: Permission, person: Person, choices: list[Choice]
    ) -> Explanation:
        items, trace = self._serving.line_items, self._trace
        bidding = {choice.line_item.index for choice in choices}
        reasons = {
            items[index].path: (reason, trace.notes.get(index, ""))
            for index, reason in sorted(trace.reasons.items())
            if index not in bidding
        }
        furthest = max((reason for reason, _ in reasons.values()), default=NoBid.NO_CANDIDATE)
        return Explanation(
            permission=allowed,
            person=person.id,
            stages=self._stages,
            reasons=reasons,
            choices=choices,
            reason=furthest,
        )

    async def _person(
        self, offer: Opportunity, exchange: Exchange, allowed: Permission
    ) -> tuple[Person, str]:
        if not (allowed.target and allowed.cap):
            return NOBODY, "nobody: no permission"
        if not offer.identifiers:
            return NOBODY, "nobody: the request has no identifier"
        if self._reader is None:
            return NOBODY, "nobody: the store is not there"
        order = self._policy.identifiers
        try:
            person = await people.read(
                self._reader, offer.identifiers, exchange.name, order, STORE_SECONDS
            )
        except StoreUnavailable as problem:
            return NOBODY, f"nobody: {problem}"
        if not person.id:
            tried = ", ".join(source for source, _ in offer.identifiers)
            return NOBODY, f"nobody: no one is known by {tried}"
        if person.profile.opted_out:
            return NOBODY, "nobody: this person opted out"
        return person, f"person {person.id}"

    def _open_masks(self, offer: Opportunity) -> Iterator[tuple[NoBid, int]]:
        on_air = self._serving.schedule.reasons(self._now, offer.utc_offset_minutes)
        yield from on_air

    def _leave_out(self, accepting: Iterable[tuple[NoBid, int]]) -> None:
        for reason, mask in accepting:
            self._out(self._serving.index.everyone & ~mask, reason)

    def _slot_reasons(self, offer: Opportunity, masks: Sequence[int]) -> None:
        """For line items that no slot accepts: what the last dimension against them was."""
        anywhere = 0
        for mask in masks:
            anywhere |= mask
        for slot in offer.slots:
            for reason, accepting in self._serving.index.slot_reasons(slot):
                self._out(self._serving.index.everyone & ~accepting & ~anywhere, reason)

    def _out(self, mask: int, reason: NoBid) -> None:
        """These line items are out; what put them out first stays, as it comes first in time."""
        for index in survivors(mask, mask.bit_count()):
            if index not in self._trace.reasons:
                self._trace.out(index, reason)

    def _stage(self, name: str, masks: Sequence[int], note: str = "") -> None:
        left = 0
        for mask in masks:
            left |= mask
        self._stages.append(Stage(name, left.bit_count(), note))


def render(explanation: Explanation) -> str:
    """The explanation as text for a terminal."""
    lines = [f"permission: {_permitted(explanation.permission)}"]
    for stage in explanation.stages:
        note = f"   ({stage.note})" if stage.note else ""
        lines.append(f"{stage.left:>7} {stage.name}{note}")
    for choice in explanation.choices:
        price, worth = from_micros(choice.price_micros), from_micros(choice.scored.value_micros)
        size = "x".join(map(str, choice.candidate.size)) if choice.candidate.size[0] else "native"
        deal = f", deal {choice.market.deal.id}" if choice.market.deal else ""
        lines.append(
            f"bid  imp {choice.slot.imp_id}: {choice.line_item.path} with "
            f"{choice.candidate.creative.id} ({size}) at {price:.4f} {choice.currency} CPM{deal}; "
            f"worth {worth:.4f}, floor {from_micros(choice.market.floor_micros):.4f}, "
            f"P(click) {choice.scored.estimate.p_click:.5f}, "
            f"P(conversion | click) {choice.scored.estimate.p_conversion:.5f}"
        )
    if not explanation.choices:
        lines.append(f"no bid: {_words(explanation.reason)}")
    for path, (reason, note) in explanation.reasons.items():
        lines.append(f"out  {path}: {_words(reason)}" + (f" ({note})" if note else ""))
    return "\n".join(lines)


def _permitted(allowed: Permission) -> str:
    names = [name for name in allowed.__struct_fields__ if getattr(allowed, name) is True]
    return ", ".join(names) or f"nothing ({allowed.reason})"


def _words(reason: NoBid) -> str:
    return f"{reason.name.lower().replace('_', ' ')} ({int(reason)})"
