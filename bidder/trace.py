"""Why is a line item out? Reasons with the numbers behind them, kept for `explain` and the log."""

from msgspec import Struct

from bidder.capping import Verdict
from bidder.reasons import NoBid


class Short(Struct, frozen=True, gc=False):
    """How far a value is from a floor, both CPM micros of the bid's currency."""

    value_micros: int
    floor_micros: int
    deal: str
    """Empty for the open auction."""
    scored: bool
    """Else the value is only the most that it could have come to."""


Detail = Verdict | Short | str
"""The numbers behind a reason: which cap, what the price fell short of, whom it lost to."""


class Trace:
    """Why each line item is out, by the stage it got to: the furthest counts, then the last."""

    def __init__(self) -> None:
        self.reasons: dict[int, NoBid] = {}
        self.details: dict[int, Detail] = {}

    def out(self, index: int, reason: NoBid, detail: Detail = "") -> None:
        """Line item `index` got no further than this. Reasons of one stage share their tens."""
        if reason // 10 >= self.reasons.get(index, NoBid.UNKNOWN) // 10:
            self.reasons[index] = reason
            self.details[index] = detail


class Refusal(Struct, frozen=True, gc=False):
    """Why a line item does not speak in a slot."""

    reason: NoBid
    detail: Detail = ""
