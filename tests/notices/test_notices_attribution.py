"""The last click, else the last view, in the windows of its line item."""

from hypothesis import given
from hypothesis import strategies as st

from bidder.notices.attribution import Contact, Windows, attribute

WINDOWS = {1: Windows(100, 10), 2: Windows(50, 20), 3: Windows(0, 0)}
touches = st.sampled_from(["click", "view"])
contacts = st.builds(
    Contact,
    time=st.integers(0, 200).map(float),
    touch=touches,
    line_item=st.integers(1, 4),
    bid=st.binary(min_size=1, max_size=2),
)


def slow(found: list[Contact], at: float) -> Contact | None:
    """Everything written out: clicks first, then views, the latest of each that counts."""
    for touch in ("click", "view"):
        counting = []
        for contact in found:
            if contact.touch != touch or contact.time > at or contact.line_item not in WINDOWS:
                continue
            windows = WINDOWS[contact.line_item]
            length = windows.click_seconds if touch == "click" else windows.view_seconds
            if length and at - contact.time <= length:
                counting.append((contact.time, contact.bid, contact))
        if counting:
            return max(counting, key=lambda each: each[:2])[2]
    return None


@given(st.lists(contacts, max_size=8), st.integers(0, 250))
def test_it_is_what_the_rule_says(found: list[Contact], at: int) -> None:
    expected, credit = slow(found, at), attribute(found, at, WINDOWS.get)
    assert (credit is None) == (expected is None)
    if credit is not None and expected is not None:
        assert (credit.contact.time, credit.contact.bid) == (expected.time, expected.bid)
        assert credit.contact.touch == expected.touch
        assert credit.seconds == at - expected.time


@given(st.lists(contacts, max_size=8), st.randoms())
def test_the_order_of_the_contacts_does_not_matter(found: list[Contact], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = attribute(found, 150, WINDOWS.get), attribute(shuffled, 150, WINDOWS.get)
    assert (one and (one.contact.time, one.contact.bid, one.contact.touch)) == (
        other and (other.contact.time, other.contact.bid, other.contact.touch)
    )


def test_a_click_beats_a_later_view() -> None:
    click, view = Contact(10, "click", 1, b"a"), Contact(99, "view", 1, b"b")
    credit = attribute([click, view], 100, WINDOWS.get)
    assert credit is not None
    assert credit.contact is click


def test_a_click_that_is_out_of_its_window_gives_way_to_an_older_one_that_is_not() -> None:
    older, newer = Contact(0, "click", 1, b"a"), Contact(30, "click", 2, b"b")
    credit = attribute([older, newer], 100, WINDOWS.get)
    assert credit is not None
    assert credit.contact is older


def test_what_came_after_the_purchase_gets_nothing() -> None:
    assert attribute([Contact(101, "click", 1, b"a")], 100, WINDOWS.get) is None
