"""How is a bid request answered? `Engine.decide`: the stages, from an opportunity to the bids.

permit -> candidates -> people.read -> audience -> caps, score, price (`choosing`) -> hold and claim
-> answer and record. Two awaits, both bounded by the deadline; everything else is plain work.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from random import Random

from msgspec import Struct

from bidder import answering, capping, ids, metrics, people
from bidder.answering import Answerer, Offered, Source
from bidder.capping import Ledger, Reservation
from bidder.choice import Asker, Choice
from bidder.choosing import Chooser
from bidder.events.log import EventLog
from bidder.events.schema import NoBidEvent
from bidder.exchanges.profile import Exchange
from bidder.metrics import Metrics
from bidder.openrtb.opportunity import Opportunity
from bidder.openrtb.spelling import size_name
from bidder.person import NOBODY, Person, silent
from bidder.pricing import Books
from bidder.privacy import Permission, Rules, minimise, permission
from bidder.reasons import NoBid
from bidder.serving import Serving
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Reader, Scripts
from bidder.trace import Trace

STAGES_EVERY = 64
"""The stages of one request in so many are timed."""


class Policy(Struct, frozen=True, gc=False):
    """What the settings say of deciding."""

    privacy: Rules
    identifiers: Sequence[str]
    """Sources of identifiers, in the order they are tried."""
    ledger_seconds: int
    """How long a ledger outlives its last write."""
    store_seconds: float
    """The longest that a request waits for the store, each time."""
    answer_seconds: float
    """Kept back from the deadline for writing the answer."""
    no_bid_sample: float
    """Share of the requests of which a no-bid is logged."""


class Decision(Struct, frozen=True, gc=False):
    """The answer to one request: `body` is empty for a no-bid, and then `reason` says why."""

    body: bytes
    reason: NoBid
    bids: int


class Seen(Struct, frozen=True, gc=False):
    """Who is asking, as far as we may know and could find out."""

    person: Person
    ledger: Ledger
    absent: NoBid
    """Why it is nobody; `UNKNOWN` if it is somebody."""


class Engine:
    """Decides for one worker. `serving` is swapped by a reload; requests under way keep theirs."""

    def __init__(
        self,
        serving: Serving,
        policy: Policy,
        books: Books,
        reader: Reader,
        scripts: Scripts,
        answerer: Answerer,
        log: EventLog,
        cells: Metrics,
        random: Random,
        wall: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        """`wall` is the time of day, in epoch seconds; `clock` is the event loop's."""
        self.serving = serving
        self.paces: Mapping[int, float] = {}
        self.policy = policy
        self._books = books
        self._reader = reader
        self._scripts = scripts
        self._answerer = answerer
        self._log = log
        self._metrics = cells
        self._random = random
        self._wall = wall
        self._clock = clock
        self._turn = 0

    async def respond(self, offer: Opportunity, exchange: Exchange, deadline: float) -> Decision:
        """`decide`, counted, and a sample of the no-bids logged with the reasons of each."""
        share = self.policy.no_bid_sample
        trace = Trace() if self._random.random() < share else None
        decision = await self.decide(offer, exchange, deadline, trace)
        if decision.bids:
            self._metrics.inc(metrics.BIDS, exchange.name, by=decision.bids)
            return decision
        self._metrics.inc(metrics.NO_BIDS, exchange.name, decision.reason.name.lower())
        if trace is not None:
            self._log.append(self._silence(offer, decision.reason, trace, 1 / share))
        return decision

    async def decide(
        self, offer: Opportunity, exchange: Exchange, deadline: float, trace: Trace | None = None
    ) -> Decision:
        """The bids for `offer`, by `deadline` on the engine's clock; a no-bid if it comes first."""
        serving, now = self.serving, self._wall()
        answer_by, lap = deadline - self.policy.answer_seconds, self._stopwatch()
        if self._clock() > answer_by:
            return _no(NoBid.INSUFFICIENT_TIME)
        if self._log.stalled:
            return _no(NoBid.LOG_STALLED)
        if not offer.slots:
            return _no(NoBid.NO_SLOT)
        allowed, offer = permitted(offer, self.policy.privacy, now)
        lap("permit")
        masks, reason = candidates(serving, offer, exchange, allowed, now)
        lap("candidates")
        if not any(masks):
            return _no(reason)

        asking = await seen(
            self._reader, offer, exchange, allowed, self.policy.identifiers,
            min(answer_by - self._clock(), self.policy.store_seconds), int(now),
        )  # fmt: skip
        person = asking.person
        lap("read")
        masks = audience(serving, masks, person, now)
        lap("audience")
        if not any(masks):
            return _no(asking.absent or NoBid.NOT_IN_AUDIENCE)

        asker = Asker(person.profile, asking.ledger, bool(person.id), person.id)
        chooser = Chooser(serving, offer, exchange, asker, self.paces, now, self._random, trace)
        choices = chooser.choose(masks)
        lap("choose")
        self._metrics.inc(metrics.ROWS_SCORED, by=chooser.rows_scored)
        if chooser.cut:
            self._metrics.inc(metrics.CANDIDATES_CUT, by=chooser.cut)
        version = serving.scorer.version
        source = Source(offer, exchange, allowed, now, version, serving.shader, chooser.page)
        self._haunt(source, chooser.ghosts, person.id)
        if not choices:
            return _no(chooser.reason)

        offered = self._hold(source, choices, asker, person)
        if not offered:
            return _no(NoBid.NO_BUDGET)
        offered = await self._claim(source, offered, asker, answer_by)
        lap("claim")
        if not offered:
            return _no(NoBid.CONTENDED)
        if self._clock() > deadline:
            self._give_back(offered, now)
            return _no(NoBid.INSUFFICIENT_TIME)
        decision = self._answer(source, offered)
        lap("answer")
        return decision

    def _stopwatch(self) -> Callable[[str], None]:
        """Called at the end of each stage, with its name: times them for one request in
        `STAGES_EVERY`, and does nothing for the others."""
        self._turn = (self._turn + 1) % STAGES_EVERY
        if self._turn:
            return _untimed
        since = self._clock()

        def lap(stage: str) -> None:
            nonlocal since
            now = self._clock()
            self._metrics.observe(metrics.STAGE_SECONDS, now - since, stage)
            since = now

        return lap

    def _haunt(self, source: Source, ghosts: Sequence[Choice], person: str) -> None:
        """Log the bids that a control group keeps us from making."""
        for choice in ghosts if not source.offer.test else ():
            bid_id = ids.new_bid_id(source.now, self._random)
            self._log.append(answering.ghost(source, choice, bid_id, person))

    def _silence(
        self, offer: Opportunity, reason: NoBid, trace: Trace, weight: float
    ) -> NoBidEvent:
        """The log's line about a request that got no bid; nothing in it is about the person."""
        line_items = self.serving.line_items
        known = {i: why for i, why in trace.reasons.items() if i < len(line_items)}
        sizes = [size for slot in offer.slots for size in slot.sizes[:1]]
        return NoBidEvent(
            time=self._wall(),
            request_id=offer.request_id,
            exchange=offer.exchange,
            reason=int(reason),
            weight=weight,
            line_items={line_items[i].path: int(why) for i, why in known.items()},
            country=offer.country,
            device=offer.device,
            domain=offer.domain or offer.bundle,
            size=size_name(sizes[0]) if sizes else "",
        )

    def _hold(
        self, source: Source, choices: Sequence[Choice], asker: Asker, person: Person
    ) -> list[Offered]:
        """The choices that there is money for, each with its bid id and its money set aside."""
        offer, exchange, now = source.offer, source.exchange, source.now
        offered = []
        for choice in choices:
            # As the applier will, from the rate in the token.
            price = round(choice.price_micros * (1 / choice.candidate.rate))
            lasts = choice.slot.exp_seconds + exchange.notice_lag_seconds
            hold = (
                self._books.nothing(choice.line_item, now)
                if offer.test
                else self._books.hold(choice.line_item, price, now, exchange.name, lasts)
            )
            if hold is not None:
                bid_id = ids.new_bid_id(now, self._random)
                who = person.id if asker.known else ""
                offered.append(Offered(choice, bid_id, hold, who, lasts))
        return offered

    async def _claim(
        self, source: Source, offered: list[Offered], asker: Asker, answer_by: float
    ) -> list[Offered]:
        """Those whose place in the person's ledger is now reserved; the others' money is freed."""
        if source.offer.test or not asker.known:
            return offered
        now, page = int(source.now), source.page
        ours = {ids.bid_key(one.bid_id) for one in offered}
        reservations = [
            Reservation(
                one.choice.reservation(now, one.hold_seconds, page, ids.bid_key(one.bid_id)),
                _still_allowed(one.choice, page, ours),
            )
            for one in offered
        ]
        try:
            claimed = await capping.claim(
                self._scripts,
                offered[0].person,
                asker.ledger,
                reservations,
                now,
                self.policy.ledger_seconds,
                min(answer_by, self._clock() + self.policy.store_seconds),
            )
            held = claimed.held
        except StoreUnavailable:
            held = tuple(False for _ in offered)
        if all(held):
            return offered
        self._give_back([o for o, ok in zip(offered, held, strict=True) if not ok], source.now)
        return [o for o, ok in zip(offered, held, strict=True) if ok]

    def _give_back(self, offered: Sequence[Offered], now: float) -> None:
        """Free the money of bids that are not sent. Their places in a ledger end by themselves."""
        for one in offered:
            self._books.give_back(one.choice.line_item, one.hold, now)

    def _answer(self, source: Source, offered: list[Offered]) -> Decision:
        """The response body; what is in it goes into the log."""
        body, sent = self._answerer.write(source, offered)
        if not source.offer.test:
            self._give_back(offered[sent:], source.now)
            for one in offered[:sent]:
                self._log.append(answering.record(source, one))
                item = one.choice.line_item
                self._metrics.inc(metrics.LINE_ITEM, item.path, "bid")
                felt = one.choice.scored.estimate.intrusiveness
                self._metrics.observe(metrics.INTRUSIVENESS, felt, item.campaign.advertiser.id)
        return Decision(body, NoBid.UNKNOWN, sent) if sent else _no(NoBid.NO_CREATIVE)


