"""Which notices could not be applied? What a script of the store refused, kept to be looked at.

`<directory>/refused.jsonl` beside the folders of the writers. The notices themselves stay in the
log: here stands which they are and why, and nothing about a person.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from bidder.events.schema import Notice

FILE = "refused.jsonl"
MOST_BYTES = 1 << 20
"""What refuses everything need not be told without end."""
_encoder = msgspec.json.Encoder()


class Refused(Struct, frozen=True):
    """One notice that counts nothing, though it is in the log."""

    time: float
    type: str
    bid_id: str
    line_item: str
    problem: str


_decoder = msgspec.json.Decoder(Refused)


def noting(directory: Path) -> Callable[[Notice, str], None]:
    """What notes a notice and why it was refused. Raises `OSError`."""

    def note(event: Notice, problem: str) -> None:
        path = directory / FILE
        if path.exists() and path.stat().st_size > MOST_BYTES:
            return
        kind = str(event.__struct_config__.tag)
        line = Refused(event.time, kind, event.bid_id, event.line_item, problem)
        with path.open("ab") as file:
            file.write(_encoder.encode(line) + b"\n")

    return note


def refused(directory: Path) -> list[Refused]:
    """Each refused notice once, as it was refused last; a torn line is passed over."""
    try:
        lines = (directory / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found: dict[tuple[str, str], Refused] = {}
    for line in lines:
        try:
            one = _decoder.decode(line)
        except msgspec.MsgspecError:
            continue
        found[one.bid_id, one.type] = one
    return list(found.values())


def clear(directory: Path) -> None:
    """Start anew, before they are applied again."""
    (directory / FILE).unlink(missing_ok=True)
