"""How is a model directory made from a table of logged rows and labels?

    python -m models.train TABLE.parquet --out DIR

Per role (click on impressions, conversion on clicks): the oldest 70 % fit, the next 15 % stop early
and calibrate, the newest 15 % tell the quality that the manifest reports. Then the number of trees
is kept, out-of-fold scores over all rows (folds by person) give the calibration, and the model that
ships is fitted on all rows. The same table, recipe and LightGBM give the same bytes.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray

from bidder.scoring import features, manifest
from bidder.scoring.calibration import Calibration
from bidder.scoring.manifest import Knots, Role
from models import calibrate
from models import table as tables
from models.evaluate import quality
from models.table import Flags, Floats, Table

PROBES = 8
LEAST_POSITIVES = 50
_FIT, _STOP = 0.70, 0.85


class TrainingError(ValueError):
    """The table cannot make a model; the message says why."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. `patience` 0 makes exactly `trees` trees, for benchmarks."""

    trees: int = 400
    leaves: int = 31
    learning_rate: float = 0.05
    rows_per_leaf: int = 100
    patience: int = 25
    folds: int = 5
    seed: int = 1
    threads: int = 1
    unused: tuple[str, ...] = ()
    """Features to do without."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """One role's model: LightGBM text, calibration, quality on the newest rows."""

    text: bytes
    knots: Knots
    metrics: dict[str, float]


Progress = Callable[[str], None]


def train(table: Table, recipe: Recipe, progress: Progress = lambda _: None) -> dict[Role, Learnt]:
    """Both models. Raises `TrainingError` where there are too few clicks or conversions."""
    ordered = table.by_time()
    clicked = ordered.take(ordered.click)
    return {
        "click": _learn("click", ordered, ordered.click, recipe, progress),
        "conversion": _learn("conversion", clicked, clicked.conversion, recipe, progress),
    }


def save(
    learnt: dict[Role, Learnt],
    directory: Path,
    table: Table,
    recipe: Recipe,
    *,
    source: str,
    created: datetime,
) -> manifest.Manifest:
    """Write the model directory that `Scorer.load` reads. Raises `OSError`."""
    knots = {role: one.knots for role, one in learnt.items()}
    contents = {f"{role}.txt": one.text for role, one in learnt.items()}
    contents[manifest.CALIBRATION] = msgspec.json.encode(knots) + b"\n"
    about = manifest.Manifest(
        created=created.astimezone(UTC).isoformat(timespec="seconds"),
        lightgbm=lgb.__version__,
        trained_on=manifest.TrainedOn(
            source, len(table), float(table.time.min()), float(table.time.max())
        ),
        features=manifest.FeatureSet(features.VERSION, features.NAMES),
        models={
            role: manifest.listed(f"{role}.txt", one.text, one.metrics)
            for role, one in learnt.items()
        },
        calibration=manifest.listed(manifest.CALIBRATION, contents[manifest.CALIBRATION]),
        settings=asdict(recipe),
        probes=_probes(learnt, table),
    )
    manifest.write(directory, about, contents)
    return about


def _learn(role: Role, rows: Table, labels: Flags, recipe: Recipe, progress: Progress) -> Learnt:
    if labels.sum() < LEAST_POSITIVES or labels.all():
        raise TrainingError(
            f"{labels.sum()} of {len(labels)} rows have a {role}: at least {LEAST_POSITIVES} must, "
            "and not all"
        )
    recipe, metrics = _rehearse(role, rows, labels, recipe)
    progress(f"{role}: {recipe.trees} trees, {_shown(metrics)}")
    scores = _out_of_fold(role, rows, labels, recipe)
    knots = calibrate.calibrate(scores, labels, rows.weight, rows.advertiser)
    progress(f"{role}: calibrated out of {recipe.folds} folds with {len(knots.scores)} knots")
    booster = _fit(role, rows, labels, recipe)
    return Learnt(booster.model_to_string().encode(), knots, metrics)


def _rehearse(
    role: Role, rows: Table, labels: Flags, recipe: Recipe
) -> tuple[Recipe, dict[str, float]]:
    """The recipe with the number of trees that stopped early, and its quality on the newest."""
    first, second = int(len(rows) * _FIT), int(len(rows) * _STOP)
    fit, stop, test = slice(first), slice(first, second), slice(second, None)
    if not (labels[fit].any() and labels[stop].any()):
        raise TrainingError(f"no {role} among the oldest rows: more time is needed")
    later = (rows.take(stop), labels[stop])
    booster = _fit(role, rows.take(fit), labels[fit], recipe, later if recipe.patience else None)
    kept = replace(recipe, trees=booster.current_iteration())
    if recipe.patience:
        kept = replace(recipe, trees=max(booster.best_iteration, 1))
    scores = _predict(booster, rows.rows[second:], kept.trees)
    seen = _predict(booster, later[0].rows, kept.trees)
    knots = calibrate.isotonic(seen, labels[stop], later[0].weight)
    return kept, quality(labels[test], calibrate.apply(knots, scores), rows.weight[test])


