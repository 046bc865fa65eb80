"""Who asks for bids, holds auctions, bills, and has people click and buy?

`Market` is the exchange without a network; `run` plays a bidder in this process through it;
`loadtest.exchange.command` (``python -m loadtest exchange``) plays bidders behind URLs.
"""

from .delivery import Event
from .market import Market, Request
from .trial import run

__all__ = ["Event", "Market", "Request", "run"]
