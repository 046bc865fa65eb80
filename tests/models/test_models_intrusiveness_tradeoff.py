"""Does the trade-off measure what the settings do?"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bidder.campaigns.catalogue import Intrusiveness
from bidder.campaigns.loading import load
from models import intrusiveness_tradeoff as tradeoff
from models.retrain_market import EXCHANGE


def test_a_low_ceiling_leaves_fewer_and_milder_impressions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        tradeoff, "SETTINGS",
        (Intrusiveness(), Intrusiveness(ceiling=0.2), Intrusiveness(cost_cpm_micros=10_000_000)),
    )  # fmt: skip
    monkeypatch.setattr(tradeoff, "EUROS", 0.01)
    catalogue, _ = load(
        tradeoff.HERE / "market_campaigns", now=datetime.now(UTC), exchanges=frozenset({EXCHANGE})
    )
    free, low, dear = tradeoff.curve(catalogue, "repetition-harms", [1], people=300, hours=5)
    assert (free.name, low.name, dear.name) == ("neither", "ceiling 0.2", "cost_cpm 10")
    assert 0 < low.impressions < free.impressions
    assert low.intrusiveness < min(free.intrusiveness, 0.2 + 1e-9)
    assert dear.impressions <= low.impressions
    assert "repetition-harms, neither" in capsys.readouterr().out
    points = [
        tradeoff.Point(
            world, p.ceiling, p.cost_cpm, p.intrusiveness, 1, 1.0, (2.0, 2 + p.ceiling), 1
        )
        for world in tradeoff.WORLDS
        for p in (free, low, dear)
    ]
    picture = tmp_path / "new" / "curve.png"
    tradeoff.draw(points, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
