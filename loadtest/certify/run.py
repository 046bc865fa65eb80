"""Which rules does a bidder pass?"""

from typing import Literal, NamedTuple

from . import deadlines, notices, obedience, protocol, transport  # noqa: F401  # fill RULES
from .rules import RULES, Failed, Rule, Skipped, Trial
from .wire import BrokenAnswer

GROUPS = ("protocol", "transport", "obedience", "notices", "deadlines")
"""The order in which rules are tried: simple ones first, as later ones build on them."""


class Verdict(NamedTuple):
    """What became of one rule."""

    rule: Rule
    outcome: Literal["pass", "FAIL", "skip"]
    detail: str


async def judge(trial: Trial, only: frozenset[str] = frozenset()) -> list[Verdict]:
    """Try all rules, or those named ``group`` or ``group/name``, one after the other."""
    return [
        await _verdict(rule, trial)
        for rule in sorted(RULES, key=lambda rule: GROUPS.index(rule.group))
        if not only or rule.group in only or f"{rule.group}/{rule.name}" in only
    ]


async def _verdict(rule: Rule, trial: Trial) -> Verdict:
    try:
        await rule.probe(trial)
    except (Failed, BrokenAnswer) as failed:
        return Verdict(rule, "FAIL", str(failed))
    except Skipped as skipped:
        return Verdict(rule, "skip", str(skipped))
    return Verdict(rule, "pass", "")
