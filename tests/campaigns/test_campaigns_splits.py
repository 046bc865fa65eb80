"""Is a split line item one for each arm, and does every person see exactly one of them?"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bidder.campaigns.catalogue import LineItem
from bidder.campaigns.loading import load
from bidder.pricing import in_arm
from bidder.yamlfiles import InvalidFile

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FILE = """
advertiser: acme
domain: acme.example
currency: EUR
timezone: Europe/Paris
campaigns:
  - id: one
    goal: {cpc: 0.5}
    line_items:
      - id: item
        flight: {start: 2026-01-01}
        bid: {max_cpm: 5}
        creatives:
          - {id: c, size: 300x250, image: "https://a.example/a.png", click: "https://acme.example/"}
        split: SPLIT
"""


def items(tmp_path: Path, split: str) -> dict[str, LineItem]:
    (tmp_path / "acme.yaml").write_text(FILE.replace("SPLIT", split))
    return {item.path: item for item in load(tmp_path, now=NOW)[0].line_items}


def test_each_arm_has_its_own_settings_and_the_rest_of_the_line_item(tmp_path: Path) -> None:
    split = "[{id: low, percent: 20, bid: {max_cpm: 3}}, {id: late, percent: 30, flights: [{}]}]"
    found = items(tmp_path, split)
    assert sorted(found) == ["acme/one/item", "acme/one/item@late", "acme/one/item@low"]
    low, late, rest = (found[f"acme/one/item{arm}"] for arm in ("@low", "@late", ""))
    assert low.bid.max_cpm_micros == 3_000_000
    assert late.bid.max_cpm_micros == rest.bid.max_cpm_micros == 5_000_000
    assert low.flights == rest.flights != late.flights
    assert low.creatives[0].path == "acme/one/item@low/c"
    assert len({item.id32 for item in found.values()}) == 3


def test_everyone_sees_one_arm_in_the_shares_asked_for(tmp_path: Path) -> None:
    found = items(tmp_path, "[{id: a, percent: 20, when: {}}, {id: b, percent: 30, when: {}}]")
    seen = dict.fromkeys(found, 0)
    for number in range(4000):
        (path,) = (p for p, i in found.items() if i.arm and in_arm(i.arm, f"person-{number}"))
        seen[path] += 1
    assert seen["acme/one/item@a"] == pytest.approx(800, rel=0.1)
    assert seen["acme/one/item@b"] == pytest.approx(1200, rel=0.1)


def test_arms_for_everyone_leave_no_rest(tmp_path: Path) -> None:
    found = items(tmp_path, "[{id: a, percent: 50, when: {}}, {id: b, percent: 50}]")
    assert sorted(found) == ["acme/one/item@a", "acme/one/item@b"]


def test_without_a_split_there_is_no_arm(tmp_path: Path) -> None:
    assert items(tmp_path, "[]")["acme/one/item"].arm is None


def test_more_than_everyone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="120 % of people"):
        items(tmp_path, "[{id: a, percent: 60, when: {}}, {id: b, percent: 60}]")
