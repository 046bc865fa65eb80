"""A whole bidder as a child: its processes, its state in a folder of the test's own, its faults."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import redis

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
REQUEST = json.loads((ROOT / "config/demo/request.json").read_bytes())

CAMPAIGNS = """
advertiser: shop
domain: shop.example
currency: EUR
timezone: UTC
categories: [IAB22]
campaigns:
  - id: wide
    flight: {start: 2026-01-01}
    budget: {total: 1000000, daily: 500000, pacing: asap}
    goal: {cpm: 2.00}
    line_items:
      - id: known
        audience: {any_of: [visitor]}
        bid: {max_cpm: 4.00}
        creatives:
          - {id: known-300x250, size: 300x250, image: "https://cdn.shop.example/a.jpg", click: "https://shop.example/a"}
      - id: anyone
        unknown_people: serve
        bid: {max_cpm: 2.00}
        creatives:
          - {id: any-300x250, size: 300x250, image: "https://cdn.shop.example/b.jpg", click: "https://shop.example/b"}
"""
"""Two line items with money for every test: one for people we know, one for all."""


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def bid(self) -> dict[str, Any]:
        """The first bid in it."""
        assert self.status == 200, self.status
        bid: dict[str, Any] = json.loads(self.body)["seatbid"][0]["bid"][0]
        return bid


def eventually(what: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of `what`; fails if there is none in time."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Bidder:
    """`bidder serve` on ports and in a folder of its own."""

    def __init__(self, folder: Path, settings: str = "", campaigns: str = "", **more: str) -> None:
        """`settings` is appended to bidder.yaml; `campaigns` replaces the demo's; `more` is set in
        the environment."""
        self.folder = folder
        self.config = folder / "config"
        self.state = folder / "state"
        self.campaigns = campaigns
        shutil.copytree(ROOT / "config", self.config)
        if campaigns:
            shutil.rmtree(self.config / "campaigns")
            (self.config / "campaigns").mkdir()
            (self.config / "campaigns" / "shop.yaml").write_text(campaigns)
        (self.config / "bidder.yaml").write_text(
            f"tcf: {{vendor_id: 1234}}\nmodels: {ROOT / 'models/demo'}\n{settings}"
        )
        self.port, self.ops_port = free_port(), free_port()
        self.environment = {
            **os.environ,
            "PORT": str(self.port),
            "OPS_PORT": str(self.ops_port),
            "STATE_DIR": str(self.state),
            **more,
        }
        self.said = folder / "said.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return once it is ready."""
        self.launch()
        eventually(self.is_ready)

    def launch(self, seed: bool = True) -> None:
        """Start, and return at once."""
        with self.said.open("ab") as said:
            command = [sys.executable, "-m", "bidder", "serve", "--config", str(self.config)]
            if seed:
                command += ["--seed", str(self.config / "demo/people.jsonl")]
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=said, stderr=said
            )

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self.process is not None
        return self.process.pid

    def children(self) -> list[psutil.Process]:
        """The supervisor's child processes, theirs too."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[psutil.Process]:
        """The worker processes, in the order of their numbers."""
        found = []
        for child in self.children():
            try:
                line = child.cmdline()
            except psutil.Error:
                continue
            if "worker" in line:
                found.append((line[line.index("worker") + 1], child))
        return [child for _, child in sorted(found, key=lambda pair: pair[0])]

    def signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        os.kill(self.pid, number)

    def ended(self, seconds: float = 25.0) -> int:
        """Wait until it has ended; its status."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self) -> None:
        """End it the quick way, if it runs, and everything it started."""
        if self.process is None:
            return
        family = self.children()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=10)
        for left in alive:
            left.kill()

    # HTTP

    def ask(
        self, method: str, path: str, body: bytes | None = None, port: int = 0, **headers: str
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            given = {name.lower(): text for name, text in answer.getheaders()}
            return Answer(answer.status, given, answer.read())
        finally:
            connection.close()

    def post(self, request: dict[str, Any] | bytes | None = None, **headers: str) -> Answer:
        """A bid request; the demo's unless one is given."""
        if not isinstance(request, bytes):
            request = json.dumps(request if request is not None else REQUEST).encode()
        return self.ask("POST", "/openrtb2/demo", request, **headers)

    def call(self, url: str, price: float | None = None) -> Answer:
        """A notice or pixel, its price macro replaced."""
        if price is not None:
            url = url.replace("${AUCTION_PRICE}", str(price))
        parts = urlsplit(url)
        return self.ask("GET", f"{parts.path}?{parts.query}")

    def is_ready(self) -> bool:
        """Whether it says so itself. Fails if it has ended."""
        assert self.process is not None
        assert self.process.poll() is None, self.said.read_text()
        try:
            return self.ask("GET", "/-/ready", port=self.ops_port).status == 200
        except OSError:
            return False

    def metrics(self) -> dict[str, float]:
        """The metrics page: `name{label="value"}` -> value."""
        page = self.ask("GET", "/metrics", port=self.ops_port)
        assert page.status == 200
        found = {}
        for line in page.body.decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series of a name that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value
            for series, value in self.metrics().items()
            if re.match(rf"{name}(\{{|$)", series) and all(one in series for one in wanted)
        )

    def reload(self, **headers: str) -> Answer:
        """`POST /-/reload`."""
        return self.ask("POST", "/-/reload", port=self.ops_port, **headers)

    # What it wrote

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The lines of one kind in the log."""
        found = []
        for path in sorted((self.state / "events").glob("*/*.jsonl")):
            lines = path.read_bytes().split(b"\n")[:-1]
            found += [event for event in map(json.loads, lines) if event["type"] == kind]
        return found

    def store(self) -> redis.Redis:
        """A client of its store."""
        url = (self.state / "store.url").read_text()
        return redis.Redis.from_url(url)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of the commands, on the same configuration."""
        command = [sys.executable, "-m", "bidder", *arguments, "--config", str(self.config)]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=60
        )


@pytest.fixture(scope="module")
def bidders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Bidder]]:
    """Makes bidders that are ended with the module; not started yet."""
    with ExitStack() as stack:

        def make(settings: str = "", campaigns: str = CAMPAIGNS, **more: str) -> Bidder:
            bidder = Bidder(tmp_path_factory.mktemp("bidder"), settings, campaigns, **more)
            stack.callback(bidder.stop)
            return bidder

        yield make


@pytest.fixture(scope="session")
def soon() -> Callable[..., Any]:
    """Waits for something to become true."""
    return eventually
