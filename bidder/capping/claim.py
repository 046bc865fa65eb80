"""How is an exposure reserved before we bid? `claim`: the second and last await of a request."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Struct

from bidder.capping.ledger import MAX_RECORDS, MAX_TOTALS, Ledger, Record
from bidder.store import keys

Arguments = Sequence[bytes | str | int]


class Scripts(Protocol):
    """Whatever runs the store's Lua scripts by name."""

    def run(
        self, name: str, keys: Sequence[str], args: Arguments, deadline: float | None = None
    ) -> Awaitable[object]:
        """What the script returned, under way before it is awaited; `deadline` is a time of the
        event loop's clock."""


class Reservation(Struct, frozen=True):
    """One exposure we are about to offer, with the rules that must still allow it."""

    record: Record
    """Of kind RESERVATION, lasting `hold` seconds."""
    allowed: Callable[[Ledger], bool]


class Claimed(Struct, frozen=True):
    """Which of the reservations now stand in the ledger, in the order given."""

    held: tuple[bool, ...]


async def claim(
    scripts: Scripts,
    person: str,
    ledger: Ledger,
    reservations: Sequence[Reservation],
    now: int,
    ttl_seconds: int,
    deadline: float | None = None,
) -> Claimed:
    """Reserve these exposures for `person`, whose ledger was read as `ledger`.

    The script appends only if the ledger's version is still what was read; else it hands back the
    new one, the caps are checked once more, and a second miss means nothing is held ("contended").
    Raises what `scripts` raises when the store does not answer by `deadline`, a time of the loop's
    clock.
    """
    wanted = [True] * len(reservations)
    for _ in range(2):
        records = [r.record.pack() for r, want in zip(reservations, wanted, strict=True) if want]
        if not records:
            break
        call = _call("claim", now, ttl_seconds, ledger.version, *records)
        answer = await scripts.run("ledger", _keys(person), call, deadline)
        if isinstance(answer, list):  # merged into somebody since they were read
            break
        if not isinstance(answer, bytes):
            return Claimed(tuple(wanted) if answer == 1 else (False,) * len(reservations))
        ledger = Ledger(answer, now)
        wanted = _still_allowed(ledger, reservations)
    return Claimed((False,) * len(reservations))


def _still_allowed(ledger: Ledger, reservations: Sequence[Reservation]) -> list[bool]:
    """Each one counts against those after it."""
    answers = []
    for reservation in reservations:
        answers.append(reservation.allowed(ledger))
        if answers[-1]:
            ledger = ledger.plus(reservation.record)
    return answers


async def record(
    scripts: Scripts, person: str, what: Record, now: int, ttl_seconds: int, claimed: bool = True
) -> str:
    """Write an impression, click, conversion or contact: "new", "late" or "duplicate".

    An impression takes the place of its reservation; `claimed` says that there was one, so that an
    impression without it is known to be late.
    """
    call = _call("record", now, ttl_seconds, what.pack(), int(claimed))
    return _text(await _followed(scripts, person, call))


async def release(scripts: Scripts, person: str, bid_key: bytes, now: int, ttl_seconds: int) -> str:
    """End a reservation, for the bid lost: "new", or "absent" if there is none."""
    call = _call("release", now, ttl_seconds, bid_key)
    return _text(await _followed(scripts, person, call))


async def absorb(
    scripts: Scripts,
    person: str,
    records: Sequence[bytes],
    now: int,
    ttl_seconds: int,
    *,
    other: bytes = b"",
    mark: bytes = b"",
) -> int:
    """Add packed records to a person's ledger, those it has not: how many were new.

    `other` is the ledger of a person who was merged into this one, and `mark` (8 bytes) stands for
    that merge: however often it is done, it counts once. A contact older than
    `KEEP_SECONDS` must not be given: it would be folded, and counted again the next time.
    """
    call = _call("absorb", now, ttl_seconds, mark, other, *records)
    answer = await _followed(scripts, person, call)
    return answer if isinstance(answer, int) else 0


async def absorb_all(
    scripts: Scripts, people: Sequence[tuple[str, Sequence[bytes]]], now: int, ttl_seconds: int
) -> None:
    """`absorb` for many (person, records) at once, without a task for each."""
    started = [
        scripts.run("ledger", _keys(person), _call("absorb", now, ttl_seconds, b"", b"", *rows))
        for person, rows in people
    ]
    for (person, rows), answer in zip(people, started, strict=True):
        if isinstance(await answer, list):
            await absorb(scripts, person, rows, now, ttl_seconds)


MAX_ALIASES = 4
"""Merges of merges that are followed."""


def _keys(person: str) -> list[str]:
    return [keys.ledger(person), keys.alias(person)]


async def _followed(scripts: Scripts, person: str, call: Arguments) -> object:
    """The script's answer about who this person is by now; "absent" after too many merges."""
    for _ in range(MAX_ALIASES):
        answer = await scripts.run("ledger", _keys(person), call)
        if not isinstance(answer, list):
            return answer
        person = _text(answer[0])
    return "absent"


def _call(operation: str, now: int, ttl_seconds: int, *rest: bytes | str | int) -> Arguments:
    return [operation, now, ttl_seconds, MAX_RECORDS, MAX_TOTALS, *rest]


def _text(answer: object) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
