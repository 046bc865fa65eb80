"""Who did what about people's rights, and when? A log that names nobody it was done to.

One JSON line per act in `<state>/audit/rights.jsonl`, on the disk before the act is reported done.
`reference` is a fresh random number: whoever asked in writing can be told it, and the letter keeps
the link that this file must not have (GDPR Art. 5(2) asks for proof, Art. 17 for forgetting).
"""

import os
from pathlib import Path
from random import Random
from typing import Literal

import msgspec
from msgspec import Struct

Action = Literal[
    "export",
    "rectify",
    "erase",
    "object",
    "allow",
    "declare",
    "code",
    "consent",
    "withdraw",
    "compact",
]
By = Literal["command", "ops", "person", "company", "consent", "browser"]

_encoder = msgspec.json.Encoder()


class Act(Struct, frozen=True):
    """One line."""

    time: int
    action: Action
    by: By
    reference: str
    outcome: str = "done"
    counts: dict[str, int] = {}
    """How many keys, lines and the like; never which."""


class Audit:
    """The log under one state folder. Lines of several processes do not mix."""

    def __init__(self, state: Path, random: Random) -> None:
        self._path = state / "audit" / "rights.jsonl"
        self._random = random

    def write(
        self,
        now: float,
        action: Action,
        by: By,
        outcome: str = "done",
        counts: dict[str, int] | None = None,
    ) -> str:
        """Add a line and return its reference. Blocking, some ms. Raises `OSError`."""
        reference = f"{self._random.getrandbits(48):012x}"
        act = Act(int(now), action, by, reference, outcome, counts or {})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, _encoder.encode(act) + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        return reference
