"""What is in service? One immutable snapshot of all that is loaded: a reload swaps it whole.

Nothing in it changes while it serves, except masks that follow the clock (`schedule`) and what is
worked out once per request shape and kept (`rules_of`, `rate`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from bidder.campaigns.catalogue import Catalogue, Creative, LineItem
from bidder.capping import Parameters, Rule, rules
from bidder.exchanges.profile import Exchange
from bidder.money import Rates, UnknownRate
from bidder.pricing import ceiling
from bidder.pricing.market import NOTHING, Learnt
from bidder.scoring.model import Scorer
from bidder.targeting import AudienceIndex, Index, Schedule

DAY_SECONDS = 86400


class Serving:
    """Catalogue, indexes, models, exchanges and rates of one load."""

    def __init__(
        self,
        catalogue: Catalogue,
        exchanges: Mapping[str, Exchange],
        scorer: Scorer,
        rates: Rates,
        intrusion: Parameters | None = None,
        learnt: Learnt = NOTHING,
    ) -> None:
        """`exchanges`: paused ones too. Without parameters no ad is held to be intrusive."""
        self.catalogue = catalogue
        self.line_items = catalogue.line_items
        self.exchanges = {name: each for name, each in exchanges.items() if not each.paused}
        self.exchanges_by_id = {each.id32: each for each in exchanges.values()}
        """For notices, so paused ones too."""
        self.scorer = scorer
        self.intrusion = intrusion
        self.shader, self.traffic = learnt
        self.index = Index(catalogue)
        self.audiences = AudienceIndex(catalogue)
        self.schedule = Schedule(catalogue)
        self.creatives = {
            creative.id32: (item, creative)
            for item in catalogue.line_items
            for creative in item.creatives
        }
        self.ceilings = [ceiling(item) for item in catalogue.line_items]
        """By index of the line item: as `bidder.pricing.ceiling` gives them."""
        self._rates = rates
        self._factors: dict[tuple[str, str], float] = {}
        self._day = 0
        """The day of `_factors`, as days of the epoch."""
        self._rules: dict[tuple[int, int], tuple[Rule, ...]] = {}
        self._capping_creatives = {
            item.index
            for item in catalogue.line_items
            if "creative" in {c.level for c in item.caps} | {s.level for s in item.silences}
        }

    def rules_of(self, item: LineItem, creative: Creative) -> tuple[Rule, ...]:
        """The frequency caps of a line item showing this creative."""
        # Few caps are a creative's own; the others are alike for all creatives of a line item.
        key = (item.index, creative.id32 if item.index in self._capping_creatives else 0)
        found = self._rules.get(key)
        if found is None:
            found = self._rules[key] = rules(item, key[1])
        return found

    def rate(self, source: str, target: str, now: float) -> float | None:
        """What turns an amount in `source` into one in `target` today; None if no rate is known."""
        if source == target:
            return 1.0
        day = int(now) // DAY_SECONDS
        if day != self._day:
            self._day, self._factors = day, {}
        factor = self._factors.get((source, target))
        if factor is None:
            try:
                today = datetime.fromtimestamp(now, UTC).date()
                factor = self._rates.factor(source, target, today)
            except UnknownRate:
                return None  # and not kept: requests may name any currency
            self._factors[source, target] = factor
        return factor
