"""What is the highest rate it carries? Doubling until it breaks, then halving the gap.

A rate is carried if p99 stays under the limit, under 0.1 % of the answers are late, nothing fails,
and at least 99 % of the asked rate is achieved.
"""

from collections.abc import Callable
from dataclasses import dataclass

from loadtest.load.result import Result

MAX_LATE_SHARE = 0.001
MIN_ACHIEVED_SHARE = 0.99


@dataclass(frozen=True, slots=True)
class Found:
    """The search: every trial in order, and the best that passed."""

    trials: tuple[Result, ...]
    best: Result | None
    limited_by_generator: bool
    """The search ended because the generator could send no faster."""


def broken(result: Result, p99_ms: float) -> str:
    """Why `result` does not count as carried; empty if it does."""
    if result.failed:
        return f"{result.failed} requests without an answer"
    if result.late_share >= MAX_LATE_SHARE:
        return f"{result.late_share:.2%} late"
    if result.p99_ms > p99_ms:
        return f"p99 {result.p99_ms:.1f} ms"
    if result.achieved_rps < MIN_ACHIEVED_SHARE * result.asked_rps:
        return f"only {result.achieved_rps:,.0f} a second achieved"
    return ""


def find(
    trial: Callable[[float], Result],
    start: float,
    p99_ms: float,
    precision: float = 0.05,
    ceiling: float = 200_000,
) -> Found:
    """Search from `start` requests a second, to within `precision` of the answer.

    A rate that breaks is tried twice: one hiccup of the machine is not the bidder's limit.
    """
    trials: list[Result] = []
    best: Result | None = None
    low, high = 0.0, 0.0
    rate = start
    while rate <= ceiling and not (high and high - low <= precision * high) and rate >= 1:
        result = trial(rate)
        trials.append(result)
        if broken(result, p99_ms) and not result.generator_saturated:
            result = trial(rate)
            trials.append(result)
        if not broken(result, p99_ms):
            low, best = rate, result
        elif result.generator_saturated:
            return Found(tuple(trials), best, limited_by_generator=True)
        else:
            high = rate
        rate = (low + high) / 2 if high else low * 2
    return Found(tuple(trials), best, limited_by_generator=False)
