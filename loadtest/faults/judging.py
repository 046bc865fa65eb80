"""Was every promise kept? The senders' account, the log and the counters, side by side."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bidder import ids
from loadtest.faults.evidence import Counted, Logged
from loadtest.faults.traffic import PAID_CPM, TMAX_MS, usual_share
from loadtest.faults.truth import ACCEPTED, GAVE_UP, Asked, Truth

LATE_SHARE = 0.02
"""More late answers than these are a broken promise: what Google allows (at most 2 %)."""
FOREIGN_SHARE = 0.1
LAG_SECONDS = 0.01
"""A request that we ourselves sent this late proves nothing about the bidder's time."""
RECOVER_SECONDS = 5.0
WINDOW_SECONDS = 0.5
RECOVERED_SHARE = 0.9
"""Bids are back in the first window with this share of the usual bids from before the fault."""
COST_MICROS = round(PAID_CPM * 1000)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a fault excuses."""

    connection_errors: int = 0
    """As many connections as were open to what was killed."""
    unlogged_bids: int = 0
    """Bids whose line was still in the memory of a killed process; never notices."""
    notices_refused: bool = False
    """503 while the log cannot be written: they are sent again."""
    recover_seconds: float = RECOVER_SECONDS


STRICT = Allowed()
"""Nothing."""


@dataclass(frozen=True, slots=True)
class Times:
    """When things happened, in seconds since the traffic began."""

    usual_from: float
    """From here to `broken` the bidder was warm and nothing was wrong."""
    broken: float
    mended: float
    ended: float


@dataclass(frozen=True, slots=True)
class Row:
    """One fault's line in the table."""

    fault: str
    requests: int
    late: int
    sender_late: int
    """Late too, but we were ourselves: not judged."""
    answers_5xx: int
    notices_refused: int
    connection_errors: int
    notices: int
    """Distinct notices that were accepted."""
    unlogged_bids: int
    lost: int
    double: int
    usual_before: float
    """Share of the requests with the usual bid, before the fault..."""
    usual_during: float
    """...and while it lasted, at least a second."""
    recover_seconds: float | None
    """None: the bids did not come back."""
    foreign: float
    """Share of this machine's cores that others used: above `FOREIGN_SHARE`, late is not judged."""
    broken: tuple[str, ...] = ()
    """The promises that were not kept, in words."""

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def judge(
    fault: str,
    truth: Truth,
    times: Times,
    logged: Logged,
    counted: Counted,
    allowed: Allowed,
    foreign: float = 0.0,
) -> Row:
    """The fault's line, and what was promised and not kept.

    `foreign`: share of this machine's cores that others used meanwhile.
    """
    asked = truth.asked
    tardy = [one for one in asked if one.status and one.seconds * 1000 > TMAX_MS]
    late = sum(one.lag <= LAG_SECONDS for one in tardy)
    lost, double = losses(truth, logged, counted), doubles(truth, logged, counted)
    refused = sum(truth.refused.values())
    row = Row(
        fault=fault,
        requests=len(asked),
        late=late,
        sender_late=len(tardy) - late,
        answers_5xx=sum(one.status >= 500 for one in asked),
        notices_refused=refused,
        connection_errors=sum(truth.problems.values()),
        notices=sum(told.accepted > 0 for told in truth.told.values()),
        unlogged_bids=len(truth.bids - logged.bids),
        lost=sum(lost.values()),
        double=sum(double.values()),
        usual_before=usual_share(asked, times.usual_from, times.broken),
        usual_during=usual_share(asked, times.broken, max(times.mended, times.broken + 1)),
        recover_seconds=recovery(asked, times),
        foreign=foreign,
    )
    said = [*_answers(row, truth, allowed), *_in_words("lost", lost), *_in_words("double", double)]
    return Row(**asdict(row) | {"broken": tuple(said)})


def _answers(row: Row, truth: Truth, allowed: Allowed) -> Iterable[str]:
    if row.late > LATE_SHARE * row.requests and row.foreign <= FOREIGN_SHARE:
        yield f"{row.late} of {row.requests} answers came after tmax"
    odd = Counter(one.status for one in truth.asked if one.status not in (GAVE_UP, 0, 200, 204))
    if odd:
        yield "answers to bid requests: " + _listed(odd.items())
    excused = allowed.notices_refused and all(one.endswith(" 503") for one in truth.refused)
    if truth.refused and not excused:
        yield "notices were refused: " + _listed(truth.refused.items())
    if row.connection_errors > allowed.connection_errors:
        yield "connections failed: " + _listed(truth.problems.items())
    if row.unlogged_bids > allowed.unlogged_bids:
        yield f"{row.unlogged_bids} bids are not in the log"
    if row.recover_seconds is None:
        yield "the bids did not come back"
    elif row.recover_seconds > allowed.recover_seconds:
        yield f"the bids came back only after {row.recover_seconds:.1f} s"


