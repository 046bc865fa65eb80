"""How much of what was bid may still be billed, when nothing has been heard of it for a while?

Most exchanges say nothing of a bid that lost, and their last notices may be an hour late. To hold
every such bid in full for so long would freeze a multiple of what is ever billed. So the share of
the money without notice that is billed after all is learnt per exchange and age, from buckets of
bids whose last notice can have come; `CAUTION` times that share stays held.

Age is not counted by the clock but by the newest bids of which a notice has come from the exchange:
while an exchange, or our own reading of the log, is silent, nothing is taken for lost.
"""

from dataclasses import dataclass, field
from math import exp

BUCKET_SECONDS = 16
AGES = (4, 8, 16, 32, 64, 128, 256)
"""In buckets: 64 s to 68 minutes. Younger than the first, a bid is held in full."""
CAUTION = 2.0
MEMORY_SECONDS = 6 * 3600.0
"""After this long, what was learnt counts a third."""

Mark = tuple[int, int]
"""Micros without notice, and micros shown, when a bucket came to one of `AGES`."""


@dataclass(slots=True)
class _Exchange:
    heard: int = -1
    """The newest bucket of which a notice has come."""
    quiet: list[float] = field(default_factory=lambda: [0.0] * len(AGES))
    """Micros without notice at each age."""
    late: list[float] = field(default_factory=lambda: [0.0] * len(AGES))
    """Of these, what was shown later."""
    buckets: list[float] = field(default_factory=lambda: [0.0] * len(AGES))
    learnt_at: float = 0.0


class Delays:
    """What one worker knows of its exchanges' delays."""

    def __init__(self) -> None:
        self._exchanges: dict[str, _Exchange] = {}

    def heard(self, exchange: str, bucket: int) -> None:
        """A notice has come about a bid of this bucket."""
        known = self._known(exchange)
        known.heard = max(known.heard, bucket)

    def weight(self, exchange: str, bucket: int) -> float:
        """The share of a bucket's money without notice that must stay held, 0 to 1."""
        known = self._known(exchange)
        age = self._age(known, bucket)
        if age < 0:
            return 1.0
        if not known.buckets[age]:
            return 1.0
        # As if one bucket more had been seen, all of whose money was billed.
        mean = known.quiet[age] / known.buckets[age]
        return min(1.0, CAUTION * (known.late[age] + mean) / (known.quiet[age] + mean))

    def mark(
        self, exchange: str, bucket: int, marks: list[Mark], unresolved: int, shown: int
    ) -> None:
        """Note in a bucket's `marks` how it stands, for each age it has come to."""
        age = self._age(self._known(exchange), bucket)
        marks.extend([(unresolved, shown)] * (age + 1 - len(marks)))

    def learn(self, exchange: str, marks: list[Mark], shown: int, now: float) -> None:
        """A bucket is over: `shown` of it was shown in all."""
        known = self._known(exchange)
        keep = exp(-max(now - known.learnt_at, 0.0) / MEMORY_SECONDS)
        known.learnt_at = now
        for row in (known.quiet, known.late, known.buckets):
            row[:] = [value * keep for value in row]
        for age, (unresolved, shown_then) in enumerate(marks):
            if unresolved > 0:
                known.quiet[age] += unresolved
                known.late[age] += shown - shown_then
                known.buckets[age] += 1

    def _known(self, exchange: str) -> _Exchange:
        known = self._exchanges.get(exchange)
        if known is None:
            known = self._exchanges[exchange] = _Exchange()
        return known

    def _age(self, known: _Exchange, bucket: int) -> int:
        """The place in `AGES` of the last age that a bucket has come to; -1 = none."""
        age = -1
        while age + 1 < len(AGES) and known.heard - bucket >= AGES[age + 1]:
            age += 1
        return age
