"""What did the market count? Requests, wins, the invoice, clicks, sales, broken rules."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from loadtest.world import Chance, World

from .lawful import Violation

_EXAMPLES = 3


@dataclass(slots=True)
class Tally:
    """Counts of one market. Money is integer micros."""

    requests: int = 0
    no_bids: int = 0
    answers_with_bid: int = 0
    late: int = 0
    errors: int = 0
    bids: int = 0
    wins: int = 0
    not_rendered: int = 0
    """Won, but never shown and so never billed."""
    billed: int = 0
    invoice_micros: Counter[str] = field(default_factory=Counter)
    """Currency -> what the exchange asks for."""
    losses: Counter[int] = field(default_factory=Counter)
    """AdCOM loss reason -> bids."""
    impressions: int = 0
    clicks: int = 0
    sales: int = 0
    sales_value_micros: int = 0
    expected_clicks: float = 0.0
    """Sum of the true probabilities: what clicks are without their luck."""
    expected_sales: float = 0.0
    organic_sales: int = 0
    """Sales that no click led to, with the ads that were seen."""
    organic_sales_without_ads: int = 0
    """The same people, had nobody seen an ad."""
    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    """Kind and answered status of the calls made -> how many."""

    def bill(self, currency: str, cost_micros: int) -> None:
        """The exchange bills one impression."""
        self.billed += 1
        self.invoice_micros[currency] += cost_micros

    def see(self, chance: Chance, clicked: bool, sale_value_micros: int) -> None:
        """A person saw an ad."""
        self.impressions += 1
        self.expected_clicks += chance.click
        self.expected_sales += chance.click * chance.sale
        self.clicks += clicked
        self.sales += sale_value_micros > 0
        self.sales_value_micros += sale_value_micros

    def add_violations(self, broken: list[Violation]) -> None:
        """An answer broke these rules."""
        for violation in broken:
            self.violations[violation.rule] += 1
            examples = self.examples.setdefault(violation.rule, [])
            if len(examples) < _EXAMPLES:
                examples.append(violation.detail)

    def invoice_in(self, world: World) -> int:
        """The whole invoice in micros of the world's currency, at its rates."""
        rates = {world.currency: 1.0, **world.rates}
        return round(sum(micros / rates[cur] for cur, micros in self.invoice_micros.items()))

    def summary(self, world: World, exposures: dict[tuple[int, str], int]) -> dict[str, Any]:
        """All counts as plain JSON. `exposures`: (person, advertiser) -> impressions."""
        found: dict[str, Any] = {"world": world.name, "currency": world.currency}
        for name in self.__slots__:
            value = getattr(self, name)
            is_count = isinstance(value, Counter)
            found[name] = {str(k): v for k, v in sorted(value.items())} if is_count else value
        found["invoice_total_micros"] = self.invoice_in(world)
        spread = Counter(exposures.values())
        found["exposures_per_person"] = {str(n): people for n, people in sorted(spread.items())}
        found["most_exposures"] = max(spread, default=0)
        return found
