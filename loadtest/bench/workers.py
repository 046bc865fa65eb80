"""What does another worker bring, and what does it cost? Requests a second, CPU and memory.

    python -m loadtest.bench.workers [--plot docs/workers.png] [--json build/workers.json]

The bench's workload against a bidder with one, two and more workers, which share this machine's
cores with the client and the store: so the rate stops growing where the cores end.
"""

import argparse
import json
import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

import matplotlib
import msgspec
import psutil

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from bidder.store.embedded import EmbeddedStore
from loadtest.bench import settings, workload
from loadtest.bench.command import LOAD, SERVE, TRAIN, Commands, start_bidder
from loadtest.load.bodies import read
from loadtest.load.generator import Generators, Step
from loadtest.load.probe import probe
from loadtest.load.usage import Watch

PEOPLE = 20_000
"""In the store: they are loaded anew for each number of workers."""


class Measured(NamedTuple):
    """One bidder under a closed loop: as many requests as it takes."""

    workers: int
    rps: float
    cpu_us: float
    """Of all its processes, per answered request."""
    p99_ms: float
    bid_rate: float
    """Share answered with a bid: a worker that is at its limit sheds the rest."""
    worker_mb: float
    """Unique to a worker, on average; what all share is not in it."""
    supervisor_mb: float
    shared_mb: float
    """What a worker shares with others: libraries, above all."""


def measured(folder: Path, workers: int, seconds: float) -> Measured:
    """Start a bidder with so many workers in `folder`, load it, look at it, end it."""
    work = msgspec.structs.replace(workload.load(), people=PEOPLE)
    models = folder / "models"
    with ExitStack() as stack:
        workload.write(work, folder, time.time())
        for stale in ("state", "store"):
            shutil.rmtree(folder / stale, ignore_errors=True)
        store = stack.enter_context(EmbeddedStore(folder / "store"))
        settings.write(folder / "config", work, store.url, models, workers)
        commands = Commands(SERVE, LOAD, (TRAIN,), ops=True)
        port, pid, _ = start_bidder(stack, work, commands, folder, models, None)
        url = f"http://127.0.0.1:{port}/openrtb2/{work.exchange}"
        sent = read(folder / "bodies.jsonl")
        probe(url, sent, work.drawn, Random(work.seed))
        with Generators(url, sent, connections=64, people=work.drawn, seed=workers) as load:
            load.run(Step(0, seconds / 2))  # the first requests find everything cold
            watch = Watch((pid,))
            result = load.run(Step(0, seconds))
            used = watch.usage().cpu_seconds
        children = psutil.Process(pid).children(recursive=True)
        memory = [child.memory_full_info() for child in children]
        own = [each.uss / 1e6 for each in memory]
        return Measured(
            workers,
            result.achieved_rps,
            used / result.answered * 1e6,
            result.p99_ms,
            result.bid_rate,
            sum(own) / len(own),
            psutil.Process(pid).memory_full_info().uss / 1e6,
            sum((each.rss - each.uss) / 1e6 for each in memory) / len(memory),
        )


def drawn(rows: list[Measured], path: Path) -> None:
    """Rate, CPU and memory against the number of workers."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    workers = [row.workers for row in rows]
    panels[0].plot(workers, [row.rps for row in rows], marker="o")
    panels[0].set_ylabel("requests a second")
    panels[0].axvline(os.cpu_count() or 1, color="grey", linestyle=":", label="cores")
    panels[0].legend(frameon=False)
    panels[1].plot(workers, [row.cpu_us for row in rows], marker="o")
    panels[1].set_ylabel("µs of CPU a request")
    panels[2].stackplot(
        workers,
        [row.supervisor_mb for row in rows],
        [row.workers * row.worker_mb for row in rows],
        labels=("supervisor", "workers"),
        alpha=0.7,
    )
    panels[2].set_ylabel("MB of their own")
    panels[2].legend(frameon=False, loc="upper left")
    for panel in panels:
        panel.set_xlabel("workers")
        panel.set_xticks(workers)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Measure, print, draw."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--workers", default="1,2,4", help="how many, one after another")
    reader.add_argument("--seconds", type=float, default=10.0)
    reader.add_argument("--folder", type=Path, default=Path("build/bench-workers"))
    reader.add_argument("--plot", type=Path)
    reader.add_argument("--json", type=Path)
    given = reader.parse_args()
    rows: list[Measured] = []
    for workers in map(int, given.workers.split(",")):
        row = measured(given.folder.absolute(), workers, given.seconds)
        rows.append(row)
        print(
            f"{row.workers} workers: {row.rps:,.0f} requests a second, {row.cpu_us:,.0f} µs each,"
            f" p99 {row.p99_ms:.0f} ms, {row.bid_rate:.0%} bids; {row.worker_mb:.0f} MB a worker"
            f" and {row.shared_mb:.0f} shared, supervisor {row.supervisor_mb:.0f}",
            flush=True,
        )
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps([row._asdict() for row in rows], indent=2))
    if given.plot:
        drawn(rows, given.plot)


if __name__ == "__main__":
    main()
