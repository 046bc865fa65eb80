"""Settings: the file, the environment on top of it, and the keys."""

import stat
from pathlib import Path

import pytest

from bidder import settings
from bidder.settings import Settings
from bidder.yamlfiles import InvalidFile

KEY = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bidder.yaml").write_text("tcf: {vendor_id: 7}\n")
    return tmp_path


def test_what_ships_can_be_read() -> None:
    shipped = settings.load(Path(__file__).parents[1] / "config", {})
    assert (shipped.listen.host, shipped.listen.port) == ("127.0.0.1", 8080)
    assert (shipped.listen.ops_host, shipped.listen.ops_port) == ("127.0.0.1", 8081)
    assert (shipped.store.url, shipped.state) == ("embedded", ".state")


def test_the_environment_wins(folder: Path) -> None:
    given = settings.load(
        folder, {"PORT": "9000", "OPS_PORT": "9001", "STATE_DIR": str(folder / "elsewhere")}
    )
    assert (given.listen.port, given.listen.ops_port) == (9000, 9001)
    assert given.state_dir == folder / "elsewhere"


def test_an_empty_environment_changes_nothing(folder: Path) -> None:
    given = settings.load(folder, {"PORT": "", "OPS_PORT": "", "STATE_DIR": ""})
    assert given == settings.load(folder, {})


@pytest.mark.parametrize("port", ["http", "-1", "65536", "8080.0"])
def test_a_port_that_is_none(folder: Path, port: str) -> None:
    with pytest.raises(InvalidFile, match="expected a port"):
        settings.load(folder, {"PORT": port})


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("tcf: {vendor_id: 0}", "vendor_id"),
        ("tcf: {vendor_id: 1}\nworkers: 0", "workers"),
        ("tcf: {vendor_id: 1}\nworkers: 65", "workers"),
        ("tcf: {vendor_id: 1}\nlisten: {port: 70000}", "port"),
        ("tcf: {vendor_id: 1}\nlog: {no_bid_sample: 2}", "no_bid_sample"),
        ("tcf: {vendor_id: 1}\nworker: 2", "worker"),
        ("workers: 1", "tcf"),
    ],
)
def test_a_wrong_file_says_what_and_where(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "bidder.yaml").write_text(text)
    with pytest.raises(InvalidFile) as caught:
        settings.load(tmp_path, {})
    (problem,) = caught.value.problems
    assert word in str(problem)
    assert f"{tmp_path / 'bidder.yaml'}:" in str(problem)


def test_where_notices_come_back_to(folder: Path) -> None:
    given = settings.load(folder, {"PORT": "9000"})
    assert given.base_url == "http://127.0.0.1:9000"
    public = given.listen.model_copy(update={"public_url": "https://bid.example/"})
    assert given.model_copy(update={"listen": public}).base_url == "https://bid.example"


def test_a_key_is_made_once_and_kept_to_ourselves(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (key,) = settings.token_keys(state, {})
    assert len(key) == 32
    assert settings.token_keys(state, {}) == [key]
    assert stat.S_IMODE((state / settings.KEY_FILE).stat().st_mode) == 0o600


def test_keys_of_the_environment_come_in_their_order(tmp_path: Path) -> None:
    other = "cd" * 32
    found = settings.token_keys(tmp_path, {"BIDDER_TOKEN_KEY": f"{KEY}, {other}"})
    assert found == [bytes.fromhex(KEY), bytes.fromhex(other)]
    assert not (tmp_path / settings.KEY_FILE).exists()


@pytest.mark.parametrize("text", ["", "ab", KEY + "ab", "x" * 64])
def test_a_key_that_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        settings.token_keys(tmp_path, {"BIDDER_TOKEN_KEY": f"{KEY},{text}"})
    (tmp_path / settings.KEY_FILE).write_text(text)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        settings.token_keys(tmp_path, {})


def test_the_token_of_the_ops_port() -> None:
    assert settings.ops_token({}) == ""
    assert settings.ops_token({"BIDDER_OPS_TOKEN": " s3cret\n"}) == "s3cret"


def test_defaults_are_lawful() -> None:
    given = Settings.model_validate({"tcf": {"vendor_id": 1}})
    assert given.tcf.declared == (1, 2, 3, 4, 7, 9, 10)
    assert given.drain < 25


def test_a_reload_changes_what_can_change_and_names_the_rest(folder: Path) -> None:
    before = settings.load(folder, {})
    (folder / "bidder.yaml").write_text(
        "tcf: {vendor_id: 8}\nmodels: others\nanswer_ms: 9\nidentifiers: [ifa]\nworkers: 2\n"
        "listen: {port: 1}\nlog: {no_bid_sample: 0.5, keep: 1d}\n"
    )
    wanted = settings.load(folder, {})
    after, waiting = settings.adopted(before, wanted)
    assert set(waiting) == {"tcf.vendor_id", "workers", "listen.port", "log.keep"}
    assert (after.models, after.answer_ms, after.identifiers) == ("others", 9, ("ifa",))
    assert (after.log.no_bid_sample, after.log.keep) == (0.5, before.log.keep)
    assert (after.workers, after.listen, after.tcf) == (1, before.listen, before.tcf)
    assert settings.adopted(after, after) == (after, [])


def test_what_is_in_service_comes_back_as_it_was(folder: Path) -> None:
    given = settings.load(folder, {"STATE_DIR": str(folder / "state"), "PORT": "9000"})
    settings.keep(given, folder)
    assert settings.in_service(folder) == given


def test_the_order_key_is_one_and_stays(folder: Path) -> None:
    assert settings.order_key(folder, {}) == settings.order_key(folder, {})
    assert settings.order_key(folder, {"BIDDER_ORDER_KEY": KEY}) == bytes.fromhex(KEY)
    with pytest.raises(ValueError, match="BIDDER_ORDER_KEY"):
        settings.order_key(folder, {"BIDDER_ORDER_KEY": f"{KEY},{KEY}"})
