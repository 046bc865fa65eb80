"""What did the exchange and the browsers do? The senders' own account."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

ACCEPTED: Mapping[str, int] = {
    "win": 200,
    "loss": 200,
    "billing": 200,
    "impression": 200,
    "click": 302,
}
"""The kinds of notices, and the status by which a bidder takes responsibility for one."""


GAVE_UP = -1
"""In place of a status: no answer came for as long as anyone waits."""


class Asked(NamedTuple):
    """One bid request and what came of it."""

    due: float
    """Seconds since the traffic began."""
    seconds: float
    """From due to the end of the answer, or to giving up."""
    status: int
    """0 = the connection failed."""
    usual: bool
    """The bid is the one that this person gets when nothing is broken."""
    lag: float
    """Seconds that the sender itself came late: not the bidder's fault."""


@dataclass(slots=True)
class Told:
    """One notice of one bid."""

    sent: int = 0
    accepted: int = 0
    """How many of the sendings were answered as `ACCEPTED` says."""


@dataclass(slots=True)
class Truth:
    """What was sent, and what was said to it."""

    asked: list[Asked] = field(default_factory=list)
    bids: set[str] = field(default_factory=set)
    """Ids of the bids that were answered."""
    told: dict[tuple[str, str], Told] = field(default_factory=dict)
    """(kind, bid id) -> what became of it."""
    refused: dict[str, int] = field(default_factory=dict)
    """Answer to a notice that was none of `ACCEPTED` -> how many."""
    problems: dict[str, int] = field(default_factory=dict)
    """What went wrong with a connection, of requests and notices -> how many."""

    def accepted(self, kind: str) -> set[str]:
        """The bids of which the bidder took such a notice."""
        return {bid for (of, bid), told in self.told.items() if of == kind and told.accepted}

    def sent(self, kind: str) -> set[str]:
        """The bids of which such a notice was sent at all."""
        return {bid for (of, bid), told in self.told.items() if of == kind and told.sent}
