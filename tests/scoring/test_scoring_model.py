"""Does serving say what the models say, and refuse what it cannot trust?"""

import ctypes
import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from hashlib import sha256
from importlib.machinery import ModuleSpec
from math import inf, nan
from pathlib import Path
from shutil import copytree
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import pytest

from bidder.scoring import booster, features
from bidder.scoring.booster import Booster, BoosterError
from bidder.scoring.manifest import MANIFEST, write
from bidder.scoring.model import ModelError, Scorer

DEMO = Path(__file__).parents[2] / "models/demo"
ODD = [nan, inf, -inf, 0.0, -1.0, 1e300, -1e300, 5e-324, 2.0**31, 0.5]


@pytest.fixture(scope="module")
def rows() -> np.ndarray[Any, np.dtype[np.float64]]:
    """1,000 rows of plausible and odd values, half of them unknown somewhere."""
    random = np.random.default_rng(7)
    found = np.abs(random.lognormal(3, 3, (1000, len(features.NAMES)))).round(2)
    found[random.random(found.shape) < 0.2] = 0
    found[random.random(found.shape) < 0.2] = nan
    found[-100:] = random.choice(ODD, (100, len(features.NAMES)))
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return Path(copytree(DEMO, tmp_path / "model"))


def row_of(values: Any) -> features.Row:
    return features.from_log(list(map(float, values)))


@pytest.mark.parametrize("role", ["click", "conversion"])
def test_the_c_entry_predicts_what_the_package_predicts(role: str, rows: Any) -> None:
    text = (DEMO / f"{role}.txt").read_bytes()
    ours = Booster(text)
    theirs = lgb.Booster(model_str=text.decode()).predict(rows)
    assert np.ptp(theirs) > 0
    assert [ours.predict(row_of(row)) for row in rows] == pytest.approx(theirs, abs=1e-12)


def test_a_score_is_model_then_calibration_then_factor(rows: Any) -> None:
    scorer = Scorer.load(DEMO)
    knots = json.loads((DEMO / "calibration.json").read_bytes())
    expected = []
    for role in ("click", "conversion"):
        raw = lgb.Booster(model_file=DEMO / f"{role}.txt").predict(rows)
        rates = np.interp(raw, knots[role]["scores"], knots[role]["rates"])
        expected.append(rates * knots[role]["factors"]["advertiser1"])
    for row, *wanted in zip(rows, *expected, strict=True):
        got = scorer.score(row_of(row), "advertiser1")
        assert got == pytest.approx(wanted, abs=1e-9)
        assert all(0 <= p <= 1 for p in got)
        assert scorer.p_click(row_of(row), "advertiser1") == got[0]


def test_one_more_exposure_in_the_hour_never_raises_p_click(rows: Any) -> None:
    scorer = Scorer.load(DEMO)
    column = features.NAMES.index("impressions_hour")
    falls = 0
    for row in rows[:300].tolist():
        scores = []
        for exposures in range(12):
            row[column] = exposures
            scores.append(scorer.p_click(row))
        assert scores == sorted(scores, reverse=True)
        falls += scores[0] > scores[-1]
    assert falls > 0, "the model does not look at exposures at all"


def test_the_models_that_ship() -> None:
    scorer = Scorer.load(DEMO)
    assert scorer.feature_version == features.VERSION
    assert len(scorer.version) == 12
    assert "simulated" in scorer.manifest.trained_on.source
    assert len(scorer.manifest.probes) == 8
    assert sum(path.stat().st_size for path in DEMO.iterdir()) < 1_000_000


def test_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    freed = []
    real = booster._free
    monkeypatch.setattr(booster, "_free", lambda *handles: (freed.append(handles), real(*handles)))
    scorer = Scorer.load(DEMO)
    gone = weakref.ref(scorer)
    del scorer
    assert gone() is None
    assert len(freed) == 2


