"""Who is one person in a file? As a list of sets would have it, joined pair by pair."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bidder.crm.linking import Linked
from bidder.people.records import MAX_IDENTIFIERS

COUNT = 60
numbers = st.integers(0, COUNT - 1)


@given(
    st.lists(st.tuples(numbers, numbers), max_size=150),
    st.sets(numbers, max_size=COUNT // 4),
    st.integers(1, 4),
)
def test_links_join_as_sets_would(
    pairs: list[tuple[int, int]], customers: set[int], rounds: int
) -> None:
    linked = Linked()
    for number in range(COUNT):
        source = "crm" if number in customers else "ifa"
        assert linked.numbers([(source, [f"v{number}"])], {}).tolist() == [number]
    groups = [{number} for number in range(COUNT)]
    apart = 0
    for start in range(rounds):
        some = sorted(set(pairs[start::rounds]))
        if some:
            apart += linked.link(np.array(some).T)
        for one, other in some:
            mine = next(group for group in groups if one in group)
            theirs = next(group for group in groups if other in group)
            both = mine | theirs
            if mine is theirs:
                continue
            if len(both) > MAX_IDENTIFIERS or (mine & customers and theirs & customers):
                apart -= 1
                continue
            groups = [group for group in groups if group not in (mine, theirs)] + [both]
    assert apart == 0
    roots = linked.roots().tolist()
    assert {frozenset(group) for group in groups} == {
        frozenset(number for number in range(COUNT) if roots[number] == root) for root in roots
    }


def test_an_identifier_has_one_number_however_often_it_comes() -> None:
    linked = Linked()
    first = linked.numbers([("email", ["a", "b", "a"]), ("crm", ["a"])], {2: (("email", "old"),)})
    assert first.tolist() == [0, 1, 0, 2]
    again = linked.numbers([("crm", ["a", "c"]), ("email", ["b"])], {})
    assert again.tolist() == [2, 3, 1]
    assert linked.former == {0: (("email", "old"),)}
    assert linked.sources == ["email", "email", "crm", "crm"]
    assert linked.values == ["a", "b", "a", "c"]
    assert linked.customers().tolist() == [False, False, True, True]
