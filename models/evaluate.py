"""How good are predicted probabilities on rows the model has not seen, and is one model better?

    python -m models.evaluate build/dataset --challenger DIR --champion DIR --out build/evaluation

Judged are the rows younger than all that either was trained on. Writes `evaluation.json`, which
`models.promote` reads, and `evaluation.html`, one page with its pictures.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from bidder.scoring import features, manifest
from bidder.scoring.manifest import Role
from bidder.scoring.model import ModelError
from models import judge
from models.delays import Delays
from models.table import Flags, Floats, Table, TableError

BINS = 10
HALF_COME = 0.5
"""Clicks of which fewer of the sales have come tell too little of them."""
LEAST_POSITIVES = 10
"""Fewer tell nothing of a role."""


class NothingToJudge(ValueError):
    """No rows are younger than what the models were trained on."""


def quality(labels: Flags, predicted: Floats, weights: Floats) -> dict[str, float]:
    """`rows`, `positives`, `rate`, `calibration`, and, with both labels present, the rest.

    `calibration` is predicted over observed: 1 is right on average. `normalised_entropy` is log
    loss over that of always saying the average rate (He et al. 2014): below 1 is better than that.
    """
    positives = float(labels.sum())
    rate = float(np.average(labels, weights=weights))
    found = {"rows": float(len(labels)), "positives": positives, "rate": rate}
    if 0 < positives < len(labels):
        loss = float(log_loss(labels, predicted, sample_weight=weights))
        entropy = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
        found["auc"] = float(roc_auc_score(labels, predicted, sample_weight=weights))
        found["log_loss"] = loss
        found["normalised_entropy"] = float(loss / entropy)
        found["calibration"] = float(np.average(predicted, weights=weights) / rate)
    return found


@dataclass(frozen=True, slots=True)
class Trial:
    """One role of one model before the rows it is judged by."""

    table: Table
    labels: Flags
    said: Floats

    @property
    def weights(self) -> Floats:
        """How many impressions each row stands for."""
        return self.table.weight


def evaluate(
    table: Table, challenger: Path, champion: Path | None, delays: Delays, before: Table
) -> dict[str, Any]:
    """All figures, as plain JSON. `before`: rows of the period before, for drift.

    Raises `ModelError`; `NothingToJudge` if `table` is empty.
    """
    if not len(table):
        raise NothingToJudge("no rows are younger than what the models were trained on")
    models = {"challenger": challenger} | ({"champion": champion} if champion else {})
    said = {name: judge.scores(directory, table) for name, directory in models.items()}
    about = {name: manifest.read(directory.resolve()) for name, directory in models.items()}
    found: dict[str, Any] = {
        "rows": len(table),
        "first": float(table.time.min()),
        "last": float(table.time.max()),
        "models": {name: one.version for name, one in about.items()},
        "importance": about["challenger"].importance,
        "drift": drift(before, table),
        "surplus": _surpluses(table, said),
    }
    for role in manifest.ROLES:
        trials = {name: trial(role, table, scores[role], delays) for name, scores in said.items()}
        found[role] = {name: _figures(one) for name, one in trials.items()}
        if champion and found[role]["challenger"]["positives"] >= LEAST_POSITIVES:
            found[role]["difference"] = _difference(trials["challenger"], trials["champion"])
    return found


def trial(role: Role, table: Table, said: Floats, delays: Delays) -> Trial:
    """The rows that tell of a role: all for the click, clicks old enough for the sale.

    Of a click whose sale may still come, what is judged is the chance that it has come by now.
    """
    if role == "click":
        return Trial(table, table.click, said)
    come = delays.share(table.elapsed)
    old = table.click & (come >= HALF_COME)
    return Trial(table.take(old), table.conversion[old], (said * come)[old])


def drift(before: Table, after: Table) -> dict[str, float]:
    """Feature -> how far its distribution has moved (`judge.psi`), the farthest first."""
    if not len(before):
        return {}
    moved = {
        name: judge.psi(before.rows[:, column], after.rows[:, column])
        for column, name in enumerate(features.NAMES)
    }
    return dict(sorted(moved.items(), key=lambda pair: -pair[1]))


def surplus(table: Table, said: dict[Role, Floats]) -> Floats:
    """What each impression would have brought, less its price, had this model bid; 0 if it had not.

    The impressions are those that were won, each at what was paid, and bought again by a model that
    values it above that. A sale is worth what the bidder took it to be worth, a click where its
    line item paid for clicks. Only won impressions are known, so it flatters whoever bids like the
    model that won them: read it beside the log loss.
    """
    sales = table.p_click * table.p_conversion + table.p_view
    per_sale = np.divide(
        table.value_cpm, 1000 * sales, out=np.zeros(len(table)), where=sales > 0
    )  # fmt: skip
    per_click = np.divide(
        table.value_cpm, 1000 * table.p_click,
        out=np.zeros(len(table)), where=(table.p_click > 0) & (sales == 0),
    )  # fmt: skip
    value = said["click"] * (per_click + said["conversion"] * per_sale)
    brought = table.click * per_click + table.conversion * per_sale
    bought = (value > 0) & (1000 * value >= table.paid_cpm)
    found: Floats = np.where(bought, brought - table.paid_cpm / 1000, 0.0)
    return found


def _surpluses(table: Table, said: dict[str, dict[Role, Floats]]) -> dict[str, Any]:
    each = {name: surplus(table, scores) * table.weight for name, scores in said.items()}
    found: dict[str, Any] = {name: float(one.sum()) for name, one in each.items()}
    if len(each) == 2:
        gain = each["challenger"] - each["champion"]
        found["difference"] = float(gain.sum())
        found["difference_interval"] = judge.interval(
            table.person, lambda times: float((times * gain).sum())
        )
    return found


def _figures(one: Trial) -> dict[str, Any]:
    """The figures of one model, alone."""
    weights, labels = one.weights, one.labels.astype(np.float64)
    if not len(labels):
        return {"rows": 0.0, "positives": 0.0}
    found: dict[str, Any] = dict(quality(one.labels, one.said, weights))
    if found["positives"] < LEAST_POSITIVES:
        return found

    def calibration(times: Floats) -> float:
        observed = float((times * weights * labels).sum())
        return float((times * weights * one.said).sum()) / observed if observed else float("nan")

    person = one.table.person
    found["auc_interval"] = judge.interval(
        person, lambda times: judge.auc(labels, one.said, times * weights)
    )
    found["calibration_interval"] = judge.interval(person, calibration)
    found["by_line_item"] = _by(one, one.table.line_item.tolist())
    hours = one.table.rows[:, features.NAMES.index("hour")].astype(int)
    found["by_hour"] = _by(one, [f"{hour:02d}" for hour in hours.tolist()])
    found["reliability"] = _reliability(one)
    return found


def _by(one: Trial, keys: list[str]) -> dict[str, dict[str, float]]:
    """Predicted and observed positives of each group, and by how many standard errors they part."""
    names, which = np.unique(keys, return_inverse=True)
    sums = {
        "rows": np.bincount(which),
        "predicted": np.bincount(which, one.weights * one.said),
        "observed": np.bincount(which, one.weights * one.labels),
        "variance": np.bincount(which, one.weights**2 * one.said * (1 - one.said)),
    }
    found = {}
    for place, name in enumerate(names.tolist()):
        row = {key: float(values[place]) for key, values in sums.items()}
        spread = row.pop("variance") ** 0.5
        row["errors"] = (row["observed"] - row["predicted"]) / spread if spread else 0.0
        found[name] = row
    return found


def _reliability(one: Trial) -> list[dict[str, float]]:
    """Rows in bins of equal weight by what was said: what was said, and what came."""
    order = np.argsort(one.said, kind="stable")
    reached = np.cumsum(one.weights[order]) / one.weights.sum()
    bins = np.minimum((reached * BINS).astype(int), BINS - 1)
    found = []
    for number in range(BINS):
        inside = order[bins == number]
        if len(inside):
            weights = one.weights[inside]
            rate = float(np.average(one.labels[inside], weights=weights))
            size = float(weights.sum() ** 2 / (weights**2).sum())
            found.append({
                "said": float(np.average(one.said[inside], weights=weights)),
                "came": rate,
                "error": (rate * (1 - rate) / size) ** 0.5,
                "rows": float(len(inside)),
            })  # fmt: skip
    return found


def _difference(challenger: Trial, champion: Trial) -> dict[str, Any]:
    """Challenger less champion, row by row the same: below 0 is better in log loss."""
    labels, weights = challenger.labels.astype(np.float64), challenger.weights
    person = challenger.table.person
    gap = judge.log_loss(labels, challenger.said) - judge.log_loss(labels, champion.said)

    def mean(times: Floats) -> float:
        return float((times * weights * gap).sum() / (times * weights).sum())

    def aucs(times: Floats) -> float:
        drawn = times * weights
        return judge.auc(labels, challenger.said, drawn) - judge.auc(labels, champion.said, drawn)

    once = np.ones(len(labels))
    return {
        "log_loss": mean(once),
        "log_loss_interval": judge.interval(person, mean),
        "auc": aucs(once),
        "auc_interval": judge.interval(person, aucs),
    }


def unseen(table: Table, *directories: Path | None) -> tuple[Table, Table]:
    """The rows younger than all that these models were trained on, and those before them."""
    last = max(manifest.read(d.resolve()).trained_on.last for d in directories if d is not None)
    return table.take(table.time > last), table.take(table.time <= last)


def main() -> None:
    """Judge a challenger, beside a champion if there is one."""
    from models.evaluate_page import page
    from models.train import delays_of, load

    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("table", type=Path, help="folder of models.dataset, or Parquet")
    parser.add_argument("--challenger", type=Path, required=True, metavar="DIR")
    parser.add_argument("--champion", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("build/evaluation"), metavar="DIR")
    given = parser.parse_args()
    try:
        table = load(given.table)
        late = delays_of(table.take(table.click))
        young, old = unseen(table, given.challenger, given.champion)
        found = evaluate(young, given.challenger, given.champion, late, old)
    except (ModelError, TableError, NothingToJudge, OSError) as error:
        raise SystemExit(str(error)) from None
    given.out.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(found), indent=1)
    (given.out / "evaluation.json").write_bytes(text)
    (given.out / "evaluation.html").write_text(page(found))
    for role in manifest.ROLES:
        for name, figures in found[role].items():
            plain = {k: v for k, v in figures.items() if not isinstance(v, list | tuple | dict)}
            print(role, name, ", ".join(f"{k} {v:.5g}" for k, v in plain.items()))
    print(given.out / "evaluation.html")


if __name__ == "__main__":
    main()
