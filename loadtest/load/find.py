"""What is the highest rate it carries? Doubling until it breaks, then halving the gap.

A rate is carried if p99 stays under the limit, under 0.1 % of what was due is late, every request
is answered with 200 or 204, as many get a bid as at a quiet rate (a bidder that sheds is fast), and
at least 99 % of the asked rate is achieved.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from loadtest.load.result import Result

MAX_LATE_SHARE = 0.001
MIN_ACHIEVED_SHARE = 0.99
MIN_USUAL_SHARE = 0.95
QUIET_SHARE = 0.25
ANSWERS = (200, 204)


@dataclass(frozen=True, slots=True)
class Found:
    """The search: every trial in order, and the best that passed."""

    trials: tuple[Result, ...]
    best: Result | None
    limited_by_generator: bool
    """At the lowest rate that broke, the generator could send no faster."""
    why: str
    """Why that rate does not count as carried; empty if none broke."""


def broken(result: Result, p99_ms: float, usual_bid_rate: float = 0.0) -> str:
    """Why `result` does not count as carried; empty if it does."""
    if result.failed:
        return f"{result.failed} requests without an answer"
    if wrong := {code: n for code, n in result.statuses.items() if code not in ANSWERS}:
        return f"answers {', '.join(f'{count:,} x {status}' for status, count in wrong.items())}"
    if result.late_share >= MAX_LATE_SHARE:
        return f"{result.late_share:.2%} late"
    if result.p99_ms > p99_ms:
        return f"p99 {result.p99_ms:.1f} ms"
    if result.achieved_rps < MIN_ACHIEVED_SHARE * result.asked_rps:
        return f"only {result.achieved_rps:,.0f} a second achieved"
    if result.bid_rate < MIN_USUAL_SHARE * usual_bid_rate:
        return f"{result.bid_rate:.1%} bids where {usual_bid_rate:.1%} are usual"
    return ""


class _Trials:
    """What was tried, and how often the bidder bids when it has little to do."""

    def __init__(self, trial: Callable[[float], Result], p99_ms: float) -> None:
        self.made: list[Result] = []
        self._trial = trial
        self._p99_ms = p99_ms
        self._quiet_rps = inf
        self._usual_bid_rate = 0.0

    def outcome(self, rate: float) -> tuple[Result, str]:
        """What `rate` came to, and why it broke, if it did. One that breaks is tried twice."""
        if rate * QUIET_SHARE < self._quiet_rps:
            self._learn(rate * QUIET_SHARE)
        result, why = self._once(rate)
        return self._once(rate) if why and not result.generator_saturated else (result, why)

    def _once(self, rate: float) -> tuple[Result, str]:
        result = self._run(rate)
        why = broken(result, self._p99_ms, self._usual_bid_rate)
        if why and not (result.generator_saturated or broken(result, self._p99_ms)):
            self._learn(self._quiet_rps)
            why = broken(result, self._p99_ms, self._usual_bid_rate)
        return result, why

    def _learn(self, quiet_rps: float) -> None:
        self._quiet_rps = quiet_rps
        self._usual_bid_rate = self._run(quiet_rps).bid_rate

    def _run(self, rate: float) -> Result:
        self.made.append(self._trial(rate))
        return self.made[-1]


def find(
    trial: Callable[[float], Result],
    start: float,
    p99_ms: float,
    precision: float = 0.05,
    ceiling: float = 200_000,
) -> Found:
    """Search from `start` requests a second, to within `precision` of the answer.

    A rate that breaks is tried twice: one hiccup of the machine is not the bidder's limit. A first
    trial at a quarter of `start` tells the usual bid rate; so does one at a quarter of any rate
    below. Where nothing but bids is missing, that quiet trial is made again and judges instead:
    people reach their caps during a search. Below a rate that saturates the generator the search
    goes on only until one is carried.
    """
    trials = _Trials(trial, p99_ms)
    best: Result | None = None
    low, high, rate = 0.0, 0.0, start
    limited, broke = False, ""
    while rate <= ceiling and not (high and high - low <= precision * high) and rate >= 1:
        result, why = trials.outcome(rate)
        if why:
            high, broke, limited = rate, why, result.generator_saturated
        else:
            low, best = rate, result
        if limited and best is not None:
            break
        rate = (low + high) / 2 if high else low * 2
    return Found(tuple(trials.made), best, limited, broke)
