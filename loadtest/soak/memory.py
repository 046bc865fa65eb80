"""Does a process grow? A straight line through its resident memory over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

WARM_UP_SHARE = 0.25
"""Of the whole time: caches fill, and the allocator finds its size. Not judged."""
GROWTH_SHARE = 0.05
"""A process has grown if the line rises by more of its mean than this, beyond doubt (95 %)."""
_NORMAL_95 = 1.645


@dataclass(frozen=True, slots=True)
class Growth:
    """One process. Bytes, and bytes a second."""

    process: str
    samples: int
    mean_bytes: float
    peak_bytes: int
    slope: float
    """Bytes a second, by least squares over what came after the warm-up."""
    slope_error: float
    """Its standard error, taking the residuals as independent."""
    seconds: float
    """What the line covers."""

    @property
    def grows(self) -> bool:
        """By more than `GROWTH_SHARE` over the time measured, beyond doubt."""
        certain = (self.slope - _NORMAL_95 * self.slope_error) * self.seconds
        return certain > GROWTH_SHARE * self.mean_bytes


def growth(process: str, samples: Sequence[tuple[float, int]]) -> Growth:
    """The line through (second, bytes) after the warm-up. Raises `ValueError` for fewer than 3."""
    begin, end = samples[0][0], samples[-1][0]
    warm = begin + WARM_UP_SHARE * (end - begin)
    kept = [(at, size) for at, size in samples if at >= warm]
    if len(kept) < 3:
        raise ValueError(f"{process}: {len(kept)} samples after the warm-up are too few for a line")
    count = len(kept)
    mean_at = sum(at for at, _ in kept) / count
    mean_size = sum(size for _, size in kept) / count
    spread = sum((at - mean_at) ** 2 for at, _ in kept)
    slope = sum((at - mean_at) * (size - mean_size) for at, size in kept) / spread
    residual = sum((size - mean_size - slope * (at - mean_at)) ** 2 for at, size in kept)
    return Growth(
        process=process,
        samples=count,
        mean_bytes=mean_size,
        peak_bytes=max(size for _, size in samples),
        slope=slope,
        slope_error=sqrt(residual / (count - 2) / spread),
        seconds=kept[-1][0] - kept[0][0],
    )
