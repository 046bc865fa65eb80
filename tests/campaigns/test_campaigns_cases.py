"""Golden cases: each `cases/NAME.yaml` has exactly the problems of `cases/NAME.txt`, which may also
be written anew by ``WRITE_CASES=1 pytest`` and then read with care."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bidder.campaigns.loading import load
from bidder.yamlfiles import InvalidFile

CASES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SEGMENTS = {"basket", "buyer", "visitor"}
EXCHANGES = {"demo", "xandr"}


def _problems(case: Path, directory: Path) -> str:
    (directory / case.name).write_bytes(case.read_bytes())
    try:
        found = load(directory, now=NOW, exchanges=EXCHANGES, segments=SEGMENTS)[1]
    except InvalidFile as error:
        found = list(error.problems)
    return "".join(f"{problem}\n".replace(f"{directory}/", "") for problem in found)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_case(case: Path, tmp_path: Path) -> None:
    found, golden = _problems(case, tmp_path), case.with_suffix(".txt")
    if os.environ.get("WRITE_CASES"):
        golden.write_text(found)
    assert found == golden.read_text()
