"""How intrusive do people say that ads are? Fits `config/intrusiveness.yaml` to a survey.

    python -m models.intrusiveness fit SURVEY.csv --out config/intrusiveness.yaml --plot fit.png
    python -m models.intrusiveness simulate SURVEY.csv --answers 3000

A row of the survey is one ad judged by one person. Columns: `item_1` to `item_7`, the scale of Li,
Edwards and Lee 2002 (distracting, disturbing, forced, interfering, intrusive, invasive, obtrusive;
1 to 7 each); `seen_hour`, `seen_day`, `seen_week`, how many ads of the advertiser the person was
shown or sent in the last hour, 24 hours and 7 days, each count including the one before;
`relevance`, 0..1, as `bidder.capping.Judge` has it; `specificity`, 0..1; and if wished
`respondent`, where people judged several ads, and `fewer_ads`, 0 or 1.

Fitted by least squares of the mean item (scaled to 0..1) on the logistic formula, with standard
errors robust to heteroscedasticity and clustered by respondent (White 1980; Liang and Zeger 1986).
Counts do not say when within its window an ad was seen: they are placed evenly. That is too coarse
for `bunching_half_life_hours`, which is left as it is; so is what no survey column varies.
"""

import argparse
import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from bidder.capping import Parameters, intrusiveness, load_parameters

Floats = NDArray[np.float64]

ITEMS = 7
LEAST_ROWS = 50
WINDOWS = ((0.0, 1.0, "seen_hour"), (1.0, 24.0, "seen_day"), (24.0, 168.0, "seen_week"))
"""Between how many hours ago the exposures lie that each count adds to the one before."""
FITTED = ("base", "repetition", "bunching", "specificity", "relevance", "fewer_ads",
          "repetition_half_life_hours")  # fmt: skip
WEIGHTS = ("repetition", "bunching", "specificity", "relevance", "fewer_ads")
CONFIDENCE = 1.96
"""Standard errors each way: 95 %."""
CONFIG = Path("config/intrusiveness.yaml")


@dataclass(frozen=True)
class Survey:
    """Answers as columns, one row an ad judged by a person."""

    felt: Floats
    """0..1: the mean of the items, 1 as 0 and 7 as 1."""
    ages: Floats
    """Hours since each exposure, latest first, infinite where there is none: (rows, most)."""
    relevance: Floats
    specificity: Floats
    fewer_ads: Floats
    respondent: NDArray[np.int64]

    @property
    def gaps(self) -> Floats:
        """Hours from each exposure to the next, the last one's to the question."""
        before = np.concatenate([np.zeros((len(self.ages), 1)), self.ages[:, :-1]], axis=1)
        return np.where(
            np.isinf(self.ages), np.inf, self.ages - np.where(np.isinf(before), 0, before)
        )


@dataclass(frozen=True)
class Fitted:
    """One parameter: its value and the 95 % confidence interval."""

    name: str
    value: float
    low: float
    high: float


