"""Is no work done for line items that cannot win? Only as much as it takes to say why not."""

from pathlib import Path
from typing import Any

import pytest

from bidder import rotation
from bidder.campaigns.loading import load
from bidder.reasons import NoBid

FLASHING = 10
SHOP = """
advertiser: shop
domain: shop.example
currency: EUR
timezone: Europe/Paris
campaigns:
  - id: c
    goal: {cpm: 40}
    line_items:
"""
ITEM = """
      - id: l%d
        unknown_people: serve
        bid: {max_cpm: %g}
        creatives:
          - id: ad
            size: 300x250
            image: "https://cdn.shop.example/a"
            click: "https://shop.example/"
            attributes: [%d]
"""


async def test_below_the_floor_one_that_could_speak_is_enough(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [ITEM % (n, 9 - n / 10, FLASHING if n < 2 else 1) for n in range(40)]
    (tmp_path / "campaigns").mkdir()
    (tmp_path / "campaigns" / "shop.yaml").write_text(SHOP + "".join(items))
    scene = await build(load(tmp_path / "campaigns", now=None)[0])
    asked, fits = [], rotation.fits

    def counted(*given: Any) -> Any:
        asked.append(given)
        return fits(*given)

    monkeypatch.setattr(rotation, "fits", counted)
    banner = {"w": 300, "h": 250, "battr": [FLASHING]}
    imp = {"id": "1", "banner": banner, "bidfloor": 9.5, "bidfloorcur": "EUR"}
    request = {"id": "r", "imp": [imp], "device": {"geo": {"country": "USA"}}}

    decision = await scene.decide(request)
    assert (decision.body, decision.reason) == (b"", NoBid.BELOW_FLOOR)
    assert len(asked) == 3  # two that may not speak here, and one that may

    reasons = [reason for reason, _ in (await scene.explain(request)).reasons.values()]
    assert reasons.count(NoBid.BELOW_FLOOR) == 38
    assert reasons.count(NoBid.BLOCKED_BY_PUBLISHER) == 2
