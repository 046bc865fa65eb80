"""What was sent to people, as their ledgers keep it? Caps count messages beside our ads."""

from collections.abc import Sequence
from struct import Struct as Layout

import numpy as np
import numpy.typing as npt

from bidder.capping import Channel
from bidder.capping import Kind as Touch
from bidder.capping.ledger import KEEP_SECONDS, MAX_RECORDS
from bidder.capping.ledger import RECORD_BYTES as LEDGER_BYTES
from bidder.crm.activity import RECORD_BYTES, Kind

Numbers = npt.NDArray[np.int64]
CHANNELS = {
    Kind.EMAIL_SENT: Channel.EMAIL,
    Kind.SMS_SENT: Channel.SMS,
    Kind.PUSH_SENT: Channel.PUSH,
}
LEDGER_DTYPE = np.dtype(
    [
        ("time", "<u4"), ("what", "u1"), ("specificity", "u1"), ("hold", "<u2"),
        ("advertiser", "<u4"), ("campaign", "<u4"), ("line_item", "<u4"), ("creative", "<u4"),
        ("page", "<u4"), ("key", "<u8"),
    ]
)  # fmt: skip
assert LEDGER_DTYPE.itemsize == LEDGER_BYTES
_HEADER = Layout("<BxHIII")
"""Of a ledger (`bidder.capping.ledger`): layout 1, no totals, its version, nothing folded."""


def contacts(
    records: npt.NDArray[np.void], owner: Numbers, people: int, now: int
) -> tuple[npt.NDArray[np.void], Numbers]:
    """Messages sent lately, as ledgers keep them, by person, and where each person's begin.

    `records` are those of `people` people, `owner` whose each of them is.
    """
    recent = records["time"].astype(np.int64) > now - KEEP_SECONDS + 86400
    chosen = np.flatnonzero(np.isin(records["kind"], [int(kind) for kind in CHANNELS]) & recent)
    sent = records[chosen]
    ledger = np.zeros(len(sent), LEDGER_DTYPE)
    ledger["time"], ledger["advertiser"] = sent["time"], sent["advertiser"]
    for kind, channel in CHANNELS.items():
        ledger["what"][sent["kind"] == kind] = Touch.IMPRESSION | channel << 4
    ledger["key"] = contact_keys(sent)
    bounds: Numbers = np.searchsorted(owner[chosen], np.arange(people + 1))
    return ledger, bounds


def contact_keys(sent: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """8 bytes by which a ledger knows a message again: the same record, the same key."""
    words = np.frombuffer(sent.tobytes(), "<u8").reshape(-1, RECORD_BYTES // 8)
    mixed = np.full(len(words), 0x9E3779B97F4A7C15, np.uint64)
    for place in range(words.shape[1]):  # the finaliser of SplitMix64 (Steele 2014), word by word
        mixed = mixed ^ words[:, place]
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def first_ledger(sent: Sequence[bytes], now: int) -> bytes:
    """The ledger of somebody who had none, to whom these messages were sent.

    What the script `ledger` would write for it, at a sixth of its price in the store. Empty where
    that would fold some of them: then it must be asked.
    """
    once = dict.fromkeys(sent)
    if not once or len(once) > MAX_RECORDS:
        return b""
    return _HEADER.pack(1, 0, now, 0, 0) + b"".join(once)
