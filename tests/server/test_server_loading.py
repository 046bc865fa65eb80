"""What serves is what was published as a whole, whatever the files say by then."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bidder import settings
from bidder.exchanges.profile import Exchange
from bidder.scoring.manifest import MANIFEST
from bidder.server import loading
from bidder.server.loading import CannotLoad, hold_seconds, longest_hold_seconds
from bidder.server.supervisor import Supervisor
from bidder.settings import Settings

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000.0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration as it ships, with models of its own beside it."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(ROOT / "models/demo", tmp_path / "models")
    (tmp_path / "config/bidder.yaml").write_text("tcf: {vendor_id: 7}\nmodels: models\n")
    return tmp_path / "config"


@pytest.fixture
def given(config: Path, tmp_path: Path) -> Settings:
    return settings.load(config, {"STATE_DIR": str(tmp_path / "state")})


def rewrite(path: Path, old: str, new: str) -> None:
    """In place, as editors and `cp` do it: a link to the file would follow."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def versions(given: Settings) -> list[str]:
    """The folders that there are."""
    return sorted(path.name for path in (given.state_dir / "serving").iterdir())


def test_the_last_notice_comes_the_usual_exp_and_the_exchanges_lag_after_the_bid() -> None:
    exchanges = {
        "quick": Exchange(name="quick", notice_lag_seconds=0),
        "slow": Exchange(name="slow", notice_lag_seconds=3600),
    }
    assert hold_seconds(exchanges) == {"quick": 300, "slow": 3900}
    assert longest_hold_seconds(exchanges) == 3900
    assert longest_hold_seconds({}) == 300


def test_edits_that_are_not_published_reach_no_worker(config: Path, given: Settings) -> None:
    loading.publish(config, given, NOW)
    before = loading.serving(loading.in_service(given.state_dir))
    rewrite(config / "exchanges/demo.yaml", "notice_lag: 10m", "notice_lag: 6h")
    rewrite(config / "rates.yaml", "USD: 1.", "USD: 2.")
    rewrite(config / "crm/sync.yaml", "demo: {}", "other: {}")
    shutil.rmtree(config / "campaigns")
    serving = loading.serving(loading.in_service(given.state_dir))
    assert serving.exchanges == before.exchanges
    assert serving.rate("EUR", "USD", NOW) == before.rate("EUR", "USD", NOW)
    assert list(loading.partners(loading.in_service(given.state_dir))) == ["demo"]
    assert loading.published_exchanges(given)["demo"].notice_lag_seconds == 600
    assert settings.in_service(loading.in_service(given.state_dir)) == given


BREAKS: dict[str, Callable[[Path], object]] = {
    "exchange": lambda config: rewrite(config / "exchanges/demo.yaml", "active", "whatever"),
    "rates": lambda config: (config / "rates.yaml").unlink(),
    "intrusiveness": lambda config: (config / "intrusiveness.yaml").write_text("what: 1\n"),
    "syncs": lambda config: (config / "crm/sync.yaml").write_text("what: 1\n"),
    "models": lambda config: rewrite(config.parent / "models" / MANIFEST, "created", "crated"),
    "trees": lambda config: rewrite(config.parent / "models/click.txt", "end of trees", ""),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_refused_keeps_no_worker_from_starting_again(
    config: Path, given: Settings, what: str
) -> None:
    loading.publish(config, given, NOW)
    before = loading.in_service(given.state_dir)
    BREAKS[what](config)
    with pytest.raises(CannotLoad):
        loading.publish(config, given, NOW)
    assert loading.in_service(given.state_dir) == before
    assert loading.serving(before).line_items
    assert loading.partners(before)


def test_a_file_that_changes_while_it_is_published_is_refused(
    config: Path, given: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.publish(config, given, NOW)
    before = loading.in_service(given.state_dir)
    check = loading.check

    def slow(*args: object) -> object:
        found = check(*args)  # type: ignore[arg-type]
        BREAKS["exchange"](config)
        return found

    monkeypatch.setattr(loading, "check", slow)
    with pytest.raises(CannotLoad):
        loading.publish(config, given, NOW)
    assert loading.in_service(given.state_dir) == before


def test_what_served_before_is_kept_to_go_back_to_and_nothing_older(
    config: Path, given: Settings
) -> None:
    loading.publish(config, given, NOW)
    first = loading.in_service(given.state_dir)
    rewrite(config / "exchanges/demo.yaml", "notice_lag: 10m", "notice_lag: 6h")
    loading.publish(config, given, NOW)
    assert loading.serving(first).exchanges["demo"].notice_lag_seconds == 600
    assert loading.published_exchanges(given)["demo"].notice_lag_seconds == 6 * 3600
    loading.put_into_service(first)
    assert loading.published_exchanges(given)["demo"].notice_lag_seconds == 600
    assert versions(given) == ["1", "2", "current"]
    loading.publish(config, given, NOW)
    assert versions(given) == ["1", "3", "current"]
    loading.publish(config, given, NOW)
    assert versions(given) == ["3", "4", "current"]


async def test_what_a_worker_cannot_load_all_go_back_from(
    config: Path, given: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.publish(config, given, NOW)
    told: list[str] = []

    async def reload() -> list[str]:
        told.append(loading.in_service(given.state_dir).name)
        return ["no memory left"] if told == ["2"] else []

    supervisor = Supervisor(config, given, "unix:///nowhere")
    monkeypatch.setattr(supervisor._workers, "reload", reload)
    rewrite(config / "bidder.yaml", "models: models", "models: models\nanswer_ms: 9")
    assert (await supervisor.reload()).problems == ["no memory left"]
    assert told == ["2", "1"]
    assert settings.in_service(loading.in_service(given.state_dir)) == given
    assert not (await supervisor.reload()).problems
    assert told == ["2", "1", "3"]
    assert settings.in_service(loading.in_service(given.state_dir)).answer_ms == 9
