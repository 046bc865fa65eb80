"""How much? What an impression is worth, what to bid for it, and whether there is money for it."""

from bidder.pricing.budget import Books
from bidder.pricing.leases import Account, Hold
from bidder.pricing.shading import shade
from bidder.pricing.value import Estimate, modifier, value

__all__ = ["Account", "Books", "Estimate", "Hold", "modifier", "shade", "value"]
