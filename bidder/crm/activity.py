"""What did this person do, as far as the CRM knows? One string of fixed records, oldest first.

Layout of a record, 32 bytes, little endian:

    time (u32) kind (u8) count (u8) spare (u16) advertiser (u32) category (u32)
    value (u64, micros) reference (u64)

`advertiser` and `category` are 32-bit hashes of their names. `reference` stands for the order
(`bidder.orders`), 0 where there is none: two records of one order are the same purchase, the later
report counts. Any other two records are the same if they are equal. So adding records is a union,
and doing it twice changes nothing.
"""

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from bidder.ids import hash32

DTYPE = np.dtype(
    [
        ("time", "<u4"),
        ("kind", "u1"),
        ("count", "u1"),
        ("spare", "<u2"),
        ("advertiser", "<u4"),
        ("category", "<u4"),
        ("value", "<u8"),
        ("reference", "<u8"),
    ]
)
RECORD_BYTES = 32
_NO_REFERENCE = bytes(8)
Records = npt.NDArray[np.void]

MAX_RECORDS = 128
"""Of one person: the newest, though up to `MAX_PURCHASES` purchases go before anything else. What
purchases beyond these came to is kept as one sum for each advertiser."""
MAX_PURCHASES = 64


class Kind(IntEnum):
    """What a record says happened. Numbers are stored: never change one."""

    VISIT = 1
    PRODUCT = 2
    BASKET = 3
    BASKET_EMPTIED = 4
    PURCHASE = 5
    STORE_VISIT = 6
    STORE_PURCHASE = 7
    APP_VISIT = 8
    REFUND = 9
    EARLIER_PURCHASES = 10
    """What became of purchases beyond `MAX_PURCHASES`: `time` is that of the last of them, `value`
    their sum, `reference` the time of the first (high 32 bits) and how many they were. Only
    `united` makes it."""
    SUBSCRIBED = 16
    UNSUBSCRIBED = 17
    EMAIL_SENT = 20
    EMAIL_OPENED = 21
    EMAIL_CLICKED = 22
    SMS_SENT = 24
    SMS_CLICKED = 26
    PUSH_SENT = 28
    PUSH_OPENED = 29
    PUSH_CLICKED = 30


NAMES = {kind.name.lower(): kind for kind in Kind if kind != Kind.EARLIER_PURCHASES}
_SUM = int(Kind.EARLIER_PURCHASES)
PURCHASES = (Kind.PURCHASE, Kind.STORE_PURCHASE)
VISITS = (Kind.VISIT, Kind.PRODUCT, Kind.BASKET, Kind.APP_VISIT, Kind.PURCHASE)
"""What only someone on the site or in the app can do."""
FIRST_CONTACT = 16
"""Kinds from here on are contacts and subscriptions."""


class Event(Struct, frozen=True):
    """One record, readable."""

    time: int
    kind: str
    advertiser: str
    category: str = ""
    value_micros: int = 0
    products: int = 0


class Keep(Struct, frozen=True):
    """How long records are kept, in seconds, by what they are."""

    visits: int
    orders: int
    contacts: int


def category_id(name: str) -> int:
    """The 32-bit id by which a record names a category, however it is capitalised; 0 = none."""
    name = name.strip().lower()
    return hash32(name) if name else 0


def record(
    time: int,
    kind: Kind,
    advertiser: int,
    *,
    category: int = 0,
    value_micros: int = 0,
    count: int = 0,
    reference: int = 0,
) -> bytes:
    """One packed record. Ids as `hash32`, `category_id` and `Orders.number` make them."""
    row = (time, kind, min(count, 255), 0, advertiser, category, value_micros, reference)
    return np.array([row], DTYPE).tobytes()


