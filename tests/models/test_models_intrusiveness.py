"""Does a fit find the parameters that a survey was made with?"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bidder.capping import intrusiveness, load_parameters
from models.intrusiveness import (
    Fitted,
    Survey,
    against_research,
    fit,
    main,
    placed,
    predicted,
    read,
    simulate,
    written,
)

CONFIG = Path(__file__).parents[2] / "config/intrusiveness.yaml"
ASSUMED = load_parameters(CONFIG)
TRUE = ASSUMED._replace(
    base=-1.9, repetition=1.3, bunching=0.9, specificity=0.7, relevance=1.5, fewer_ads=1.0,
    repetition_half_life_hours=36.0,
)  # fmt: skip


def saved(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def survey(felt: list[float], **columns: Any) -> Survey:
    many = len(felt)
    zeros = np.zeros(many)
    fields = {"ages": np.full((many, 1), np.inf), "relevance": zeros, "specificity": zeros,
              "fewer_ads": zeros, "respondent": np.arange(many), **columns}  # fmt: skip
    return Survey(felt=np.array(felt), **fields)


def test_known_parameters_are_recovered(tmp_path: Path) -> None:
    """From other starting values, of 6,000 answers; items are rounded, clipped and noisy."""
    answers = read(saved(tmp_path / "survey.csv", simulate(TRUE, 6000, seed=7)))
    fitted = {each.name: each for each in fit(answers, ASSUMED)}
    assert len(fitted) == 7
    for name, each in fitted.items():
        true = getattr(TRUE, name)
        assert each.low < each.value < each.high
        if name == "repetition_half_life_hours":
            assert each.value == pytest.approx(true, rel=0.35)
        else:
            assert each.value == pytest.approx(true, abs=0.3)
    best = ASSUMED._replace(**{name: each.value for name, each in fitted.items()})
    assert np.abs(predicted(answers, best) - predicted(answers, TRUE)).mean() < 0.02


def test_the_intervals_cover_what_they_promise() -> None:
    """Without rounding and clipping, 95 % intervals hold the truth about 19 times in 20."""
    random = np.random.default_rng(3)
    inside = []
    for _ in range(40):
        many = 300
        ages = np.sort(random.uniform(0, 168, (many, 6)), axis=1)
        columns = {"ages": ages, "relevance": random.random(many),
                   "specificity": random.random(many),
                   "fewer_ads": (random.random(many) < 0.2).astype(float)}  # fmt: skip
        made = survey([0.0] * many, **columns)
        noise = random.normal(0, 0.05, many) * (0.5 + columns["relevance"])
        felt = predicted(made, TRUE) + noise
        found = fit(survey(felt.tolist(), **columns), ASSUMED)
        inside += [each.low <= getattr(TRUE, each.name) <= each.high for each in found]
    assert 0.90 <= np.mean(inside) <= 0.99


def test_the_fit_uses_the_formula_of_the_bidder() -> None:
    counts = [2, 5, 9]
    ages = placed(counts)
    assert ages[:2] == [0.25, 0.75]
    assert [1 < age < 24 for age in ages] == [False, False, True, True, True, *[False] * 4]
    row = survey([0.0], ages=np.array([ages]), relevance=np.array([0.2]),
                 specificity=np.array([0.4]), fewer_ads=np.array([1.0]))  # fmt: skip
    times = sorted(-round(3600 * age) for age in ages)
    expected = intrusiveness(times, 0, 0.2, 0.4, TRUE, fewer_ads=True)
    assert predicted(row, TRUE)[0] == pytest.approx(expected, abs=1e-3)


def test_what_does_not_vary_is_left_alone() -> None:
    random = np.random.default_rng(1)
    many = 200
    columns = {"ages": random.uniform(0, 100, (many, 3)), "relevance": random.random(many),
               "specificity": random.random(many)}  # fmt: skip
    made = survey(random.random(many).tolist(), **columns)
    assert "fewer_ads" not in {each.name for each in fit(made, ASSUMED)}


def test_the_command_writes_what_the_bidder_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, out, picture = tmp_path / "start.yaml", tmp_path / "new.yaml", tmp_path / "p/fit.png"
    start.write_text(CONFIG.read_text())
    file = tmp_path / "survey.csv"
    main(["simulate", str(file), "--start", str(start), "--answers", "1500", "--seed", "5"])
    main(["fit", str(file), "--start", str(start), "--out", str(out), "--plot", str(picture)])
    loaded = load_parameters(out)
    assert loaded.calibrated
    assert loaded.relevance == pytest.approx(ASSUMED.relevance, abs=0.4)
    assert loaded.bunching_half_life_hours == ASSUMED.bunching_half_life_hours
    assert "fitted to survey.csv, 1500 answers of 500 people; 95 % confidence" in out.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "relevance " in capsys.readouterr().out


def test_a_sign_against_the_research_is_not_written() -> None:
    fitted = [Fitted("base", -2, -3, -1), Fitted("relevance", -0.1, -0.3, 0.1)]
    assert against_research(fitted) == ["relevance"]
    with pytest.raises(ValueError, match="0 lines for relevance"):
        written("base: {value: 1}", fitted, "a survey")


GOOD = {**{f"item_{n}": 4 for n in range(1, 8)}, "seen_hour": 0, "seen_day": 1, "seen_week": 2,
        "relevance": 0.5, "specificity": 0.0}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_3": 8}, "line 2: an item is outside 1..7"),
        ({"item_3": "much"}, "line 2: ValueError"),
        ({"seen_hour": 2}, "line 2: a longer window counts fewer"),
        ({"relevance": 1.5}, "line 2: relevance, specificity or fewer_ads is outside"),
        ({}, "1 rows; a fit needs at least 50"),
    ],
)
def test_a_faulty_survey_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    file = saved(tmp_path / "s.csv", [{**GOOD, **change}])
    with pytest.raises(ValueError, match=message):
        read(file)
    with pytest.raises(SystemExit, match=message):
        main(["fit", str(file), "--start", str(CONFIG)])
