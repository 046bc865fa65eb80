"""How is a model directory made from a table of logged rows and labels?

    python -m models.train build/dataset --out build/models/challenger

Per role (click on impressions, conversion on clicks and views): the oldest 70 % fit, the next 15 %
stop early and calibrate, the newest 15 % tell the quality that the manifest reports. Then the
number of trees is kept, out-of-fold scores over all rows (folds by person) give the calibration,
and the model that ships is fitted on all rows. Buckets are encoded by rates of earlier rows
(`models.encode`). A click whose sale may still come counts as one in part (`models.delays`);
quality is told by rows that are old enough. Views have no trees of their own, which would cost
every bid a third forest: the score of the conversion model is calibrated a second time, on the
impressions that a sale was credited to without a click. The same table, recipe and LightGBM give
the same bytes.
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
from bidder.scoring.encoding import Rates
from bidder.scoring.manifest import Knots, Role
from models import calibrate, delays, encode
from models import table as tables
from models.dataset import as_of, row_files
from models.delays import NO_DELAYS, Delays
from models.evaluate import quality
from models.table import Flags, Floats, Table

PROBES = 8
LEAST_POSITIVES = 50
MATURE = 0.9
"""A click is old enough to judge by when this share of the sales has come."""
SAY_EVERY = 25
VIEW_SECONDS = 86400.0
"""An impression is old enough to tell of sales after views: the usual window of attribution."""
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

    @property
    def encoded(self) -> list[str]:
        """Features whose buckets are replaced by rates."""
        return [name for name in features.BUCKETED if name not in self.unused]


@dataclass(frozen=True, slots=True)
class Learnt:
    """One role's model: LightGBM text, rates of buckets, calibration, quality on the newest."""

    text: bytes
    rates: dict[str, Rates]
    knots: Knots
    metrics: dict[str, float]
    importance: dict[str, float]
    view: Knots | None = None
    """Of the conversion model: what its score says of a sale after a view."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one role learns from: rows, oldest first, and what they say."""

    role: Role
    table: Table
    labels: Floats
    """0..1: the chance of a sale that may still come is one in part."""
    rows: Floats
    """As `table.rows`, with rates in the place of buckets."""

    def take(self, index: NDArray[Any] | slice) -> "Task":
        """The rows at these positions, or where this mask holds."""
        part = self.table.take(index)
        return Task(self.role, part, self.labels[index], self.rows[index])


Progress = Callable[[str], None]


def train(table: Table, recipe: Recipe, progress: Progress = lambda _: None) -> dict[Role, Learnt]:
    """Both models. Raises `TrainingError` where there are too few clicks or conversions."""
    ordered = table.by_time()
    clicked = ordered.take(ordered.click)
    click = _learn("click", ordered, ordered.click, NO_DELAYS, recipe, progress)
    conversion = _learn(
        "conversion", clicked, clicked.conversion, delays_of(clicked), recipe, progress
    )
    view = _after_views(ordered, conversion, progress)
    return {"click": click, "conversion": replace(conversion, view=view)}


def delays_of(clicked: Table) -> Delays:
    """How long sales take to come, from those that have."""
    sold = clicked.take(clicked.conversion & np.isfinite(clicked.elapsed))
    return delays.estimate(sold.conversion_delay, sold.elapsed)


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
    contents = {f"{role}.txt": one.text for role, one in learnt.items()}
    knots: dict[manifest.Calibrated, Knots] = {role: one.knots for role, one in learnt.items()}
    view = learnt["conversion"].view
    if view is not None:
        knots[manifest.VIEW] = view
    contents[manifest.CALIBRATION] = msgspec.json.encode(knots) + b"\n"
    rates = {role: one.rates for role, one in learnt.items()}
    contents[manifest.ENCODING] = msgspec.json.encode(rates) + b"\n"
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
        encoding=manifest.listed(manifest.ENCODING, contents[manifest.ENCODING]),
        settings=asdict(recipe),
        importance={role: one.importance for role, one in learnt.items()},
        probes=_probes(learnt, table),
    )
    manifest.write(directory, about, contents)
    return about


