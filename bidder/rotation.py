"""Which of its creatives does a line item show this person in this slot?

One that fits, that no cap or silence forbids, that may speak by the rules for product ads, and that
stays below the intrusiveness ceiling. Of several, the one the person saw least.
"""

from random import Random

from msgspec import Struct

from bidder import capping
from bidder.campaigns.catalogue import Creative, LineItem
from bidder.capping import Judge, Ledger, Rule
from bidder.capping.ledger import CREATIVE
from bidder.creatives.fit import fits
from bidder.exchanges.profile import Exchange
from bidder.openrtb.opportunity import Opportunity, Slot
from bidder.person import Profile
from bidder.reasons import NoBid
from bidder.serving import Serving
from bidder.trace import Refusal

_DOES_NOT_FIT = Refusal(NoBid.WRONG_SIZE)


class Shown(Struct, frozen=True, gc=False):
    """A creative that may be shown, and the rules that allowed it."""

    creative: Creative
    size: tuple[int, int]
    rules: tuple[Rule, ...]
    felt: float
    """How intrusive it would be felt to be now, 0..1."""


class Rotation:
    """Picks creatives for one request."""

    def __init__(
        self,
        serving: Serving,
        offer: Opportunity,
        exchange: Exchange,
        profile: Profile,
        ledger: Ledger,
        random: Random,
        *,
        known: bool,
    ) -> None:
        self._serving = serving
        self._offer = offer
        self._exchange = exchange
        self._profile = profile
        self._ledger = ledger
        self._random = random
        self._known = known
        self._judge = self._new_judge()

    def follow(self, ledger: Ledger) -> None:
        """From here on the person's ledger is this one."""
        self._ledger = ledger
        self._judge = self._new_judge()

    def pick(self, item: LineItem, slot: Slot) -> Shown | Refusal:
        """The creative to show, or the furthest reason why there is none."""
        refusal = _DOES_NOT_FIT
        allowed: list[Shown] = []
        advertiser = item.campaign.advertiser
        wait = ""
        if item.product_ads is not None:
            wait = capping.why_not_products(item, self._profile, self._ledger)
        for creative in item.creatives:
            size = fits(creative, advertiser, slot, self._offer, self._exchange)
            if isinstance(size, tuple):
                found = self._shown(item, creative, size, wait)
                if isinstance(found, Shown):
                    allowed.append(found)
                elif found.reason > refusal.reason:
                    refusal = found
            elif size > refusal.reason:
                refusal = Refusal(size, creative.id)
        if len(allowed) > 1:
            return min(allowed, key=lambda shown: self._rank(item, shown.creative))
        return allowed[0] if allowed else refusal

    def _rank(self, item: LineItem, creative: Creative) -> tuple[bool, int, float]:
        """Products first where they may speak, then what the person saw least, then by lot."""
        after_products = item.product_ads is not None and not creative.product
        seen = len(self._ledger.exposures(CREATIVE, creative.id32, 1))
        return after_products, seen, self._random.random()

    def _shown(
        self, item: LineItem, creative: Creative, size: tuple[int, int], wait: str
    ) -> Shown | Refusal:
        """A creative that fits, or why this person is to be spared it."""
        if wait and creative.product:
            return Refusal(NoBid.NO_CREATIVE, wait)
        rules = self._serving.rules_of(item, creative)
        if rules and self._known:
            verdict = capping.verdict(self._ledger, rules)
            if verdict is not None:
                return Refusal(verdict.reason, verdict)
        felt = self._judge.intrusiveness(item, creative) if self._judge is not None else 0.0
        ceiling = item.intrusiveness.ceiling
        if felt > ceiling:
            return Refusal(NoBid.TOO_INTRUSIVE, f"{felt:.2f}, above the ceiling of {ceiling:g}")
        return Shown(creative, size, rules, felt)

    def _new_judge(self) -> Judge | None:
        """Without parameters no ad is held to be intrusive."""
        given = self._serving.intrusion
        return Judge(self._offer, self._profile, self._ledger, given) if given is not None else None
