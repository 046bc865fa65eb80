"""What does a YAML file say, and on which line is it wrong?

`read` turns a file into a pydantic model or raises `InvalidFile` with every problem at once:
syntax, duplicate keys, unknown keys, wrong values. Each names file, line, what was found, what was
expected and the nearest valid name.

The language is YAML 1.2's core schema (so the country ``NO`` is text, not false) without tags,
`.inf`, `.nan`, octal and hexadecimal; a number with a leading zero is text, as postcodes have it.
Values are checked by pydantic's strict JSON rules: ``"3"`` is not 3 and ``yes`` is not true, while
dates, paths and enums are written as text. Aliases work, up to a limit on what they expand to.

Reading events rather than documents keeps positions for free: with libyaml (the package
``ruamel.yaml.clib``) 3 µs an event, without it 50.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Strict, ValidationError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bidder.yamlfiles.durations import Duration, Window, seconds, window_seconds
from bidder.yamlfiles.findings import Findings
from bidder.yamlfiles.problem import (
    Expected,
    InvalidFile,
    Key,
    Problem,
    Severity,
    dotted,
    fault,
    found,
    nearest,
)
from bidder.yamlfiles.reading import Places, Reading, line_at

__all__ = [
    "Document",
    "Duration",
    "Expected",
    "InvalidFile",
    "Key",
    "ListOf",
    "Model",
    "Problem",
    "Severity",
    "Window",
    "dotted",
    "found",
    "nearest",
    "parse",
    "read",
    "read_bytes",
    "seconds",
    "window_seconds",
]

MAX_BYTES = 64 << 20
MAX_PROBLEMS = 200
"""Shown of one file: nobody reads more."""

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


ListOf = Annotated[tuple[T, ...], Strict(False)]
"""A list in the file, a tuple here; unlike a bare `tuple` also behind a `mode="before"` validator,
where pydantic takes its input for Python's rather than JSON's."""


class Model(BaseModel):
    """Base of what is read from YAML: no unknown keys, strict types, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Document(Generic[M]):
    """A file that was read: its value, and where each part of it stands."""

    value: M
    path: Path
    _places: int | Places = field(repr=False)

    def line_of(self, *keys: Key) -> int:
        """The line of the part reached by these keys and positions, or of its nearest parent."""
        return line_at(self._places, keys)

    def has(self, *keys: Key) -> bool:
        """Whether the file itself says something at these keys (rather than a default)."""
        return line_at(self._places, keys, exactly=True) > 0

    def problem(
        self, severity: Severity, keys: Iterable[Key], message: str, hint: str = ""
    ) -> Problem:
        """A problem with the part reached by `keys`."""
        path = tuple(keys)
        return Problem(severity, self.path, self.line_of(*path), dotted(path), message, hint)


def read(path: Path, model: type[M]) -> Document[M]:
    """The file at `path` as a `model`. Raises `InvalidFile`, and nothing else."""
    return parse(read_bytes(path), path, model)


def read_bytes(path: Path) -> bytes:
    """What stands in the file. Raises `InvalidFile` if it cannot be read or is too large."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidFile([fault(path, 1, f"larger than {MAX_BYTES >> 20} MiB")])
        return path.read_bytes()
    except OSError as error:
        raise InvalidFile([fault(path, 1, f"cannot be read: {error.strerror}")]) from None


def parse(raw: bytes, path: Path, model: type[M]) -> Document[M]:
    """As `read`, of bytes at hand; `path` is how problems name them."""
    text = _decode(raw, path)
    reading, (value, places) = _read_text(text, path)
    try:
        data = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        # Lone surrogates; aliases of aliases nested deeper than JSON may be.
        raise InvalidFile([fault(path, 1, f"cannot be understood: {error}")]) from None
    try:
        checked = model.model_validate_json(data)
    except ValidationError as error:
        found = Findings(path, model, value, places).problems(error)
        raise InvalidFile(_shortened([*reading.problems, *found], path)) from None
    if reading.problems:
        raise InvalidFile(_shortened(reading.problems, path))
    return Document(checked, path, places)


def _read_text(text: str, path: Path) -> tuple[Reading, tuple[Any, int | Places]]:
    """What stands in `text`, with the reading that has its duplicate keys."""
    fast = Reading(path)
    with suppress(YAMLError):
        return fast, fast.document(text)
    # libyaml knows only YAML 1.1: it refuses `{start: 2026-11-01T08:00}`, which 1.2 allows.
    slow = Reading(path)
    try:
        return slow, slow.document(text, pure=True)
    except MarkedYAMLError as error:
        raise InvalidFile([*slow.problems, _syntax(path, error)]) from None
    except YAMLError as error:
        reason = str(error).split("\n", 1)[0]
        raise InvalidFile([*slow.problems, fault(path, 1, f"not YAML: {reason}")]) from None


def _decode(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidFile([fault(path, line, "not UTF-8 text")]) from None


def _syntax(path: Path, error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    reason = error.problem or error.context or "unreadable"
    return Problem("error", path, line, "", f"not YAML: {reason}", error.context or "")


def _shortened(problems: list[Problem], path: Path) -> list[Problem]:
    """At most `MAX_PROBLEMS`, in order of lines, and whether there are more."""
    ordered = sorted(problems, key=lambda problem: problem.line)
    if len(ordered) <= MAX_PROBLEMS:
        return ordered
    last = ordered[MAX_PROBLEMS]
    return [*ordered[:MAX_PROBLEMS], fault(path, last.line, "and more, from here on")]
