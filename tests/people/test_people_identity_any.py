"""`*` in the order of identifiers: any eid source that the order does not name."""

from hypothesis import given
from hypothesis import strategies as st

from bidder.people.identity import MAX_TRIED, candidates

ORDER = ("crm", "buyeruid", "*", "ifa")


def test_any_source_has_its_place_in_the_order() -> None:
    pairs = [("ifa", "A"), ("b.example", "2"), ("a.example", "1"), ("buyeruid", "c")]
    assert candidates(pairs, "demo", ORDER) == [
        ("buyeruid.demo", "c"),
        ("b.example", "2"),
        ("a.example", "1"),
        ("ifa", "a"),
    ]


def test_nobody_speaks_for_another_exchange() -> None:
    assert candidates([("buyeruid.google", "c"), ("a:b", "c"), ("", "c")], "demo", ORDER) == []


@given(
    st.lists(
        st.tuples(st.sampled_from(["crm", "buyeruid", "x.example", "y.example", "ifa"]), st.text()),
        max_size=20,
    )
)
def test_as_the_obvious_loop_says(pairs: list[tuple[str, str]]) -> None:
    usable = [(s, v) for s, v in pairs if 0 < len(v) <= 256 and v.isprintable()]
    expected = [("crm", v) for s, v in usable if s == "crm"]
    expected += [("buyeruid.demo", v) for s, v in usable if s == "buyeruid"]
    expected += [(s, v) for s, v in usable if s.endswith(".example")]
    expected += [("ifa", v.lower()) for s, v in usable if s == "ifa"]
    assert candidates(pairs, "demo", ORDER) == expected[:MAX_TRIED]
