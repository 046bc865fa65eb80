"""Is machine code used only where it is whole and says what LightGBM says?"""

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from bidder.scoring import compiled, features
from bidder.scoring.model import Scorer

DEMO = Path(__file__).parents[2] / "models/demo"


def test_nothing_compiled_means_the_c_entry(tmp_path: Path) -> None:
    copytree(DEMO, tmp_path / "m")
    assert not (tmp_path / "m" / compiled.FOLDER).exists()
    assert "Booster" in repr(Scorer.load(tmp_path / "m")._predict_click)


@pytest.mark.skipif(not compiled.available(), reason="the extra `compiled` is not installed")
def test_compiled_equals_the_c_entry_and_damage_falls_back(tmp_path: Path) -> None:
    from models.compile import compile_models

    directory = Path(copytree(DEMO, tmp_path / "m"))
    slow = Scorer.load(directory)
    compile_models(directory)
    fast = Scorer.load(directory)
    assert "Compiled" in repr(fast._predict_click)
    random = np.random.default_rng(4)
    rows = random.lognormal(3, 3, (500, len(features.NAMES))).round(1)
    rows[random.random(rows.shape) < 0.3] = np.nan
    for values in rows.tolist():
        row = features.from_log(values)
        assert fast.score(row) == pytest.approx(slow.score(row), abs=1e-9)
    code = compiled.place(directory, "click")
    code.write_bytes(code.read_bytes()[:-100])
    assert "Booster" in repr(Scorer.load(directory)._predict_click)
