"""Which values does YAML text hold, and on which lines?"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from bidder.yamlfiles.problem import InvalidFile, Key, Problem, dotted, fault, found

MAX_DEPTH = 50
MAX_ALIASED = 8 << 20
"""Characters that all aliases of a file may expand to (a node counts 16 and its text)."""


@dataclass(slots=True)
class Places:
    """The line a container starts on, and those of what it contains."""

    line: int
    children: "dict[Key, int | Places]" = field(default_factory=dict)


def line_at(places: int | Places, keys: Iterable[Key], exactly: bool = False) -> int:
    """The line of what these keys reach, else of its nearest parent (0 if it must be `exactly`)."""
    for key in keys:
        if isinstance(places, int) or key not in places.children:
            if exactly:
                return 0
            break
        places = places.children[key]
    return places if isinstance(places, int) else places.line


@dataclass(slots=True)
class _Open:
    """A container whose end has not come yet."""

    value: Any
    """A dict or a list."""
    places: Places
    anchor: str | None
    key: str | None = None
    """Of a dict: the key whose value comes next."""
    twin: bool = False
    """That key was given before."""
    weight: int = 16


class Reading:
    """One pass over the events of one file."""

    def __init__(self, path: Path) -> None:
        self.problems: list[Problem] = []
        self._path = path
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int | Places, int]] = {}
        self._aliased = 0

    def document(self, text: str, pure: bool = False) -> tuple[Any, int | Places]:
        """The one document in `text`; `pure` does without libyaml.

        Raises `YAMLError` on bad syntax and `InvalidFile` where going on makes no sense.
        """
        root: tuple[Any, int | Places] | None = None
        documents = 0
        for event in _events(text, pure):
            kind = type(event)
            if kind is ScalarEvent or kind is AliasEvent:
                node = self._leaf(event)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                self._start(event)
                continue
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                node = self._end()
            else:
                documents += kind is DocumentStartEvent
                if documents > 1:
                    raise self._stop(event, "a second document; a file holds one")
                continue
            if node is None:
                continue
            if self._open:
                self._put(*node)
            else:
                root = node[:2]
        if root is None or root[0] is None:
            raise InvalidFile([fault(self._path, 1, "the file is empty")])
        return root

    def _leaf(self, event: Any) -> tuple[Any, int | Places, int] | None:
        """A scalar or an alias as (value, place, weight), or None if it was taken as a key."""
        line: int = event.start_mark.line + 1
        parent = self._open[-1] if self._open else None
        wants_key = parent is not None and parent.key is None and type(parent.value) is dict
        if type(event) is AliasEvent:
            if wants_key:
                raise self._stop(event, "an alias cannot be a key")
            return self._alias(event)
        if event.tag is not None and not event.implicit[1] and event.tag != "!":
            raise self._stop(event, f"tags are not understood: {found(event.tag)}")
        if wants_key:
            assert parent is not None
            self._key(parent, event.value, line)
            return None
        value = _plain(event.value) if event.implicit[0] else event.value
        node = value, line, 16 + len(event.value)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _key(self, parent: _Open, key: str, line: int) -> None:
        if key in parent.value:
            first = line_at(parent.places.children[key], ())
            where = dotted([*self._keys(), key])
            self.problems.append(
                Problem("error", self._path, line, where, "given twice", f"first on line {first}")
            )
            # The first one is the one that is checked.
            parent.twin = True
        else:
            parent.places.children[key] = line
        parent.key = key

    def _alias(self, event: Any) -> tuple[Any, int | Places, int]:
        node = self._anchors.get(event.anchor)
        if node is None:
            inside = any(each.anchor == event.anchor for each in self._open)
            message = "contains itself" if inside else "names nothing above it"
            raise self._stop(event, f"the alias *{event.anchor} {message}")
        self._aliased += node[2]
        if self._aliased > MAX_ALIASED:
            raise self._stop(event, "the aliases of this file expand to too much")
        value, places, weight = node
        line: int = event.start_mark.line + 1
        return value, Places(line, places.children) if isinstance(places, Places) else line, weight

    def _start(self, event: Any) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise self._stop(event, f"nested more than {MAX_DEPTH} deep")
        if self._open and self._open[-1].key is None and type(self._open[-1].value) is dict:
            raise self._stop(event, "a key must be text, found a list or mapping")
        if event.tag is not None and event.tag != "!":
            raise self._stop(event, f"tags are not understood: {found(event.tag)}")
        value: Any = {} if type(event) is MappingStartEvent else []
        self._open.append(_Open(value, Places(event.start_mark.line + 1), event.anchor))

    def _end(self) -> tuple[Any, int | Places, int]:
        done = self._open.pop()
        node = done.value, done.places, done.weight
        if done.anchor:
            self._anchors[done.anchor] = node
        return node

    def _put(self, value: Any, places: int | Places, weight: int) -> None:
        parent = self._open[-1]
        parent.weight += weight
        if type(parent.value) is list:
            parent.places.children[len(parent.value)] = places
            parent.value.append(value)
            return
        key, parent.key = parent.key, None
        twin, parent.twin = parent.twin, False
        if twin or key is None:
            return
        parent.value[key] = value
        if isinstance(places, Places):
            # Problems with a whole mapping are shown at its key, as a reader would look there.
            line = line_at(parent.places.children[key], ())
            parent.places.children[key] = Places(line, places.children)

    def _keys(self) -> list[Key]:
        """Where the innermost open container stands."""
        return [
            len(each.value) if type(each.value) is list else each.key or ""
            for each in self._open[:-1]
        ]

    def _stop(self, event: Event, message: str) -> InvalidFile:
        line = event.start_mark.line + 1
        where = dotted(self._keys())
        return InvalidFile([*self.problems, Problem("error", self._path, line, where, message)])


_SIGNS = frozenset("0123456789+-.")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?", re.ASCII)
_WORDS = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


def _events(text: str, pure: bool) -> Iterator[Event]:
    yaml = YAML(typ="safe", pure=pure)
    yaml.version = "1.2"
    events: Iterator[Event] = yaml.parse(text)
    return events


def _plain(text: str) -> Any:
    """What an unquoted scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _SIGNS:
        return text
    if _INTEGER.fullmatch(text):
        # 64 bits hold any number of 18 digits; what is longer is a name rather than a number.
        return int(text) if len(text) <= 18 else text
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text
