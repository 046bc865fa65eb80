"""How long is ``20m``?"""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from bidder.yamlfiles.problem import Expected

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_DURATION_TEXT = "a duration such as 45s, 20m, 6h, 1d or 2w"


def seconds(text: object) -> int:
    """The seconds in ``45s``, ``20m``, ``6h``, ``1d`` or ``2w``. Raises `Expected` on all else."""
    if isinstance(text, int) and not isinstance(text, bool):
        raise Expected(_DURATION_TEXT, f"with its unit: {text}s, {text}m, {text}h or {text}d?")
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Expected(_DURATION_TEXT)
    return int(match[1]) * _UNITS[match[2]]


def window_seconds(text: object) -> int:
    """As `seconds`, but above 0; 0 stands for ``lifetime``."""
    if text == "lifetime":
        return 0
    try:
        length = seconds(text)
    except Expected as error:
        raise Expected(f"{_DURATION_TEXT}, or lifetime", error.hint) from None
    if length == 0:
        raise Expected("a duration above 0, or lifetime")
    return length


Duration = Annotated[
    int,
    BeforeValidator(seconds),
    PlainSerializer(lambda seconds: f"{seconds}s", when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,9}[smhdw]$", "examples": ["20m", "1d"]}),
]
"""A length of time written ``20m`` or ``1d``: an int of seconds, 0 or more."""

Window = Annotated[
    int,
    BeforeValidator(window_seconds),
    WithJsonSchema(
        {"type": "string", "pattern": "^([0-9]{1,9}[smhdw]|lifetime)$", "examples": ["7d"]}
    ),
]
"""A length of time or ``lifetime``: an int of seconds, where 0 is lifetime."""
