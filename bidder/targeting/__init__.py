"""Which line items may bid on this request? Bitmaps: bit *i* is the line item with index *i*."""

from bidder.targeting.audience import AudienceIndex
from bidder.targeting.index import Index, survivors
from bidder.targeting.schedule import Schedule

__all__ = ["AudienceIndex", "Index", "Schedule", "survivors"]
