"""Do the figures say which model is better, by how much, and how sure that is?"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bidder.scoring import features
from bidder.scoring.model import Scorer
from models import evaluate, judge, simulate, train
from models import table as tables
from models.delays import NO_DELAYS
from models.table import Table
from models.train import Recipe

RECIPE = Recipe(trees=30, leaves=8, patience=0, folds=2, rows_per_leaf=50)


@pytest.fixture(scope="module")
def table() -> Table:
    made = simulate.table(8000, seed=5)
    cheap = np.arange(len(made)) % 2 == 0
    return replace(
        made,
        paid_cpm=np.where(cheap, 0.5, 2.0),
        value_cpm=np.full(len(made), 3.0),
        p_click=np.full(len(made), 0.01),
        p_conversion=np.full(len(made), 0.05),
    )


@pytest.fixture(scope="module")
def models(table: Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of the oldest rows, and one to which most features were closed."""
    folder = tmp_path_factory.mktemp("models")
    older = table.take(slice(5000))
    blind = tuple(name for name in features.NAMES if name not in ("hour", "weekday"))
    for name, unused in (("good", ()), ("blind", blind)):
        recipe = replace(RECIPE, unused=unused)
        learnt = train.train(older, recipe)
        train.save(learnt, folder / name, older, recipe, source="test", created=datetime.now(UTC))
    return {name: folder / name for name in ("good", "blind")}


@pytest.fixture(scope="module")
def found(table: Table, models: dict[str, Path]) -> Any:
    young, old = evaluate.unseen(table, models["good"], models["blind"])
    assert young.time.min() > old.time.max()
    return evaluate.evaluate(young, models["good"], models["blind"], NO_DELAYS, old)


def test_many_rows_score_as_one_by_one(table: Table, models: dict[str, Path]) -> None:
    scorer = Scorer.load(models["good"])
    part = table.take(slice(300))
    both = judge.scores(models["good"], part)
    one_by_one = [
        scorer.score(features.from_log(row), advertiser)
        for row, advertiser in zip(part.rows.tolist(), part.advertiser.tolist(), strict=True)
    ]
    many = np.column_stack([both["click"], both["conversion"]])
    np.testing.assert_allclose(one_by_one, many, rtol=0, atol=1e-9)


def test_of_young_clicks_the_sales_that_have_come_are_judged(table: Table) -> None:
    """Who says the whole truth is well calibrated, though the latest sales are not in the log."""
    random = np.random.default_rng(6)
    truth = random.uniform(0.1, 0.6, len(table))
    sold = random.random(len(table)) < truth
    delay = random.exponential(100.0, len(table))
    elapsed = random.uniform(0, 300.0, len(table))
    seen = sold & (delay <= elapsed)
    cut = replace(
        table,
        click=np.ones(len(table), dtype=bool),
        conversion=seen,
        conversion_delay=np.where(seen, delay, np.nan),
        elapsed=elapsed,
    )
    judged = evaluate.trial("conversion", cut, truth, train.delays_of(cut))
    assert judged.said.sum() == pytest.approx(judged.labels.sum(), rel=0.05)
    assert judged.labels.sum() < 0.9 * truth[elapsed > 80].sum()
    assert 0.6 * len(table) < len(judged.labels) < 0.9 * len(table)


def test_the_better_model_is_told(found: Any) -> None:
    gap = found["click"]["difference"]
    assert gap["log_loss_interval"][1] < 0 < gap["auc_interval"][0]
    assert found["click"]["challenger"]["auc"] > found["click"]["champion"]["auc"]
    low, high = found["click"]["challenger"]["auc_interval"]
    assert low < found["click"]["challenger"]["auc"] < high


def test_groups_and_bins_add_up(found: Any, table: Table) -> None:
    figures = found["click"]["challenger"]
    for groups in (figures["by_line_item"], figures["by_hour"]):
        assert sum(one["rows"] for one in groups.values()) == figures["rows"]
        total = sum(one["predicted"] for one in groups.values())
        observed = sum(one["observed"] for one in groups.values())
        assert total / observed == pytest.approx(figures["calibration"])
    assert sum(one["rows"] for one in figures["reliability"]) == figures["rows"]
    said = [one["said"] for one in figures["reliability"]]
    assert said == sorted(said)


def test_the_page_holds_its_pictures(found: Any) -> None:
    from models.evaluate_page import page

    text = page(json.loads(json.dumps(found)))
    assert text.count("data:image/png;base64,") >= 6
    assert "http" not in text.replace("http-equiv", "")


def test_no_rows_to_judge_by(table: Table, models: dict[str, Path]) -> None:
    with pytest.raises(evaluate.NothingToJudge):
        evaluate.evaluate(table.take(slice(0)), models["good"], None, NO_DELAYS, table)


def test_surplus_by_hand(table: Table) -> None:
    four = replace(
        table.take(slice(4)),
        click=np.array([True, True, False, True]), conversion=np.array([True, False, False, True]),
        value_cpm=np.array([10.0, 10.0, 10.0, 10.0]), paid_cpm=np.array([4.0, 4.0, 4.0, 20.0]),
        p_click=np.full(4, 0.1), p_conversion=np.array([0.5, 0.5, 0.0, 0.5]),
    )  # fmt: skip
    said = {"click": np.array([0.1, 0.01, 0.1, 0.1]), "conversion": np.full(4, 0.5)}
    # Sales are worth 10 / (1000 x 0.1 x 0.5) = 0.2, clicks of the third row 0.1. The second and the
    # fourth are valued below their price.
    expected = [0.2 - 0.004, 0.0, -0.004, 0.0]
    assert evaluate.surplus(four, said).tolist() == pytest.approx(expected)


def test_auc_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    labels = random.random(500) < 0.3
    said = np.round(random.random(500), 2)
    weights = random.integers(0, 4, 500).astype(float)
    expected = roc_auc_score(labels, said, sample_weight=weights)
    assert judge.auc(labels.astype(float), said, weights) == pytest.approx(expected)


def test_an_interval_widens_where_people_repeat() -> None:
    random = np.random.default_rng(3)
    values = np.repeat(random.normal(size=100), 10)
    alone = np.array([f"p{n}" for n in range(1000)])
    together = np.repeat(alone[:100], 10)

    def mean(times: Any) -> float:
        return float((times * values).sum() / times.sum())

    narrow, wide = (np.ptp(judge.interval(who, mean)) for who in (alone, together))
    assert 2 < wide / narrow < 5, "about the root of ten"


def test_drift() -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=5000)
    assert judge.psi(values, random.normal(size=5000)) < 0.02
    assert judge.psi(values, values + 1) > 0.25
    gone = np.where(random.random(5000) < 0.5, np.nan, values)
    assert judge.psi(values, gone) > 0.25


def test_the_command(
    table: Table, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.write(table, tmp_path / "t.parquet")
    arguments = [
        "evaluate", str(tmp_path / "t.parquet"), "--challenger", str(models["good"]),
        "--champion", str(models["blind"]), "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", arguments)
    evaluate.main()
    assert json.loads((tmp_path / "out/evaluation.json").read_bytes())["rows"] == 3000
    assert (tmp_path / "out/evaluation.html").stat().st_size > 50_000
