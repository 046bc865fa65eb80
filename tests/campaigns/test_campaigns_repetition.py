"""Do silences, rules for product ads and topics come through as they were written?"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bidder.campaigns import compiled
from bidder.campaigns.catalogue import About, LineItem, ProductAds, SegmentRule, Silence
from bidder.campaigns.loading import load

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = 86400
FILE = """\
advertiser: acme
domain: acme.example
currency: EUR
timezone: Europe/Paris
categories: [IAB10]
silence: [{after: conversion, for: 30d}]
campaigns:
  - id: winter
    goal: {cpa: 18.00}
    silence: [{after: click, for: 1h, of: campaign}, {after: conversion, for: 30d}]
    line_items:
      - id: written
        bid: {max_cpm: 6.00}
        silence: [{after: click, for: 10m, of: line_item}]
        product_ads: {basket: 7d, any_of: [{segment: compared, within: 3d}], after_generic: 2}
        about: {keywords: [Lamp, Reading Light]}
        creatives: [CREATIVE, PRODUCT]
      - id: plain
        bid: {max_cpm: 6.00}
        creatives: [CREATIVE]
"""
AD = 'size: 300x250, image: "https://c.acme.example/a.png", click: "https://acme.example"'


@pytest.fixture
def items(tmp_path: Path) -> dict[str, LineItem]:
    text = FILE.replace("CREATIVE", "{id: ad, " + AD + "}")
    text = text.replace("PRODUCT", "{id: mine, product: true, " + AD + "}")
    (tmp_path / "acme.yaml").write_text(text)
    catalogue, problems = load(tmp_path, now=NOW)
    assert problems == []
    assert compiled.decode(compiled.encode(catalogue)) == catalogue
    return {item.id: item for item in catalogue.line_items}


def test_what_is_written_on_the_line_item(items: dict[str, LineItem]) -> None:
    item = items["written"]
    assert item.silences == (
        Silence("click", 600, "line_item"),
        Silence("click", 3600, "campaign"),
        Silence("conversion", 30 * DAY, "advertiser"),
    )
    assert item.product_ads == ProductAds(7 * DAY, (SegmentRule("compared", 3 * DAY),), 2)
    assert item.about == About(frozenset({"IAB10"}), frozenset({"lamp", "reading light"}))


def test_what_comes_from_above_and_by_default(items: dict[str, LineItem]) -> None:
    item = items["plain"]
    assert item.silences == (
        Silence("click", 3600, "campaign"),
        Silence("conversion", 30 * DAY, "advertiser"),
    )
    assert item.product_ads is None
    assert item.about == About(frozenset({"IAB10"}))
    assert item.unknown_people == "skip", "a silence is kept for those who can be recognised"
