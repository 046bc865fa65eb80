"""How often is too often? The ledger of what a person was shown, and the caps over it.

Plain functions over the ledger, and one await: `claim`, which reserves an exposure before we bid.
"""

from bidder.capping.caps import Rule, Verdict, rules, verdict
from bidder.capping.claim import Claimed, Reservation, claim, record, release
from bidder.capping.history import history
from bidder.capping.ledger import Channel, Kind, Ledger, Record

__all__ = [
    "Channel",
    "Claimed",
    "Kind",
    "Ledger",
    "Record",
    "Reservation",
    "Rule",
    "Verdict",
    "claim",
    "history",
    "record",
    "release",
    "rules",
    "verdict",
]
