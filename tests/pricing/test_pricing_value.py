"""What is an impression worth, by goal; and who is held out?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bidder.campaigns import catalogue
from bidder.campaigns.catalogue import Bid, Goal, Intrusiveness, Modifier
from bidder.pricing import Estimate, held_out, in_arm, modifier, value
from bidder.pricing.value import RECENT_CLICK_FACTOR, RECENT_CLICK_SECONDS, ceiling, highest

EURO = 1_000_000


def item_of(made, goal: Goal, **fields) -> catalogue.LineItem:
    (item,) = made(max_cpm=100 * EURO).line_items
    return replace(item, goal=goal, **fields)


@pytest.mark.parametrize(
    ("goal", "estimate", "cpm"),
    [
        (Goal("cpm", 3 * EURO), Estimate(0.5, 0.5), 3),
        (Goal("cpc", EURO // 2), Estimate(0.01, 0.0), 5),
        (Goal("cpa", 20 * EURO), Estimate(0.01, 0.1), 20),
        (Goal("roas", 4 * EURO), Estimate(0.01, 0.1, basket_micros=80 * EURO), 20),
        (Goal("roas", 4 * EURO), Estimate(0.01, 0.1), 0),
        (Goal("cpa", 20 * EURO), Estimate(0.01, 0.1, p_view=0.0005), 30),
        (Goal("cpa", 20 * EURO, view_window_seconds=0), Estimate(0.01, 0.1, p_view=0.0005), 20),
        (Goal("roas", 4 * EURO), Estimate(0.01, 0.1, p_view=0.001, basket_micros=80 * EURO), 40),
        (Goal("cpc", EURO // 2), Estimate(0.01, 0.1, p_view=0.1), 5),
        (Goal("cpc", EURO // 2), Estimate(0.01, 0.0, since_click=RECENT_CLICK_SECONDS), 5),
        (Goal("cpc", EURO // 2), Estimate(0.01, 0.0, since_click=60), 5 * RECENT_CLICK_FACTOR),
        (Goal("cpm", 3 * EURO), Estimate(0.01, 0.0, since_click=60), 3),
        (Goal("cpc", 900 * EURO), Estimate(1.0, 0.0), 100),
    ],
)
def test_the_value_by_goal(made, goal, estimate, cpm) -> None:
    assert value(item_of(made, goal), estimate, 1.0) == pytest.approx(cpm * EURO)


def test_intrusion_costs(made) -> None:
    item = item_of(made, Goal("cpm", 3 * EURO), intrusiveness=Intrusiveness(1.0, 2 * EURO))
    assert value(item, Estimate(0, 0, intrusiveness=0.5), 1.0) == 2 * EURO
    assert value(item, Estimate(0, 0, intrusiveness=5.0), 1.0) == 0


@given(
    goal=st.sampled_from([Goal("cpm", 3 * EURO), Goal("cpc", EURO), Goal("cpa", 30 * EURO)]),
    click=st.floats(0, 1),
    conversion=st.floats(0, 1),
    factor=st.floats(0, 1),
    limit=st.sampled_from([0, EURO]),
)
def test_no_value_is_above_the_highest(goal, click, conversion, factor, limit) -> None:
    from zoneinfo import ZoneInfo

    advertiser = catalogue.Advertiser("a", 1, "a.example", "EUR", ZoneInfo("UTC"), limit, 0)
    campaign = catalogue.Campaign("c", "a/c", 2, advertiser, (), catalogue.Budget())
    item = catalogue.LineItem(
        0, "i", "a/c/i", 3, campaign, catalogue.Audience(), catalogue.Where(), catalogue.When(),
        Bid(5 * EURO), goal, (), Intrusiveness(), (), "serve",
    )  # fmt: skip
    worth = value(item, Estimate(click, conversion), factor)
    assert 0 <= worth <= highest(item)
    most, at_any_pace = ceiling(item)
    assert worth <= min(most * factor, at_any_pace)
    assert worth <= value(item, Estimate(click, conversion), 1.0)


def test_modifiers_multiply_where_all_of_a_rule_holds(made) -> None:
    rules = (
        Modifier({"device": frozenset({"mobile"})}, 0.8),
        Modifier({"device": frozenset({"mobile"}), "country": frozenset({"FR", "BE"})}, 2.0),
        Modifier({"hour": frozenset({"3"})}, 0.0),
    )
    (item,) = made().line_items
    item = replace(item, bid=Bid(EURO, rules))

    def factor(**facts: str) -> float:
        return modifier(item, lambda name: frozenset({facts[name]} if name in facts else ()))

    assert factor(device="mobile", country="FR") == pytest.approx(1.6)
    assert factor(device="mobile") == 0.8
    assert factor() == 1.0
    assert factor(hour="3") == 0.0


def test_the_control_group_has_the_share_asked_for_and_never_changes(made) -> None:
    (campaign,) = made().campaigns
    held = replace(campaign, control_percent=10.0)
    group = {p for p in map(str, range(5000)) if held_out(held, p)}
    assert len(group) == pytest.approx(500, rel=0.15)
    assert group == {p for p in map(str, range(5000)) if held_out(held, p)}
    larger = replace(campaign, control_percent=20.0)
    assert all(held_out(larger, person) for person in group)
    assert not held_out(campaign, "1")
    assert not held_out(replace(campaign, control_percent=99.9), "")


def test_places_in_control_and_in_a_split_are_independent(made) -> None:
    (campaign,) = made().campaigns
    campaign = replace(campaign, control_percent=50.0)
    arm = catalogue.Arm(campaign.path, 0, 50)
    people = list(map(str, range(4000)))
    both = sum(held_out(campaign, p) and in_arm(arm, p) for p in people)
    assert both == pytest.approx(1000, rel=0.12)
