from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.campaigns.catalogue import (
    Allow,
    Audience,
    Cap,
    Catalogue,
    Flight,
    Goal,
    Intrusiveness,
    LineItem,
    Modifier,
    SegmentRule,
)
from bidder.campaigns.loading import load
from bidder.campaigns.review import _days
from bidder.ids import hash32
from bidder.yamlfiles import InvalidFile, Problem

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")
CONFIG = Path(__file__).parents[2] / "config"
AD = '{id: ad, size: 300x250, image: "https://c.acme.example/a.png", click: "https://acme.example"}'
FILE = """\
advertiser: NAME
domain: www.Acme.example
currency: EUR
timezone: Europe/Paris
ABOVE
campaigns:
  - id: winter
    goal: {cpa: 18.00}
    CAMPAIGN
    line_items:
      - id: basket-left
        bid: {max_cpm: 6.00}
        ITEM
        creatives:
          - CREATIVE
"""

Load = Callable[..., tuple[Catalogue, list[Problem]]]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Loads one file made of `FILE` with these parts put in, or several whole files."""

    def go(
        *texts: str,
        name: str = "acme",
        above: str = "",
        campaign: str = "",
        item: str = "",
        creative: str = AD,
        **options: Any,
    ) -> tuple[Catalogue, list[Problem]]:
        text = FILE.replace("NAME", name).replace("ABOVE", above).replace("CAMPAIGN", campaign)
        text = text.replace("ITEM", item).replace("CREATIVE", creative)
        for number, each in enumerate(texts or [text]):
            (tmp_path / f"{number}.yaml").write_text(each)
        return load(tmp_path, now=NOW, **options)

    return go


def item_of(result: tuple[Catalogue, list[Problem]]) -> LineItem:
    catalogue, problems = result
    assert problems == []
    return catalogue.line_items[0]


# From file to catalogue


def test_names_and_ids(loaded: Load) -> None:
    catalogue, _ = loaded()
    item = catalogue.line_items[0]
    paths = [
        "acme",
        "acme/winter",
        "acme/winter/basket-left",
        "acme/winter/basket-left/ad",
    ]
    assert catalogue.names == {hash32(path): path for path in paths}
    assert [item.campaign.advertiser.id, item.campaign.path, item.path] == paths[:3]
    assert item.creatives[0].id32 == hash32(paths[3])
    assert item.campaign.advertiser.domain == "acme.example"
    assert item.campaign.advertiser.zone is PARIS
    assert catalogue.campaigns == (item.campaign,)
    assert catalogue.advertisers == (item.campaign.advertiser,)


def test_the_example_of_the_design(loaded: Load) -> None:
    item = item_of(
        loaded(
            above="limits: {max_cpm: 12, max_spend_per_minute: 5}",
            campaign="""
    flight: {start: 2026-11-01, end: 2027-01-31}
    budget: {total: 20000, daily: 800, pacing: even}
    frequency:
      - {max: 3, per: 1d, of: campaign}
      - {max: 8, per: 7d, of: advertiser, channels: [display, email, sms, push]}
      - {min_gap: 20m, of: advertiser}
    intrusiveness: {ceiling: 0.7, cost_cpm: 1.50}""",
            item="""
        audience: {any_of: [{segment: basket, within: 7d}], none_of: [buyer]}
        where: {countries: [FR, BE, NO], domains: {block: [www.example.net]}}
        when: {days: mon-sat, hours: 8-23}""",
        )
    )
    campaign = item.campaign
    assert campaign.advertiser.max_cpm_micros == 12_000_000
    assert campaign.advertiser.max_spend_per_minute_micros == 5_000_000
    assert (campaign.budget.total_micros, campaign.budget.daily_micros) == (20 * 10**9, 8 * 10**8)
    assert campaign.flights == (
        Flight(datetime(2026, 11, 1, tzinfo=PARIS), datetime(2027, 2, 1, tzinfo=PARIS)),
    )
    assert item.caps == (
        Cap("campaign", 3, 86400),
        Cap("advertiser", 8, 604800, channels=frozenset({"display", "email", "sms", "push"})),
        Cap("advertiser", min_gap_seconds=1200),
    )
    assert item.goal == Goal("cpa", 18_000_000, 30 * 86400, 86400)
    assert item.intrusiveness == Intrusiveness(0.7, 1_500_000)
    assert item.audience == Audience(
        any_of=(SegmentRule("basket", 604800),), none_of=(SegmentRule("buyer"),)
    )
    assert item.where.countries == Allow(frozenset({"FR", "BE", "NO"}))
    assert item.where.domains == Allow(block=frozenset({"example.net"}))
    assert item.when.hours_of_week == {24 * d + h for d in range(6) for h in range(8, 23)}
    assert item.unknown_people == "skip"


def test_caps_are_those_of_all_levels_once_each(loaded: Load) -> None:
    item = item_of(
        loaded(
            above="frequency: [{max: 9, per: lifetime}]",
            campaign="frequency: [{max: 3, per: 1d}, {max: 9, per: lifetime, of: advertiser}]",
            item="frequency: [{max: 1, per: 1h}, {max: 2, per: 1d, of: creative}]",
        )
    )
    assert item.caps == (
        Cap("line_item", 1, 3600),
        Cap("creative", 2, 86400),
        Cap("campaign", 3, 86400),
        Cap("advertiser", 9, 0),
    )


@pytest.mark.parametrize(
    ("above", "item", "unknown", "needs_nobody"),
    [
        ("", "", "serve", True),
        ("", "audience: {any_of: [buyer]}", "skip", False),
        ("", "audience: {none_of: [buyer]}", "skip", False),
        ("frequency: [{max: 1, per: 1d}]", "", "skip", False),
        ("frequency: [{max: 1, per: 1d}]", "unknown_people: serve", "serve", True),
        ("", "unknown_people: skip", "skip", False),
    ],
)
def test_unknown_people(
    loaded: Load, above: str, item: str, unknown: str, needs_nobody: bool
) -> None:
    found = item_of(loaded(above=above, item=item))
    assert (found.unknown_people, found.needs_nobody) == (unknown, needs_nobody)


@pytest.mark.parametrize("level", ["above", "campaign", "item"])
def test_paused_at_any_level_is_not_active(loaded: Load, level: str) -> None:
    item = item_of(loaded(**{level: "status: paused"}))
    assert not item.active
    assert item.campaign.active == (level == "item")
    assert item.campaign.advertiser.active == (level != "above")


def test_the_nearest_goal_and_intrusiveness_count(loaded: Load) -> None:
    item = item_of(
        loaded(
            above="intrusiveness: {ceiling: 0.9}",
            item="""goal: {roas: 4.5, attribution: {click: 7d}}
        intrusiveness: {cost_cpm: 2}""",
        )
    )
    assert item.goal == Goal("roas", 4_500_000, 7 * 86400, 86400)
    assert item.intrusiveness == Intrusiveness(1.0, 2_000_000)
    assert item_of(loaded(above="intrusiveness: {ceiling: 0.9}")).intrusiveness.ceiling == 0.9


def test_modifiers_speak_of_the_opportunity(loaded: Load) -> None:
    text = (
        FILE.replace("NAME", "acme")
        .replace("ABOVE", "")
        .replace("CAMPAIGN", "")
        .replace("ITEM", "")
        .replace("CREATIVE", AD)
        .replace(
            "{max_cpm: 6.00}",
            "{max_cpm: 6, modifiers: [{when: {app: com.a, category: [IAB1, IAB2], size: 300x250, "
            "hour: 8-10, weekday: sat-sun, position: above}, times: 0}]}",
        )
    )
    (modifier,) = item_of(loaded(text)).bid.modifiers
    assert modifier == Modifier(
        {
            "bundle": frozenset({"com.a"}),
            "categories": frozenset({"IAB1", "IAB2"}),
            "size": frozenset({"300x250"}),
            "hour": frozenset({"8", "9"}),
            "weekday": frozenset({"sat", "sun"}),
            "position": frozenset({"1"}),
        },
        0.0,
    )


def test_creatives(loaded: Load) -> None:
    creative = """\
{id: n, native: {title: T, image: {url: "https://c.example/i.jpg", w: 1200, h: 627}},
             click: "http://acme.example", language: fr, product: true, attributes: [3]}"""
    catalogue, problems = loaded(creative=creative)
    (native,) = catalogue.line_items[0].creatives
    assert native.native is not None
    assert (native.native.title, native.native.image_width, native.width) == ("T", 1200, 0)
    assert (native.language, native.product, native.attributes) == ("fr", True, {3})
    assert not native.secure
    assert [problem.where.rsplit(".", 1)[-1] for problem in problems] == ["click"]
    assert item_of(loaded()).creatives[0].secure


def test_bids_stop_at_the_limit_and_line_items_stand_in_their_order(loaded: Load) -> None:
    files = [
        FILE.replace("NAME", name)
        .replace("ABOVE", f"limits: {{max_cpm: {limit}}}")
        .replace("CAMPAIGN", "")
        .replace("ITEM", "")
        .replace("CREATIVE", AD)
        for name, limit in (("a", 2), ("b", 9), ("c", 5), ("d", 9))
    ]
    catalogue, problems = loaded(*files)
    items = catalogue.line_items
    assert [item.index for item in items] == [0, 1, 2, 3]
    assert [item.campaign.advertiser.id for item in items] == ["b", "d", "c", "a"]
    assert [item.bid.max_cpm_micros for item in items] == [6 * 10**6] * 2 + [5 * 10**6, 2 * 10**6]
    assert {problem.severity for problem in problems} == {"warning"}


def test_the_version_is_that_of_the_contents(loaded: Load) -> None:
    first, again = loaded()[0].version, loaded()[0].version
    other = loaded(item="status: paused")[0].version
    assert first == again != other
    assert len(first) == 12


# What is refused


def test_an_advertiser_in_two_files(loaded: Load, tmp_path: Path) -> None:
    text = FILE.replace("NAME", "acme").replace("CREATIVE", AD)
    text = text.replace("ABOVE", "").replace("CAMPAIGN", "").replace("ITEM", "")
    with pytest.raises(InvalidFile) as caught:
        loaded(text, text)
    (problem,) = caught.value.problems
    assert (problem.file.name, problem.line, problem.where) == ("1.yaml", 1, "advertiser")
    assert problem.hint == f"first in {tmp_path / '0.yaml'}:1"


@pytest.mark.parametrize(
    ("one", "other", "line"),
    [
        ("acme", "acme/winter", 7),
        ("acme/winter", "acme/winter/basket-left", 11),
        ("acme", "acme/winter/basket-left/ad", 15),
    ],
)
def test_colliding_ids(loaded: Load, one: str, other: str, line: int) -> None:
    def collide(path: str) -> int:
        return 7 if path in (one, other) else hash32(path)

    with pytest.raises(InvalidFile) as caught:
        loaded(hash32=collide)
    (problem,) = caught.value.problems
    assert (problem.line, problem.message) == (
        line,
        f"the 32-bit id of {other!r} is that of {one!r}",
    )


def test_all_files_are_judged_at_once(loaded: Load) -> None:
    with pytest.raises(InvalidFile) as caught:
        loaded("advertiser: a", "a: [", "advertiser: all\ndomain: x.example\n")
    assert {problem.file.name for problem in caught.value.problems} == {
        "0.yaml",
        "1.yaml",
        "2.yaml",
    }


def test_a_missing_directory_is_an_error_and_an_empty_one_a_warning(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="cannot be read"):
        load(tmp_path / "absent", now=NOW)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.yaml").write_text("x")
    catalogue, problems = load(tmp_path, now=NOW)
    assert catalogue.line_items == ()
    assert [problem.severity for problem in problems] == ["warning"]


@pytest.mark.parametrize(
    ("segments", "refused"), [(None, False), ({"buyer"}, False), ({"basket"}, True)]
)
def test_segments_are_checked_where_they_are_known(
    loaded: Load, segments: set[str] | None, refused: bool
) -> None:
    def go() -> None:
        loaded(item="audience: {none_of: [buyer]}", segments=segments)

    if refused:
        with pytest.raises(InvalidFile, match="no segment 'buyer'"):
            go()
    else:
        go()


# Time


@pytest.mark.parametrize(
    ("written", "start", "end"),
    [
        ("{}", None, None),
        ("{start: 2026-03-29}", datetime(2026, 3, 29, tzinfo=PARIS), None),
        ("{end: 2027-03-28}", None, datetime(2027, 3, 29, tzinfo=PARIS)),
        ("{end: 2027-03-28T18:30}", None, datetime(2027, 3, 28, 18, 30, tzinfo=PARIS)),
        ("{start: 2026-03-28T18:30Z}", datetime(2026, 3, 28, 18, 30, tzinfo=UTC), None),
    ],
)
def test_flights(loaded: Load, written: str, start: datetime | None, end: datetime | None) -> None:
    item = item_of(loaded(item=f"flight: {written}"))
    assert item.flights == (Flight(start, end),)
    assert item.campaign.flights == ()


def test_a_flight_that_ends_today_still_runs(loaded: Load) -> None:
    assert loaded(campaign="flight: {end: 2026-11-20}")[1] == []
    (problem,) = loaded(campaign="flight: {end: 2026-11-19}")[1]
    assert problem.message == "ended on 2026-11-19: it will not spend"


SPAN = st.tuples(st.integers(0, 60), st.integers(0, 20))


@given(st.lists(SPAN, min_size=1, max_size=5))
def test_days_of_flights_are_counted_once(spans: list[tuple[int, int]]) -> None:
    first = date(2026, 3, 1)
    touched, flights = set(), []
    for start, length in spans:
        begin, last = first + timedelta(days=start), first + timedelta(days=start + length)
        touched |= {begin + timedelta(days=n) for n in range(length + 1)}
        after = last + timedelta(days=1)
        flights.append(
            Flight(
                datetime(begin.year, begin.month, begin.day, tzinfo=PARIS),
                datetime(after.year, after.month, after.day, tzinfo=PARIS),
            )
        )
    assert _days(flights, PARIS) == len(touched)