def _learn(
    role: Role, table: Table, seen: Flags, late: Delays, recipe: Recipe, progress: Progress
) -> Learnt:
    if seen.sum() < LEAST_POSITIVES or seen.all():
        raise TrainingError(
            f"{seen.sum()} of {len(seen)} rows have a {role}: at least {LEAST_POSITIVES} must, "
            "and not all"
        )
    task = _task(role, table, _first_guess(seen, table, late), recipe)
    come = late.share(table.elapsed)
    mature = task.take(come >= MATURE)
    judged = mature if mature.labels.sum() >= LEAST_POSITIVES else task
    recipe, metrics = _rehearse(judged, recipe, progress)
    progress(f"{role}: {recipe.trees} trees, {_shown(metrics)}")
    scores = _out_of_fold(task, recipe)
    if (come < 1).any():  # a better guess of what is still to come, and once more (EM)
        labels = np.where(seen, 1.0, late.still_to_come(scores, table.elapsed))
        task = _task(role, table, labels, recipe)
        scores = _out_of_fold(task, recipe)
    knots = calibrate.calibrate(scores, task.labels, table.weight, table.advertiser)
    progress(f"{role}: calibrated out of {recipe.folds} folds with {len(knots.scores)} knots")
    booster = _fit(task, recipe)
    rates = encode.tables(table.rows, task.labels, table.weight, recipe.encoded)
    gain = booster.feature_importance("gain")
    importance = dict(zip(features.NAMES, (gain / max(gain.sum(), 1e-300)).tolist(), strict=True))
    return Learnt(booster.model_to_string().encode(), rates, knots, metrics, importance)


def _after_views(table: Table, conversion: Learnt, progress: Progress) -> Knots | None:
    """What the score of the conversion model says of sales that views are credited with; None
    where there are too few to learn from."""
    table = table.take(table.elapsed >= VIEW_SECONDS)
    sold = table.view_conversion
    if sold.sum() < LEAST_POSITIVES or sold.all():
        progress(f"view: {sold.sum()} sales, at least {LEAST_POSITIVES} are needed")
        return None
    knots = calibrate.calibrate(
        _scores(conversion, table.rows), sold.astype(np.float64), table.weight, table.advertiser
    )
    progress(f"view: {sold.sum()} sales, calibrated with {len(knots.scores)} knots")
    return knots


def _scores(learnt: Learnt, rows: Floats) -> Floats:
    """What the trees say of rows as logged, before calibration."""
    booster = lgb.Booster(model_str=learnt.text.decode())
    return _predict(booster, encode.apply(rows, learnt.rates), 0)


def _first_guess(seen: Flags, table: Table, late: Delays) -> Floats:
    """Labels where every click has the same chance of a sale still to come."""
    come = np.maximum(late.share(table.elapsed), delays.FLOOR)
    rate = np.sum(seen * table.weight) / np.sum(come * table.weight)
    chance = np.full(len(seen), min(float(rate), 0.99))
    return np.where(seen, 1.0, late.still_to_come(chance, table.elapsed))


def _task(role: Role, table: Table, labels: Floats, recipe: Recipe) -> Task:
    rows = encode.in_order(table.rows, labels, table.weight, recipe.encoded)
    return Task(role, table, labels, rows)


def _rehearse(task: Task, recipe: Recipe, progress: Progress) -> tuple[Recipe, dict[str, float]]:
    """The recipe with the number of trees that stopped early, and its quality on the newest."""
    count = len(task.labels)
    first, second = int(count * _FIT), int(count * _STOP)
    fit, stop, test = (
        task.take(part)
        for part in (slice(first), slice(first, second), slice(second, None))
    )  # fmt: skip
    if not ((fit.labels == 1).any() and (stop.labels == 1).any()):
        raise TrainingError(f"no {task.role} among the oldest rows: more time is needed")
    booster = _fit(fit, recipe, stop if recipe.patience else None, progress)
    kept = replace(recipe, trees=booster.current_iteration())
    if recipe.patience:
        kept = replace(recipe, trees=max(booster.best_iteration, 1))
    seen = _predict(booster, stop.rows, kept.trees)
    knots = calibrate.isotonic(seen, stop.labels, stop.table.weight)
    said = calibrate.apply(knots, _predict(booster, test.rows, kept.trees))
    return kept, quality(test.labels == 1, said, test.table.weight)


def _out_of_fold(task: Task, recipe: Recipe) -> Floats:
    """Scores of each row by a model that saw no row of the same person."""
    fold = _folds(task.table.person, recipe)
    scores = np.empty(len(task.labels))
    for number in range(recipe.folds):
        held = fold == number
        if held.any():
            booster = _fit(task.take(~held), recipe)
            scores[held] = _predict(booster, task.rows[held], recipe.trees)
    return scores