def test_a_worker_does_not_import_the_lightgbm_package() -> None:
    code = (
        "import sys, pathlib; from bidder.scoring.model import Scorer;"
        f"Scorer.load(pathlib.Path({str(DEMO)!r})); sys.exit('lightgbm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_lightgbm_refuses_is_an_error_with_its_words() -> None:
    with pytest.raises(BoosterError, match="Model"):
        Booster(b"nonsense")


@pytest.mark.parametrize(
    ("spec", "problem"),
    [(None, "not installed"), (ModuleSpec("lightgbm", None, origin="/nowhere/x.py"), "no lib_")],
)
def test_without_lightgbm(
    spec: ModuleSpec | None, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(booster, "find_spec", lambda name: spec)
    with pytest.raises(BoosterError, match=problem):
        booster._library.__wrapped__(ctypes.CDLL)


def edit(directory: Path, change: Callable[[Any], None]) -> None:
    """Change the manifest, and make its checksums right again."""
    about = json.loads((directory / MANIFEST).read_bytes())
    change(about)
    for file in [*about["models"].values(), about["calibration"], about["encoding"]]:
        path = directory / file["file"]
        if path.is_file():
            file["sha256"] = sha256(path.read_bytes()).hexdigest()
    (directory / MANIFEST).write_text(json.dumps(about))


def truncated(directory: Path) -> None:
    path = directory / "click.txt"
    path.write_bytes(path.read_bytes()[:-5000])


def cut_with_a_new_checksum(directory: Path) -> None:
    path = directory / "click.txt"
    path.write_bytes(path.read_bytes()[:20_000])
    edit(directory, lambda about: None)


def of_three_columns(directory: Path) -> None:
    data = lgb.Dataset(np.random.default_rng(1).random((100, 3)), np.arange(100) % 2)
    small = lgb.train({"objective": "binary", "verbosity": -1}, data, 2)
    (directory / "conversion.txt").write_text(small.model_to_string())
    edit(directory, lambda about: None)


def of_columns_in_another_order(directory: Path) -> None:
    path = directory / "click.txt"
    text = path.read_text().replace("=device os browser ", "=os device browser ", 1)
    path.write_text(text)
    edit(directory, lambda about: None)


def unreadable_by_lightgbm(directory: Path) -> None:
    (directory / "click.txt").write_text("nonsense\nend of trees\n")
    edit(directory, lambda about: None)


def calibration_of(content: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory / "calibration.json").write_text(content)
        edit(directory, lambda about: None)

    return change


def encoding_of(content: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory / "encoding.json").write_text(content)
        edit(directory, lambda about: None)

    return change


def manifest_with(change: Callable[[Any], None]) -> Callable[[Path], None]:
    return lambda directory: edit(directory, change)


KNOTS = '{"click":{"scores":[1,0],"rates":[0,1]},"conversion":{"scores":[0,1],"rates":[0,1]}}'
OTHER = KNOTS.replace("[1,0]", "[0,1]")
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda d: (d / MANIFEST).unlink(), "manifest.json: cannot be opened"),
    "torn manifest": (
        lambda d: (d / MANIFEST).write_bytes((d / MANIFEST).read_bytes()[:300]),
        "manifest.json: cannot be read",
    ),
    "not UTF-8": (lambda d: (d / MANIFEST).write_bytes(b'{"\xff'), "manifest.json: cannot be read"),
    "other version": (
        manifest_with(lambda a: a["features"].update(version="0123456789ab")),
        "needs features of version 0123456789ab, this bidder has",
    ),
    "feature gone": (
        manifest_with(lambda a: a["features"]["names"].append("moon")),
        r"other features \(unknown here: moon\)",
    ),
    "feature new": (
        manifest_with(lambda a: a["features"]["names"].remove("hour")),
        r"other features \(not in the model: hour\)",
    ),
    "features in another order": (
        manifest_with(lambda a: a["features"]["names"].reverse()),
        "in another order",
    ),
    "no conversion model": (
        manifest_with(lambda a: a["models"].pop("conversion")),
        "lists no conversion model",
    ),
    "missing file": (lambda d: (d / "click.txt").unlink(), "click.txt: cannot be opened"),
    "missing calibration": (
        lambda d: (d / "calibration.json").unlink(),
        "calibration.json: cannot be opened",
    ),
    "truncated": (truncated, "click.txt: is damaged"),
    "cut, checksum right": (cut_with_a_new_checksum, "click.txt: is not a whole LightGBM model"),
    "not a model": (unreadable_by_lightgbm, "click.txt: cannot be loaded"),
    "three columns": (of_three_columns, "conversion.txt: takes 3 features, a row has 47"),
    "columns swapped": (of_columns_in_another_order, "click.txt: was trained on columns of other"),
    "outside": (
        manifest_with(lambda a: a["models"]["click"].update(file="../click.txt")),
        "outside the model directory",
    ),
    "calibration that falls": (calibration_of(KNOTS), r"no usable calibration for click \(the sc"),
    "calibration of one role": (
        calibration_of('{"click":{"scores":[0,1],"rates":[0,1]}}'),
        "has no calibration for conversion",
    ),
    "encoding of an unknown feature": (
        encoding_of('{"click":{"moon":{"average":0.1,"rates":{}}},"conversion":{}}'),
        "has no usable tables for click \\('moon' is no feature",
    ),
    "encoding of one role": (encoding_of('{"click":{}}'), "has no tables for conversion"),
    "encoding torn": (encoding_of('{"click":{'), "encoding.json: cannot be read"),
    "missing encoding": (lambda d: (d / "encoding.json").unlink(), "encoding.json: cannot be ope"),
    "calibration torn": (calibration_of(OTHER[:40]), "calibration.json: cannot be read"),
    "calibration of other models": (calibration_of(OTHER), "the click model gives .* where train"),
    "probe too short": (
        manifest_with(lambda a: a["probes"][0]["row"].pop()),
        "a probe that cannot be used",
    ),
    "probe of one role": (
        manifest_with(lambda a: a["probes"][0]["scores"].pop("click")),
        "a probe that cannot be used",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_directory_that_cannot_be_trusted_is_refused(kind: str, directory: Path) -> None:
    damage, problem = BROKEN[kind]
    damage(directory)
    with pytest.raises(ModelError, match=problem) as error:
        Scorer.load(directory)
    assert str(error.value).startswith(str(error.value.path))
    assert "python -m models.demo" in str(error.value)


def test_no_directory_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent/manifest\.json: cannot be opened"):
        Scorer.load(tmp_path / "absent")


def test_a_directory_half_replaced_is_refused_and_then_not(directory: Path) -> None:
    old = Scorer.load(directory)
    knots = msgspec.json.decode((directory / "calibration.json").read_bytes())
    knots["click"]["factors"] = {"lumen": 1.5}
    content = msgspec.json.encode(knots)
    (directory / "calibration.json").write_bytes(content)
    with pytest.raises(ModelError, match="is damaged"):
        Scorer.load(directory)
    line = msgspec.structs.replace(old.manifest.calibration, sha256=sha256(content).hexdigest())
    about = msgspec.structs.replace(old.manifest, calibration=line)
    write(directory, about, {"calibration.json": content})
    new = Scorer.load(directory)
    row = row_of([0.0] * len(features.NAMES))
    assert new.version != old.version
    assert new.p_click(row, "lumen") == pytest.approx(1.5 * old.p_click(row, "lumen"))
