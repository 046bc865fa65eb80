"""Does what we do for clicks work on real impressions? Train and judge on iPinYou.

    python -m models.ipinyou --data DIR --json build/ipinyou.json
    python -m models.ipinyou --data DIR --test FILE --json OUT

Without `--test`: five folds by hash of the bid id, out-of-fold predictions pooled. With it: trained
on all of DIR but the bid ids of FILE, tested on FILE. DIR holds `impressions.csv.gz` or original
logs (`imp.*` with `clk.*` beside them); FILE is either.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from models.ipinyou import encoding, judging, learning
from models.ipinyou.learning import Recipe
from models.ipinyou.loading import ImpressionError, Impressions, read
from models.table import Flags

FOLDS = 5
SAMPLED = "impressions.csv.gz"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, learn, judge, print, write."""
    parser = argparse.ArgumentParser(prog="python -m models.ipinyou", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, required=True, help="folder or file")
    parser.add_argument("--test", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="OUT")
    default = Recipe()
    parser.add_argument("--trees", type=int, default=default.trees)
    parser.add_argument("--threads", type=int, default=default.threads)
    given = parser.parse_args(arguments)
    recipe = Recipe(trees=given.trees, threads=given.threads)
    try:
        train = read(_training(given.data))
        rates = source_rates(given.data)
        result = (
            tested(train, read(given.test), rates, recipe)
            if given.test
            else cross_validated(train, rates, recipe)
        )
    except (ImpressionError, learning.LearningError) as error:
        raise SystemExit(f"{error}") from None
    print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))


def cross_validated(
    impressions: Impressions, rates: dict[str, float], recipe: Recipe
) -> dict[str, Any]:
    """Figures of out-of-fold predictions, pooled. Raises `LearningError`."""
    fold = encoding.fold(impressions.columns["bidid"], FOLDS)
    click, names = impressions.click, impressions.columns["advertiser"]
    found = learning.crossed(lambda m: _rows(impressions, m), click, fold, recipe, print)
    weight = judging.weights(click, names, rates)
    ours = judging.calibrated(found.ours, click, weight, names, fold)
    linear = judging.calibrated(found.linear, click, weight, names, fold)
    return {"folds": FOLDS} | judging.report(impressions, ours, linear, weight)


def tested(
    train: Impressions, test: Impressions, rates: dict[str, float], recipe: Recipe
) -> dict[str, Any]:
    """Figures on `test` of what `train` taught, none of whose bid ids are in `test`."""
    shared = np.isin(train.columns["bidid"].astype(str), test.columns["bidid"].astype(str))
    train = _taken(train, ~shared)
    click, names = train.click, train.columns["advertiser"]
    everything = np.ones(len(train), bool)
    mine = _rows(train, everything)
    fold = encoding.fold(train.columns["bidid"], FOLDS)
    out = learning.crossed(lambda m: _rows(train, m), click, fold, recipe, print)
    found = learning.scores(mine, click, _rows(test, np.ones(len(test), bool)), recipe)
    weight = judging.weights(click, names, rates)
    tests = test.columns["advertiser"]
    ours = judging.applied((out.ours, click, weight, names), found.ours, tests)
    linear = judging.applied((out.linear, click, weight, names), found.linear, tests)
    figures = judging.report(test, ours, linear, judging.weights(test.click, tests, rates))
    return {"trained_on": len(train), "left_out_as_in_test": int(shared.sum())} | figures


def source_rates(data: Path) -> dict[str, float]:
    """Clicks per impression of each advertiser where `<advertiser>.prices.json` tell; else none."""
    rates = {}
    for path in sorted((data if data.is_dir() else data.parent).glob("*.prices.json")):
        try:
            told = json.loads(path.read_text())
            rate = told["clk_train"] / told["imp_train"]
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            raise ImpressionError(f"{path}: no clk_train and imp_train ({error})") from None
        if 0 < rate < 1:
            rates[path.name.split(".")[0]] = rate
    return rates


def _training(data: Path) -> Path:
    sampled = data / SAMPLED
    return sampled if data.is_dir() and sampled.exists() else data


def _rows(impressions: Impressions, mask: Flags) -> encoding.Rows:
    return encoding.rows(_taken(impressions, mask))


def _taken(impressions: Impressions, mask: Flags) -> Impressions:
    places = np.flatnonzero(mask).tolist()
    return Impressions(
        {name: column[mask] for name, column in impressions.columns.items()},
        [impressions.tags[place] for place in places],
        impressions.tag_counts[mask],
        impressions.click[mask],
        impressions.intact[mask],
    )


if __name__ == "__main__":
    main()
