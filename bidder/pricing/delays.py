"""How much of what was bid may still be billed, when nothing was heard of it yet?

Most exchanges say nothing of a bid that lost, and their last notices may come an hour late. To hold
every such bid in full for so long would freeze a multiple of what is ever billed. Two things are
learnt instead, from what became of earlier bids:

- `Delays`, per exchange: of the money without notice at some age, the share that is billed after
  all. `CAUTION` times that share stays held.
- `Wins`, per campaign and exchange: of all the money bid, the share that is billed. Of bids too
  young for their notices, `YOUNG_CAUTION` times that share stays held, and `DEVIATIONS` standard
  deviations of it, so that few bids are held nearly in full.

Until something is known, everything is held. Age is not counted by the clock but by the newest bids
of which a notice has come from the exchange: while an exchange, or our own reading of the log, is
silent, nothing grows older, and what will have been won stays held. So more than the budget can be
billed only where, at its very end, what is won rises to more than `YOUNG_CAUTION` times its share
within two minutes, or notices come later than they ever did.
"""

from dataclasses import dataclass, field
from math import exp, sqrt
from typing import NamedTuple

BUCKET_SECONDS = 32
AGES = (3, 6, 12, 24, 48, 96, 192)
"""In buckets: from one to a hundred minutes."""
YOUNG = -1
"""The place in `AGES` of what has come to none of them."""
CAUTION = 2.0
YOUNG_CAUTION = 3.0
DEVIATIONS = 4.0
PRIOR_BIDS = 5
"""As if so many bids more had been seen, and all of them billed."""
LEAST_BUCKETS = 2
MEMORY_SECONDS = 6 * 3600.0
"""After this long, what was learnt of delays counts a third."""
WINS_MEMORY_SECONDS = 600.0
"""The same of what is won, which moves with the bids."""


class Mark(NamedTuple):
    """How a bucket stood when it came to one of `AGES`, in micros."""

    unresolved: int
    shown: int


@dataclass(slots=True)
class _Share:
    """Of so many micros, so many were shown."""

    of: float = 0.0
    shown: float = 0.0
    bids: float = 0.0
    buckets: float = 0.0
    learnt_at: float = 0.0

    def add(self, of: int, shown: int, bids: int, now: float, memory_seconds: float) -> None:
        keep = exp(-max(now - self.learnt_at, 0.0) / memory_seconds)
        self.learnt_at = now
        self.of = self.of * keep + of
        self.shown = self.shown * keep + shown
        self.bids = self.bids * keep + bids
        self.buckets += 1

    def estimate(self) -> float:
        """The share, rather above than below what it is; 1 if hardly anything is known."""
        if self.buckets < LEAST_BUCKETS or self.bids <= 0:
            return 1.0
        prior = PRIOR_BIDS * self.of / self.bids
        return min((self.shown + prior) / (self.of + prior), 1.0) if self.of else 0.0


@dataclass(slots=True)
class _Exchange:
    heard: int = -1
    """The newest bucket of which a notice has come."""
    steps: list[_Share] = field(default_factory=lambda: [_Share() for _ in AGES])
    """Of the money without notice at each age, what was shown before the next."""


class Delays:
    """What one worker knows of its exchanges' delays."""

    def __init__(self) -> None:
        self._exchanges: dict[str, _Exchange] = {}

    def heard(self, exchange: str, bucket: int) -> None:
        """A notice has come about a bid of this bucket."""
        known = self._known(exchange)
        known.heard = max(known.heard, bucket)

    def age(self, exchange: str, bucket: int) -> int:
        """The place in `AGES` of the last age that a bucket has come to, or `YOUNG`."""
        old, age = self._known(exchange).heard - bucket, YOUNG
        while age + 1 < len(AGES) and old >= AGES[age + 1]:
            age += 1
        return age

    def weight(self, exchange: str, age: int, life: int) -> float:
        """The share of a bucket's money without notice that must stay held, 0 to 1.

        `age` as of `age()`, not `YOUNG`; `life` is how many buckets later its last notice may come.
        """
        total = 0.0
        before = 1.0
        for place, step in enumerate(self._known(exchange).steps[age:], age):
            if AGES[place] >= life and place > age:
                break
            if step.buckets >= LEAST_BUCKETS:
                before = step.estimate()
            # An age that no bucket came to yet: as much as at the one before.
            total += before
        return min(1.0, CAUTION * total)

    def learn(self, exchange: str, age: int, mark: Mark, shown: int, bids: int, now: float) -> None:
        """What stood so at `age` has come to the next age, or to its end, with `shown` of it."""
        if mark.unresolved > 0:
            step = self._known(exchange).steps[age]
            step.add(mark.unresolved, shown - mark.shown, bids, now, MEMORY_SECONDS)

    def _known(self, exchange: str) -> _Exchange:
        known = self._exchanges.get(exchange)
        if known is None:
            known = self._exchanges[exchange] = _Exchange()
        return known


class Wins:
    """What one campaign wins, as far as one worker sees."""

    def __init__(self) -> None:
        self._shares: dict[str, _Share] = {}

    def learn(self, exchange: str, held: int, shown: int, bids: int, now: float) -> None:
        """Of a bucket that is no longer young, so much was shown."""
        if held > 0:
            share = self._shares.setdefault(exchange, _Share())
            share.add(held, shown, bids, now, WINS_MEMORY_SECONDS)

    def held(self, exchange: str, unresolved: int, bids: int) -> float:
        """Of young money without notice, in so many bids, what must stay held."""
        share = self._shares.get(exchange)
        if share is None or not bids:
            return float(unresolved)
        chance = share.estimate()
        spread = DEVIATIONS * sqrt(chance * unresolved * unresolved / bids)
        return min(YOUNG_CAUTION * chance * unresolved + spread, float(unresolved))
