"""Does training make a directory that serves the same scores, every time the same?"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow.parquet as pq
import pytest

from bidder.events.schema import BidEvent, decode, encode
from bidder.scoring import features, manifest
from bidder.scoring.model import ModelError, Scorer
from models import demo, simulate, train
from models import encode as encoding
from models import table as tables
from models.delays import NO_DELAYS
from models.evaluate import quality
from models.table import Table, TableError
from models.train import Recipe, TrainingError

CREATED = datetime(2026, 8, 1, tzinfo=UTC)
RECIPE = Recipe(trees=20, leaves=8, patience=5, folds=2, rows_per_leaf=20)


@pytest.fixture(scope="module")
def table() -> Table:
    return simulate.table(6000, seed=5)


@pytest.fixture(scope="module")
def directory(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    save(train.train(table, RECIPE), out, table)
    return out


def save(learnt: Any, out: Path, table: Table) -> Any:
    return train.save(learnt, out, table, RECIPE, source="test", created=CREATED)


def logged(row: features.Row) -> list[float | None]:
    """The row as the log brings it back."""
    bid = BidEvent(
        time=1.0, bid_id="b", request_id="r", imp_id="1", exchange="demo", line_item="a/c/l",
        creative="k", price_cpm_micros=1, currency="EUR", value_cpm_micros=1,
        account_currency="EUR", rate=1.0, first_price=True, features=[*row],
    )  # fmt: skip
    back = decode(encode(bid))
    assert isinstance(back, BidEvent)
    return back.features


def test_a_logged_row_trains_as_it_was_served(table: Table, directory: Path) -> None:
    scorer = Scorer.load(directory)
    served = [features.from_log(row) for row in table.rows[:500].tolist()]
    trained = np.array([features.from_log(logged(row)) for row in served])
    knots = json.loads((directory / "calibration.json").read_bytes())
    tables_of = manifest.read_encoding(directory, scorer.manifest.encoding)
    assert tables_of["click"]["domain"].rates
    for column, role in enumerate(manifest.ROLES):
        encoded = encoding.apply(trained, tables_of[role])
        raw = lgb.Booster(model_file=directory / f"{role}.txt").predict(encoded)
        assert np.ptp(raw) > 0
        rates = np.interp(raw, knots[role]["scores"], knots[role]["rates"])
        rates *= [knots[role]["factors"][name] for name in table.advertiser[:500]]
        names = table.advertiser[:500].tolist()
        said = [scorer.score(*pair)[column] for pair in zip(served, names, strict=True)]
        assert said == pytest.approx(rates, abs=1e-9)


def test_the_same_table_makes_the_same_model(table: Table, directory: Path, tmp_path: Path) -> None:
    about = save(train.train(table, RECIPE), tmp_path, table)
    assert about.version == Scorer.load(directory).version
    shuffled = table.take(np.random.default_rng(1).permutation(len(table))).by_time()
    assert shuffled.time.tolist() == table.time.tolist()


def test_the_manifest_says_what_was_done(table: Table, directory: Path) -> None:
    about = Scorer.load(directory).manifest
    assert about.created == "2026-08-01T00:00:00+00:00"
    assert about.trained_on.rows == 6000
    assert about.trained_on.first == table.time[0]
    assert about.settings["seed"] == RECIPE.seed
    assert 0.5 < about.models["click"].metrics["auc"] < 1
    assert about.models["click"].metrics["rows"] == 900


def test_quality_is_told_by_the_newest_rows(table: Table) -> None:
    """With labels turned over in the newest 15 %, the reported quality must be bad."""
    newest = np.arange(len(table)) >= len(table) * 0.85
    said: list[str] = []
    learnt = train._learn("click", table, table.click ^ newest, NO_DELAYS, RECIPE, said.append)
    assert learnt.metrics["auc"] < 0.5
    assert said[0].startswith("click: ")


def test_people_stay_in_one_fold(table: Table) -> None:
    fold = train._folds(table.person, replace(RECIPE, folds=5))
    assert set(fold.tolist()) == {0, 1, 2, 3, 4}
    for name in set(table.person.tolist()) - {""}:
        assert len(set(fold[table.person == name].tolist())) == 1


def test_weights_undo_sampling(table: Table) -> None:
    """The simulation draws clicks far too often; what is served is the true level."""
    truth = np.average(table.click, weights=table.weight)
    assert table.click.mean() > 10 * truth
    learnt = train.train(table, RECIPE)["click"]
    encoded = encoding.apply(table.rows, learnt.rates)
    scores = lgb.Booster(model_str=learnt.text.decode()).predict(encoded)
    rates = np.interp(scores, learnt.knots.scores, learnt.knots.rates)
    assert np.average(rates, weights=table.weight) == pytest.approx(truth, rel=0.15)


def test_sales_after_views_are_told_by_the_score_of_sales(table: Table, tmp_path: Path) -> None:
    """People likelier to buy after a click are likelier to buy after a view, at another level."""
    plain = train.train(table, RECIPE)["conversion"]
    assert plain.view is None
    rank = np.argsort(np.argsort(train._scores(plain, table.rows))) / len(table)
    sold = np.random.default_rng(4).random(len(table)) < 0.2 * rank**2
    young = np.random.default_rng(5).random(len(table)) < 0.2
    seen = replace(
        table,
        view_conversion=sold & ~young,  # of the young nothing is known yet
        elapsed=np.where(young, 60.0, np.inf),
    )
    learnt = train.train(seen, RECIPE)
    save(learnt, tmp_path, seen)
    scorer = Scorer.load(tmp_path)
    rows = [features.from_log(row) for row in seen.rows.tolist()]
    said = [scorer.score_with_views(*pair) for pair in zip(rows, seen.advertiser, strict=True)]
    view = np.array([one[2] for one in said])
    assert [one[:2] for one in said[:9]] == [
        scorer.score(*pair) for pair in zip(rows[:9], seen.advertiser[:9], strict=True)
    ]
    weight = table.weight * ~young
    assert view @ weight == pytest.approx(sold @ weight, rel=0.05)
    likely = view > np.median(view)
    assert sold[likely].mean() > 3 * sold[~likely].mean()


def test_a_probe_that_serving_does_not_repeat_is_refused_for_views_too(
    table: Table, tmp_path: Path
) -> None:
    sold = np.random.default_rng(4).random(len(table)) < 0.1
    save(train.train(replace(table, view_conversion=sold), RECIPE), tmp_path, table)
    path = tmp_path / manifest.MANIFEST
    about = json.loads(path.read_bytes())
    about["probes"][0]["scores"]["view"] += 1e-6
    path.write_text(json.dumps(about))
    with pytest.raises(ModelError, match="the view model gives"):
        Scorer.load(tmp_path)


def test_unused_features_are_not_split_on(table: Table) -> None:
    task = train.Task("click", table, table.click.astype(float), table.rows)
    plain = train._fit(task, RECIPE)
    lean = train._fit(task, replace(RECIPE, unused=("viewability",)))
    column = features.NAMES.index("viewability")
    assert plain.feature_importance()[column] > 0
    assert lean.feature_importance()[column] == 0


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ("click", "0 of 6000 rows have a click"),
        ("conversion", "0 of .* rows have a conversion"),
    ],
)
def test_too_little_to_learn_from(table: Table, column: str, problem: str) -> None:
    empty = replace(table, **{column: np.zeros(len(table), dtype=bool)})
    with pytest.raises(TrainingError, match=problem):
        train.train(empty, RECIPE)


def test_clicks_only_in_the_newest_rows(table: Table) -> None:
    late = replace(table, click=table.click & (np.arange(len(table)) > len(table) * 0.86))
    with pytest.raises(TrainingError, match="no click among the oldest rows"):
        train.train(late, RECIPE)


def test_a_table_survives_parquet(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    tables.write(table, path)
    back = tables.read(path)
    np.testing.assert_array_equal(back.rows, table.rows)
    for name in ("time", "person", "advertiser", "click", "conversion", "weight"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))


def test_a_table_of_other_features_is_refused(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    tables.write(table, path)
    content = pq.read_table(path)
    pq.write_table(content.replace_schema_metadata({b"feature_version": b"old"}), path)
    with pytest.raises(TableError, match="features of version old"):
        tables.read(path)
    pq.write_table(content.drop_columns(["_weight"]), path)
    with pytest.raises(TableError, match="lacks a column"):
        tables.read(path)


def test_the_command_trains_from_parquet(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path = tmp_path / "rows.parquet"
    tables.write(table, path)
    arguments = f"train {path} --out {tmp_path / 'm'} --trees 3 --folds 2 --hold-out 0"
    arguments += " --unused hour weekday"
    monkeypatch.setattr("sys.argv", arguments.split())
    train.main()
    scorer = Scorer.load(tmp_path / "m")
    assert scorer.version in capsys.readouterr().out
    assert scorer.manifest.settings["unused"] == ("hour", "weekday")
    monkeypatch.setattr("sys.argv", ["train", str(tmp_path / "none"), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="none"):
        train.main()


def test_the_demo_command_makes_as_many_trees_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = f"demo --out {tmp_path} --trees 7 --leaves 5 --impressions 6000"
    monkeypatch.setattr("sys.argv", arguments.split())
    demo.main()
    Scorer.load(tmp_path)
    for role in ("click", "conversion"):
        assert lgb.Booster(model_file=tmp_path / f"{role}.txt").num_trees() == 7


def test_simulated_rows_repeat_with_their_seed() -> None:
    one, again, other = (simulate.table(200, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.rows, again.rows)
    np.testing.assert_array_equal(one.click, again.click)
    assert not np.array_equal(one.rows, other.rows, equal_nan=True)
    assert np.isfinite(one.weight).all()


def test_quality_against_hand_counted_figures() -> None:
    labels = np.array([True, False, False, False])
    found = quality(labels, np.array([0.6, 0.7, 0.2, 0.1]), np.array([1.0, 1.0, 1.0, 2.0]))
    assert found["rate"] == pytest.approx(0.2)
    assert found["auc"] == pytest.approx(0.75)
    assert found["calibration"] == pytest.approx((0.6 + 0.7 + 0.2 + 0.2) / 5 / 0.2)
    loss = -(np.log(0.6) + np.log(0.3) + np.log(0.8) + 2 * np.log(0.9)) / 5
    entropy = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    assert found["normalised_entropy"] == pytest.approx(loss / entropy)
    assert "auc" not in quality(labels[1:], np.full(3, 0.1), np.ones(3))


def test_sales_still_to_come_are_reckoned_with() -> None:
    """Clicks of which the log tells only what came in time: the level is that of all sales."""
    whole = simulate.table(20_000, seed=8)
    random = np.random.default_rng(8)
    delay = np.where(whole.conversion, random.exponential(50.0, len(whole)), np.nan)
    elapsed = random.uniform(0, 150.0, len(whole))
    seen = whole.conversion & (delay <= elapsed)
    cut = replace(whole, conversion=seen, conversion_delay=np.where(seen, delay, np.nan),
                  elapsed=elapsed)  # fmt: skip
    clicked = whole.take(whole.click)
    truth = np.average(clicked.conversion, weights=clicked.weight)
    naive = np.average(seen[whole.click], weights=clicked.weight)
    assert naive < 0.8 * truth
    learnt = train.train(cut, replace(RECIPE, patience=0))["conversion"]
    encoded = encoding.apply(clicked.rows, learnt.rates)
    scores = lgb.Booster(model_str=learnt.text.decode()).predict(encoded)
    rates = np.interp(scores, learnt.knots.scores, learnt.knots.rates)
    assert np.average(rates, weights=clicked.weight) == pytest.approx(truth, rel=0.12)
