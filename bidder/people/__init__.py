"""Who is asking, and what do we know of them."""

from bidder.people.reading import read

__all__ = ["read"]
