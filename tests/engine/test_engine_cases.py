"""Golden decisions: every folder of `tests/cases`. A new case is a new folder.

`request.json`, `campaigns.yaml` (and `campaigns-*.yaml`), `people.json` (lines of a people file,
each with an optional `ledger`), `setting.json` (optional: fields of the exchange, stops) and
`expected.json`: the bids (a price may be a range) or the reason for none, and for line items that
are out why, with a part of what `explain` says of it.
"""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bidder.campaigns.loading import load
from bidder.exchanges.profile import Exchange
from bidder.explain import render
from bidder.reasons import NoBid
from bidder.wording import said

DAY = datetime(2026, 11, 18, tzinfo=UTC)
CASES = Path(__file__).parents[1] / "cases"
FOLDERS = sorted(path for path in CASES.iterdir() if path.is_dir())

Json = dict[str, Any]


def read(folder: Path, name: str, default: Any = None) -> Any:
    path = folder / name
    return json.loads(path.read_text()) if path.exists() else default


def copied(folder: Path, campaigns: Path) -> Path:
    """The campaign files of a case, alone in a folder."""
    campaigns.mkdir()
    for path in folder.glob("campaigns*.yaml"):
        shutil.copy(path, campaigns)
    return campaigns


async def staged(folder: Path, tmp_path: Path, build: Any) -> Any:
    """The scene of a case."""
    setting = read(folder, "setting.json", {})
    catalogue = load(copied(folder, tmp_path / "campaigns"), now=DAY)[0]
    exchange = replace(
        Exchange(name="demo", seat="demo", currency="EUR"), **setting.get("exchange", {})
    )
    scene = await build(catalogue, exchange=exchange, stops=setting.get("stops", ()))
    await scene.know(*read(folder, "people.json", []))
    return scene


def bids_of(body: bytes) -> list[Json]:
    """The bids of an answer, as cases write them."""
    if not body:
        return []
    answer = json.loads(body)
    return [
        {
            "imp": bid["impid"],
            "creative": bid["crid"],
            "price": bid["price"],
            "currency": answer["cur"],
        }
        | ({"deal": bid["dealid"]} if "dealid" in bid else {})
        for group in answer["seatbid"]
        for bid in group["bid"]
    ]


def settle(bids: list[Json], expected: list[Json]) -> list[Json]:
    """`expected`, each range of prices replaced by the price that lies in it."""
    settled = []
    for number, one in enumerate(expected):
        price = one["price"]
        if isinstance(price, list) and number < len(bids):
            low, high = price
            assert low <= bids[number]["price"] <= high
            price = bids[number]["price"]
        settled.append({**one, "price": price})
    return settled


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
async def test_case(
    folder: Path, tmp_path: Path, build: Any, breaches: Callable[..., list[str]]
) -> None:
    scene = await staged(folder, tmp_path, build)
    request, expected = read(folder, "request.json"), read(folder, "expected.json")
    explanation = await scene.explain(request)
    before = await scene.ledger(explanation.person)
    decision = await scene.decide(request)

    bids = bids_of(decision.body)
    assert bids == settle(bids, expected.get("bids", [])), render(explanation)
    assert decision.reason is NoBid[expected.get("reason", "unknown").upper()]
    assert explanation.reason is decision.reason
    assert [
        (c.slot.imp_id, c.candidate.creative.path, c.price_micros / 1e6, c.currency)
        for c in explanation.choices
    ] == [(b["imp"], b["creative"], b["price"], b["currency"]) for b in bids]
    for path, (reason, note) in expected.get("out", {}).items():
        found, detail = explanation.reasons[path]
        assert found.name.lower() == reason
        assert note in said(detail)
    if decision.body:
        answer = json.loads(decision.body)
        assert not breaches(request, answer, {"USD": 1.25, "GBP": 0.8})
        assert ("dsa" in answer["seatbid"][0]["bid"][0].get("ext", {})) is expected.get(
            "dsa", False
        )

    counted = 0 if request.get("test") else len(bids)
    reserved = counted > 0 and explanation.person != ""
    after = await scene.ledger(explanation.person)
    assert (after != before) is reserved, "a reservation for each bid to someone we know"
    events = [event["type"] for event in await scene.logged()]
    assert events == ["bid"] * counted


def test_there_are_many_cases() -> None:
    """An empty folder would pass all of the above."""
    assert len(FOLDERS) >= 100
