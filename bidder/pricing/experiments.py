"""Who is held out, and who sees which arm of a split? Decided by a hash, so nothing is remembered.

A person's place under a salt is the same for ever and says nothing of their place under another.
"""

from bidder.campaigns.catalogue import Arm, Campaign
from bidder.ids import hash32

PLACES = 1 << 32


def place(salt: str, who: str) -> float:
    """Where `who` lies under this salt: a number in [0, 100), all alike."""
    return 100 * hash32(f"{salt}:{who}") / PLACES


def held_out(campaign: Campaign, person: str) -> bool:
    """Is this person (id) in the control group of the campaign? Nobody is not."""
    share = campaign.control_percent
    return share > 0 and bool(person) and place(f"control:{campaign.path}", person) < share


def in_arm(arm: Arm, who: str) -> bool:
    """Does this arm of a split speak to `who`: a person, or a request where nobody is known?"""
    return arm.first <= place(f"split:{arm.salt}", who) < arm.last
