"""How often is too often? The ledger of what a person was shown, and the caps over it.

Plain functions over the ledger, and one await: `claim`, which reserves an exposure before we bid.
"""

from bidder.capping.caps import Rule, Verdict, rules, sentence, verdict
from bidder.capping.claim import Claimed, Reservation, absorb, absorb_all, claim, record, release
from bidder.capping.history import history
from bidder.capping.intrusiveness import Judge, intrusiveness
from bidder.capping.ledger import Channel, Kind, Ledger, Record
from bidder.capping.parameters import Parameters, load_parameters
from bidder.capping.product_ads import why_not_products

__all__ = [
    "Channel",
    "Claimed",
    "Judge",
    "Kind",
    "Ledger",
    "Parameters",
    "Record",
    "Reservation",
    "Rule",
    "Verdict",
    "absorb",
    "absorb_all",
    "claim",
    "history",
    "intrusiveness",
    "load_parameters",
    "record",
    "release",
    "rules",
    "sentence",
    "verdict",
    "why_not_products",
]
