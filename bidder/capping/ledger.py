"""What was this person shown? The ledger: one string in the store, read whole, written by Lua only.

Layout, little endian. A header of 16 bytes: format (u8, 1), flags (u8, bit 0 = totals overflowed),
totals (u16, how many), version (u32, changes with every write), folded until (u32, seconds), 4
spare. Then the totals, 12 bytes each, of records that were folded: id (u32), kind (u8), channel (u8), 2
spare, count (u32). Then the records, 36 bytes each, in no promised order:

    time (u32) kind (u8) channel and specificity (u4 each) hold (u16)
    advertiser campaign line-item creative page (u32 each) bid key (8 bytes)

Ids are the 32-bit hashes of `bidder.ids`; the id 0 in a total stands for all advertisers together.
`hold` is how many seconds a reservation lasts. `page` is the hash of the page view (`source.tid`).
"""

from enum import IntEnum
from struct import Struct as Layout

from msgspec import Struct

HEADER_BYTES = 16
TOTAL_BYTES = 12
RECORD_BYTES = 36
RECORD_WORDS = RECORD_BYTES // 4
MAX_RECORDS = 128
"""Beyond this the oldest records are folded into totals."""
MAX_TOTALS = 256
KEEP_SECONDS = 31 * 86400
"""Records older than this are folded; the longest rolling window is 30 days."""

_HEADER = Layout("<BBHII4x")
_TOTAL = Layout("<IBB2xI")
_RECORD = Layout("<IBBHIIIII8s")


class Kind(IntEnum):
    """What a record says happened."""

    IMPRESSION = 1
    CLICK = 2
    CONVERSION = 3
    RESERVATION = 4


class Channel(IntEnum):
    """Where it happened. The CRM's contacts count beside our own ads."""

    DISPLAY = 0
    EMAIL = 1
    SMS = 2
    PUSH = 3
    STORE = 4


CHANNELS = {channel.name.lower(): channel for channel in Channel}


class Record(Struct, frozen=True):
    """One line of the ledger."""

    time: int
    kind: Kind
    advertiser: int
    campaign: int
    line_item: int
    creative: int
    bid_key: bytes
    channel: Channel = Channel.DISPLAY
    specificity: int = 0
    """How personal the ad was, 0..15."""
    hold: int = 0
    page: int = 0

    def pack(self) -> bytes:
        """The 36 bytes of the layout."""
        return _RECORD.pack(
            self.time,
            self.kind,
            self.channel | self.specificity << 4,
            min(self.hold, 0xFFFF),
            self.advertiser,
            self.campaign,
            self.line_item,
            self.creative,
            self.page,
            self.bid_key,
        )


class Ledger:
    """A ledger opened for counting. Columns are lists, one entry a record."""

    __slots__ = (
        "_columns",
        "_exposures",
        "folded_until",
        "overflowed",
        "raw",
        "times",
        "totals",
        "version",
        "words",
    )

    def __init__(self, raw: bytes) -> None:
        """Raises `ValueError` if `raw` is not a ledger."""
        self.raw = raw
        self.version = 0
        self.folded_until = 0
        self.overflowed = False
        self.totals: dict[tuple[int, int, int], int] = {}
        self.times: list[int] = []
        self.words: list[int] = []
        """Word 1 of each record: kind, channel, specificity and hold."""
        self._columns: memoryview | None = None
        self._exposures: dict[tuple[int, int, int], list[int]] = {}
        if raw:
            self._open(raw)

    def _open(self, raw: bytes) -> None:
        layout, flags, totals, self.version, self.folded_until = _HEADER.unpack_from(raw)
        if layout != 1:
            raise ValueError(f"ledger layout {layout} is not known")
        self.overflowed = bool(flags & 1)
        start = HEADER_BYTES + totals * TOTAL_BYTES
        if totals:
            for name, kind, channel, count in _TOTAL.iter_unpack(raw[HEADER_BYTES:start]):
                self.totals[name, kind, channel] = count
        words = memoryview(raw)[start:].cast("I")
        self._columns = words
        self.times = words[0::RECORD_WORDS].tolist()
        self.words = words[1::RECORD_WORDS].tolist()

    def column(self, word: int) -> list[int]:
        """One field of every record: 2 advertiser, 3 campaign, 4 line item, 5 creative, 6 page."""
        return [] if self._columns is None else self._columns[word::RECORD_WORDS].tolist()

    def exposures(self, word: int, name: int, channels: int, now: int) -> list[int]:
        """Ascending times of exposures whose field `word` is `name` (`word` 0 = of anyone).

        An exposure is an impression, or a reservation that has not ended by `now`; the latter may
        still become an impression, so it stands at `now`. `channels` is a bit mask of `Channel`.
        """
        key = (word, name, channels)
        found = self._exposures.get(key)
        if found is None:
            if word:
                rows = [
                    (time, flags)
                    for time, flags, owner in zip(
                        self.times, self.words, self.column(word), strict=True
                    )
                    if owner == name
                ]
            else:
                rows = list(zip(self.times, self.words, strict=True))
            found = []
            for time, flags in rows:
                if channels >> (flags >> 8 & 15) & 1:
                    kind = flags & 255
                    if kind == Kind.IMPRESSION:
                        found.append(time)
                    elif kind == Kind.RESERVATION and time + (flags >> 16) > now:
                        found.append(now)
            found.sort()
            self._exposures[key] = found
        return found

    def folded(self, name: int, kind: int, channels: int) -> int:
        """How many folded records of this kind belong to `name`, over the masked channels."""
        if not self.totals:
            return 0
        return sum(
            count
            for (owner, what, channel), count in self.totals.items()
            if owner == name and what == kind and channels >> channel & 1
        )

    def actions(self, kind: int, advertiser: int) -> list[int]:
        """Ascending times of the clicks or conversions (`kind`) of one advertiser."""
        rows = zip(self.times, self.words, self.column(2), strict=True)
        return sorted(
            [time for time, flags, owner in rows if flags & 255 == kind and owner == advertiser]
        )

    def advertisers_on(self, page: int) -> set[int]:
        """Whose ads stand on this page view already, or may yet."""
        pages = zip(self.column(6), self.column(2), strict=True)
        return {advertiser for shown_on, advertiser in pages if shown_on == page}

    def plus(self, record: Record) -> "Ledger":
        """This ledger as it will be with one more record: for counting, never for storing."""
        return Ledger((self.raw or _HEADER.pack(1, 0, 0, 0, 0)) + record.pack())

    def records(self) -> list[Record]:
        """Every record, as stored."""
        if self._columns is None:
            return []
        return [
            Record(
                time=time,
                kind=Kind(kind),
                channel=Channel(where & 15),
                specificity=where >> 4,
                hold=hold,
                advertiser=advertiser,
                campaign=campaign,
                line_item=line_item,
                creative=creative,
                page=page,
                bid_key=bid_key,
            )
            for (
                time, kind, where, hold, advertiser, campaign, line_item, creative, page, bid_key,
            ) in _RECORD.iter_unpack(self._columns.tobytes())
        ]  # fmt: skip


EMPTY = Ledger(b"")