def opened(raw: bytes | None) -> Records:
    """The records of a stored value; what follows the last whole one is left out."""
    if not raw:
        return np.empty(0, DTYPE)
    return np.frombuffer(raw, DTYPE, count=len(raw) // RECORD_BYTES)


def united(old: bytes | None, new: bytes) -> bytes:
    """`old` with the records of `new`: sorted, each once, at most `MAX_RECORDS`."""
    before, after = _split(old or b""), _split(new)
    every = {**before, **after}
    sums = {key: record for key, record in every.items() if record[4] == _SUM}
    if sums:
        for key in sums.keys() & before.keys():  # of the same purchases: the one that knows more
            sums[key] = every[key] = max(before[key], every[key], key=_count)
        every = {key: record for key, record in every.items() if not _summed(record, sums)}
    if every == before:
        return old or b""
    return b"".join(_newest(sorted(every.values(), key=_order)))


def _split(raw: bytes) -> dict[bytes, bytes]:
    """What makes each record the same as another -> the record, the last one of each."""
    records = {}
    for start in range(0, len(raw) - RECORD_BYTES + 1, RECORD_BYTES):
        record = raw[start : start + RECORD_BYTES]
        records[_identity(record)] = record
    return records


def _identity(record: bytes) -> bytes:
    if record[4] == _SUM:
        return record[8:12]
    if record.endswith(_NO_REFERENCE):
        return record
    return record[8:12] + record[24:] + (b"r" if record[4] == Kind.REFUND else b"")


def _count(record: bytes) -> int:
    """How many purchases a record of `EARLIER_PURCHASES` stands for."""
    return int.from_bytes(record[24:28], "little")


def _summed(record: bytes, sums: Mapping[bytes, bytes]) -> bool:
    """Whether a purchase is among those of which only the sum is left."""
    earlier = sums.get(record[8:12])
    if earlier is None or record[4] not in PURCHASES:
        return False
    return _number(record[:4]) <= _number(earlier[:4])


def _order(record: bytes) -> tuple[int, int, bytes]:
    return int.from_bytes(record[:4], "little"), record[4], record


def _newest(records: list[bytes]) -> list[bytes]:
    """At most `MAX_RECORDS` of these, in their order."""
    if len(records) <= MAX_RECORDS:
        return records
    bought = [record for record in records if record[4] in PURCHASES]
    sums = {record[8:12]: record for record in records if record[4] == _SUM}
    many = max(len(bought) - MAX_PURCHASES, 0)
    while 0 < many < len(bought) and bought[many][:4] == bought[many - 1][:4]:
        many += 1  # all of one moment, so that the time of a sum says what is in it
    for record in bought[:many]:
        sums[record[8:12]] = _added(sums.get(record[8:12]), record)
    kept = [*sums.values(), *bought[many:]]
    others = [each for each in records if each[4] not in PURCHASES and each[4] != _SUM]
    room = max(MAX_RECORDS - len(kept), 0)
    return sorted([*kept, *others[max(len(others) - room, 0) :]], key=_order)


def _added(earlier: bytes | None, purchase: bytes) -> bytes:
    """The sum of earlier purchases with one more."""
    bought = _number(purchase[:4])
    first, last, count, value = bought, bought, 0, 0
    if earlier is not None:
        first, count = min(first, _number(earlier[28:])), _count(earlier)
        last, value = max(last, _number(earlier[:4])), _number(earlier[16:24])
    return record(
        last,
        Kind.EARLIER_PURCHASES,
        _number(purchase[8:12]),
        value_micros=value + _number(purchase[16:24]),
        reference=first << 32 | count + 1,
    )


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def is_purchase(records: Records) -> npt.NDArray[np.bool_]:
    """Which records are purchases, online or in a store."""
    kind = records["kind"]
    bought: npt.NDArray[np.bool_] = (kind == Kind.PURCHASE) | (kind == Kind.STORE_PURCHASE)
    return bought


def spent(raw: bytes | None) -> dict[int, int]:
    """What the purchases in a stored value came to, less what was given back: 32-bit id of the
    advertiser -> micros of its currency."""
    records = opened(raw)
    bought = is_purchase(records) | (records["kind"] == _SUM)
    given_back = records["kind"] == Kind.REFUND
    sums: dict[int, int] = {}
    for rows, sign in ((records[bought], 1), (records[given_back], -1)):
        for advertiser, value in zip(
            rows["advertiser"].tolist(), rows["value"].tolist(), strict=True
        ):
            sums[advertiser] = sums.get(advertiser, 0) + sign * value
    return sums


def expired(records: Records, keep: Keep, now: int) -> npt.NDArray[np.bool_]:
    """Which records are older than they may be kept."""
    life = np.where(records["kind"] >= FIRST_CONTACT, keep.contacts, keep.visits)
    orders = is_purchase(records) | np.isin(records["kind"], (Kind.REFUND, _SUM))
    life = np.where(orders, keep.orders, life)
    old: npt.NDArray[np.bool_] = records["time"].astype(np.int64) + life <= now
    return old


def events(raw: bytes | None, names: Mapping[int, str]) -> list[Event]:
    """The records of a stored value for a reader; `names` of advertisers and categories by id."""
    return [
        Event(
            time=int(row["time"]),
            kind=Kind(int(row["kind"])).name.lower(),
            advertiser=names.get(int(row["advertiser"]), f"#{int(row['advertiser']):08x}"),
            category=_named(int(row["category"]), names),
            value_micros=int(row["value"]),
            products=int(row["count"]),
        )
        for row in opened(raw)
        if int(row["kind"]) in Kind._value2member_map_
    ]


def _named(id32: int, names: Mapping[int, str]) -> str:
    return names.get(id32, f"#{id32:08x}") if id32 else ""
