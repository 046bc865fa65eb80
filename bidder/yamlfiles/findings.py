"""What does pydantic object to, in words for whoever wrote the file?"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bidder.yamlfiles.problem import Expected, Key, Problem, dotted, found, nearest
from bidder.yamlfiles.reading import Places, line_at

MAX_ERRORS = 400
"""Looked at; the rest of a file so wrong is not read by anybody."""

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "enum": "{expected}",
}


@dataclass(frozen=True)
class Findings:
    """What pydantic says of one file, in its reader's words."""

    path: Path
    model: type[BaseModel]
    value: Any
    places: int | Places

    def problems(self, error: ValidationError) -> list[Problem]:
        """One problem for each place that is wrong, in order of lines."""
        merged: dict[tuple[Key, ...], list[tuple[str, str, str]]] = {}
        for each in error.errors(include_url=False)[:MAX_ERRORS]:
            if each["type"] == "too_short" and len(each["input"]) >= each["ctx"]["min_length"]:
                continue  # pydantic counts only the items that are valid
            keys, models = self._walk(each["loc"], each["type"] == "missing")
            merged.setdefault(keys, []).append(self._explained(each, keys, models))
        problems = []
        for keys, said in merged.items():
            message, expected, hint = said[0]
            if expected:
                # Branches of a union each say what they would have taken.
                message += " or ".join(dict.fromkeys([each[1] for each in said if each[1]]))
            line = line_at(self.places, keys)
            problems.append(Problem("error", self.path, line, dotted(keys), message, hint))
        return sorted(problems, key=lambda problem: problem.line)

    def _walk(
        self, loc: tuple[Key, ...], missing: bool
    ) -> tuple[tuple[Key, ...], list[type[BaseModel]]]:
        """The keys of `loc` that are in the file (not names of union branches), and the models
        that may stand round the last of them."""
        here, keys = self.value, list[Key]()
        models, around = [self.model], [self.model]
        for position, key in enumerate(loc):
            last = position == len(loc) - 1
            if isinstance(here, dict) and (key in here or (missing and last)):
                here = here.get(key)
            elif isinstance(here, list) and isinstance(key, int) and key < len(here):
                here = here[key]
            else:
                continue
            keys.append(key)
            around = models
            if isinstance(key, str):
                models = [m for model in models for m in _models_below(model, key)] or models
        return tuple(keys), around

    def _explained(
        self, error: Any, keys: tuple[Key, ...], models: list[type[BaseModel]]
    ) -> tuple[str, str, str]:
        """(message, expected, hint); the message ends where `expected` is to follow."""
        kind, given, context = error["type"], error["input"], error.get("ctx", {})
        if kind == "missing":
            return "missing", "", ""
        if kind == "extra_forbidden":
            known = [_name(model, field) for model in models for field in model.model_fields]
            name = str(keys[-1]) if keys else ""
            return "unknown key", "", nearest(name, known) or f"known: {', '.join(sorted(known))}"
        if kind == "value_error":
            cause = context["error"]
            if not isinstance(cause, Expected):
                return str(cause), "", ""
            return f"found {found(given)}, expected ", cause.expected, cause.hint
        template = _EXPECTED.get(kind)
        expected = template.format(**context) if template else _lowered(error["msg"])
        return f"found {found(given)}, expected ", expected, _advice(kind, given, expected)


def _advice(kind: str, given: object, expected: str) -> str:
    if kind == "literal_error" and isinstance(given, str):
        return nearest(given, re.findall(r"'([^']*)'", expected))
    if kind == "string_type" and isinstance(given, int | float):
        return "put it in quotes"
    if kind == "bool_type" and isinstance(given, str) and given.lower() in ("yes", "no"):
        return "YAML 1.2 has only true and false"
    if kind in ("list_type", "tuple_type") and isinstance(given, str | int | float):
        return f"write [{given}]"
    return ""


def _lowered(message: str) -> str:
    text = message.removeprefix("Input should be ")
    return text[:1].lower() + text[1:]


def _name(model: type[BaseModel], name: str) -> str:
    """How a field is written in the file."""
    return model.model_fields[name].alias or name


def _models_below(model: type[BaseModel], key: str) -> list[type[BaseModel]]:
    """The models inside the annotation of the field that the file calls `key`."""
    for name, info in model.model_fields.items():
        if _name(model, name) == key:
            return list(_models_in(info.annotation))
    return []


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
