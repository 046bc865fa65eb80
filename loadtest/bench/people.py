"""Who is in the store? Made-up people, each a customer or visitor of a few advertisers.

A person is one line of ``bidder people load``: identifiers, and what the CRM knows.
"""

from random import Random
from typing import Any

DAY_SECONDS = 86400

SEGMENTS = (
    ("visited", 1.0, 30),
    ("viewed", 0.6, 14),
    ("basket", 0.3, 10),
    ("buyer", 0.12, 60),
    ("lapsed", 0.1, 300),
    ("vip", 0.05, 365),
)
"""Of every advertiser: name, share of those who know it, oldest sighting in days."""

GENERAL = tuple(f"interest-{number:03d}" for number in range(200))
"""Segments that no single advertiser owns."""

_KNOWN_ADVERTISERS = {1: 0.5, 2: 0.3, 3: 0.15, 4: 0.05}
_STAGES = ("prospect", "visitor", "new", "active", "lapsing", "lapsed", "won-back")
_CATEGORIES = ("IAB1", "IAB2", "IAB3", "IAB9", "IAB10", "IAB17", "IAB18", "IAB19", "IAB20", "IAB22")


def person(seed: int, number: int, advertisers: int, day: int, source: str) -> dict[str, Any]:
    """Person `number`: known by `source` and by ID5, as of `day` (seconds since the epoch)."""
    random = Random(seed * 1_000_003 + number)
    counts, weights = list(_KNOWN_ADVERTISERS), list(_KNOWN_ADVERTISERS.values())
    known = min(random.choices(counts, weights)[0], advertisers)
    segments: dict[str, int] = {}
    baskets: dict[str, dict[str, int]] = {}
    for advertiser in random.sample(range(advertisers), known):
        name = f"adv{advertiser:04d}"
        for segment, share, oldest in SEGMENTS:
            if random.random() < share:
                seen = day - int(random.random() ** 2 * oldest * DAY_SECONDS)
                segments[f"{name}-{segment}"] = seen
                if segment == "basket":
                    value = random.randrange(15, 300) * 1_000_000
                    baskets[name] = {"value_micros": value, "updated": seen, "products": 2}
    for segment in random.sample(GENERAL, random.randrange(2, 8)):
        segments[segment] = day - random.randrange(60 * DAY_SECONDS)
    orders = random.choices((0, 1, 2, 5), (60, 25, 10, 5))[0]
    profile: dict[str, Any] = {
        "segments": segments,
        "first_seen": day - random.randrange(365) * DAY_SECONDS,
        "last_visit": max(segments.values()),
        "stage": random.choice(_STAGES),
        "interests": {c: day - random.randrange(30) * DAY_SECONDS for c in _two(random)},
    }
    if orders:
        profile["orders"] = orders
        profile["last_order"] = day - random.randrange(1, 300) * DAY_SECONDS
        profile["spent_micros"] = orders * random.randrange(20, 200) * 1_000_000
    if baskets:
        profile["baskets"] = baskets
    return {
        "ids": [[source, f"u{number:08d}"], ["id5-sync.com", f"ID5-{number:08d}"]],
        "profile": profile,
    }


def _two(random: Random) -> list[str]:
    return random.sample(_CATEGORIES, 2)
