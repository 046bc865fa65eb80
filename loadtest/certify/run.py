"""Which rules does a bidder pass?"""

from pathlib import Path
from traceback import extract_tb
from typing import Literal, NamedTuple

from . import deadlines, notices, obedience, protocol, transport  # noqa: F401  # fill RULES
from .rules import RULES, Failed, Rule, Skipped, Trial, Unproven
from .wire import BrokenAnswer

GROUPS = ("protocol", "transport", "obedience", "notices", "deadlines")
"""The order in which rules are tried: simple ones first, as later ones build on them."""


class Verdict(NamedTuple):
    """What became of one rule."""

    rule: Rule
    outcome: Literal["pass", "FAIL", "unproven", "skip"]
    detail: str

    @property
    def name(self) -> str:
        """``group/rule``."""
        return f"{self.rule.group}/{self.rule.name}"


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
    except Unproven as unproven:
        return Verdict(rule, "unproven", str(unproven))
    except Skipped as skipped:
        return Verdict(rule, "skip", str(skipped))
    except Exception as error:  # an answer that nobody foresaw, or a fault of this test
        return Verdict(rule, "FAIL", f"this test broke on what it saw: {_told(error)}")
    return Verdict(rule, "pass", "")


def _told(error: Exception) -> str:
    frame = extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
