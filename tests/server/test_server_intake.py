"""What comes in about people finds the keys under which they are known."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from bidder.crm.segments import Segments
from bidder.crm.segments import load as load_segments
from bidder.server.intake import Intake
from bidder.settings import Settings, Tcf
from bidder.store.links import Links

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture(scope="module")
def segments() -> Segments:
    return load_segments(CONFIG / "segments")


async def test_a_start_without_a_key_that_was_given_before_says_so(
    links: Links,
    segments: Segments,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = "0" * 64, "1" * 64
    said = []
    for given in (old, f"{new},{old}", new, f"{new},{old}"):
        monkeypatch.setenv("BIDDER_CRM_KEY", given)
        seller = SimpleNamespace(sold=None)
        settings = Settings(tcf=Tcf(vendor_id=1234), state=str(tmp_path))
        intake = Intake(links, settings, "host", segments, {}, seller)  # type: ignore[arg-type]
        await intake.look_for_keys()
        said.append("lacks a key" in capsys.readouterr().err)
    assert said == [False, False, True, False]