def read(path: Path) -> Survey:
    """The survey in a CSV file. Raises `ValueError` that names the line and what is wrong in it."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [_row(number, row) for number, row in enumerate(csv.DictReader(file), 2)]
    if len(rows) < LEAST_ROWS:
        raise ValueError(f"{path}: {len(rows)} rows; a fit needs at least {LEAST_ROWS}")
    return _columns(rows)


def _row(number: int, row: dict[str, str]) -> tuple[float, list[float], list[float], str]:
    try:
        items = [float(row[f"item_{item}"]) for item in range(1, ITEMS + 1)]
        counts = [int(row[name]) for _, _, name in WINDOWS]
        shares = [
            float(row["relevance"]),
            float(row["specificity"]),
            float(row.get("fewer_ads") or 0),
        ]
    except (KeyError, TypeError, ValueError) as problem:
        raise ValueError(f"line {number}: {problem!r}") from None
    if not all(1 <= item <= ITEMS for item in items):
        raise ValueError(f"line {number}: an item is outside 1..7")
    if counts != sorted(counts) or counts[0] < 0:
        raise ValueError(f"line {number}: a longer window counts fewer ads than a shorter one")
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"line {number}: relevance, specificity or fewer_ads is outside 0..1")
    felt = (sum(items) / ITEMS - 1) / 6
    return felt, placed(counts), shares, row.get("respondent") or f"line {number}"


def placed(counts: Sequence[int]) -> list[float]:
    """Hours since each exposure, latest first: those of a window lie evenly in it."""
    ages: list[float] = []
    before = 0
    for (start, end, _), count in zip(WINDOWS, counts, strict=True):
        many = count - before
        ages += [start + (end - start) * (place + 0.5) / many for place in range(many)]
        before = count
    return ages


def _columns(rows: Sequence[tuple[float, list[float], list[float], str]]) -> Survey:
    most = max(max(len(ages) for _, ages, _, _ in rows), 1)
    ages = np.full((len(rows), most), np.inf)
    for place, (_, found, _, _) in enumerate(rows):
        ages[place, : len(found)] = found
    shares = np.array([row[2] for row in rows])
    people = {name: place for place, name in enumerate(dict.fromkeys(row[3] for row in rows))}
    return Survey(
        felt=np.array([row[0] for row in rows]),
        ages=ages,
        relevance=shares[:, 0],
        specificity=shares[:, 1],
        fewer_ads=shares[:, 2],
        respondent=np.array([people[row[3]] for row in rows]),
    )


def fit(survey: Survey, start: Parameters) -> list[Fitted]:
    """The parameters that the survey tells, from `start`; those it cannot tell are not among them.

    A half-life is fitted, and its interval built, on the scale of its logarithm.
    """
    names = [name for name in FITTED if name != "fewer_ads" or np.ptp(survey.fewer_ads) > 0]
    first = np.array([_inward(name, getattr(start, name)) for name in names])

    def residuals(values: Floats) -> Floats:
        return predicted(survey, _with(start, names, values)) - survey.felt

    found = least_squares(residuals, first, method="lm")
    errors = _standard_errors(found.jac, found.fun, survey.respondent)
    return [
        Fitted(
            name,
            _outward(name, value),
            _outward(name, value - CONFIDENCE * error),
            _outward(name, value + CONFIDENCE * error),
        )
        for name, value, error in zip(names, found.x, errors, strict=True)
    ]


def predicted(survey: Survey, given: Parameters) -> Floats:
    """What the formula says of each row: `bidder.capping.intrusiveness`, all rows at once."""
    weights = np.exp2(-survey.ages / given.repetition_half_life_hours)
    repetition = weights.sum(axis=1)
    bunching = (weights * np.exp2(-survey.gaps / given.bunching_half_life_hours)).sum(axis=1)
    odds = (
        given.base
        + given.repetition * np.log1p(repetition)
        + given.bunching * np.log1p(bunching)
        + given.specificity * survey.specificity
        - given.relevance * survey.relevance
        + given.fewer_ads * survey.fewer_ads
    )
    return np.asarray(1 / (1 + np.exp(-odds)))


def _standard_errors(jacobian: Floats, residuals: Floats, cluster: NDArray[np.int64]) -> Floats:
    """Sandwich: (J'J)^-1 (sum over clusters of J'r r'J) (J'J)^-1."""
    bread = np.linalg.pinv(jacobian.T @ jacobian)
    scores = np.zeros((int(cluster.max()) + 1, jacobian.shape[1]))
    np.add.at(scores, cluster, jacobian * residuals[:, None])
    return np.asarray(np.sqrt(np.diag(bread @ (scores.T @ scores) @ bread)))


def _inward(name: str, value: float) -> float:
    return float(np.log(value)) if name.endswith("_hours") else value


def _outward(name: str, value: float) -> float:
    return float(np.exp(value)) if name.endswith("_hours") else float(value)


def _with(given: Parameters, names: Iterable[str], values: Floats) -> Parameters:
    changed: dict[str, Any] = {
        name: _outward(name, value) for name, value in zip(names, values, strict=True)
    }
    return given._replace(**changed)


def against_research(fitted: Iterable[Fitted]) -> list[str]:
    """The weights whose sign is not the one that the research found: do not use such a fit."""
    return [each.name for each in fitted if each.name in WEIGHTS and each.value < 0]


def simulate(given: Parameters, answers: int, seed: int) -> list[dict[str, object]]:
    """Rows of a survey among people who feel by the formula, each judging three ads.

    Their items scatter round what they feel, and people differ in how they use the scale.
    """
    random = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    lean = 0.0
    for number in range(answers):
        if number % 3 == 0:
            lean = random.normal(0, 0.5)
        counts = np.cumsum(random.poisson(random.gamma(0.7, (0.9, 3.0, 6.0)))).tolist()
        relevance, specificity = random.random(), random.choice((0.0, 0.4, 1.0))
        wish = bool(random.random() < 0.1)
        times = sorted(-round(3600 * age) for age in placed(counts))
        felt = intrusiveness(times, 0, relevance, specificity, given, fewer_ads=wish)
        items = np.clip(np.round(1 + 6 * felt + lean + random.normal(0, 1.0, ITEMS)), 1, 7)
        rows.append(
            {
                "respondent": number // 3,
                **{f"item_{place + 1}": int(item) for place, item in enumerate(items)},
                **{name: count for (_, _, name), count in zip(WINDOWS, counts, strict=True)},
                "relevance": round(float(relevance), 3),
                "specificity": specificity,
                "fewer_ads": int(wish),
            }
        )
    return rows


def written(template: str, fitted: Iterable[Fitted], source: str) -> str:
    """The YAML with the fitted values in it, each with its interval and where it is from."""
    text = re.sub(r"(?m)^calibrated: .*$", "calibrated: true", template)
    for each in fitted:
        line = (
            f'{each.name}: {{value: {each.value:.4g}, source: "fitted to {source}; '
            f'95 % confidence {each.low:.4g} to {each.high:.4g}"}}'
        )
        text, many = re.subn(rf"(?m)^{each.name}: .*$", line, text)
        if many != 1:
            raise ValueError(f"the template has {many} lines for {each.name}")
    return text


def plot(survey: Survey, given: Parameters, fitted: Sequence[Fitted], path: Path) -> None:
    """What was answered and what the formula says, by repetition; and the intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    said = predicted(survey, given)
    repetition = np.exp2(-survey.ages / given.repetition_half_life_hours).sum(axis=1)
    edges = np.quantile(repetition, np.linspace(0, 1, 9))
    bins = np.clip(np.searchsorted(edges, repetition, "right") - 1, 0, len(edges) - 2)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for share, name, colour in ((survey.relevance >= 0.5, "relevant", "tab:blue"),
                                (survey.relevance < 0.5, "not relevant", "tab:red")):  # fmt: skip
        places = [b for b in range(len(edges) - 1) if np.any(share & (bins == b))]
        at = [repetition[share & (bins == b)].mean() for b in places]
        left.plot(at, [survey.felt[share & (bins == b)].mean() for b in places], "o",
                  color=colour, label=f"{name}: answered")  # fmt: skip
        left.plot(at, [said[share & (bins == b)].mean() for b in places], color=colour,
                  label=f"{name}: fitted")  # fmt: skip
    left.set(xlabel="exposures, recent ones weighing more", ylabel="perceived intrusiveness")
    left.legend()
    shown = [each for each in fitted if not each.name.endswith("_hours")]
    middle = [each.value for each in shown]
    spread = [[each.value - each.low for each in shown], [each.high - each.value for each in shown]]
    right.errorbar(middle, range(len(shown)), xerr=spread, fmt="o", capsize=4)
    right.set_yticks(range(len(shown)), [each.name for each in shown])
    right.axvline(0, color="grey", linewidth=0.8)
    right.set(xlabel="weight on the log-odds, 95 % confidence")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """The commands `fit` and `simulate`."""
    parser = argparse.ArgumentParser(prog="python -m models.intrusiveness", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="fit the parameters to a survey")
    fitting.add_argument("survey", type=Path)
    fitting.add_argument("--start", type=Path, default=CONFIG, help="the parameters in use")
    fitting.add_argument("--out", type=Path, help="where to write the fitted YAML")
    fitting.add_argument("--plot", type=Path, default=Path("build/intrusiveness.png"))
    making = commands.add_parser("simulate", help="make a survey of known parameters")
    making.add_argument("survey", type=Path)
    making.add_argument("--start", type=Path, default=CONFIG)
    making.add_argument("--answers", type=int, default=3000)
    making.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    if given.command == "simulate":
        rows = simulate(load_parameters(given.start), given.answers, given.seed)
        with given.survey.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return
    try:
        survey = read(given.survey)
    except (ValueError, OSError) as problem:
        raise SystemExit(f"{given.survey}: {problem}") from None
    start = load_parameters(given.start)
    fitted = fit(survey, start)
    for each in fitted:
        print(f"{each.name:<28}{each.value:8.3f}   95 % {each.low:8.3f} to {each.high:8.3f}")
    found: dict[str, Any] = {each.name: each.value for each in fitted}
    best = start._replace(**found)
    plot(survey, best, fitted, given.plot)
    print(f"plot: {given.plot}")
    if wrong := against_research(fitted):
        raise SystemExit(f"not written: the sign is against the research for {', '.join(wrong)}")
    if given.out is not None:
        people = len(np.unique(survey.respondent))
        source = f"{given.survey.name}, {len(survey.felt)} answers of {people} people"
        given.out.write_text(written(given.start.read_text(), fitted, source))
        print(f"parameters: {given.out}")


if __name__ == "__main__":
    main()
