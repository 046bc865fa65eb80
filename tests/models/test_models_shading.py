"""Is the price to beat found again from wins and losses, and is what is written what is served?"""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bidder.events.schema import (
    BidEvent,
    BillingEvent,
    ImpressionEvent,
    LossEvent,
    RequestsEvent,
    WinEvent,
    encode,
)
from bidder.pricing import market
from bidder.pricing.shading import FIRST_PRICE
from bidder.pricing.winrate import win_rate
from models import shading

START = datetime(2026, 11, 16, tzinfo=UTC).timestamp()


def bid(number: int, price: float, **fields) -> BidEvent:
    plain = {
        "time": START + number % 86_400, "bid_id": f"b{number}", "request_id": "r", "imp_id": "1",
        "exchange": "demo", "line_item": "a/b/c", "creative": "d", "price_cpm_micros": int(price),
        "currency": "EUR", "value_cpm_micros": int(price * 2), "account_currency": "EUR",
        "rate": 1.0, "first_price": True, "size": "300x250",
    }  # fmt: skip
    return BidEvent(**(plain | fields))


def notice(kind, about: BidEvent, **fields):
    return kind(
        time=about.time + 5, bid_id=about.bid_id, exchange=about.exchange,
        line_item=about.line_item, creative="d", bid_time=about.time,
        bid_cpm_micros=about.price_cpm_micros, currency="EUR", account_currency="EUR", rate=1.0,
        hold="w", ids=(1, 2, 3, 4), **fields,
    )  # fmt: skip


def auctions(count: int, seed: int, told: float = 0.0, **fields) -> tuple[list, np.ndarray]:
    """A log of so many first-price auctions, and the prices to beat."""
    random = np.random.default_rng(seed)
    prices = random.lognormal(0.5, 0.6, count) * 1e6
    bids = random.lognormal(0.5, 0.8, count) * 1e6
    events: list = []
    for number, (offered, price) in enumerate(zip(bids, prices, strict=True)):
        made = bid(number, offered, **fields)
        events.append(made)
        if made.price_cpm_micros >= price:
            events.append(notice(BillingEvent, made, price_cpm_micros=made.price_cpm_micros))
        elif random.random() < told:
            minimum = int(price) + 1
            events.append(notice(LossEvent, made, reason=102, minimum_to_win_cpm_micros=minimum))
    events.append(RequestsEvent(START + 90_000, "demo", 1000, 10))
    return events, prices


def surplus(bids: np.ndarray, values: np.ndarray, prices: np.ndarray) -> float:
    return float(np.mean((values - bids) * (bids >= prices) * (bids > 0)))


@pytest.mark.parametrize("told", [0.0, 0.5])
def test_the_bids_learnt_earn_nearly_what_knowing_all_would(told: float) -> None:
    events, _ = auctions(20_000, seed=1, told=told)
    rates = shading.fit(shading.listen(events))
    random = np.random.default_rng(9)
    prices = random.lognormal(0.5, 0.6, 50_000) * 1e6
    values = random.lognormal(1.0, 0.7, 50_000) * 1e6
    best = surplus(win_rate(prices).bids(values), values, prices)
    ours = surplus(rates["demo/EUR||300x250"].bids(values), values, prices)
    assert ours >= 0.985 * best
    assert all(surplus(share * values, values, prices) < ours for share in np.arange(0.3, 1, 0.1))


def test_the_middle_of_the_prices_is_found_again() -> None:
    events, prices = auctions(20_000, seed=2)
    rate = shading.fit(shading.listen(events))["/EUR"]
    for share in (0.25, 0.5, 0.75):
        assert rate.at(float(np.quantile(prices, share))) == pytest.approx(share, abs=0.03)


def test_exact_prices_alone_are_their_own_distribution() -> None:
    random = np.random.default_rng(3)
    prices = random.lognormal(0.5, 0.6, 5000) * 1e6
    counts = shading.Counts()
    for price in prices:
        counts.told[shading._place_of_price(price)] += 1
    flat = np.full(len(shading.GRID) + 1, 1 / (len(shading.GRID) + 1))
    rates = np.cumsum(shading.masses(counts, flat, prior=0.0))[:-1]
    wanted = np.searchsorted(np.sort(prices), shading.GRID, side="right") / len(prices)
    assert np.abs(rates - wanted).max() < 1e-9


def test_a_thin_cell_leans_on_the_one_above() -> None:
    many, _ = auctions(5000, seed=4)
    few, _ = auctions(150, seed=5, size="728x90")
    rates = shading.fit(shading.listen([*many, *few]))
    assert "demo/EUR||300x250" in rates
    assert "demo/EUR||728x90" not in rates


