"""Is the delay of sales recovered from those that came in time to be seen?"""

import numpy as np
import pytest

from models.delays import LEAST_SALES, NO_DELAYS, estimate


def test_a_truncated_distribution_is_recovered() -> None:
    random = np.random.default_rng(5)
    delay = random.exponential(100.0, 20_000)
    elapsed = random.uniform(0, 1000.0, 20_000)
    seen = delay <= elapsed
    naive = (delay[seen] <= 50).mean()
    found = estimate(delay[seen], elapsed[seen])
    at = np.array([10.0, 50.0, 100.0, 300.0])
    truth = 1 - np.exp(-at / 100)
    assert found.share(at) == pytest.approx(truth, abs=0.02)
    assert abs(naive - truth[1]) > 0.02, "else nothing had to be corrected"


def test_nothing_is_missing_where_all_was_seen() -> None:
    delay = np.arange(1.0, 41.0)
    found = estimate(delay, np.full(40, np.inf))
    assert found.share(np.array([0.5, 20.0, 40.0, 99.0])) == pytest.approx([0, 0.5, 1, 1])


def test_few_sales_tell_nothing() -> None:
    found = estimate(np.ones(LEAST_SALES - 1), np.full(LEAST_SALES - 1, 9.0))
    assert found.share(np.array([0.0, 5.0])).tolist() == [1, 1]


def test_the_chance_that_a_sale_still_comes() -> None:
    found = estimate(np.arange(1.0, 41.0), np.full(40, np.inf))
    p, missing = 0.2, 0.5
    expected = p * missing / (1 - p + p * missing)
    assert found.still_to_come(np.array([p]), np.array([20.0])) == pytest.approx(expected)
    assert found.still_to_come(np.array([p]), np.array([99.0])) == 0
    assert NO_DELAYS.still_to_come(np.array([p]), np.array([0.0])) == 0