def _folds(person: NDArray[np.str_], recipe: Recipe) -> NDArray[np.int64]:
    """A fold for each row: by hash of the person, by chance where nobody is known."""
    chance = np.random.default_rng(recipe.seed).integers(recipe.folds, size=len(person))
    names, which = np.unique(person, return_inverse=True)
    hashed = np.array([crc32(f"{recipe.seed}/{name}".encode()) for name in names]) % recipe.folds
    return np.where(person == "", chance, hashed[which])


def _fit(
    task: Task, recipe: Recipe, later: Task | None = None, progress: Progress = lambda _: None
) -> lgb.Booster:
    dataset, settings = _dataset(task), _settings(task.role, recipe)
    if later is None:
        return lgb.train(settings, dataset, recipe.trees)
    callbacks: list[Callable[..., Any]] = [
        lgb.early_stopping(recipe.patience, verbose=False),
        _saying(task.role, progress),
    ]
    watched = [_dataset(later, reference=dataset)]
    return lgb.train(settings, dataset, recipe.trees, valid_sets=watched, callbacks=callbacks)


def _saying(role: Role, progress: Progress) -> Callable[[Any], None]:
    """Says now and then how far training came."""

    def say(step: Any) -> None:
        if (step.iteration + 1) % SAY_EVERY == 0:
            loss = step.evaluation_result_list[0][2]
            progress(f"{role}: tree {step.iteration + 1}, log loss {loss:.6g}")

    return say


def _dataset(task: Task, reference: lgb.Dataset | None = None) -> lgb.Dataset:
    return lgb.Dataset(
        task.rows,
        task.labels.astype(np.float32),
        weight=task.table.weight,
        feature_name=list(features.NAMES),
        categorical_feature=list(features.CATEGORICAL),
        reference=reference,
        params={"verbosity": -1, "feature_pre_filter": False},
        free_raw_data=True,
    )


def _settings(role: Role, recipe: Recipe) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "objective": "cross_entropy",  # as binary, and labels may lie between 0 and 1
        "metric": "cross_entropy",
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
    scores: dict[manifest.Calibrated, list[float]] = {}
    for role, one in learnt.items():
        raw = _scores(one, rows).tolist()
        scores[role] = [Calibration(one.knots.scores, one.knots.rates).apply(s) for s in raw]
        if one.view is not None:
            view = Calibration(one.view.scores, one.view.rates)
            scores[manifest.VIEW] = [view.apply(score) for score in raw]
    return [
        manifest.Probe(row.tolist(), {role: scores[role][index] for role in scores})
        for index, row in enumerate(rows)
    ]


def _shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())


def load(path: Path, negatives: float = 1.0) -> Table:
    """The rows of a dataset folder, or of one Parquet file. Raises `TableError`, `OSError`."""
    if path.is_dir():
        return tables.read_dataset(row_files(path), as_of(path), negatives)
    return tables.read(path)


def main() -> None:
    """Train from a dataset, or a Parquet table, and write the model directory."""
    default = Recipe()
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "table", type=Path, help="folder of models.dataset, or Parquet of models.table"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--hold-out", type=float, default=0.15, help="newest share of the rows kept for judging"
    )
    parser.add_argument(
        "--negatives", type=float, default=1.0, help="share kept of rows without click or sale"
    )
    for name, value in asdict(default).items():
        option = f"--{name.replace('_', '-')}"
        if name == "unused":
            parser.add_argument(option, nargs="*", default=value, choices=features.NAMES)
        else:
            parser.add_argument(option, type=type(value), default=value)
    given = vars(parser.parse_args())
    path, out, negatives = given.pop("table"), given.pop("out"), given.pop("negatives")
    held = given.pop("hold_out")
    recipe = Recipe(**given | {"unused": tuple(given["unused"])})
    try:
        table = load(path, negatives)
        table = table.take(slice(int(len(table) * (1 - held))))
        learnt = train(table, recipe, print)
    except (tables.TableError, TrainingError, OSError) as error:
        raise SystemExit(f"{error}") from None
    about = save(learnt, out, table, recipe, source=str(path), created=datetime.now(UTC))
    print(f"{out}: model {about.version}")


if __name__ == "__main__":
    main()
