"""docs/events.md says what the structs say."""

import re
from pathlib import Path
from typing import get_args

import pytest

from bidder.events.schema import AnyEvent, BidEvent, Event, Notice, decode, encode

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
KINDS: list[type[Event]] = list(get_args(AnyEvent))


def documented(heading: str) -> set[str]:
    """The fields in the table under a heading."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/events.md has no heading {heading!r}"
    return set(re.findall(r"^\| `(\w+)` \|", section[1], re.MULTILINE))


def fields(kind: type[Event]) -> set[str]:
    return set(kind.__struct_fields__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_of_every_event_stands_in_the_docs(kind: type[Event]) -> None:
    base = Notice if issubclass(kind, Notice) else Event
    tag = kind.__struct_config__.tag
    assert documented(str(tag)) == fields(kind) - fields(base)


def test_the_common_fields_stand_in_the_docs() -> None:
    assert documented("Every event") == fields(Event) | {"type"}
    assert documented("Every notice") == fields(Notice) - fields(Event)


def test_a_line_begins_with_its_type(make) -> None:  # type: ignore[no-untyped-def]
    """The tail passes over bids by how their lines begin."""
    event = make(BidEvent, features=[1.0, None])
    assert encode(event).startswith(b'{"type":"bid"')
    assert decode(encode(event)) == event
