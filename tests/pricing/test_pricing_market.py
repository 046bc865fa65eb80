"""What was learnt of the market is served as it was written, or refused with the file named."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bidder.pricing.market import (
    CONTENT,
    DIRECTORY,
    LAYOUT,
    MANIFEST,
    NOTHING,
    LearntFrom,
    Manifest,
    MarketError,
    Probe,
    load,
    write,
)
from bidder.pricing.shading import FIRST_PRICE, Shader, cells
from bidder.pricing.winrate import WinRate

AUCTION = ("demo", "EUR", "", "300x250", 14)
CELL = cells(*AUCTION[:4], 0, AUCTION[4])[0]
PRICES, RATES = [500_000, 1_000_000, 2_000_000, 4_000_000], [0.2, 0.5, 0.8, 1.0]
Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes a market beside the models; keywords replace fields of manifest or content."""

    def make(content: Any = None, probes: Any = (), **changes: Any) -> Path:
        raw = json.dumps(
            {"cells": {CELL: {"prices": PRICES, "rates": RATES}}, "requests": [], "hours": []}
            | (content or {})
        ).encode()
        manifest = Manifest(
            layout=LAYOUT,
            created="2026-11-21T00:00:00Z",
            learnt_from=LearntFrom("test", 10, 5, 5, 0.0, 1.0),
            sha256=sha256(raw).hexdigest(),
            exploration=0.05,
            probes=list(probes),
        )
        write(tmp_path / DIRECTORY, msgspec.structs.replace(manifest, **changes), raw)
        return tmp_path

    return make


def bid(shader: Shader, value: int, floor: int = 0) -> int:
    return shader.bid(value, floor, FIRST_PRICE, *AUCTION)


def test_where_there_is_none_nothing_is_learnt(tmp_path: Path) -> None:
    assert load(tmp_path) is NOTHING
    assert bid(NOTHING.shader, 3_000_000) > 0


def test_it_serves_as_written(written: Written) -> None:
    learnt = load(written())
    best = WinRate(np.array(PRICES, float), np.array(RATES)).bid_from(3_000_000, 0)
    for _ in range(2):  # looked up, then known
        assert bid(learnt.shader, 3_000_000) == int(best) < 3_000_000
    assert learnt.shader.version == load(written()).shader.version != ""
    assert len(learnt.shader.version) == 12


def test_a_probe_must_be_bid_as_it_was_fitted(written: Written) -> None:
    right = bid(load(written()).shader, 3_000_000)
    exchange, currency, deal, size, hour = AUCTION
    probe = Probe(exchange, currency, deal, size, hour, 0, 3_000_000, right)
    assert bid(load(written(probes=[probe])).shader, 3_000_000) == right
    with pytest.raises(MarketError, match=f"bids {right} here where fitting bid {right + 1}"):
        load(written(probes=[msgspec.structs.replace(probe, bid_micros=right + 1)]))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"layout": LAYOUT + 1}, f"{MANIFEST}: has layout"),
        ({"exploration": 1.0}, f"{MANIFEST}: cannot explore"),
        ({"sha256": "0" * 64}, f"{CONTENT}: is damaged"),
        ({"content": {"cells": {CELL: {"prices": [2, 1], "rates": [0.1, 0.2]}}}}, "no win rate"),
        ({"content": {"requests": [1.0], "hours": []}}, "has no traffic"),
        ({"content": {"cells": 7}}, f"{CONTENT}: cannot be read"),
    ],
)
def test_what_cannot_be_served_is_refused(
    written: Written, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(MarketError, match=why):
        load(written(**changes))


def test_files_that_cannot_be_read_are_named(written: Written) -> None:
    folder = written() / DIRECTORY
    (folder / CONTENT).unlink()
    with pytest.raises(MarketError, match=f"{CONTENT}: cannot be opened"):
        load(folder.parent)
    (folder / MANIFEST).write_bytes(b"\xff{")
    with pytest.raises(MarketError, match=f"{MANIFEST}: cannot be read"):
        load(folder.parent)
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    with pytest.raises(MarketError, match=f"{MANIFEST}: cannot be opened"):
        load(folder.parent)
