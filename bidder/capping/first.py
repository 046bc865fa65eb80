"""What is the ledger of somebody who has none yet?

The layout is that of `bidder.capping.ledger`; otherwise only the scripts write it.
"""

from collections.abc import Sequence

from bidder.capping.ledger import HEADER, MAX_RECORDS


def first_ledger(records: Sequence[bytes], now: int) -> bytes:
    """The ledger of somebody who had none, with these records, of which none is too old to be kept.

    What the script `ledger` would write for it, at a sixth of its price in the store. Empty where
    that would fold some of them: then it must be asked.
    """
    once = dict.fromkeys(records)
    if not once or len(once) > MAX_RECORDS:
        return b""
    return HEADER.pack(1, 0, now, 0, 0) + b"".join(once)
