"""What was this person shown? The ledger: one string in the store, read whole, written by Lua only,
but for the first one of somebody new.

Little endian throughout. A header of 16 bytes: layout (u8, 1), spare (u8), totals (u16, how many),
version (u32, changes with every write), folded until (u32, seconds), unlisted (u32). Then totals of
16 bytes, one for each id and channel whose impressions were folded:

    id (u32) what (u8) spare (3) count (u32) last (u32, seconds)

Then records of 36 bytes, in no promised order:

    time (u32) what (u8) measured (u8) hold (u16, seconds)
    advertiser campaign line-item creative page (u32 each) bid key (8 bytes)

`what` is the `Kind` in its low four bits, the `Channel` in its high four. `measured` is 1 where a
sale may be attributed to it, else 0; for caps it does not matter. Ids are the 32-bit hashes
of `bidder.ids`; in a total the id 0 stands for all advertisers together. `hold` is how many seconds
a reservation lasts. `page` is the hash of the page view (`source.tid`), 0 if unknown.

**Folding** keeps a ledger small. Records older than `KEEP_SECONDS`, and the oldest impressions
beyond `MAX_RECORDS`, become totals; clicks and conversions are dropped, after the impressions. Of
an id beyond `MAX_TOTALS` we remember only that it was folded at most `unlisted` times (the
Space-Saving counter of Metwally, Agrawal and El Abbadi 2005). So a count can come out too high,
never too low: a cap may silence too long, and is never exceeded.
"""

from enum import IntEnum
from functools import cache
from itertools import compress
from struct import Struct as Layout
from struct import error

import numpy as np
from msgspec import Struct

HEADER_BYTES = 16
TOTAL_BYTES = 16
RECORD_BYTES = 36
_RECORD_WORDS = RECORD_BYTES // 4
MAX_RECORDS = 128
MAX_TOTALS = 128
MAX_BYTES = HEADER_BYTES + TOTAL_BYTES * MAX_TOTALS + RECORD_BYTES * MAX_RECORDS
KEEP_SECONDS = 31 * 86400
"""Records older than this are folded; the longest rolling window is 30 days."""

MAX_HOLD_SECONDS = 0xFFFF
"""What `hold` can say at most."""

_IMPRESSION, _RESERVATION = 1, 4
"""As of `Kind`, whose members are slow to compare with bytes. Reservations are always display."""

HEADER = Layout("<BxHIII")
_COUNT = Layout("<II")
_NUMBER = np.dtype("<u4")
_RECORD = Layout("<IB?HIIIII8s")
RECORD_DTYPE = np.dtype(
    [
        ("time", "<u4"), ("what", "u1"), ("measured", "u1"), ("hold", "<u2"),
        ("advertiser", "<u4"), ("campaign", "<u4"), ("line_item", "<u4"), ("creative", "<u4"),
        ("page", "<u4"), ("key", "<u8"),
    ]
)  # fmt: skip
"""The same, for many records by columns."""

EVERYONE, ADVERTISER, CAMPAIGN, LINE_ITEM, CREATIVE, PAGE = 0, 2, 3, 4, 5, 6
"""Which word of a record says whose it is; 0 = it does not matter."""


class Kind(IntEnum):
    """What a record says happened."""

    IMPRESSION = 1
    CLICK = 2
    CONVERSION = 3
    RESERVATION = 4
    MERGED = 5
    """Another ledger became part of this one; the bid key stands for whose."""


class Channel(IntEnum):
    """Where it happened. The CRM's contacts count beside our own ads."""

    DISPLAY = 0
    EMAIL = 1
    SMS = 2
    PUSH = 3
    STORE = 4


CHANNELS = {channel.name.lower(): channel for channel in Channel}
ANY_CHANNEL = (1 << len(Channel)) - 1


class Record(Struct, frozen=True):
    """One line of the ledger."""

    time: int
    kind: Kind
    advertiser: int
    campaign: int
    line_item: int
    creative: int
    bid_key: bytes
    """8 bytes; of a contact or a sale that the CRM reports, a hash of its own id."""
    channel: Channel = Channel.DISPLAY
    hold: int = 0
    """Of a reservation: how many seconds it lasts. Of a click or an impression: how many seconds
    after the bid it came, so that the bid's id can be told."""
    page: int = 0
    measured: bool = False
    """Of a click or an impression: sales may be attributed to it (`Permission.measure`)."""

    def pack(self) -> bytes:
        """The 36 bytes of the layout."""
        return _RECORD.pack(
            self.time,
            self.kind | self.channel << 4,
            self.measured,
            min(self.hold, MAX_HOLD_SECONDS),
            self.advertiser,
            self.campaign,
            self.line_item,
            self.creative,
            self.page,
            self.bid_key,
        )


def total_key(name: int, channel: int) -> bytes:
    """How the total of one id's folded impressions in one channel begins."""
    return _COUNT.pack(name, Kind.IMPRESSION | channel << 4)