def permitted(offer: Opportunity, rules: Rules, now: float) -> tuple[Permission, Opportunity]:
    """What we may do, and the offer without what we may not know."""
    allowed = permission(offer.signals, rules, now)
    return allowed, offer if allowed.target else minimise(offer)


def candidates(
    serving: Serving, offer: Opportunity, exchange: Exchange, allowed: Permission, now: float
) -> tuple[list[int], NoBid]:
    """The line items that accept each slot, as masks; and why there are none, if there are none.

    Without permission or an identifier, those that need nobody.
    """
    if not _seat_allowed(offer, exchange.seat):
        return [0] * len(offer.slots), NoBid.BLOCKED_BY_PUBLISHER
    index = serving.index
    start = serving.schedule.mask(now, offer.utc_offset_minutes)
    accepted = index.request_mask(offer, start)
    masks = [index.slot_mask(slot, accepted) if accepted else 0 for slot in offer.slots]
    absent = nobody(offer, allowed)
    if absent and any(masks):
        return [mask & index.needs_nobody for mask in masks], absent
    return masks, NoBid.NO_CANDIDATE


def nobody(offer: Opportunity, allowed: Permission) -> NoBid:
    """Why the store need not even be asked who this is; `UNKNOWN` if it should be."""
    if not (allowed.target and allowed.cap):
        return NoBid.NO_PERMISSION
    return NoBid.UNKNOWN if offer.identifiers else NoBid.NO_IDENTIFIER


