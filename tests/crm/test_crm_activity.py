"""Records are a union: any order, any number of times."""

from hypothesis import given
from hypothesis import strategies as st

from bidder.crm.activity import (
    MAX_PURCHASES,
    MAX_RECORDS,
    RECORD_BYTES,
    Keep,
    Kind,
    events,
    expired,
    opened,
    record,
    united,
)
from bidder.crm.deriving import derived
from bidder.crm.segments import NONE
from bidder.orders import Orders
from bidder.person import Profile

records = st.builds(
    lambda time, kind, value: record(time, kind, 7, value_micros=value),
    st.integers(1, 50),
    st.sampled_from([Kind.VISIT, Kind.PURCHASE, Kind.EMAIL_SENT]),
    st.integers(0, 3),
)
several = st.lists(records, max_size=12).map(b"".join)


def split(raw: bytes) -> set[bytes]:
    return {raw[at : at + RECORD_BYTES] for at in range(0, len(raw), RECORD_BYTES)}


@given(several, several)
def test_a_union_holds_what_either_holds_once_in_order_of_time(one: bytes, other: bytes) -> None:
    both = united(united(None, one), other)
    assert split(both) == split(one) | split(other)
    assert len(both) == RECORD_BYTES * len(split(both))
    times = opened(both)["time"].tolist()
    assert times == sorted(times)


@given(several, several, several)
def test_neither_order_nor_repetition_matters(one: bytes, two: bytes, three: bytes) -> None:
    first = united(united(united(None, one), two), three)
    second = united(united(united(united(None, three), one), two), one)
    assert first == second


def test_the_later_report_of_an_order_counts() -> None:
    number = Orders(b"key").number("W-1", 7)
    before = record(10, Kind.PURCHASE, 7, value_micros=5, reference=number)
    after = record(10, Kind.PURCHASE, 7, value_micros=9, reference=number)
    assert united(before, after) == after


def test_a_refund_stands_beside_its_order() -> None:
    number = Orders(b"key").number("W-1", 7)
    bought = record(10, Kind.PURCHASE, 7, value_micros=9, reference=number)
    back = record(20, Kind.REFUND, 7, value_micros=9, reference=number)
    assert united(bought, back) == bought + back


def test_visits_go_before_purchases_do() -> None:
    bought = b"".join(record(at, Kind.PURCHASE, 7, value_micros=at) for at in range(1, 71))
    visits = b"".join(record(at, Kind.VISIT, 7) for at in range(100, 300))
    kept = opened(united(bought, visits))
    assert len(kept) == MAX_RECORDS
    assert (kept["kind"] == Kind.PURCHASE).sum() == MAX_PURCHASES
    assert kept["time"].max() == 299


def test_each_kind_is_kept_for_its_own_time() -> None:
    raw = record(100, Kind.VISIT, 7) + record(100, Kind.PURCHASE, 7) + record(100, Kind.SMS_SENT, 7)
    keep = Keep(visits=10, orders=20, contacts=30)
    assert expired(opened(raw), keep, 109).tolist() == [False, False, False]
    assert expired(opened(raw), keep, 110).tolist() == [True, False, False]
    assert expired(opened(raw), keep, 130).tolist() == [True, True, True]


def test_a_torn_value_is_read_up_to_the_tear() -> None:
    whole = record(1, Kind.VISIT, 7)
    assert [event.kind for event in events(whole + whole[:5], {7: "shop"})] == ["visit"]


def _orders(first: int, last: int) -> list[bytes]:
    number = Orders(b"key").number
    return [
        record(at, Kind.PURCHASE, 7, value_micros=at, reference=number(f"W-{at}", 7))
        for at in range(first, last)
    ]


def _said(raw: bytes) -> tuple[int, int, int]:
    found = derived([Profile()], [raw], NONE, {}, 1000)[0]
    return found.orders, found.spent_micros, found.last_order


def test_what_more_purchases_than_are_kept_came_to_is_known() -> None:
    every = [*_orders(100, 300), *[record(at, Kind.VISIT, 7) for at in range(100, 300)]]
    raw = united(None, b"".join(every))
    assert len(raw) <= RECORD_BYTES * MAX_RECORDS
    assert _said(raw) == (200, sum(range(100, 300)), 299)


@given(st.lists(st.integers(70, 199), max_size=4), st.booleans())
def test_sums_do_not_depend_on_how_purchases_came(ends: list[int], again: bool) -> None:
    every = _orders(0, 200)
    raw = None
    for end in [*sorted(ends), 200]:  # each report holds all up to then, as a CRM's exports do
        raw = united(raw, b"".join([*every[:end], *_visits(130)]))
    if again:
        raw = united(raw, b"".join(every))
        raw = united(raw, united(None, b"".join([*every, *_visits(130)])))
    assert raw is not None
    assert _said(raw) == (200, sum(range(200)), 199)


def test_one_order_after_the_other_adds_up() -> None:
    raw = united(None, b"".join(_visits(128)))
    for one in _orders(0, 150):
        raw = united(raw, one)
    assert _said(raw) == (150, sum(range(150)), 149)


def _visits(count: int) -> list[bytes]:
    return [record(500 + at, Kind.VISIT, 7) for at in range(count)]
