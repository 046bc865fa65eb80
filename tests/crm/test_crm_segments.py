"""Rules over many people give what reading each person's records one by one gives."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.crm.activity import NAMES, Event, Kind, category_id, events, record, united
from bidder.crm.asking import Crowd, members
from bidder.crm.deriving import derived
from bidder.crm.segments import Segments, load
from bidder.ids import hash32
from bidder.person import Profile
from bidder.yamlfiles import InvalidFile

NOW, DAY, SHOP = 1_795_000_000, 86400, "maison-lumen"
SHIPPED = load(Path(__file__).parents[2] / "config" / "segments")
BOUGHT = ("purchase", "store_purchase")
CAME = ("visit", "product", "basket", "app_visit", "store_visit")
ISSUE = {
    "prospect", "visitor-never-bought", "first-time-visitor", "new-buyer", "active", "lapsing",
    "lapsed", "won-back", "rfm-champions", "basket", "basket-high-value", "basket-cold",
    "viewed-suspensions", "store-visitor", "email-inactive", "churn-risk",
    "visitor", "buyer", "newsletter",
}  # fmt: skip

happenings = st.builds(
    lambda kind, age, value: record(
        NOW - age,
        NAMES[kind],
        hash32(SHOP),
        value_micros=value * 1_000_000,
        count=1,
        category=category_id("suspensions") if kind == "product" else 0,
    ),
    st.sampled_from([*BOUGHT, *CAME, "basket_emptied", "email_sent", "email_opened"]),
    st.integers(0, 395).flatmap(lambda day: st.integers(day * DAY, day * DAY + 3)),
    st.integers(0, 300),
)
lives = st.lists(happenings, max_size=9).map(lambda many: united(None, b"".join(many)))


def ages(life: list[Event], *kinds: str) -> list[int]:
    return [NOW - event.time for event in life if event.kind in kinds]


def slow(life: list[Event]) -> set[str]:
    """Some of the shipped segments, said again in the plainest way."""
    bought, came, found = ages(life, *BOUGHT), ages(life, *CAME), set()
    last = min(bought, default=None)
    if last is not None:
        found.add("buyer")
        found.add("active" if last <= 90 * DAY else "lapsing" if last <= 180 * DAY else "lapsed")
        if last == 90 * DAY:
            found |= {"lapsing"}
        if last == 180 * DAY:
            found |= {"lapsed"}
        if len(bought) == 1 and last <= 30 * DAY:
            found.add("new-buyer")
    elif came:
        found.add("visitor-never-bought")
    else:
        found.add("prospect")
    baskets, ended = ages(life, "basket"), ages(life, *BOUGHT, "basket_emptied")
    if baskets and min(baskets) <= 30 * DAY and min(baskets) < min(ended, default=1 << 40):
        found.add("basket")
    if any(age < 90 * DAY for age in ages(life, "store_visit", "store_purchase")):
        found.add("store-visitor")
    sent = [age for age in ages(life, "email_sent") if age < 90 * DAY]
    if len(sent) >= 3 and not [age for age in ages(life, "email_opened") if age < 90 * DAY]:
        found.add("email-inactive")
    if [age for age in ages(life, "product") if age < 60 * DAY]:
        found.add("viewed-suspensions")
    return found


JUDGED = {
    "buyer", "active", "lapsing", "lapsed", "new-buyer", "visitor-never-bought", "prospect",
    "basket", "store-visitor", "email-inactive", "viewed-suspensions",
}  # fmt: skip


@settings(max_examples=60)
@given(st.lists(lives, min_size=1, max_size=5))
def test_a_crowd_is_judged_as_each_person_would_be(raws: list[bytes]) -> None:
    segments = SHIPPED
    answers = members(Crowd(raws, NOW), segments)
    for place, raw in enumerate(raws):
        found = {name for name in JUDGED if answers[name].holds[place]}
        assert found == slow(events(raw, {})), events(raw, {})
        alone = members(Crowd([raw], NOW), segments)
        assert {name for name, each in alone.items() if each.holds[0]} == {
            name for name, each in answers.items() if each.holds[place]
        }


@given(lives)
def test_a_member_was_seen_at_a_time_that_is_not_to_come(raw: bytes) -> None:
    segments = SHIPPED
    (profile,) = derived([Profile()], [raw], segments, {}, NOW)
    assert all(0 < seen <= NOW for seen in profile.segments.values())


def test_all_that_the_issue_asks_for_is_shipped(shipped: Segments) -> None:
    assert shipped.names() >= ISSUE


def _life(*happened: tuple[Kind, int], value: int = 10) -> bytes:
    return united(
        None,
        b"".join(
            record(NOW - days * DAY, kind, 1, value_micros=value * 1_000_000)
            for kind, days in happened
        ),
    )


@pytest.mark.parametrize(
    ("life", "stage"),
    [
        (_life(), "prospect"),
        (_life((Kind.VISIT, 3)), "visitor"),
        (_life((Kind.PURCHASE, 3)), "new"),
        (_life((Kind.PURCHASE, 60), (Kind.STORE_PURCHASE, 80)), "active"),
        (_life((Kind.STORE_PURCHASE, 120)), "lapsing"),
        (_life((Kind.PURCHASE, 250)), "lapsed"),
        (_life((Kind.PURCHASE, 300), (Kind.PURCHASE, 20)), "won-back"),
    ],
)
def test_the_stage_of_a_life(life: bytes, stage: str, shipped: Segments) -> None:
    (profile,) = derived([Profile()], [life], shipped, {}, NOW)
    assert profile.stage == stage


def test_a_segment_drops_out_as_time_passes(shipped: Segments) -> None:
    raw = _life((Kind.BASKET, 0))
    (now,) = derived([Profile()], [raw], shipped, {1: SHOP}, NOW)
    assert now.segments["basket"] == NOW
    assert now.baskets[SHOP].value_micros == 10_000_000
    (later,) = derived([now], [raw], shipped, {1: SHOP}, NOW + 31 * DAY)
    assert "basket" not in later.segments


def test_who_is_late_by_their_own_measure(shipped: Segments) -> None:
    monthly = _life(*[(Kind.PURCHASE, days) for days in (200, 170, 140, 110)])
    yearly = _life(*[(Kind.PURCHASE, days) for days in (390, 200, 110)])
    profiles = derived([Profile()] * 2, [monthly, yearly], shipped, {}, NOW)
    assert ["churn-risk" in profile.segments for profile in profiles] == [True, False]


def test_what_people_told_us_stays(shipped: Segments) -> None:
    known = Profile(wanted={"IAB9": 5}, unwanted=frozenset({"IAB10-5"}), fewer_ads=frozenset({"x"}))
    looked = record(NOW, Kind.PRODUCT, 1, category=category_id("suspensions"))
    (profile,) = derived([known], [looked], shipped, {}, NOW)
    assert profile.interests == {"IAB9": 5}
    assert profile.fewer_ads == {"x"}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "mine.yaml").write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("segments: [{name: a, means: x, when: {event: vist}}]", "did you mean 'visit'"),
        ("segments: [{name: a, means: x, when: {segment: b}}]", "no segment is called 'b'"),
        ("segments: [{name: a, means: x, when: {segment: a}}]", "circle"),
        ("segments: [{name: a, means: x, when: {}}]", "exactly one"),
        ("segments: [{name: a, means: x, when: {orders: {}, within: 3d}}]", "does not belong"),
        ("segments: [{name: 'a-{category}', means: x, when: {event: visit}}]", "go together"),
        ("rfm: {money: [5, 4, 3, 2]}\nsegments: []", "rising"),
        ("interests: {vitamins: IAB7-3}\nsegments: []", "IAB7-3 borders on health"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str, written: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidFile) as caught:
        load(written(text))
    assert said in "\n".join(map(str, caught.value.problems))