def _out_of_fold(role: Role, rows: Table, labels: Flags, recipe: Recipe) -> Floats:
    """Scores of each row by a model that saw no row of the same person."""
    fold = _folds(rows.person, recipe)
    scores = np.empty(len(rows))
    for number in range(recipe.folds):
        held = fold == number
        if held.any():
            booster = _fit(role, rows.take(~held), labels[~held], recipe)
            scores[held] = _predict(booster, rows.rows[held], recipe.trees)
    return scores


def _folds(person: NDArray[np.str_], recipe: Recipe) -> NDArray[np.int64]:
    """A fold for each row: by hash of the person, by chance where nobody is known."""
    chance = np.random.default_rng(recipe.seed).integers(recipe.folds, size=len(person))
    names, which = np.unique(person, return_inverse=True)
    hashed = np.array([crc32(f"{recipe.seed}/{name}".encode()) for name in names]) % recipe.folds
    return np.where(person == "", chance, hashed[which])


def _fit(
    role: Role,
    rows: Table,
    labels: Flags,
    recipe: Recipe,
    later: tuple[Table, Flags] | None = None,
) -> lgb.Booster:
    dataset = _dataset(rows, labels)
    if later is None:
        return lgb.train(_settings(role, recipe), dataset, recipe.trees)
    watched = _dataset(*later, reference=dataset)
    stopping = lgb.early_stopping(recipe.patience, verbose=False)
    settings = _settings(role, recipe)
    return lgb.train(settings, dataset, recipe.trees, valid_sets=[watched], callbacks=[stopping])


def _dataset(rows: Table, labels: Flags, reference: lgb.Dataset | None = None) -> lgb.Dataset:
    return lgb.Dataset(
        rows.rows,
        labels.astype(np.float32),
        weight=rows.weight,
        feature_name=list(features.NAMES),
        categorical_feature=list(features.CATEGORICAL),
        reference=reference,
        params={"verbosity": -1, "feature_pre_filter": False},
        free_raw_data=True,
    )


def _settings(role: Role, recipe: Recipe) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "objective": "binary",
        "metric": "binary_logloss",
        "num_leaves": recipe.leaves,
        "learning_rate": recipe.learning_rate,
        "min_data_in_leaf": recipe.rows_per_leaf,
        "lambda_l2": 1.0,
        "seed": recipe.seed,
        "num_threads": recipe.threads,
        "deterministic": True,
        "force_row_wise": True,  # deterministic needs one of the two layouts fixed
        "feature_pre_filter": False,
        "verbosity": -1,
    }
    if recipe.unused:
        # A gain times nothing: no split. The columns stay, as a row is always whole.
        settings["feature_contri"] = [float(n not in recipe.unused) for n in features.NAMES]
    if role == "click":
        settings["monotone_constraints"] = [f.click_trend for f in features.FEATURES]
    return settings


def _predict(booster: lgb.Booster, rows: Floats, trees: int) -> Floats:
    scores: Floats = np.asarray(booster.predict(rows, num_iteration=trees), dtype=np.float64)
    return scores


def _probes(learnt: dict[Role, Learnt], table: Table) -> list[manifest.Probe]:
    """Rows spread over the table with the scores that serving must repeat."""
    rows = table.rows[np.linspace(0, len(table) - 1, PROBES).astype(int)]
    scores = {}
    for role, one in learnt.items():
        raw = _predict(lgb.Booster(model_str=one.text.decode()), rows, 0).tolist()
        scores[role] = [Calibration(one.knots.scores, one.knots.rates).apply(s) for s in raw]
    return [
        manifest.Probe(row.tolist(), {role: scores[role][index] for role in scores})
        for index, row in enumerate(rows)
    ]


def _shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())


def main() -> None:
    """Train from a Parquet table and write the model directory."""
    default = Recipe()
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("table", type=Path, help="Parquet written by models.table")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    for name, value in asdict(default).items():
        option = f"--{name.replace('_', '-')}"
        if name == "unused":
            parser.add_argument(option, nargs="*", default=value, choices=features.NAMES)
        else:
            parser.add_argument(option, type=type(value), default=value)
    given = vars(parser.parse_args())
    path, out = given.pop("table"), given.pop("out")
    recipe = Recipe(**given | {"unused": tuple(given["unused"])})
    try:
        table = tables.read(path)
        learnt = train(table, recipe, print)
    except (tables.TableError, TrainingError, OSError) as error:
        raise SystemExit(f"{error}") from None
    about = save(learnt, out, table, recipe, source=str(path), created=datetime.now(UTC))
    print(f"{out}: model {about.version}")


if __name__ == "__main__":
    main()