@pytest.mark.parametrize(
    ("events", "wins", "told", "bids"),
    [
        ([], 0, 0, 1),
        ([(WinEvent, {"price_cpm_micros": 900_000})], 1, 0, 1),
        ([(ImpressionEvent, {})], 1, 0, 1),
        ([(LossEvent, {"reason": 102})], 0, 0, 1),
        ([(LossEvent, {"reason": 202})], 0, 0, 0),
        ([(LossEvent, {"reason": 102, "minimum_to_win_cpm_micros": 2_000_000})], 0, 1, 1),
        ([(LossEvent, {"reason": 0}), (BillingEvent, {"price_cpm_micros": 9})], 1, 0, 1),
        ([(BillingEvent, {"price_cpm_micros": 9}), (LossEvent, {"reason": 202})], 1, 0, 1),
    ],
)
def test_what_a_log_says_of_a_bid(events, wins, told, bids) -> None:
    made = bid(1, 1_000_000)
    end = RequestsEvent(START + 90_000, "demo", 7, 1)
    heard = shading.listen([made, *[notice(kind, made, **more) for kind, more in events], end])
    assert (heard.wins, heard.told, heard.bids) == (wins, told, bids)


def test_second_price_wins_tell_the_price_and_inferred_ones_do_not() -> None:
    one, other = (bid(n, 1_000_000, first_price=False) for n in (1, 2))
    heard = shading.listen(
        [
            one, other, notice(BillingEvent, one, price_cpm_micros=400_000),
            notice(BillingEvent, other, price_cpm_micros=1_000_000, inferred=True),
        ]
    )  # fmt: skip
    assert (heard.wins, heard.told) == (2, 1)


def test_a_bid_without_a_word_is_open_until_enough_log_follows() -> None:
    made = bid(1, 1_000_000)
    assert shading.listen([made, RequestsEvent(made.time + 60, "demo", 1, 1)]).bids == 0


def test_requests_are_counted_by_hour_of_the_week() -> None:
    lines = [RequestsEvent(START + seconds, "demo", 10, 0) for seconds in (0, 1800, 7 * 86_400)]
    heard = shading.listen(lines)
    assert (heard.requests[0], heard.hours[0]) == (30, 2)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shading")
    events, _ = auctions(3000, seed=6)
    log = folder / "events" / "worker-0"
    log.mkdir(parents=True)
    (log / "20261116T000000-000001.jsonl").write_bytes(b"".join(map(encode, events)))
    shading._fit(folder / "events", folder, None)
    return folder


def test_what_is_fitted_is_served(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shader, traffic = market.load(models)
    assert shader.exploration == shading.EXPLORATION
    assert len(shader.version) == 12
    price = shader.bid(3_000_000, 0, FIRST_PRICE, "demo", "EUR", "", "300x250", 3)
    assert 500_000 < price < 2_500_000
    assert traffic.weight(25, 1) == pytest.approx(1000)
    assert traffic.weight(26, 20) > 2 * traffic.weight(26, 1)
    shading._show(models)
    assert "demo/EUR||300x250" in capsys.readouterr().out


def test_an_empty_log_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no bid whose fate is known"):
        shading._fit(tmp_path, tmp_path, "2026-01-01T00:00:00+00:00")


def damaged(models: Path, tmp_path: Path, change) -> Path:
    """A copy with its manifest and content changed; the checksum is put right."""
    folder = tmp_path / market.DIRECTORY
    source = models / market.DIRECTORY
    about = json.loads((source / market.MANIFEST).read_text())
    content = json.loads((source / market.CONTENT).read_text())
    change(about, content)
    from hashlib import sha256

    raw = json.dumps(content).encode()
    if about.get("sha256"):
        about["sha256"] = sha256(raw).hexdigest()
    folder.mkdir()
    (folder / market.CONTENT).write_bytes(raw)
    (folder / market.MANIFEST).write_text(json.dumps(about))
    return tmp_path


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda a, c: a.update(layout=9), "layout 9"),
        (lambda a, c: a.update(exploration=1.5), "explore a share"),
        (lambda a, c: a.update(sha256=""), "damaged"),
        (lambda a, c: a.update(created=7), "cannot be read"),
        (lambda a, c: c.update(cells=7), "cannot be read"),
        (lambda a, c: c["cells"].update({"x": {"prices": [2, 1], "rates": [0.1, 0.2]}}), "'x'"),
        (lambda a, c: c.update(hours=[1.0]), "has no traffic"),
        (lambda a, c: a["probes"][0].update(bid_micros=1), "where fitting bid 1"),
    ],
)
def test_a_damaged_directory_is_refused(models: Path, tmp_path: Path, change, complaint) -> None:
    with pytest.raises(market.MarketError, match=complaint):
        market.load(damaged(models, tmp_path, change))


def test_a_missing_file_is_refused_and_a_missing_directory_is_not(
    models: Path, tmp_path: Path
) -> None:
    assert market.load(tmp_path) is market.NOTHING
    damaged(models, tmp_path, lambda a, c: None)
    (tmp_path / market.DIRECTORY / market.CONTENT).unlink()
    with pytest.raises(market.MarketError, match="cannot be opened"):
        market.load(tmp_path)
    (tmp_path / market.DIRECTORY / market.MANIFEST).unlink()
    (tmp_path / market.DIRECTORY / market.MANIFEST).mkdir()
    with pytest.raises(market.MarketError, match="cannot be opened"):
        market.load(tmp_path)
