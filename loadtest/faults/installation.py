"""How is a bidder run that may be broken? With a folder, ports, a store, people of its own."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psutil
import redis

from loadtest.bench.servers import NotReady, free_port
from loadtest.load.ops import OpsUnreachable, scrape

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PEOPLE = 2_000
READY_SECONDS = 90.0
END_SECONDS = 25.0
DISK_BYTES = 32 << 20
"""Size of the file system that holds the log, where a fault is to fill it."""
_SETTINGS = """\
# Written by `python -m loadtest faults`.
workers: {workers}
drain: 1s
models: {models}
limits: {{request_seconds: 2s}}
tcf: {{vendor_id: 1234}}
"""


class Installation:
    """`bidder serve` on ports and in a folder of its own, from `start` to `stop`."""

    def __init__(
        self, folder: Path, *, workers: int = 2, people: int = PEOPLE, disk: bool = False
    ) -> None:
        """`disk`: the log stands on a small file system of its own, if this machine lets us."""
        self.folder = folder
        self.config = folder / "config"
        self.state = folder / "state"
        self.models = folder / "models"
        self.port, self.ops_port = free_port(), free_port()
        self.ops = f"http://127.0.0.1:{self.ops_port}"
        self.own_disk = disk and _can_mount()
        self._said = folder / "said.txt"
        self._clock = folder / "clock"
        self._process: subprocess.Popen[bytes] | None = None
        self._write(workers, people)

    def _write(self, workers: int, people: int) -> None:
        shutil.copytree(ROOT / "config", self.config)
        shutil.rmtree(self.config / "campaigns")
        (self.config / "campaigns").mkdir()
        shutil.copy(HERE / "shop.yaml", self.campaigns)
        self.models.mkdir()
        shutil.copytree(ROOT / "models" / "demo", self.models / "first")
        (self.models / "current").symlink_to("first")
        text = _SETTINGS.format(workers=workers, models=json.dumps(str(self.models / "current")))
        (self.config / "bidder.yaml").write_text(text)
        lines = [
            {
                "ids": [["buyeruid.demo", f"person-{number}"]],
                "profile": {"segments": {"visitor": "-1d"}, "first_seen": "-9d"},
            }
            for number in range(people)
        ]
        self._people.write_text("\n".join(map(json.dumps, lines)) + "\n")
        self.shift_clock(0.0)

    @property
    def campaigns(self) -> Path:
        """The traders' file."""
        return self.config / "campaigns" / "shop.yaml"

    @property
    def _people(self) -> Path:
        return self.folder / "people.jsonl"

    @property
    def events(self) -> Path:
        """The folder of the log; of a running bidder only, where it has a disk of its own."""
        inside = Path(f"/proc/{self.pid}/root") if self.own_disk else Path("/")
        return inside / (self.state / "events").relative_to("/")

    @property
    def said(self) -> str:
        """What it wrote to its standard output and error."""
        return self._said.read_text(errors="replace")

    def start(self) -> None:
        """Start, and return once it is ready. Raises `NotReady`."""
        command = [sys.executable, "-m", "bidder", "serve", "--config", str(self.config)]
        command += ["--seed", str(self._people)]
        if self.own_disk:
            command = _on_own_disk(self.state / "events", command)
        environment = os.environ | {
            "PORT": str(self.port),
            "OPS_PORT": str(self.ops_port),
            "STATE_DIR": str(self.state),
            "PYTHONPATH": str(HERE / "clock"),
            "LOADTEST_CLOCK": str(self._clock),
        }
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=said, stderr=said
            )
        end = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                raise NotReady(f"the bidder did not start: {self.said[-2000:]}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urlopen(f"{self.ops}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        if self._process is None:
            raise NotReady("the bidder has not been started")
        return self._process.pid

    def processes(self) -> dict[str, int]:
        """What runs: `supervisor`, `worker 0`..., `store` -> pid."""
        found = {"supervisor": self.pid}
        for child in _children(self.pid):
            try:
                line, name = child.cmdline(), child.name()
            except psutil.Error:
                continue
            if "worker" in line:
                found[f"worker {line[line.index('worker') + 1]}"] = child.pid
            elif name.startswith(("valkey", "redis")):
                found["store"] = child.pid
        return found

    def store(self) -> redis.Redis:
        """A client of its store."""
        url = (self.state / "store.url").read_text()
        return redis.Redis.from_url(url, socket_timeout=5.0)

    def metrics(self) -> dict[str, float]:
        """Its metrics page; empty if it does not answer."""
        try:
            return scrape(self.ops)
        except OpsUnreachable:
            return {}

    def reload(self) -> int:
        """`POST /-/reload`: the status."""
        try:
            with urlopen(Request(f"{self.ops}/-/reload", method="POST"), timeout=60) as answer:
                return int(answer.status)
        except HTTPError as refused:
            with refused:
                return refused.code

    def shift_clock(self, seconds: float) -> None:
        """From now on it believes to live so much later than we do."""
        if not self._clock.exists():
            self._clock.write_bytes(bytes(8))
        with self._clock.open("r+b") as file:
            file.write(struct.pack("<d", seconds))

    def second_models(self) -> str:
        """Lay other models beside the first: the name of their folder.

        They say the same, but are another version: a byte of white space changes their checksum.
        """
        folder = self.models / "second"
        if not folder.exists():
            shutil.copytree(self.models / "first", folder)
            calibration = (folder / "calibration.json").read_bytes() + b"\n"
            (folder / "calibration.json").write_bytes(calibration)
            manifest = json.loads((folder / "manifest.json").read_bytes())
            manifest["calibration"]["sha256"] = sha256(calibration).hexdigest()
            (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder.name

    def stop(self) -> None:
        """End it and all it started."""
        if self._process is None:
            return
        family = _children(self._process.pid)
        if self._process.poll() is None:
            for child in family:
                _quietly(child.resume)
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        _, alive = psutil.wait_procs(family, timeout=10)
        for left in alive:
            _quietly(left.kill)
        self._process = None


def _children(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _quietly(what: Callable[[], None]) -> None:
    try:
        what()
    except psutil.Error:
        return


def _unshare() -> list[str]:
    """A mount namespace of our own, as root or as a user who may have one."""
    return ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def _can_mount() -> bool:
    """May we mount a file system that nobody else sees?"""
    if shutil.which("unshare") is None or not Path("/proc/self/root").exists():
        return False
    with tempfile.TemporaryDirectory() as place:
        test = [*_unshare(), "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
        return subprocess.run(test, capture_output=True).returncode == 0


def _on_own_disk(place: Path, command: list[str]) -> list[str]:
    """`command`, run where a small file system is mounted at `place`, which ends with it."""
    place.mkdir(parents=True)
    script = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$0" && exec "$@"'
    return [*_unshare(), "sh", "-c", script, str(place), *command]
