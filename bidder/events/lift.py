"""Do the ads of a campaign work? Who was bid on, against the control group that would have been.

A bid, or the ghost of one in the control group, puts a person into the experiment at its time.
Whether the bid was won, or the person then bought, changes nothing of that, so but for the ads the
groups differ by chance alone (predicted ghost ads: Johnson, Lewis and Nubbemeyer 2017). What they
did in the days after is compared: differences with an interval after Agresti and Caffo (2000),
ratios with that of Katz et al. (1978); per person reached by an ad, the difference over the share
who were reached.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt
from pathlib import Path

from bidder.events.reading import read
from bidder.events.schema import BidEvent, BillingEvent, GhostEvent, ImpressionEvent

Z = 1.959964
"""Of a 95 % interval."""


@dataclass(slots=True)
class Groups:
    """Who is in the experiment, and since when (seconds since the epoch)."""

    treated: dict[str, float] = field(default_factory=dict)
    control: dict[str, float] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    """Of the treated, those who were shown an ad."""
    moved: int = 0
    """People left out, who were in both: the control group was changed meanwhile."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One outcome in both groups. Intervals are of 95 %."""

    name: str
    treated: float
    """Share of the people, or mean per person."""
    control: float
    difference: tuple[float, float, float]
    """Estimate, lower and upper end."""
    ratio: tuple[float, float, float] | None
    """Treated over control; None where there is nothing to divide by."""


def groups(
    directory: Path, campaign: str, since: float | None = None, until: float | None = None
) -> Groups:
    """The experiment of a campaign (its path), as the log has it."""
    mark = f'"line_item":"{campaign}/'.encode()
    found = Groups()
    shown: set[str] = set()
    for event in read(directory, since, until, wanted=lambda line: mark in line):
        if isinstance(event, BidEvent) and event.person:
            found.treated.setdefault(event.person, event.time)
        elif isinstance(event, GhostEvent):
            found.control.setdefault(event.person, event.time)
        elif isinstance(event, BillingEvent | ImpressionEvent) and event.person:
            shown.add(event.person)
    both = found.treated.keys() & found.control.keys()
    for person in both:
        del found.treated[person], found.control[person]
    found.moved = len(both)
    found.reached = shown & found.treated.keys()
    return found


def shares(name: str, treated: int, of_treated: int, control: int, of_control: int) -> Compared:
    """People who did something, in each group, of so many."""
    rate, base = treated / of_treated, control / of_control
    # One more who did and one more who did not, in each group.
    a, b = (treated + 1) / (of_treated + 2), (control + 1) / (of_control + 2)
    wide = Z * sqrt(a * (1 - a) / (of_treated + 2) + b * (1 - b) / (of_control + 2))
    ratio = None
    if treated and control:
        spread = Z * sqrt(1 / treated - 1 / of_treated + 1 / control - 1 / of_control)
        ratio = (rate / base, exp(log(rate / base) - spread), exp(log(rate / base) + spread))
    return Compared(name, rate, base, (rate - base, a - b - wide, a - b + wide), ratio)


def means(name: str, treated: Sequence[float], control: Sequence[float]) -> Compared:
    """An amount per person, in each group; both have at least two people."""
    mean, base = sum(treated) / len(treated), sum(control) / len(control)
    error = sqrt(_variance(treated) / len(treated) + _variance(control) / len(control))
    ratio = None
    if mean > 0 and base > 0:
        relative = Z * sqrt(
            _variance(treated) / len(treated) / mean**2
            + _variance(control) / len(control) / base**2
        )
        ratio = (mean / base, mean / base * exp(-relative), mean / base * exp(relative))
    off = Z * error
    return Compared(name, mean, base, (mean - base, mean - base - off, mean - base + off), ratio)


def compare(
    who: Groups,
    counts: Mapping[str, Callable[[str, float], bool]],
    amounts: Mapping[str, Callable[[str, float], float]],
) -> list[Compared]:
    """Each outcome, asked of every person with the time they came in. At least two per group."""
    found = []
    for name, did in counts.items():
        numbers = [sum(did(p, t) for p, t in group.items()) for group in (who.treated, who.control)]
        found.append(shares(name, numbers[0], len(who.treated), numbers[1], len(who.control)))
    for name, amount in amounts.items():
        sums = [[amount(p, t) for p, t in group.items()] for group in (who.treated, who.control)]
        found.append(means(name, *sums))
    return found


def render(campaign: str, who: Groups, compared: Iterable[Compared], days: int) -> str:
    """The comparison as text."""
    reached = len(who.reached) / len(who.treated)
    lines = [
        f"{campaign}: {len(who.treated):,} people bid on ({reached:.1%} of them reached), "
        f"{len(who.control):,} held out; what they did in the {days} days after",
    ]
    if who.moved:
        lines.append(f"{who.moved:,} people were in both groups and are left out")
    lines.append(f"{'':16} {'bid on':>10} {'held out':>10}  difference (95 %)  ratio (95 %)")
    for one in compared:
        estimate, low, high = one.difference
        ratio = "-" if one.ratio is None else "{:.3f} [{:.3f}, {:.3f}]".format(*one.ratio)
        lines.append(
            f"{one.name:16} {one.treated:10.4f} {one.control:10.4f}  "
            f"{estimate:+.4f} [{low:+.4f}, {high:+.4f}]  {ratio}"
        )
        if reached:
            lines.append(
                f"{'  per reached':16} {'':10} {'':10}  "
                f"{estimate / reached:+.4f} [{low / reached:+.4f}, {high / reached:+.4f}]"
            )
    return "\n".join(lines)


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)
