"""Does the log become one row per billed impression, whatever state its files are in?"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bidder.events.files import file_name
from bidder.events.forgotten import Forgotten
from bidder.events.keeping import compress
from bidder.events.schema import (
    AnyEvent,
    BidEvent,
    BillingEvent,
    ClickEvent,
    ConversionEvent,
    ImpressionEvent,
    NoBidEvent,
    Notice,
    encode,
)
from bidder.notices.attribution import Windows
from bidder.scoring import features
from models import dataset_synthetic
from models.dataset import Dataset, as_of, row_files, summary
from models.table import Table, read_dataset

NOON = 1_790_000_000.0
DAY = 86400.0
ROW = [float(n) if n % 3 else None for n in range(len(features.NAMES))]


def bid(bid_id: str, time: float = NOON, person: str = "ada", **more: Any) -> BidEvent:
    fields: dict[str, Any] = {"features": ROW, "feature_version": features.VERSION, "train": True}
    return BidEvent(
        time=time, bid_id=bid_id, request_id="r", imp_id="1", exchange="demo",
        line_item="lumen/winter/basket", creative="k", price_cpm_micros=2_000_000, currency="USD",
        value_cpm_micros=3_000_000, account_currency="EUR", rate=0.5, first_price=True,
        person=person, p_click=0.25, p_conversion=0.5, model="m1", **(fields | more),
    )  # fmt: skip


def heard(
    kind: type[Notice], bid_id: str, time: float, made: float = NOON, person: str = "ada",
    **more: Any,
) -> Any:  # fmt: skip
    return kind(
        time=time, bid_id=bid_id, exchange="demo", line_item="lumen/winter/basket", creative="k",
        bid_time=float(int(made)), bid_cpm_micros=2_000_000, currency="USD", account_currency="EUR",
        rate=0.5, hold="w", ids=(1, 2, 3, 4), person=person, **({"measure": True} | more),
    )  # fmt: skip


def shown(bid_id: str, made: float = NOON, person: str = "ada", **more: Any) -> list[AnyEvent]:
    billed = heard(BillingEvent, bid_id, made + 1, made, person, cost_micros=1500)
    return [bid(bid_id, made, person, **more), billed,
            heard(ImpressionEvent, bid_id, made + 2, made, person)]  # fmt: skip


def clicked(bid_id: str, after: float, made: float = NOON, person: str = "ada") -> ClickEvent:
    event: ClickEvent = heard(ClickEvent, bid_id, made + after, made, person, click_id="c")
    return event


def sold(bid_id: str, time: float, order: str = "o1", made: float = NOON, **more: Any) -> AnyEvent:
    event: AnyEvent = heard(
        ConversionEvent, bid_id, time, made, order=order, value_micros=80_000_000, **more
    )
    return event


def write(log: Path, writer: str, events: Iterable[AnyEvent], number: int = 1) -> Path:
    path = log / writer / file_name(NOON, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(encode, events)))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events"


@pytest.fixture
def dataset(log: Path, tmp_path: Path) -> Dataset:
    log.mkdir(parents=True)
    return Dataset(log, tmp_path / "dataset", memory="500MB", threads=1)


def rows_of(dataset: Dataset) -> Table:
    return read_dataset(row_files(dataset.out), as_of(dataset.out))


def content(dataset: Dataset) -> list[bytes]:
    return [path.read_bytes() for path in row_files(dataset.out)]


def test_one_row_per_billed_impression(log: Path, dataset: Dataset) -> None:
    lost = bid("lost")
    write(log, "w0", [*shown("a"), lost, NoBidEvent(NOON, "r", "demo", 8)])
    write(log, "w1", [clicked("a", 9.0), sold("a", NOON + 100)])
    counts = summary(dataset.update())
    table = rows_of(dataset)
    assert len(table) == 1
    np.testing.assert_array_equal(table.rows[0], features.from_log(ROW))
    assert (table.click[0], table.conversion[0], table.view_conversion[0]) == (True, True, False)
    assert table.conversion_delay[0] == pytest.approx(91.0)
    assert table.elapsed[0] == pytest.approx(91.0)
    assert (table.paid_cpm[0], table.value_cpm[0]) == (1.5, 1.5)
    assert (table.person[0], table.advertiser[0], table.model[0]) == ("ada", "lumen", "m1")
    assert (counts["bids"], counts["billed"], counts["rows"], counts["orders"]) == (2, 1, 1, 1)


def test_duplicates_and_orphans_are_counted(log: Path, dataset: Dataset) -> None:
    told = shown("a")
    write(log, "w0", [*told, *told, clicked("a", 3.0)])
    write(log, "w1", [clicked("a", 5.0), heard(BillingEvent, "nobody", NOON, cost_micros=1)])
    counts = summary(dataset.update())
    assert len(rows_of(dataset)) == 1
    assert (counts["duplicate bids"], counts["duplicate notices"], counts["orphans"]) == (1, 3, 1)


def test_a_torn_line_costs_only_itself(log: Path, dataset: Dataset) -> None:
    whole = [line for name in "abc" for line in map(encode, shown(name))]
    path = write(log, "w0", [])
    torn = encode(bid("torn"))[:-30]
    path.write_bytes(b"".join([*whole[:4], torn + b"\n", b"\xff\xfe{]\n", *whole[4:], torn]))
    counts = summary(dataset.update())
    assert len(rows_of(dataset)) == 3
    assert counts["torn lines"] == 3
    assert counts["lines"] == 12


def test_a_file_that_cannot_be_read_costs_only_itself(log: Path, dataset: Dataset) -> None:
    write(log, "w0", shown("a"))
    write(log, "w0", [], 2)
    damaged = log / "w1" / (file_name(NOON, 1) + ".zst")
    damaged.parent.mkdir()
    damaged.write_bytes(b"\x28\xb5\x2f\xfdnonsense")
    write(log, "w1", shown("b"), 2)
    counts = summary(dataset.update())
    assert counts["unreadable files"] == 1
    assert len(rows_of(dataset)) == 2


def test_compressed_and_again(log: Path, dataset: Dataset) -> None:
    first = write(log, "w0", shown("a"))
    write(log, "w0", shown("b"), 2)
    dataset.update()
    before, modified = content(dataset), [p.stat().st_mtime_ns for p in row_files(dataset.out)]
    compress([first])
    dataset.update()
    assert content(dataset) == before
    assert [p.stat().st_mtime_ns for p in row_files(dataset.out)] == modified, "nothing was done"


def test_a_growing_log_makes_the_same_as_a_grown_one(
    log: Path, dataset: Dataset, tmp_path: Path
) -> None:
    events = [
        *shown("a"),
        *shown("b", NOON + DAY),
        clicked("a", 2 * DAY),
        sold("a", NOON + 4 * DAY),
    ]
    for count in range(1, len(events) + 1):
        write(log, "w0", events[:count])
        dataset.update()
    write(log, "w0", events[:3])
    write(log, "w0", events[3:], 2)
    once = Dataset(log, tmp_path / "once", memory="500MB", threads=1)
    once.update()
    for left, right in zip(rows_of(dataset).rows, rows_of(once).rows, strict=True):
        np.testing.assert_array_equal(left, right)
    assert rows_of(dataset).click.tolist() == rows_of(once).click.tolist() == [True, False]
    assert rows_of(dataset).conversion.tolist() == [True, False]


def test_without_permission_without_person_or_of_other_features(
    log: Path, dataset: Dataset
) -> None:
    write(log, "w0", [
        *shown("a"), *shown("b", train=False), *shown("c", person=""),
        *shown("d", feature_version="old"), *shown("e", features=[1.0]),
    ])  # fmt: skip
    counts = summary(dataset.update())
    assert counts["without permission"] == 2
    assert counts["other features"] == 2
    assert len(rows_of(dataset)) == 1


def test_the_erased_leave_rows_and_staging(
    log: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIDDER_TOMBSTONE_KEY", "ab" * 32)
    write(log, "w0", [*shown("a"), *shown("b", person="bob"), clicked("b", 5, person="bob")])
    dataset.update()
    assert set(rows_of(dataset).person) == {"ada", "bob"}
    Forgotten(log).add(["bob"])
    counts = summary(dataset.update())
    assert set(rows_of(dataset).person) == {"ada"}
    assert (counts["erased"], counts["orphans"]) == (1, 0)
    for path in dataset.out.rglob("*.parquet"):
        assert b"bob" not in path.read_bytes(), path
    write(log, "w0", shown("c", NOON + 5, person="bob"), 2)
    dataset.update()
    assert set(rows_of(dataset).person) == {"ada"}, "also where the log names them again"


def test_a_purchase_counts_once_for_the_last_click(log: Path, dataset: Dataset) -> None:
    write(log, "w0", [
        *shown("old"), clicked("old", 5), *shown("new", NOON + DAY), clicked("new", 5, NOON + DAY),
        *shown("later", NOON + 2 * DAY),
        sold("old", NOON + 2 * DAY + 50), sold("new", NOON + 2 * DAY + 60, made=NOON + DAY),
    ])  # fmt: skip
    counts = summary(dataset.update())
    table = rows_of(dataset)
    assert table.conversion.tolist() == [False, True, False]
    assert (counts["orders"], counts["orders told again"]) == (1, 1)


def test_no_purchase_is_credited_to_an_ad_that_may_not_be_measured(
    log: Path, dataset: Dataset
) -> None:
    unmeasured = msgspec.structs.replace(clicked("new", 5, NOON + DAY), measure=False)
    write(log, "w0", [
        *shown("old"), clicked("old", 5), *shown("new", NOON + DAY), unmeasured,
        sold("old", NOON + 2 * DAY),
    ])  # fmt: skip
    dataset.update()
    assert rows_of(dataset).conversion.tolist() == [True, False]


def test_a_purchase_told_of_with_and_without_the_person_counts_once(
    log: Path, dataset: Dataset
) -> None:
    write(log, "w0", [
        *shown("old"), clicked("old", 5), *shown("new", NOON + DAY), clicked("new", 5, NOON + DAY),
        sold("old", NOON + 2 * DAY, person="", measure=False), sold("new", NOON + 2 * DAY + 9),
    ])  # fmt: skip
    counts = summary(dataset.update())
    assert rows_of(dataset).conversion.tolist() == [False, True]
    assert (counts["orders"], counts["orders told again"]) == (1, 1)


def test_a_view_is_credited_where_there_is_no_click_in_time(log: Path, dataset: Dataset) -> None:
    dataset.windows = lambda line_item: Windows(click_seconds=60, view_seconds=3600)
    write(log, "w0", [
        *shown("a"), clicked("a", 5), *shown("b", NOON + DAY), sold("a", NOON + DAY + 600),
        sold("a", NOON + 9 * DAY, "late"),
    ])  # fmt: skip
    counts = summary(dataset.update())
    table = rows_of(dataset)
    assert table.conversion.tolist() == [False, False]
    assert table.view_conversion.tolist() == [False, True]
    assert counts["orders without contact"] == 1


def test_days_whose_log_is_gone_stay(log: Path, dataset: Dataset) -> None:
    first = write(log, "w0", shown("a"))
    write(log, "w0", shown("b", NOON + DAY), 2)
    dataset.update()
    before = content(dataset)
    first.unlink()
    dataset.update()
    assert content(dataset)[0] == before[0]
    assert len(rows_of(dataset)) == 2


def test_negatives_are_sampled_and_weighed(log: Path, dataset: Dataset) -> None:
    events = [event for n in range(200) for event in shown(f"b{n}", NOON + n)]
    write(log, "w0", [*events, clicked("b7", 5, NOON + 7)])
    dataset.update()
    table = read_dataset(row_files(dataset.out), as_of(dataset.out), negatives=0.25)
    assert 20 < len(table) < 90
    assert table.click.sum() == 1
    assert table.weight[table.click].tolist() == [1.0]
    assert set(table.weight[~table.click]) == {4.0}


def test_what_a_made_up_log_says_is_found_in_it(dataset: Dataset) -> None:
    made = dataset_synthetic.make(dataset.log.parent, 3000, 2, 2.0, seed=4)
    counts = summary(dataset.update())
    assert counts["bids"] == made["bids"] + made["duplicate bids"]
    assert counts["billed"] == made["billed"]
    assert counts["duplicate bids"] == made["duplicate bids"]
    assert counts["torn lines"] == 2
