"""Shared fixtures: real servers, one of each kind a session, flushed for each test.

Servers here are volatile (no append-only file); what tests durability makes its own.
"""

import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from bidder.store.breaker import Breaker
from bidder.store.connect import Client, connect
from bidder.store.embedded import EmbeddedStore
from bidder.store.links import Links

_VOLATILE = {"appendonly": "no"}

settings.register_profile("unhurried", deadline=None)  # a busy machine fails no test
settings.load_profile("unhurried")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start_cluster(stack: ExitStack, folder: Path, nodes: int) -> str:
    """The URL of a Cluster whose nodes share the slots evenly; `stack` stops them."""
    ports = [(_free_port(), _free_port()) for _ in range(nodes)]
    clients = []
    for index, (port, bus_port) in enumerate(ports):
        options = {
            "cluster-enabled": "yes",
            "bind": "127.0.0.1",
            "port": str(port),
            "cluster-port": str(bus_port),
            "cluster-announce-ip": "127.0.0.1",
        }
        server = stack.enter_context(EmbeddedStore(folder / str(index), _VOLATILE | options))
        client = stack.enter_context(redis.Redis(unix_socket_path=str(server.socket_path)))
        first, end = 16384 * index // nodes, 16384 * (index + 1) // nodes
        client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
        clients.append(client)
    for port, bus_port in ports[1:]:
        clients[0].execute_command("CLUSTER MEET", "127.0.0.1", port, bus_port)
    deadline = time.monotonic() + 20
    for client in clients:
        while _is_incomplete(client, nodes):
            assert time.monotonic() < deadline, client.execute_command("CLUSTER INFO")
            time.sleep(0.01)
    return f"redis+cluster://127.0.0.1:{ports[0][0]}"


def _is_incomplete(client: redis.Redis, nodes: int) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] != "ok" or int(info["cluster_known_nodes"]) != nodes


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listens on, on the loopback interface."""
    return _free_port()


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., EmbeddedStore]]:
    """Starts a server of the test's own; keywords are options (`_` for `-`)."""
    with ExitStack() as stack:

        def start(**options: str) -> EmbeddedStore:
            named = {name.replace("_", "-"): value for name, value in options.items()}
            return stack.enter_context(EmbeddedStore(tmp_path / "server", _VOLATILE | named))

        yield start


@pytest.fixture
def two_node_cluster(tmp_path: Path) -> Iterator[str]:
    """A Cluster whose first node has slots 0 to 8191, of the test's own."""
    with ExitStack() as stack:
        yield _start_cluster(stack, tmp_path, nodes=2)


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """One server for the whole session. Do not stop it: `new_server` is for that."""
    with EmbeddedStore(tmp_path_factory.mktemp("store"), _VOLATILE) as server:
        yield server


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Cluster of one node for the whole session."""
    with ExitStack() as stack:
        yield _start_cluster(stack, tmp_path_factory.mktemp("cluster"), nodes=1)


@pytest.fixture
async def store(store_server: EmbeddedStore) -> AsyncIterator[Client]:
    """A client of the session's single server, emptied."""
    client = connect(store_server.url, timeout_seconds=10.0)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def links(store: Client) -> AsyncIterator[Links]:
    """Links to the session's single server, emptied, patient enough for a busy machine."""
    found = Links(store, Breaker(time.monotonic), timeout_seconds=10.0, connect_seconds=10.0)
    yield found
    await found.aclose()


@pytest.fixture(params=["single", "cluster"])
async def any_links(
    request: pytest.FixtureRequest, store_server: EmbeddedStore
) -> AsyncIterator[Links]:
    """Links to a single server, then to a Cluster: the contract holds on both."""
    url = store_server.url
    if request.param == "cluster":
        url = request.getfixturevalue("cluster_url")
    client = connect(url, timeout_seconds=10.0)
    found = Links(client, Breaker(time.monotonic), timeout_seconds=10.0, connect_seconds=10.0)
    await found.ping()
    await client.flushall()
    yield found
    await found.aclose()
    await client.aclose()
