"""An embedded store that ended by itself is started again, with what it had written."""

import os
import signal
import time
from pathlib import Path

import redis

from bidder.store.embedded import EmbeddedStore


def ended(store: EmbeddedStore) -> None:
    os.kill(store.pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while store.is_running():
        assert time.monotonic() < end


def answers(client: redis.Redis, key: str) -> bytes | None:
    """The value, as soon as the server is there."""
    end = time.monotonic() + 30
    while True:
        try:
            value: bytes | None = client.get(key)
            return value
        except redis.ConnectionError:
            assert time.monotonic() < end


def test_a_killed_store_is_started_again_with_its_data(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store, redis.Redis.from_url(store.url) as client:
        client.set("a", "1")
        first = store.pid
        assert not store.revive()
        ended(store)
        assert store.revive()
        assert store.pid != first
        assert answers(client, "a") == b"1"
        assert not store.revive()


def test_a_store_that_was_stopped_stays_stopped(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    assert not store.revive()
    store.start()
    store.stop()
    assert not store.revive()
    assert not store.is_running()
