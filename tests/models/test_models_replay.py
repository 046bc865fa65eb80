"""Does a replay read what it is given, play by the rules, and learn from the first half alone?"""

import gzip
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from models.replay import clicks, logs, market, policies, report, surplus
from models.replay.__main__ import main
from models.replay.logs import MICROS_PER_UNIT, Auctions, LogError

DATA = Path(__file__).parents[2] / "../shared/data/ipinyou"


def written(
    directory: Path, rows: int = 4000, name: str = "one", header: str = "click\tmarket_price\tpctr"
) -> tuple[Path, Path]:
    """Simulated auctions, better places dearer, as a file with columns in the header's order."""
    random = np.random.default_rng(5)
    pctr = random.lognormal(-5, 1, rows).clip(0, 0.5)
    price = (random.lognormal(4, 0.7, rows) * (pctr / 0.01) ** 0.1).round().clip(1, 300)
    click = (random.random(rows) < pctr).astype(int)
    columns = {"click": click, "market_price": price.astype(int), "pctr": pctr}
    columns["episode"] = np.arange(rows) // 500
    names = header.split("\t")
    known = [columns.get(n, columns["pctr"] if "ctr" in n else price.astype(int)) for n in names]
    lines = ["\t".join(str(x) for x in row) for row in zip(*known, strict=True)]
    path = directory / f"{name}.auctions.tsv.gz"
    path.write_bytes(gzip.compress("\n".join([header, *lines, ""]).encode()))
    histogram = np.bincount(price.astype(int), minlength=301).tolist()
    told = {"imp_train": rows, "cost_train": int(price.sum()), "price_counter_train": histogram}
    prices = directory / f"{name}.prices.json"
    prices.write_text(json.dumps(told))
    return path, prices


def two_episodes() -> Auctions:
    price = np.array([[10.0, 20.0, 30.0], [10.0, 20.0, np.inf]])
    click = np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    return Auctions(click, price, np.full((2, 3), 0.1), np.array([3, 2]))


def flat(bid: float) -> market.Policy:
    return lambda t, left: np.full_like(left, bid)


def test_a_bid_at_the_price_wins_and_pays_it() -> None:
    played = market.play(flat(20.0), two_episodes(), np.array([100.0, 100.0]), "second")
    assert played.wins.tolist() == [2, 2]
    assert played.clicks.tolist() == [1, 2]
    assert played.spent.tolist() == [30, 30]


def test_in_a_first_price_auction_the_bid_is_paid() -> None:
    played = market.play(flat(20.0), two_episodes(), np.array([100.0, 100.0]), "first")
    assert played.spent.tolist() == [40, 40]


def test_no_more_is_offered_than_is_left() -> None:
    played = market.play(flat(1e9), two_episodes(), np.array([25.0, 40.0]), "second")
    assert played.spent.tolist() == [10, 30]
    assert played.clicks.tolist() == [0, 2]


def test_variants_are_played_as_if_alone() -> None:
    auctions, budget = two_episodes(), np.array([35.0, 25.0])
    bids = np.array([10.0, 20.0, 30.0])
    together = market.play(
        lambda t, left: np.broadcast_to(bids[:, None], left.shape), auctions, budget, "second", (3,)
    )
    for number, bid in enumerate(bids.tolist()):
        alone = market.play(flat(bid), auctions, budget, "second")
        assert together.clicks[number].tolist() == alone.clicks.tolist()
        assert together.spent[number].tolist() == alone.spent.tolist()


@pytest.mark.parametrize(
    "header",
    [
        "click\tmarket_price\tpctr",
        "pctr_lr\tepisode\tmarket_price\tclick",
        "market_price\tunknown\tclick\tmy_ctr",
    ],
)
def test_columns_are_found_by_header(tmp_path: Path, header: str) -> None:
    campaign = logs.read(*written(tmp_path, header=header))
    plain = logs.read(*written(tmp_path, name="plain"))
    length = 500 if "episode" in header else 1000
    assert campaign.judged.lengths.tolist() == [length] * (2000 // length)
    assert campaign.judged.click.sum() == plain.judged.click.sum()
    assert np.array_equal(campaign.history.pctr.ravel(), plain.history.pctr.ravel())


def test_a_last_short_episode_counts_with_its_own_budget(tmp_path: Path) -> None:
    campaign = logs.read(*written(tmp_path, rows=3300))
    assert campaign.judged.lengths.tolist() == [1000, 300]
    assert np.isinf(campaign.judged.price[1, 300:]).all()
    budget = policies.budgets(campaign, campaign.judged, 0.5)
    assert budget[1] == pytest.approx(budget[0] * 0.3)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "empty"),
        ("click\tmarket_price\tpctr\n", "no auctions"),
        ("click\tmarket_price\n0\t1\n", "no pctr column"),
        ("click\tpctr\n0\t0.1\n", "no market_price column"),
        ("click\tmarket_price\tpctr\n2\t1\t0.1\n", "neither 0 nor 1"),
        ("click\tmarket_price\tpctr\n1\t-1\t0.1\n", "below 0"),
        ("click\tmarket_price\tpctr\n1\t1\t1.5\n", "not a probability"),
        ("click\tmarket_price\tpctr\n1\tx\t0.5\n", "not all numbers"),
        ("click\tmarket_price\tpctr\n1\t\t0.5\n", "line 2"),
        ("click\tmarket_price\tpctr\n1\t1\t0.5\n", "at least two"),
    ],
)
def test_what_cannot_be_replayed_is_said(tmp_path: Path, content: str, complaint: str) -> None:
    _, prices = written(tmp_path)
    path = tmp_path / "bad.tsv"
    path.write_text(content)
    with pytest.raises(LogError, match=complaint) as error:
        logs.read(path, prices)
    assert "bad.tsv" in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"imp_train": 0, "cost_train": 5}'])
