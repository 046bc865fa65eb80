"""What does the bidder have to show? Its log, read as plain JSON, and its counters in the store."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import time

import orjson
import redis

from bidder import ids
from bidder.capping import Kind, Ledger
from bidder.capping.ledger import HEADER_BYTES, RECORD_BYTES, TOTAL_BYTES
from bidder.events.reading import opened
from loadtest.faults.truth import ACCEPTED


@dataclass(slots=True)
class Logged:
    """What stands in the log."""

    bids: set[str] = field(default_factory=set)
    lines: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(kind, bid id) of a notice -> in how many lines."""
    costs: dict[str, set[int]] = field(default_factory=dict)
    """Bid id -> the micros that its billings say."""
    inferred: set[str] = field(default_factory=set)
    """Bids that were billed for want of a billing notice."""
    people: set[str] = field(default_factory=set)
    """Bids of which some notice names a person."""
    torn: int = 0
    """Lines that are not whole."""

    def of(self, kind: str) -> set[str]:
        """The bids with such a notice."""
        return {bid for of, bid in self.lines if of == kind}


@dataclass(slots=True)
class Counted:
    """What the counters in the store say, of all campaigns and people together."""

    impressions: int = 0
    spent_micros: int = 0
    pixels: int = 0
    clicks: int = 0
    ledger_impressions: Counter[bytes] = field(default_factory=Counter)
    """Bid key -> how many impressions of it stand in ledgers."""
    ledger_clicks: Counter[bytes] = field(default_factory=Counter)
    folded: int = 0
    """Ledgers in which old records were folded into totals: they no longer name every bid."""


def latest_time(events: Path) -> float:
    """The latest time of day that a log's files end with, in epoch seconds; 0 if there is none."""
    ends = [path.read_bytes().rpartition(b"\n")[0] for path in events.glob("*/*.jsonl")]
    lines = [end.rpartition(b"\n")[2] for end in ends if end]
    return max((float(orjson.loads(line)["time"]) for line in lines), default=0.0)


def read_log(events: Path, *, bids: bool = True) -> Logged:
    """The log under the folder `events`. `bids`: also read the lines about bids, which are many."""
    found = Logged()
    plain = set(events.glob("*/*.jsonl"))
    packed = {path for path in events.glob("*/*.jsonl.zst") if path.with_suffix("") not in plain}
    for path in sorted(plain | packed):
        with opened(path) as lines:
            _take(found, lines, bids)
    return found


def _take(found: Logged, lines: Iterable[bytes], bids: bool) -> None:
    for line in lines:
        if not bids and line.startswith(b'{"type":"bid"'):
            continue
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            found.torn += 1
            continue
        kind = event["type"]
        if kind == "bid":
            found.bids.add(event["bid_id"])
        elif kind in ACCEPTED:
            bid = event["bid_id"]
            found.lines[kind, bid] += 1
            if event.get("person"):
                found.people.add(bid)
            if kind == "billing":
                found.costs.setdefault(bid, set()).add(event.get("cost_micros", 0))
                if event.get("inferred"):
                    found.inferred.add(bid)


def read_counters(store: redis.Redis) -> Counted:
    """The counters of every campaign and the ledgers of everyone. Raises `redis.RedisError`."""
    found = Counted()
    for key in store.scan_iter("c:{*}:money", count=1000):
        spent, impressions, pixels, clicks = (
            int(value or 0)
            for value in store.hmget(key, ["spent", "impressions", "pixels", "clicks"])
        )
        found.spent_micros += spent
        found.impressions += impressions
        found.pixels += pixels
        found.clicks += clicks
    names = list(store.scan_iter("l:{*}", count=1000))
    for first in range(0, len(names), 500):
        for raw in store.mget(names[first : first + 500]):
            _read_ledger(found, raw)
    return found


def _read_ledger(found: Counted, raw: object) -> None:
    if not isinstance(raw, bytes) or not raw:  # gone since it was listed
        return
    Ledger(raw, int(time()))  # raises ValueError if it is none
    totals = int.from_bytes(raw[2:4], "little")
    found.folded += totals > 0
    start = HEADER_BYTES + totals * TOTAL_BYTES
    for at in range(start, len(raw), RECORD_BYTES):
        kind, key = (
            raw[at + 4] & 0x0F,
            raw[at + RECORD_BYTES - ids.BID_KEY_BYTES : at + RECORD_BYTES],
        )
        if kind == Kind.IMPRESSION:
            found.ledger_impressions[key] += 1
        elif kind == Kind.CLICK:
            found.ledger_clicks[key] += 1
