"""A process that grows is told from one that breathes."""

from random import Random

import pytest

from loadtest.faults.truth import Asked
from loadtest.soak.memory import growth
from loadtest.soak.run import Latencies

MB = 1_000_000


def series(slope: float, noise: float, seconds: int = 900) -> list[tuple[float, int]]:
    """100 MB, a warm-up of 30 MB, then `slope` bytes a second, with noise."""
    random = Random(7)
    return [
        (float(at), round(100 * MB + min(at, 100) * 0.3 * MB + slope * at + random.gauss(0, noise)))
        for at in range(0, seconds, 2)
    ]


def test_a_leak_is_found_and_its_slope() -> None:
    found = growth("worker 0", series(20_000, MB))
    assert found.slope == pytest.approx(20_000, rel=0.1)
    assert found.grows
    assert found.peak_bytes > found.mean_bytes > 100 * MB


def test_warming_up_and_breathing_are_not_growth() -> None:
    found = growth("worker 0", series(0, 3 * MB))
    assert abs(found.slope) < 1000
    assert not found.grows


def test_a_little_growth_in_much_noise_is_not_beyond_doubt() -> None:
    assert not growth("worker 0", series(9_000, 60 * MB, seconds=120)).grows


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        growth("worker 0", [(0.0, 1), (1.0, 1)])


def test_latencies_say_what_is_carried() -> None:
    fine = Latencies()
    for _ in range(2000):
        fine.heard(Asked(0.0, 0.005, 200, True, 0.0))
    assert fine.carried
    assert fine.answers == 2000
    assert fine.ms(99) == pytest.approx(5.0, rel=0.01)
    fine.heard(Asked(0.0, 0.2, 200, True, 0.05))
    assert (fine.late, fine.sender_late) == (0, 1)
    assert fine.carried
    for _ in range(3):
        fine.heard(Asked(0.0, 0.2, 204, False, 0.0))
    assert fine.late == 3
    assert not fine.carried
    broken = Latencies()
    broken.heard(Asked(0.0, 0.001, 500, False, 0.0))
    assert not broken.carried