def test_prices_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    auctions, prices = written(tmp_path)
    prices.write_text(content)
    with pytest.raises(LogError, match=r"one\.prices\.json"):
        logs.read(auctions, prices)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    auctions, prices = written(tmp_path)
    with pytest.raises(SystemExit, match=r"gone\.tsv"):
        main(["--auctions", str(tmp_path / "gone.tsv"), "--prices", str(prices)])
    with pytest.raises(SystemExit, match=r"gone\.json"):
        main(["--auctions", str(auctions), "--prices", str(tmp_path / "gone.json")])


@pytest.mark.parametrize("mode", ["second", "first"])
def test_nothing_is_learnt_from_what_is_judged(tmp_path: Path, mode: market.Mode) -> None:
    campaign = logs.read(*written(tmp_path))
    blind = logs.Campaign(
        "one",
        campaign.history,
        Auctions(*(np.zeros_like(campaign.judged.click) for _ in range(3)), np.array([1000, 1000])),
        campaign.cpm,
        campaign.histogram,
    )
    left = np.array([4e6, 1e6])
    for build in (policies.ours, lambda c, m: policies.linear(c, 0.25, m)):
        seeing, not_seeing = (build(one, mode)(campaign.judged) for one in (campaign, blind))
        assert seeing(7, left).tolist() == not_seeing(7, left).tolist()


def test_values_are_the_projects_own(tmp_path: Path) -> None:
    campaign = logs.read(*written(tmp_path))
    pctr = campaign.history.pctr
    values = policies.valuation(campaign, 2.0)(pctr)
    assert values == pytest.approx(2 * campaign.cpm * pctr / pctr.mean(), rel=1e-4, abs=1)


def test_shading_keeps_nearly_all_that_could_be_kept(tmp_path: Path) -> None:
    campaign = logs.read(*written(tmp_path, rows=20_000))
    for one in surplus.surpluses(campaign):
        assert one.ours > 0.97
        assert one.ours > max(one.fractions.values())


def test_ours_wins_more_than_a_constant_bid_and_says_by_how_much(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path, rows=8000, name=name)
    out = tmp_path / "out" / "replay.json"
    main(["--all", str(tmp_path), "--json", str(out), "--budget", "1/8", "--budget", "1/4"])
    result = json.loads(out.read_text())
    assert set(result["campaigns"]) == {"a", "b"}
    assert set(result["campaigns"]["a"]["clicks"]) == {"1/8", "1/4"}
    assert result["pooled_ratio_over_constant"] > 1.1
    low, high = result["interval"]
    assert low <= result["pooled_ratio"] <= high
    for spent in result["campaigns"]["a"]["clicks"].values():
        assert max(spent["spent"].values()) <= spent["budget"] * (1 + 1e-9)
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_interval_draws_episodes_with_all_their_budgets(tmp_path: Path) -> None:
    campaign = logs.read(*written(tmp_path))
    found = clicks.outcomes(campaign, [Fraction(1, 4), Fraction(1, 2)], "second", lambda _: None)
    same = [
        clicks.Outcome(o.campaign, o.budget, o.played | {"linear": o.played["ours"]}, 0, 0)
        for o in found
    ]
    assert clicks.interval(same, 50, 1) == (1.0, 1.0)
    assert clicks.interval(found, 50, 1) == clicks.interval(found, 50, 1)


def test_without_a_histogram_the_history_alone_teaches(tmp_path: Path) -> None:
    auctions, prices = written(tmp_path)
    told = json.loads(prices.read_text())
    del told["price_counter_train"]
    prices.write_text(json.dumps(told))
    campaign = logs.read(auctions, prices)
    found = clicks.outcomes(campaign, [Fraction(1, 4)], "first", lambda _: None)
    result = report.summary(found, surplus.surpluses(campaign), "first")
    assert result["least_surplus"] > 0.9


def test_arguments_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for wrong in (["--auctions", "x"], ["--all", "x", "--auctions", "y", "--prices", "z"], []):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
    with pytest.raises(SystemExit, match="2"):
        main(["--all", str(tmp_path), "--budget", "0"])
    with pytest.raises(SystemExit, match=r"no <campaign>\.auctions"):
        main(["--all", str(tmp_path)])


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data/ipinyou is not here")
def test_files_of_ipinyou_are_read() -> None:
    campaign = logs.read(DATA / "2821.auctions.tsv.gz", DATA / "2821.prices.json")
    assert (len(campaign.history), len(campaign.judged)) == (50, 50)
    assert campaign.cpm / MICROS_PER_UNIT == pytest.approx(89.28, abs=0.01)
    plain = logs.read(DATA / "1458.unfiltered.tsv.gz", DATA / "1458.prices.json")
    assert (len(plain.history), len(plain.judged)) == (110, 110)
