"""How does a decision's cost grow? In line items, in segments a person, in what a ledger holds.

    python -m loadtest.bench.growth [--plot docs/growth.png] [--json build/growth.json]

Plain functions on one core, without HTTP, store or log: the fastest of several passes over the same
requests, so that a busy machine disturbs little.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from bidder.capping import Ledger, history, rules
from bidder.capping import verdict as strictest
from bidder.openrtb.opportunity import Opportunity
from bidder.people.reading import decode_profile, encode_profile
from bidder.person import Profile
from bidder.targeting import AudienceIndex, Index, Schedule, survivors
from loadtest.bench.micro.made import NOW, PER_ADVERTISER, catalogue, impressions, offers, profile

LINE_ITEMS = (100, 1_000, 10_000, 100_000)
SEGMENTS = (5, 20, 50, 100, 200)
RECORDS = (0, 8, 32, 64, 128)
REQUESTS = 300
PASSES = 15

T = TypeVar("T")
Curve = dict[int, float]
"""Size -> microseconds of one call."""


def fastest(values: Sequence[T], function: Callable[[T], object]) -> float:
    """Microseconds a call over all of `values`, in the fastest pass."""
    best = float("inf")
    for _ in range(PASSES):
        began = time.perf_counter()
        for value in values:
            function(value)
        best = min(best, time.perf_counter() - began)
    return best / len(values) * 1e6


def line_items() -> dict[str, Curve]:
    """What is done with masks, before and after the person is known."""
    asked, curves = offers(REQUESTS), {"candidates": Curve(), "audience": Curve()}
    for many in LINE_ITEMS:
        whole = catalogue(many)
        index, audiences, schedule = Index(whole), AudienceIndex(whole), Schedule(whole)
        open_now = schedule.mask(NOW, None)

        def accepting(offer: Opportunity, index: Index = index, now: int = open_now) -> list[int]:
            accepted = index.request_mask(offer, now)
            return [index.slot_mask(slot, accepted) for slot in offer.slots]

        def speaking(
            one: tuple[int, Profile], audiences: AudienceIndex = audiences
        ) -> Sequence[int]:
            mask, known = one
            return survivors(mask & audiences.mask(known.segments, NOW))

        people = [profile(n, max(many // PER_ADVERTISER, 1)) for n in range(REQUESTS)]
        first = [accepting(offer)[0] for offer in asked]
        curves["candidates"][many] = fastest(asked, accepting)
        curves["audience"][many] = fastest(list(zip(first, people, strict=True)), speaking)
    return curves


def segments() -> dict[str, Curve]:
    """What is done for each segment of a person: reading the profile, and the audience."""
    whole, random = catalogue(10_000), Random(1)
    audiences = AudienceIndex(whole)
    names = sorted({rule.segment for item in whole.line_items for rule in item.audience.any_of})
    curves = {"profile read": Curve(), "audience": Curve()}
    for many in SEGMENTS:
        people = [
            Profile(segments={name: NOW - random.randrange(86400) for name in each})
            for each in (random.sample(names, many) for _ in range(REQUESTS))
        ]
        curves["profile read"][many] = fastest([encode_profile(p) for p in people], decode_profile)
        curves["audience"][many] = fastest(people, lambda p: audiences.mask(p.segments, NOW))
    return curves


def ledgers() -> dict[str, Curve]:
    """What is asked of a ledger for one line item, opening it included."""
    item = catalogue(100).line_items[0]
    caps = rules(item, item.creatives[0].id32)
    curves = {"caps": Curve(), "features": Curve()}
    for many in RECORDS:
        raw = impressions(item, many, REQUESTS)
        curves["caps"][many] = fastest(raw, lambda one: strictest(Ledger(one, NOW), caps))
        curves["features"][many] = fastest(raw, lambda one: history(Ledger(one, NOW), item))
    return curves


def drawn(figures: dict[str, dict[str, Curve]], path: Path) -> None:
    """One panel for each thing that grows."""
    figure, panels = plt.subplots(1, len(figures), figsize=(12, 3.6), constrained_layout=True)
    for panel, (what, curves) in zip(panels, figures.items(), strict=True):
        for name, curve in curves.items():
            panel.plot(list(curve), list(curve.values()), marker="o", label=name)
        if what == "line items":
            panel.set_xscale("log")
        panel.set_xlabel(what)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    panels[0].set_ylabel("µs")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Measure, print, draw."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--plot", type=Path)
    reader.add_argument("--json", type=Path)
    given = reader.parse_args()
    figures: dict[str, Any] = {
        "line items": line_items(),
        "segments a person": segments(),
        "records in a ledger": ledgers(),
    }
    for what, curves in figures.items():
        for name, curve in curves.items():
            told = "  ".join(f"{size:,}: {us:.1f} µs" for size, us in curve.items())
            print(f"{what:20} {name:13} {told}")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(figures, indent=2))
    if given.plot:
        drawn(figures, given.plot)


if __name__ == "__main__":
    main()
