"""How much? What an impression is worth, what to bid for it, and whether there is money for it."""

from bidder.pricing.budget import Books
from bidder.pricing.experiments import held_out, in_arm
from bidder.pricing.leases import Account, Hold
from bidder.pricing.pacing import Pacing
from bidder.pricing.shading import Shader, drawn
from bidder.pricing.value import Estimate, ceiling, highest, modifier, value

__all__ = [
    "Account",
    "Books",
    "Estimate",
    "Hold",
    "Pacing",
    "Shader",
    "ceiling",
    "drawn",
    "held_out",
    "highest",
    "in_arm",
    "modifier",
    "value",
]
