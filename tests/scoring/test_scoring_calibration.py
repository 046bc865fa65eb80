"""Is the fast calibration the slow one?"""

from math import inf, isclose, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.scoring.calibration import Calibration

probabilities = st.floats(0, 1)
knots = st.lists(probabilities, min_size=1, max_size=20, unique=True).flatmap(
    lambda scores: st.tuples(
        st.just(sorted(scores)),
        st.lists(probabilities, min_size=len(scores), max_size=len(scores)).map(sorted),
    )
)


@given(knots, st.floats(-1, 2), st.floats(0.01, 5))
def test_apply_is_interpolation_times_factor(
    knots: tuple[list[float], list[float]], score: float, factor: float
) -> None:
    scores, rates = knots
    calibration = Calibration(scores, rates, {"a": factor})
    plain = float(np.interp(score, scores, rates))
    assert isclose(calibration.apply(score), plain, rel_tol=0, abs_tol=1e-12)
    assert isclose(calibration.apply(score, "b"), plain, rel_tol=0, abs_tol=1e-12)
    assert isclose(calibration.apply(score, "a"), min(plain * factor, 1), rel_tol=0, abs_tol=1e-11)


@given(knots, st.floats(0, 1), st.floats(0, 1))
def test_apply_never_falls_and_stays_a_probability(
    knots: tuple[list[float], list[float]], one: float, other: float
) -> None:
    calibration = Calibration(*knots)
    low, high = calibration.apply(min(one, other)), calibration.apply(max(one, other))
    assert 0 <= low <= 1
    assert low <= high + 1e-12


def test_odd_scores() -> None:
    identity = Calibration((0.0, 1.0), (0.0, 1.0))
    assert identity.apply(nan) == 0
    assert identity.apply(inf) == 1
    assert identity.apply(-inf) == 0
    assert identity.apply(0.25) == 0.25


@pytest.mark.parametrize(
    ("scores", "rates", "factors", "problem"),
    [
        ([], [], {}, "0 scores"),
        ([0.0, 1.0], [0.0], {}, "2 scores for 1 rates"),
        ([0.0, nan], [0.0, 1.0], {}, "not finite"),
        ([0.5, 0.5], [0.0, 1.0], {}, "do not rise"),
        ([0.0, 1.0], [0.5, 0.4], {}, "fall"),
        ([0.0, 1.0], [0.5, 1.1], {}, "not a probability"),
        ([0.0, 1.0], [-0.1, 1.0], {}, "not a probability"),
        ([0.0, 1.0], [0.0, 1.0], {"a": 0.0}, "factor"),
        ([0.0, 1.0], [0.0, 1.0], {"a": inf}, "factor"),
    ],
)
def test_broken_calibrations_are_refused(
    scores: list[float], rates: list[float], factors: dict[str, float], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Calibration(scores, rates, factors)