def losses(truth: Truth, logged: Logged, counted: Counted) -> dict[str, int]:
    """Where notices went missing -> how many: between the sender and the log, or between the log
    and a counter."""
    found = {f"{kind} never accepted": 0 for kind in ACCEPTED}
    for (kind, _), told in truth.told.items():
        found[f"{kind} never accepted"] += bool(told.sent and not told.accepted)
    for kind in ACCEPTED:
        found[f"{kind} accepted, not in the log"] = len(truth.accepted(kind) - logged.of(kind))
    for name, wanted, have in _counters(logged, counted):
        found[f"{name} in the log, not counted"] = max(wanted - have, 0)
    found["spend in micros, not counted"] = max(_least_spend(logged) - counted.spent_micros, 0)
    for name, keys, stand in _ledgers(logged, counted):
        found[f"{name} not in a ledger"] = 0 if counted.folded else len(keys - set(stand))
    return {what: number for what, number in found.items() if number}


def doubles(truth: Truth, logged: Logged, counted: Counted) -> dict[str, int]:
    """Where more was counted than happened -> how many."""
    found = {}
    for kind in ACCEPTED:
        told = truth.sent(kind) | (logged.inferred if kind == "billing" else set())
        found[f"{kind} in the log, never sent"] = len(logged.of(kind) - told)
    for name, wanted, have in _counters(logged, counted):
        found[f"{name} counted too often"] = max(have - wanted, 0)
    found["billing at another price"] = sum(
        costs != {COST_MICROS} for bid, costs in logged.costs.items() if bid not in logged.inferred
    )
    found["spend in micros, too much"] = max(counted.spent_micros - _most_spend(logged), 0)
    for name, keys, stand in _ledgers(logged, counted):
        found[f"{name} in a ledger twice"] = sum(stand.values()) - len(stand)
        found[f"{name} in a ledger, not in the log"] = len(set(stand) - keys)
    return {what: number for what, number in found.items() if number}


def _counters(logged: Logged, counted: Counted) -> list[tuple[str, int, int]]:
    """What is counted, how often it should be by the log, how often it is."""
    return [
        ("billings", len(logged.of("billing")), counted.impressions),
        ("impressions", len(logged.of("impression")), counted.pixels),
        ("clicks", len(logged.of("click")), counted.clicks),
    ]


def _least_spend(logged: Logged) -> int:
    return sum(min(costs) for costs in logged.costs.values())


def _most_spend(logged: Logged) -> int:
    return sum(max(costs) for costs in logged.costs.values())


def _ledgers(logged: Logged, counted: Counted) -> list[tuple[str, set[bytes], Counter[bytes]]]:
    """What stands in ledgers, the keys of the bids that should, and those that do."""
    shown = (logged.of("billing") | logged.of("impression")) & logged.people
    clicked = logged.of("click") & logged.people
    return [
        ("impressions", set(map(_key, shown)), counted.ledger_impressions),
        ("clicks", set(map(_key, clicked)), counted.ledger_clicks),
    ]


def _key(bid: str) -> bytes:
    return ids.bid_key(ids.from_text(bid))


def recovery(asked: Sequence[Asked], times: Times) -> float | None:
    """Seconds from the end of the fault until the usual bids were back; None if they were not."""
    wanted = RECOVERED_SHARE * usual_share(asked, times.usual_from, times.broken)
    since = times.mended
    while since + WINDOW_SECONDS <= times.ended:
        if usual_share(asked, since, since + WINDOW_SECONDS) >= wanted:
            return since - times.mended
        since += WINDOW_SECONDS / 5
    return None


def _in_words(title: str, found: dict[str, int]) -> list[str]:
    return [f"{title}: {number} {what}" for what, number in found.items()]


def _listed(counts: Iterable[tuple[object, int]]) -> str:
    return ", ".join(f"{number} x {what}" for what, number in counts)
