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
from collections.abc import Iterator
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
    LossEvent,
    Notice,
    WinEvent,
    encode,
)
from bidder.ids import to_text
from bidder.scoring import features

START = 1_790_000_000
FILE_BYTES = 64 << 20
ROWS = 4096
"""Different feature rows; a bid takes one of them."""
DUPLICATES, ORPHANS, TRAIN = 0.01, 0.001, 0.8
WON, LOSS_TOLD, BILLED, SEEN = 0.4, 0.5, 0.95, 0.98
"""Of bids, of lost ones, of won ones, of billed ones."""
CLICKED, SOLD, SOLD_UNCLICKED = 0.01, 0.05, 0.0005
"""Of billed impressions, of clicks, of billed impressions without a click."""
HOLE = 12345.75
"""Where a time goes."""
Line = tuple[float, bytes]
"""What is written, and when."""


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
        self._people = [to_text(random.randbytes(12)) for _ in range(people)]
        rows = [
            [round(random.lognormvariate(2, 2), 3) if random.random() < 0.8 else None
             for _ in features.NAMES]
            for _ in range(ROWS)
        ]  # fmt: skip
        # A bid's line with holes, so that ten million of them take minutes and not hours.
        self._bids = [_bid(row, random.random() < TRAIN) for row in rows]
        self._notices = {kind: _notice(kind, more) for kind, more in TOLD.items()}

    def lines(self, now: float) -> list[Line]:
        """What is written of a bid that was made `now`."""
        random = self._random
        bid_id = to_text(int(now).to_bytes(4, "big") + random.randbytes(8))
        person = random.choice(self._people)
        lines: list[Line] = []
        if random.random() >= ORPHANS:
            parts = random.choice(self._bids)
            line = f"{parts[0]}{now}{parts[1]}{bid_id}{parts[2]}{bid_id}{parts[3]}{person}"
            self._write(lines, now, line + parts[4], "bids")
        for kind, delay in self._told():
            parts = self._notices[kind]
            line = f"{parts[0]}{now + delay:.3f}{parts[1]}{bid_id}{parts[2]}{int(now)}{parts[3]}"
            line += person + parts[4]
            if kind is ConversionEvent:
                line += bid_id + parts[5]
            self._write(lines, now + delay, line, "notices")
        return lines

    def _write(self, lines: list[Line], now: float, line: str, what: str) -> None:
        self.counts[what] += 1
        written = now, line.encode() + b"\n"
        lines.append(written)
        if self._random.random() < DUPLICATES:
            self.counts[f"duplicate {what}"] += 1
            lines.append(written)

    def _told(self) -> Iterator[tuple[type[Notice], float]]:
        """What is heard of a bid, and how many seconds after it."""
        chance = self._random.random
        if chance() >= WON:
            if chance() < LOSS_TOLD:
                yield LossEvent, 1.0
            return
        yield WinEvent, 1.0
        if chance() >= BILLED:
            return
        self.counts["billed"] += 1
        yield BillingEvent, 2.0
        if chance() < SEEN:
            yield ImpressionEvent, 2.1
        clicked = chance() < CLICKED
        if clicked:
            self.counts["clicks"] += 1
            yield ClickEvent, 9.0
        if chance() < (SOLD if clicked else SOLD_UNCLICKED):
            self.counts["orders"] += 1
            yield ConversionEvent, 60 + self._random.lognormvariate(7.5, 2.0)


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
        for _, line in maker.lines(now):
            folders[random.randrange(writers)].add(line, now)
    for folder in folders:
        folder.end(now, compressed=False)
    return maker.counts


def _bid(row: list[float | None], train: bool) -> list[str]:
    event = BidEvent(
        time=HOLE, bid_id="#", request_id="#", imp_id="1", exchange="demo",
        line_item="lumen/winter/basket", creative="product-300x250", price_cpm_micros=2_000_000,
        currency="EUR", value_cpm_micros=3_000_000, account_currency="EUR", rate=1.0,
        first_price=True, floor_cpm_micros=100_000, size="300x250", person="#",
        p_click=0.00217350213363054, p_conversion=0.0108113488538392, model="aa0c0ca0efde",
        features=row, feature_version=features.VERSION, country="FR", device="mobile", os="ios",
        browser="safari", domain="news.example", publisher="pub-44", consent=True, train=train,
    )  # fmt: skip
    return _parts(event)


TOLD: dict[type[Notice], dict[str, Any]] = {
    WinEvent: {"price_cpm_micros": 1_500_000},
    LossEvent: {"reason": 102, "minimum_to_win_cpm_micros": 2_100_000},
    BillingEvent: {"price_cpm_micros": 1_500_000, "cost_micros": 1500},
    ImpressionEvent: {},
    ClickEvent: {"click_id": "A" * 134},
    ConversionEvent: {"order": "#", "value_micros": 80_000_000},
}
"""What each kind of notice says beside what all say."""


def _notice(kind: type[Notice], more: dict[str, Any]) -> list[str]:
    event = kind(
        time=HOLE, bid_id="#", exchange="demo", line_item="lumen/winter/basket",
        creative="product-300x250", bid_time=HOLE, bid_cpm_micros=2_000_000, currency="EUR",
        account_currency="EUR", rate=1.0, hold="worker-0", ids=(1, 2, 3, 4), person="#",
        hold_until=1790000000.0, day="2026-09-21", page=3317182093, measure=True, **more,
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
