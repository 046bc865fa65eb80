"""What is wrong in a file, and how is it said?"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]
Key = str | int


@dataclass(frozen=True)
class Problem:
    """One thing wrong in one file. `line` counts from 1; `where` is dotted, empty for the file."""

    severity: Severity
    file: Path
    line: int
    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.file}:{self.line}: {self.severity}: {where}{self.message}{hint}"


class InvalidFile(ValueError):
    """One or more files cannot be used; `problems` says all of why."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Expected(ValueError):
    """Raised by a validator: becomes "found ..., expected `expected`; `hint`"."""

    def __init__(self, expected: str, hint: str = "") -> None:
        self.expected = expected
        self.hint = hint
        super().__init__(f"expected {expected}")


def fault(path: Path, line: int, message: str) -> Problem:
    return Problem("error", path, line, "", message)


def dotted(keys: Iterable[Key]) -> str:
    """``("campaigns", 0, "id")`` as ``campaigns[0].id``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def nearest(name: str, known: Iterable[str]) -> str:
    """ "did you mean 'FR'?" with the closest of `known`, or nothing if none is close."""
    names = sorted(known)
    folded = {each.casefold(): each for each in reversed(names)}
    match = folded.get(name.casefold()) or next(
        (folded[each] for each in get_close_matches(name.casefold(), folded, n=1)), ""
    )
    return f"did you mean {match!r}?" if match else ""


def found(value: object) -> str:
    """A value as a reader of the file would name it, at most 60 characters long."""
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
