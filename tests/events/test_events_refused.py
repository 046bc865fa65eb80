"""The list of notices that the store would not take."""

from pathlib import Path
from typing import Any

import pytest

from bidder.events import refused as refusing
from bidder.events.refused import clear, noting, refused
from bidder.events.schema import BillingEvent, ClickEvent


def test_each_stands_once_with_its_last_reason(tmp_path: Path, make: Any) -> None:
    assert refused(tmp_path) == []
    note = noting(tmp_path)
    note(make(BillingEvent, "a"), "first")
    note(make(ClickEvent, "a"), "other")
    note(make(BillingEvent, "a"), "last")
    with (tmp_path / refusing.FILE).open("ab") as file:
        file.write(b'{"time":1,"ty')
    assert [(one.bid_id, one.type, one.problem) for one in refused(tmp_path)] == [
        ("a", "billing", "last"),
        ("a", "click", "other"),
    ]
    clear(tmp_path)
    clear(tmp_path)
    assert refused(tmp_path) == []


def test_nothing_is_said_of_the_person(tmp_path: Path, make: Any) -> None:
    noting(tmp_path)(make(ClickEvent, "a", person="somebody"), "no")
    assert [one.bid_id for one in refused(tmp_path)] == ["a"]
    assert b"somebody" not in (tmp_path / refusing.FILE).read_bytes()


def test_the_list_does_not_grow_without_end(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusing, "MOST_BYTES", 300)
    note = noting(tmp_path)
    for number in range(100):
        note(make(ClickEvent, str(number)), "no")
    kept = [int(one.bid_id) for one in refused(tmp_path)]
    assert kept == list(range(len(kept))), "the first ones, which say what began it"
    assert 300 < (tmp_path / refusing.FILE).stat().st_size < 600
