"""What a column says is what reading each value by itself would say."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.crm.columns import amounts, coded, counts, objections, times

PARIS = ZoneInfo("Europe/Paris")


def said(*texts: str | None, zone: str = "UTC", form: str | None = None) -> list[int | None]:
    read = times(pa.array(texts, pa.string()), zone, form)
    return [value if good else None for value, good in zip(*map(list, read), strict=True)]


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-01 12:00:00", "2026-07-01T12:00:00", "2026-07-01T12:00:00.123", "2026-07-01T12:00",
        "2026-07-01T10:00:00Z", "2026-07-01T10:00:00.5Z", "2026-07-01T12:00:00+02:00",
        "2026-07-01 08:00:00-0200", "1782900000", "1782900000000",
        " 1782900000 ", "20260701T120000",
    ],
)  # fmt: skip
def test_one_moment_however_it_is_written(text: str) -> None:
    assert said(None, text, "", zone="Europe/Paris") == [None, 1782900000, None]


@pytest.mark.parametrize(
    "text", ["2026-02-30", "31/12/2026", "soon", "0", "2026-07-01T25:00:00", "9" * 40, "²"]
)
def test_what_is_no_time_is_not_made_one(text: str) -> None:
    assert said(text) == [None]


def test_a_form_of_its_own() -> None:
    assert said(
        "31/12/2025 23:00", "12/31/2025 23:00", form="%d/%m/%Y %H:%M", zone="Europe/Paris"
    ) == [
        int(datetime(2025, 12, 31, 22, tzinfo=UTC).timestamp()),
        None,
    ]


@given(st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)), max_size=5))
def test_summer_and_winter_are_told_apart(moments: list[datetime]) -> None:
    whole = [each.replace(microsecond=0) for each in moments]
    texts = [each.strftime("%Y-%m-%d %H:%M:%S") for each in whole]
    expected = [int(each.replace(tzinfo=PARIS).timestamp()) for each in whole]
    for found, wanted in zip(said(*texts, zone="Europe/Paris"), expected, strict=True):
        assert found is not None
        assert abs(found - wanted) in (0, 3600)  # the hour that comes twice, or never
        if abs(found - wanted):
            assert datetime.fromtimestamp(wanted, PARIS).utcoffset() != datetime.fromtimestamp(
                wanted + 4 * 3600, PARIS
            ).utcoffset() or datetime.fromtimestamp(wanted, PARIS).utcoffset() != (
                datetime.fromtimestamp(wanted - 4 * 3600, PARIS).utcoffset()
            )


def test_amounts_of_both_sides_of_the_channel() -> None:
    texts = ["12.5", "12,50 €", "1 234,50", "1,234.50", "1.234,5", "1'234.50", None, "", "ten",
             "-3", "1e9", "99999999999", "nan"]  # fmt: skip
    read = amounts(pa.array(texts, pa.string()))
    found = [v / 1e6 if good else None for v, good in zip(*map(list, read), strict=True)]
    assert found == [12.5, 12.5, 1234.5, 1234.5, 1234.5, 1234.5, 0, 0, *[None] * 5]


@pytest.mark.parametrize(
    "text",
    ["Oui", "1", " X ", "1.0", "-1", "opt-out", "Opted out", "optout", "refusé", "TRUE",
     "2026-05-01", "2026-05-01 09:30:00", "31/05/2026"],
)  # fmt: skip
def test_what_means_an_objection_is_one(text: str) -> None:
    objects, unclear = objections(pa.array([text, None], pa.string()), "%d/%m/%Y")
    assert (objects.tolist(), unclear.tolist()) == ([True, False], [False, False])


@pytest.mark.parametrize(
    "text", [None, "", " ", "-", "0", "0.0", "No", "non", "false", "nan", "NULL", "opt-in", "n/a",
             "0000-00-00"]
)  # fmt: skip
def test_what_means_no_objection_is_none(text: str | None) -> None:
    objects, unclear = objections(pa.array([text], pa.string()))
    assert (objects.tolist(), unclear.tolist()) == ([False], [False])


@pytest.mark.parametrize("text", ["active", "7", "maybe", "31/05/2026"])
def test_what_is_neither_an_objection_nor_none_is_said_to_be_neither(text: str) -> None:
    objects, unclear = objections(pa.array([text], pa.string()))
    assert (objects.tolist(), unclear.tolist()) == ([False], [True])


def test_counts_and_codes() -> None:
    assert counts(pa.array(["3", "", "many", "900"])).tolist() == [3, 0, 0, 255]
    values, places = coded(pa.array(["a", None, "b", "a"]))
    assert [values[place] if place >= 0 else None for place in places] == ["a", None, "b", "a"]
