"""What is for sale? Made-up advertisers, written as the files that traders write."""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from loadtest.bench.people import GENERAL

COUNTRIES = ("FR", "DE", "GB", "IT", "ES", "BE", "NL")
SIZES = ("300x250", "728x90", "320x50", "300x600", "160x600", "970x250", "320x100")
_CAMPAIGNS = 5
_SPEAKS_TO = ("visited", "viewed", "basket", "lapsed", "vip")
_SPEAKS_TO_WEIGHTS = (22, 24, 22, 18, 14)
_WITHIN = {"visited": "30d", "viewed": "14d", "basket": "7d", "lapsed": "365d", "vip": "365d"}
_PLENTY = 1_000_000


@dataclass(frozen=True, slots=True)
class Advertiser:
    """One file of `config/campaigns/`: its name and what stands in it."""

    name: str
    content: dict[str, Any]

    @property
    def line_items(self) -> list[dict[str, Any]]:
        """All its line items."""
        return [item for campaign in self.content["campaigns"] for item in campaign["line_items"]]


def advertiser(seed: int, number: int, line_items: int) -> Advertiser:
    """Advertiser `number` with so many line items, in up to five campaigns.

    Budgets and limits are there to be checked and never reached, since a run that stops bidding in
    the middle measures nothing.
    """
    random = Random(f"{seed} advertiser {number}")
    name = f"adv{number:04d}"
    groups = [range(start, line_items, _CAMPAIGNS) for start in range(min(_CAMPAIGNS, line_items))]
    content = {
        "advertiser": name,
        "domain": f"{name}.example",
        "currency": "EUR",
        "timezone": random.choice(("Europe/Paris", "Europe/Berlin", "Europe/London")),
        "limits": {"max_cpm": 20, "max_spend_per_minute": _PLENTY},
        "campaigns": [
            {
                "id": f"campaign-{index}",
                "status": "active",
                "flight": {"start": "2026-01-01"},
                "budget": {"total": 100 * _PLENTY, "daily": _PLENTY, "pacing": "even"},
                "goal": _goal(random),
                "frequency": [
                    {"max": 10, "per": "1d", "of": "campaign"},
                    {"max": 40, "per": "7d", "of": "advertiser"},
                ],
                "intrusiveness": {"ceiling": 0.9, "cost_cpm": 0.10},
                "line_items": [_line_item(random, name, item) for item in group],
            }
            for index, group in enumerate(groups)
        ],
    }
    return Advertiser(name, content)


def write(advertiser: Advertiser, folder: Path) -> None:
    """Write its file. One line of JSON for each line item: YAML too, and quick to write."""
    content = advertiser.content
    lines = [f"{key}: {json.dumps(value)}" for key, value in content.items() if key != "campaigns"]
    lines.append("campaigns:")
    for campaign in content["campaigns"]:
        rest = {key: value for key, value in campaign.items() if key != "line_items"}
        for index, (key, value) in enumerate(rest.items()):
            lines.append(f"  {'- ' if index == 0 else '  '}{key}: {json.dumps(value)}")
        lines.append("    line_items:")
        lines += [f"      - {json.dumps(item)}" for item in campaign["line_items"]]
    (folder / f"{advertiser.name}.yaml").write_text("\n".join(lines) + "\n")


def _goal(random: Random) -> dict[str, Any]:
    kind = random.choices(("cpm", "cpc", "cpa"), (20, 40, 40))[0]
    amount = {"cpm": (1, 3), "cpc": (0.4, 1.5), "cpa": (15, 60)}[kind]
    return {kind: round(random.uniform(*amount), 2)}


def _line_item(random: Random, owner: str, number: int) -> dict[str, Any]:
    name = f"li-{number:03d}"
    asked = dict.fromkeys(
        random.choices(_SPEAKS_TO, _SPEAKS_TO_WEIGHTS, k=random.choice((1, 1, 1, 2)))
    )
    audience: dict[str, Any] = {
        "any_of": [
            {"segment": f"{owner}-{segment}", "within": _WITHIN[segment]} for segment in asked
        ]
    }
    if random.random() < 0.6:
        audience["none_of"] = [{"segment": f"{owner}-buyer", "within": "30d"}]
    if random.random() < 0.05:
        audience["all_of"] = [{"segment": random.choice(GENERAL), "within": "60d"}]
    item: dict[str, Any] = {
        "id": name,
        "audience": audience,
        "where": _where(random),
        "when": {"days": "mon-sun", "hours": "0-24"},
        "bid": {"max_cpm": round(random.uniform(3.0, 9.0), 2)},
        "frequency": [
            {"max": 4, "per": "1d", "of": "line_item"},
            {"min_gap": "1m", "of": "line_item"},
        ],
        "creatives": [
            {
                "id": f"{name}-{size}",
                "size": size,
                "image": f"https://cdn.{owner}.example/{name}/{size}.jpg",
                "click": f"https://{owner}.example/{name}?c={size}",
            }
            for size in random.sample(SIZES, random.choice((1, 1, 2, 3)))
        ],
    }
    if random.random() < 0.3:
        item["bid"]["modifiers"] = [{"when": {"device": "mobile"}, "times": 0.8}]
    return item


def _where(random: Random) -> dict[str, Any]:
    where: dict[str, Any] = {"countries": random.sample(COUNTRIES, random.choice((1, 2, 2, 3)))}
    if random.random() < 0.4:
        where["devices"] = random.choice((["desktop", "tablet"], ["mobile", "tablet"]))
    if random.random() < 0.3:
        blocked = random.sample(range(400), random.randrange(3, 10))
        where["domains"] = {"block": [f"site{number:03d}.example" for number in blocked]}
    if random.random() < 0.15:
        where["browsers"] = ["chrome", "safari", "edge"]
    return where
