"""What became of this bid?"""

from pathlib import Path

import msgspec

from bidder.events.reading import read
from bidder.events.schema import AnyEvent, BidEvent, Notice
from bidder.ids import BID_ID_BYTES, bid_time, from_text


def follow(directory: Path, bid_id: str) -> list[AnyEvent]:
    """Everything the log says about one bid, in order of time, repeated notices included.

    Empty if it is not in the log (any more).
    """
    needle = msgspec.json.encode(bid_id)
    events = read(directory, since=_made(bid_id), wanted=lambda line: needle in line)
    return sorted(
        (
            event
            for event in events
            if isinstance(event, (BidEvent, Notice)) and event.bid_id == bid_id
        ),
        key=lambda event: (event.time, not isinstance(event, BidEvent)),
    )


def _made(bid_id: str) -> float | None:
    """When a bid was made, from its id: older files need not be read. None if it is not ours."""
    try:
        raw = from_text(bid_id)
    except ValueError:
        return None
    return float(bid_time(raw)) if len(raw) == BID_ID_BYTES else None
