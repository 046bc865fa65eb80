"""How fast is `models.dataset`, and on how much memory? Made-up logs of any size, to measure it on.

    python -m models.dataset_synthetic --bids 2000000 --out /tmp/state
    python -m models.dataset --state /tmp/state --out /tmp/dataset

Several writers, files of some 64 MB of which all but the last are compressed, torn lines at their
ends, bids and notices that stand there twice, notices whose bid does not. What is in it follows
from the seed, and is printed.
"""

import argparse
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
from rich.console import Console

from bidder.events.files import file_name
from bidder.events.schema import (
    BidEvent,
    BillingEvent,
    ClickEvent,
    ConversionEvent,
    Event,
    ImpressionEvent,
    Notice,
    encode,
)
from bidder.scoring import features

START = 1_790_000_000
FILE_BYTES = 64 << 20
ROWS = 256
"""Different feature rows; a bid takes one of them."""
DUPLICATES, ORPHANS, TRAIN = 0.01, 0.001, 0.8
WON, CLICKED, SOLD = 0.25, 0.01, 0.05
HOLE = 12345.75
"""Where a time goes."""


class Writer:
    """The files of one process: the last stays plain."""

    def __init__(self, folder: Path, torn: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._torn = torn
        self._lines: list[bytes] = []
        self._size = 0
        self._number = 0

    def add(self, line: bytes, now: float) -> None:
        """One line."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FILE_BYTES:
            self.end(now, compressed=True)

    def end(self, now: float, *, compressed: bool) -> None:
        """End the file, as a crash does: in the middle of a line."""
        self._number += 1
        path = self._folder / file_name(now, self._number)
        content = b"".join([*self._lines, self._torn])
        if compressed:
            with (
                path.with_suffix(".jsonl.zst").open("wb") as raw,
                pyarrow.CompressedOutputStream(raw, "zstd") as stream,
            ):
                stream.write(content)
        else:
            path.write_bytes(content)
        self._lines, self._size = [], 0


class Maker:
    """Makes the lines about one bid after another."""

    def __init__(self, random: Random, people: int) -> None:
        self.counts: Counter[str] = Counter()
        self._random = random
        self._people = people
        rows = [
            [round(random.lognormvariate(2, 2), 3) if random.random() < 0.8 else None
             for _ in features.NAMES]
            for _ in range(ROWS)
        ]  # fmt: skip
        # A bid's line with holes, so that two million of them take a minute and not an hour.
        self._bids = [_bid(row) for row in rows]
        self._notices: dict[type[Notice], list[str]] = {
            kind: _notice(kind)
            for kind in (BillingEvent, ImpressionEvent, ClickEvent, ConversionEvent)
        }

    def lines(self, number: int, now: float) -> list[tuple[float, bytes]]:
        """What is written of bid `number`, made `now`: (time, line)."""
        random = self._random
        bid_id, person = f"{number:016x}", f"p{random.randrange(self._people):015d}"
        lines = []
        train = "true" if random.random() < TRAIN else "false"
        if random.random() >= ORPHANS:
            parts = random.choice(self._bids)
            line = f"{parts[0]}{now}{parts[1]}{bid_id}{parts[2]}{person}{parts[3]}"
            lines.append((now, line.replace('"train":true', f'"train":{train}').encode() + b"\n"))
            self.counts["bids"] += 1
            if random.random() < DUPLICATES:
                lines.append(lines[0])
                self.counts["duplicate bids"] += 1
        if random.random() < WON:
            self.counts["billed"] += 1
            lines += self._heard(bid_id, person, now)
        return lines

    def _heard(self, bid_id: str, person: str, now: float) -> list[tuple[float, bytes]]:
        random = self._random
        told: list[tuple[type[Notice], float]] = [(BillingEvent, 2.0), (ImpressionEvent, 2.1)]
        if random.random() < CLICKED:
            self.counts["clicks"] += 1
            told.append((ClickEvent, 9.0))
            if random.random() < SOLD:
                told.append((ConversionEvent, 60 + random.lognormvariate(7.5, 2.0)))
                self.counts["conversions"] += 1
        lines = []
        for kind, delay in told:
            parts = self._notices[kind]
            text = f"{parts[0]}{now + delay:.3f}{parts[1]}{bid_id}{parts[2]}{int(now)}{parts[3]}"
            text += f"{person}{parts[4]}"
            if kind is ConversionEvent:
                text = text.replace("order-", f"order-{bid_id}")
            lines.append((now + delay, text.encode() + b"\n"))
            if random.random() < DUPLICATES:
                lines.append(lines[-1])
                self.counts["duplicate notices"] += 1
        return lines


def make(state: Path, bids: int, writers: int, days: float, seed: int) -> Counter[str]:
    """Write `bids` bids under `state`/events and say what is in it."""
    random = Random(seed)
    maker = Maker(random, max(bids // 50, 1))
    folders = [
        Writer(state / "events" / f"worker-{n}", b'{"type":"bid","time":17') for n in range(writers)
    ]
    now = float(START)
    for number in range(bids):
        now = round(START + days * 86400 * number / bids, 3)
        for _, line in maker.lines(number, now):
            folders[random.randrange(writers)].add(line, now)
    for folder in folders:
        folder.end(now, compressed=False)
    return maker.counts


def _bid(row: list[float | None]) -> list[str]:
    event = BidEvent(
        time=HOLE, bid_id="#", request_id="r", imp_id="1", exchange="demo",
        line_item="lumen/winter/basket", creative="banner", price_cpm_micros=2_000_000,
        currency="EUR", value_cpm_micros=3_000_000, account_currency="EUR", rate=1.0,
        first_price=True, person="#", p_click=0.002, p_conversion=0.01, model="m", features=row,
        feature_version=features.VERSION, country="FRA", device="mobile", domain="news.example",
        consent=True, train=True,
    )  # fmt: skip
    return _parts(event)


def _notice(kind: type[Notice]) -> list[str]:
    more: dict[str, Any] = {"cost_micros": 1500} if kind is BillingEvent else {}
    if kind is ConversionEvent:
        more = {"order": "order-", "value_micros": 80_000_000}
    event = kind(
        time=HOLE, bid_id="#", exchange="demo", line_item="lumen/winter/basket",
        creative="banner", bid_time=HOLE, bid_cpm_micros=2_000_000, currency="EUR",
        account_currency="EUR", rate=1.0, hold="w0", ids=(1, 2, 3, 4), person="#", **more,
    )  # fmt: skip
    return _parts(event)


def _parts(event: Event) -> list[str]:
    """The line of an event, cut where times and ids go."""
    return encode(event).decode().replace(str(HOLE), "#").rstrip("\n").split("#")


def main() -> None:
    """Write a log and say what is in it."""
    parser = argparse.ArgumentParser(prog="python -m models.dataset_synthetic", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, metavar="STATE")
    parser.add_argument("--bids", type=int, default=100_000)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--days", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun = time.monotonic()
    counts = make(given.out, given.bids, given.writers, given.days, given.seed)
    took = time.monotonic() - begun
    Console().print({**counts, "torn lines": "one a file", "seconds": round(took, 1)})


if __name__ == "__main__":
    main()
