"""How is a click predicted? By trees over encoded rates, with and without a linear model.

He et al. 2014: trees with a linear model beat either alone. The linear model sees every word; its
out-of-fold score is a feature of half of the trees, the other half do without, and both halves are
averaged in log-odds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from models.ipinyou import encoding
from models.ipinyou.encoding import Rows
from models.table import Flags, Floats


class LearningError(ValueError):
    """Impressions that cannot make a model; the message says why."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to learn. The same recipe, rows and libraries give the same scores."""

    trees: int = 150
    leaves: int = 23
    learning_rate: float = 0.04
    rows_per_leaf: int = 30
    seeds: int = 3
    linear_c: float = 0.3
    """Inverse strength of the linear model's L2 penalty."""
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities of a click among rows sampled as those trained on, by each model."""

    ours: Floats
    linear: Floats


def scores(train: Rows, click: Flags, other: Rows, recipe: Recipe) -> Scores:
    """Learn from `train`, score `other`. Raises `LearningError` where too few rows have a click."""
    if click.sum() < 2 * encoding.INNER or click.all():
        raise LearningError(f"{click.sum()} clicks on {len(click)} impressions: too few to learn")
    ours, theirs = encoding.dense(train, click, other)
    columns = encoding.common_tags(train)
    ours = np.column_stack((ours, encoding.matrix(train.words, columns).toarray()))
    theirs = np.column_stack((theirs, encoding.matrix(other.words, columns).toarray()))
    inside, linear = _linear(train, click, other, recipe)
    total = np.zeros(len(other))
    for own, others in (
        (ours, theirs),
        (np.column_stack((ours, inside)), np.column_stack((theirs, linear))),
    ):
        for seed in range(recipe.seeds):
            dataset = lgb.Dataset(own, click.astype(np.float32), params={"verbosity": -1})
            booster = lgb.train(_settings(recipe, seed), dataset, recipe.trees)
            total += np.asarray(booster.predict(others, raw_score=True))
    return Scores(_probability(total / (2 * recipe.seeds)), _probability(linear))


def crossed(
    rows: Callable[[Flags], Rows],
    click: Flags,
    fold: Any,
    recipe: Recipe,
    progress: Callable[[str], None],
) -> Scores:
    """Scores of every row by models that saw no row of its fold. `rows` gives those of a mask."""
    found = Scores(np.empty(len(click)), np.empty(len(click)))
    for number in np.unique(fold).tolist():
        held = fold == number
        out = scores(rows(~held), click[~held], rows(held), recipe)
        found.ours[held], found.linear[held] = out.ours, out.linear
        progress(f"fold {number}: {held.sum()} impressions scored by what {(~held).sum()} taught")
    return found


def _linear(train: Rows, click: Flags, other: Rows, recipe: Recipe) -> tuple[Floats, Floats]:
    """Log-odds by the linear model: out of inner folds for `train`, and for `other`."""
    columns = encoding.vocabulary(train.words)
    mine, theirs = encoding.matrix(train.words, columns), encoding.matrix(other.words, columns)

    def fit(use: Any) -> LogisticRegression:
        return LogisticRegression(C=recipe.linear_c, max_iter=400).fit(mine[use], click[use])

    inside = np.zeros(len(train))
    # Threads of BLAS gain nothing on vectors this short, and on a busy machine wait for each other.
    with threadpool_limits(1):
        for number in range(encoding.INNER):
            held = train.fold == number
            if held.any():
                inside[held] = fit(~held).decision_function(mine[held])
        outside: Floats = fit(slice(None)).decision_function(theirs)
    return inside, outside


def _settings(recipe: Recipe, seed: int) -> dict[str, Any]:
    return {
        "objective": "binary",
        "num_leaves": recipe.leaves,
        "learning_rate": recipe.learning_rate,
        "min_data_in_leaf": recipe.rows_per_leaf,
        "lambda_l2": 5.0,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "seed": seed,
        "num_threads": recipe.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _probability(odds: Floats) -> Floats:
    probability: Floats = 1 / (1 + np.exp(-odds))
    return probability
