"""With ``--steps``, the microbenchmarks are counted instead of timed: see `steps`."""

from collections.abc import Callable
from typing import Any

import pytest

from loadtest.bench.micro import Timed
from loadtest.bench.micro.steps import Steps, steps

COUNTED = pytest.StashKey[dict[str, Steps]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--steps", action="store_true", help="count bytecodes, do not time")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COUNTED] = {}


@pytest.fixture
def timed(request: pytest.FixtureRequest) -> Timed:
    """The fixture of pytest-benchmark, or what counts in its place."""
    if not request.config.getoption("--steps"):
        return request.getfixturevalue("benchmark")  # type: ignore[no-any-return]

    def counted(function: Callable[[], object]) -> object:
        request.config.stash[COUNTED][request.node.name] = steps(function)
        return None

    return counted


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line a part."""
    counted = config.stash[COUNTED]
    if counted:
        terminalreporter.section("steps: bytecodes, functions of one call")
    for name, found in counted.items():
        terminalreporter.line(f"{name:44} {found.bytecodes:9,.1f} {found.functions:8,.1f}")
