"""What does each part of a decision cost? Microbenchmarks, run by hand:

pytest loadtest/bench/micro -o python_files='bench_*.py' -o python_functions='bench_*'

With ``--steps`` they are counted and not timed, which tells two versions apart on a busy machine.
"""

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Protocol, TypeVar

T = TypeVar("T")


class Timed(Protocol):
    """What measures: the fixture of pytest-benchmark, as far as it is used here."""

    def __call__(self, function: Callable[[], object]) -> object:
        """Call it many times and note what it takes."""


def over(values: Sequence[T], function: Callable[[T], object]) -> Callable[[], object]:
    """`function` of the next value, each time it is called: nothing is gained by remembering."""
    endless = cycle(values)
    return lambda: function(next(endless))