async def seen(
    reader: Reader,
    offer: Opportunity,
    exchange: Exchange,
    allowed: Permission,
    order: Sequence[str],
    seconds: float,
    now: int,
) -> Seen:
    """Who is asking, within `seconds`. Whatever keeps us from knowing it makes it nobody."""
    absent = nobody(offer, allowed)
    nothing = Ledger(b"", now)
    if absent:
        return Seen(NOBODY, nothing, absent)
    try:
        person = await people.read(reader, offer.identifiers, exchange.name, order, seconds)
    except StoreUnavailable:
        return Seen(NOBODY, nothing, NoBid.STORE_UNAVAILABLE)
    if not person.id:
        return Seen(NOBODY, nothing, NoBid.UNKNOWN_PERSON)
    if silent(person.profile, now):
        return Seen(NOBODY, nothing, NoBid.OPTED_OUT)
    try:
        return Seen(person, Ledger(person.ledger, now), NoBid.UNKNOWN)
    except ValueError:  # without its caps, nobody may be spoken to
        return Seen(NOBODY, nothing, NoBid.STORE_UNAVAILABLE)


def audience(serving: Serving, masks: Sequence[int], person: Person, now: float) -> list[int]:
    """Of each slot's line items, those that speak to this person."""
    if not person.id:
        return [mask & serving.index.needs_nobody for mask in masks]
    speaking = serving.audiences.mask(person.profile.segments, int(now))
    return [mask & speaking for mask in masks]


def _seat_allowed(offer: Opportunity, seat: str) -> bool:
    """`wseat` and `bseat` (§3.2.1): only one of them is sent."""
    return (not offer.seats or seat in offer.seats) and seat not in offer.blocked_seats


def _still_allowed(choice: Choice, page: int, ours: Container[bytes]) -> Callable[[Ledger], bool]:
    """Whether this choice may still be made, asked again when the ledger has changed.

    The advertiser may have come onto the page meanwhile; `ours` are the keys of our own bids."""
    rules = choice.candidate.rules
    advertiser = choice.line_item.campaign.advertiser.id32

    def allowed(ledger: Ledger) -> bool:
        if page and any(
            record.page == page and record.advertiser == advertiser and record.bid_key not in ours
            for record in ledger.records()
        ):
            return False
        return capping.verdict(ledger, rules) is None

    return allowed


def _untimed(_: str) -> None:
    return


def _no(reason: NoBid) -> Decision:
    return Decision(b"", reason, 0)
