"""Should we still ask the store, or has it stopped answering?

A breaker opens after so many failed commands in a row. While it is open every call is refused at
once, so that requests are decided as for nobody instead of each waiting for its own deadline. Only
background probes go through; the first that is answered closes it. This file is the pure state
machine; `bidder.store.link` feeds it and does the probing.
"""

from collections.abc import Callable


class StoreUnavailable(Exception):
    """The store is down, too slow, or the breaker is open. A script may still have run."""


class Breaker:
    """Closed, open, or open with a probe under way.

    `clock` gives monotonic seconds. Each opening without an answer since the last one doubles the
    pause before a probe, from `first_pause_seconds` to `longest_pause_seconds`: bids resume within
    the longest pause and one probe of the store's return, which must stay under 5 s.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        limit: int = 5,
        first_pause_seconds: float = 0.25,
        longest_pause_seconds: float = 2.0,
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._first = first_pause_seconds
        self._longest = longest_pause_seconds
        self._pause = 0.0
        self._probe_at = 0.0
        self._probing = False
        self.failures = 0
        """Failed commands since the last one that was answered."""
        self.is_open = False
        self.on_change: list[Callable[[bool], None]] = []
        """Called with `is_open` whenever it changes."""

    def guard(self) -> None:
        """Raise `StoreUnavailable` while open."""
        if self.is_open:
            raise StoreUnavailable("the breaker is open")

    def succeeded(self) -> None:
        """A command was answered. Late answers to an open breaker prove nothing: probes do."""
        if not self.is_open:
            self.failures = 0
            self._pause = 0.0

    def failed(self) -> None:
        """A command was lost, timed out, or refused by a store that cannot serve."""
        self.failures += 1
        if not self.is_open and self.failures >= self._limit:
            self._open()

    def pause_left(self) -> float:
        """Seconds until a probe is due."""
        return max(self._probe_at - self._clock(), 0.0)

    def probe_due(self) -> bool:
        """Whether to probe now. Says so once for each pause; the caller owes it the result."""
        due = self.is_open and not self._probing and self._clock() >= self._probe_at
        self._probing = self._probing or due
        return due

    def probed(self, answered: bool) -> None:
        """The result of the probe."""
        self._probing = False
        if not self.is_open:
            return
        if not answered:
            self._open()
            return
        self.failures = 0
        self._turn(False)

    def _open(self) -> None:
        self._pause = min(max(self._pause * 2, self._first), self._longest)
        self._probe_at = self._clock() + self._pause
        self._turn(True)

    def _turn(self, is_open: bool) -> None:
        if is_open != self.is_open:
            self.is_open = is_open
            for changed in self.on_change:
                changed(is_open)
