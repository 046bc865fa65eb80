"""Does only a whole, judged and no worse model get into service, in one step, and back?"""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import msgspec
import pytest

from bidder.scoring import manifest
from bidder.scoring.model import ModelError, Scorer
from models.promote import CURRENT, HISTORY, Refused, history, in_service, promote
from models.rollback import NothingBefore, rollback

DEMO = Path(__file__).parents[2] / "models/demo"
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def other(folder: Path, factor: float) -> Path:
    """The demo models with another level: another version."""
    copytree(DEMO, folder)
    about = manifest.read(folder)
    knots = msgspec.json.decode((folder / manifest.CALIBRATION).read_bytes())
    knots["click"]["factors"] = {"lumen": factor}
    content = msgspec.json.encode(knots)
    listed = manifest.listed(manifest.CALIBRATION, content)
    about = msgspec.structs.replace(about, calibration=listed)
    manifest.write(folder, about, {manifest.CALIBRATION: content})
    return folder


def judged(challenger: Path, root: Path | None = None) -> dict[str, Any]:
    """An evaluation with nothing against the challenger."""
    figures = {"positives": 500.0, "calibration": 1.0, "calibration_interval": [0.95, 1.05]}
    role = {
        "challenger": figures,
        "difference": {"log_loss": -0.001, "log_loss_interval": [-0.002, 0.001]},
    }
    versions = {"challenger": Scorer.load(challenger).version}
    if root is not None and in_service(root):
        versions["champion"] = in_service(root)
    return {"models": versions, "click": role, "conversion": copy.deepcopy(role)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_promote_and_roll_back(tmp_path: Path, root: Path) -> None:
    made = [other(tmp_path / f"m{n}", 1 + n / 10) for n in range(3)]
    versions = [Scorer.load(one).version for one in made]
    for one in made:
        promote(one, judged(one, root), root, NOW)
        assert Scorer.load(root / CURRENT).version == Scorer.load(one).version
    assert rollback(root, NOW).version == versions[1]
    assert rollback(root, NOW).version == versions[0] == Scorer.load(root / CURRENT).version
    with pytest.raises(NothingBefore):
        rollback(root, NOW)
    promote(made[2], judged(made[2], root), root, NOW)
    assert rollback(root, NOW).version == versions[0]
    assert [past.why for past in history(root)].count("rolled back") == 3


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("click", "challenger", "calibration_interval"), [1.2, 1.4], "click: miscalibrated"),
        (("conversion", "challenger", "calibration_interval"), [0.5, 0.8], "conversion: miscalib"),
        (("click", "difference", "log_loss_interval"), [0.001, 0.002], "click: worse than"),
        (("models", "challenger"), "0123456789ab", "the evaluation is of model 0123456789ab"),
    ],
)
def test_refused(
    tmp_path: Path, root: Path, path: tuple[str, ...], value: Any, problem: str
) -> None:
    first, second = other(tmp_path / "a", 1.0), other(tmp_path / "b", 1.1)
    promote(first, judged(first), root, NOW)
    evaluation = judged(second, root)
    place = evaluation
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(Refused, match=problem):
        promote(second, evaluation, root, NOW)
    assert Scorer.load(root / CURRENT).version == Scorer.load(first).version


@pytest.mark.parametrize("role", ["click", "conversion"])
def test_too_few_positives_to_judge_by(tmp_path: Path, root: Path, role: str) -> None:
    one = other(tmp_path / "a", 1.0)
    evaluation = judged(one)
    del evaluation[role]["challenger"]["calibration_interval"]
    with pytest.raises(Refused, match=f"{role}: only 500 positive rows"):
        promote(one, evaluation, root, NOW)


def test_an_evaluation_against_what_no_longer_serves(tmp_path: Path, root: Path) -> None:
    first, second = other(tmp_path / "a", 1.0), other(tmp_path / "b", 1.1)
    promote(first, judged(first), root, NOW)
    with pytest.raises(Refused, match="not against"):
        promote(second, judged(second), root, NOW)


@pytest.mark.parametrize("file", ["click.txt", "manifest.json", "encoding.json"])
def test_a_truncated_model_changes_nothing(tmp_path: Path, root: Path, file: str) -> None:
    first, second = other(tmp_path / "a", 1.0), other(tmp_path / "b", 1.1)
    promote(first, judged(first), root, NOW)
    evaluation = judged(second, root)
    path = second / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelError):
        promote(second, evaluation, root, NOW)
    assert Scorer.load(root / CURRENT).version == Scorer.load(first).version


def test_a_damaged_predecessor_is_not_gone_back_to(tmp_path: Path, root: Path) -> None:
    first, second = other(tmp_path / "a", 1.0), other(tmp_path / "b", 1.1)
    before = promote(first, judged(first), root, NOW).version
    promote(second, judged(second, root), root, NOW)
    (root / before / "click.txt").write_bytes(b"")
    with pytest.raises(ModelError, match="is damaged"):
        rollback(root, NOW)
    assert Scorer.load(root / CURRENT).version == Scorer.load(second).version


def test_what_was_learnt_of_the_market_goes_along(tmp_path: Path, root: Path) -> None:
    first, second = other(tmp_path / "a", 1.0), other(tmp_path / "b", 1.1)
    (first / "market").mkdir()
    (first / "market" / "manifest.json").write_text("{}")
    promote(first, judged(first), root, NOW)
    promote(second, judged(second, root), root, NOW)
    assert (root / CURRENT / "market" / "manifest.json").read_text() == "{}"


def test_a_torn_history_loses_only_its_line(tmp_path: Path, root: Path) -> None:
    first, second = other(tmp_path / "a", 1.0), other(tmp_path / "b", 1.1)
    before = promote(first, judged(first), root, NOW).version
    with (root / HISTORY).open("a") as file:
        file.write('{"time":"2026\n')
    promote(second, judged(second, root), root, NOW)
    assert rollback(root, NOW).version == before
    json.loads((root / HISTORY).read_text().splitlines()[0])
