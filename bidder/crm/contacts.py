"""What was sent to people, as their ledgers keep it? Caps count messages beside our ads."""

import numpy as np
import numpy.typing as npt

from bidder.capping import Channel
from bidder.capping import Kind as Touch
from bidder.capping.ledger import KEEP_SECONDS, RECORD_DTYPE
from bidder.crm.activity import RECORD_BYTES, Kind

Numbers = npt.NDArray[np.int64]
CHANNELS = {
    Kind.EMAIL_SENT: Channel.EMAIL,
    Kind.SMS_SENT: Channel.SMS,
    Kind.PUSH_SENT: Channel.PUSH,
}


def contacts(
    records: npt.NDArray[np.void], owner: Numbers, people: int, now: int
) -> tuple[npt.NDArray[np.void], Numbers]:
    """Messages sent lately, as ledgers keep them, by person, and where each person's begin.

    `records` are those of `people` people, `owner` whose each of them is.
    """
    recent = records["time"].astype(np.int64) > now - KEEP_SECONDS + 86400
    chosen = np.flatnonzero(np.isin(records["kind"], [int(kind) for kind in CHANNELS]) & recent)
    sent = records[chosen]
    ledger = np.zeros(len(sent), RECORD_DTYPE)
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