class Ledger:
    """A ledger opened for counting at one moment, `now` (epoch seconds).

    An exposure is an impression, or a reservation that has not ended. The latter may still become
    an impression, so it stands at `now`.
    """

    __slots__ = (
        "_chosen",
        "_found",
        "_numbers",
        "_of_kind",
        "_owned",
        "_records_at",
        "_times",
        "_whats",
        "folded_until",
        "now",
        "raw",
        "unlisted",
        "version",
    )

    def __init__(self, raw: bytes, now: int) -> None:
        """Raises `ValueError` if `raw` is not a ledger."""
        self.raw = raw
        self.now = now
        self._found: dict[tuple[int, int, int], list[int]] = {}
        self._of_kind: dict[int, bytes] = {}
        self._owned: dict[tuple[int, int], bytes] = {}
        self._chosen: dict[bytes, list[int]] = {}
        """Rows, as zeros and ones, to their times, ascending."""
        self._times: list[int] = []
        self._whats = b""
        if not raw:
            self.version = self.folded_until = self.unlisted = self._records_at = 0
            return
        try:
            layout, totals, self.version, self.folded_until, self.unlisted = HEADER.unpack_from(raw)
        except error as problem:
            raise ValueError(f"not a ledger: {problem}") from None
        self._records_at = start = HEADER_BYTES + totals * TOTAL_BYTES
        if layout != 1 or len(raw) < start or (len(raw) - start) % RECORD_BYTES:
            raise ValueError(f"not a ledger of layout 1: {len(raw)} bytes, {totals} totals")
        self._numbers = np.frombuffer(raw, _NUMBER, offset=start)
        self._times = self._numbers[::_RECORD_WORDS].tolist()
        self._whats = raw[start + 4 :: RECORD_BYTES]
        if _RESERVATION in self._whats:
            self._whats = self._settled()

    def _settled(self) -> bytes:
        """What the records come to at `now`: reservations are exposures, or nothing any more."""
        whats = bytearray(self._whats)
        holds = self._numbers[1::_RECORD_WORDS]
        at = whats.find(_RESERVATION)
        while at >= 0:
            if self._times[at] + int(holds[at] >> 16) > self.now:
                whats[at] = _IMPRESSION
                self._times[at] = self.now
            else:
                whats[at] = 0
            at = whats.find(_RESERVATION, at)
        return bytes(whats)

    def mentions(self, name: int) -> bool:
        """False where no record is of this id, whatever its word: a quick look, which may be true
        for another reason."""
        return name.to_bytes(4, "little") in self.raw

    def exposures(self, word: int, name: int, channels: int) -> list[int]:
        """Ascending times of exposures whose field `word` is `name`; do not change the list.

        `channels` is a bit mask of `Channel`. Folded impressions are not among them.
        """
        return self.times(word, name, channels << 4 | _IMPRESSION)

    def times(self, word: int, name: int, mask: int) -> list[int]:
        """As `exposures`, but of any `Kind`, which is in the low four bits of `mask`; the channels
        are in the others."""
        key = (word, name, mask)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._select(word, name, mask)
        return found

    def _select(self, word: int, name: int, mask: int) -> list[int]:
        """Bytes of 0 and 1, one for each record, are what is quickest to make and to combine; and
        one line item asks for several kinds of the same owner."""
        chosen = self._of_kind.get(mask)
        if chosen is None:
            chosen = self._of_kind[mask] = self._whats.translate(_chooser(mask))
        if word and 1 in chosen:
            owned = self._owned.get((word, name))
            if owned is None:
                # numpy compares 64 numbers in a third of the time that a list takes to be made.
                owned = (self._numbers[word::_RECORD_WORDS] == name).tobytes()
                self._owned[word, name] = owned
            chosen = _both(owned, chosen) if 1 in owned and 0 in chosen else owned
        if 1 not in chosen:
            return []
        found = self._chosen.get(chosen)
        if found is None:  # levels often choose the same records
            found = self._chosen[chosen] = sorted(compress(self._times, chosen))
        return found

    def folded(self, keys: tuple[bytes, ...], most: int) -> list[int]:
        """Times of the folded impressions under these `total_key`s, at most `most` of each.

        Each is said to have happened when the latest of them did: no earlier one can be missed.
        """
        times: list[int] = []
        for key in keys:
            at = self.raw.find(key, HEADER_BYTES, self._records_at)
            while at % TOTAL_BYTES and at > 0:
                at = self.raw.find(key, at + 1, self._records_at)
            if at > 0:
                count, last = _COUNT.unpack_from(self.raw, at + 8)
            else:
                count, last = self.unlisted, self.folded_until
            times += [last] * min(count, most)
        return times

    def advertisers_on(self, page: int) -> set[int]:
        """Whose ads stand on this page view already, or may yet."""
        if not page or not self.mentions(page):
            return set()
        shown = self._whats.translate(_chooser(ANY_CHANNEL << 4 | _IMPRESSION))
        rows = self._numbers.reshape(-1, _RECORD_WORDS)
        here = (rows[:, PAGE] == page) & np.frombuffer(shown, np.bool_)
        return set(rows[here, ADVERTISER].tolist())

    def plus(self, record: Record) -> "Ledger":
        """This ledger as it will be with one more record: for counting, never for storing."""
        return Ledger((self.raw or HEADER.pack(1, 0, 0, 0, 0)) + record.pack(), self.now)

    def records(self) -> list[Record]:
        """Every record, as stored."""
        return [
            Record(
                time=time,
                kind=Kind(what & 15),
                channel=Channel(what >> 4),
                hold=hold,
                advertiser=advertiser,
                campaign=campaign,
                line_item=line_item,
                creative=creative,
                page=page,
                bid_key=bid_key,
                measured=measured,
            )
            for (
                time, what, measured, hold, advertiser, campaign, line_item, creative, page,
                bid_key,
            ) in _RECORD.iter_unpack(self.raw[self._records_at :])
        ]  # fmt: skip


def _both(one: bytes, other: bytes) -> bytes:
    """Where both have a 1."""
    both = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return both.to_bytes(len(one), "little")


@cache
def _chooser(mask: int) -> bytes:
    """Translates `what` to 1 where it has the kind and one of the channels of `mask`, else to 0."""
    return bytes((mask & 15) == (what & 15) and mask >> 4 >> (what >> 4) & 1 for what in range(256))
