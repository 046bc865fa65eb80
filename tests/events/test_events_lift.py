"""Does the comparison of bid on and held out find what there is, and claim no more?"""

from pathlib import Path
from random import Random

import pytest

from bidder.events import lift
from bidder.events.schema import BidEvent, BillingEvent, GhostEvent, ImpressionEvent, encode

CAMPAIGN = "lumen/winter"


def ghost(person: str, time: float, line_item: str = f"{CAMPAIGN}/basket") -> GhostEvent:
    return GhostEvent(
        time=time, bid_id=f"g{person}{time}", exchange="demo", line_item=line_item, creative="c",
        price_cpm_micros=1, currency="EUR", value_cpm_micros=1, p_win=0.5, person=person,
    )  # fmt: skip


@pytest.fixture
def write(tmp_path: Path):
    def written(*events) -> Path:
        folder = tmp_path / "worker-0"
        folder.mkdir(exist_ok=True)
        lines = b"".join(encode(event) for event in sorted(events, key=lambda e: e.time))
        (folder / "20261120T000000-000001.jsonl").write_bytes(lines)
        return tmp_path

    return written


def test_people_come_in_with_their_first_bid_or_ghost(make, write) -> None:
    where = f"{CAMPAIGN}/basket"
    log = write(
        make(BidEvent, "1", time=50.0, person="ann", line_item=where),
        make(BidEvent, "2", time=40.0, person="ann", line_item=where),
        make(BidEvent, "3", time=60.0, person="bob", line_item=where),
        make(BidEvent, "4", time=60.0, person="", line_item=where),
        make(BidEvent, "5", time=10.0, person="cid", line_item="lumen/winter-2/basket"),
        make(BillingEvent, "1", time=55.0, person="ann", line_item=where),
        make(ImpressionEvent, "9", time=56.0, person="zoe", line_item=where),
        ghost("eve", 70.0),
        ghost("eve", 45.0),
        ghost("fay", 45.0, "other/winter/basket"),
    )
    found = lift.groups(log, CAMPAIGN)
    assert found.treated == {"ann": 40.0, "bob": 60.0}
    assert found.control == {"eve": 45.0}
    assert found.reached == {"ann"}
    assert found.moved == 0
    assert lift.groups(log, CAMPAIGN, since=60.0).treated == {"bob": 60.0}


def test_who_was_in_both_groups_is_left_out(make, write) -> None:
    log = write(make(BidEvent, "1", person="ann", line_item=f"{CAMPAIGN}/x"), ghost("ann", 9.0))
    found = lift.groups(log, CAMPAIGN)
    assert (found.treated, found.control, found.moved) == ({}, {}, 1)


def covered(trials: int, rate_treated: float, rate_control: float, people: int) -> float:
    """How often the interval of the difference holds the truth."""
    random, hits = Random(3), 0
    for _ in range(trials):
        treated = sum(random.random() < rate_treated for _ in range(people))
        control = sum(random.random() < rate_control for _ in range(people // 4))
        _, low, high = lift.shares("x", treated, people, control, people // 4).difference
        hits += low <= rate_treated - rate_control <= high
    return hits / trials


@pytest.mark.parametrize(("treated", "control"), [(0.05, 0.05), (0.08, 0.05)])
def test_an_interval_holds_the_truth_as_often_as_it_says(treated: float, control: float) -> None:
    assert 0.91 <= covered(300, treated, control, 1000) <= 0.99


def test_shares_by_hand() -> None:
    one = lift.shares("bought", 60, 1000, 20, 500)
    assert one.treated == 0.06
    assert one.control == 0.04
    assert one.difference[0] == pytest.approx(0.02)
    assert one.difference[1] == pytest.approx(-0.0036, abs=0.001)
    assert one.ratio is not None
    ratio, low, high = one.ratio
    assert ratio == pytest.approx(1.5)
    assert low == pytest.approx(0.914, abs=0.01)
    assert high == pytest.approx(2.461, abs=0.01)
    assert lift.shares("bought", 60, 1000, 0, 500).ratio is None


def test_means_by_hand() -> None:
    one = lift.means("spent", [2.0, 4.0, 6.0, 8.0], [1.0, 3.0])
    assert one.difference[0] == 3.0
    assert one.difference[1] == pytest.approx(3 - 1.959964 * (20 / 3 / 4 + 1.0) ** 0.5)
    assert one.ratio is not None
    assert one.ratio[0] == 2.5
    assert lift.means("spent", [2.0, 4.0], [0.0, 0.0]).ratio is None


def test_a_comparison_asks_every_person_and_can_be_read() -> None:
    who = lift.Groups(
        treated={f"t{n}": float(n) for n in range(200)},
        control={f"c{n}": float(n) for n in range(100)},
        reached={f"t{n}" for n in range(50)},
        moved=3,
    )
    compared = lift.compare(
        who,
        {"bought": lambda person, since: int(person[1:]) % 10 == 0 and since == int(person[1:])},
        {"spent": lambda person, since: since},
    )
    assert [one.name for one in compared] == ["bought", "spent"]
    assert compared[0].treated == compared[0].control == 0.1
    text = lift.render(CAMPAIGN, who, compared, 28)
    assert "200 people bid on (25.0% of them reached), 100 held out" in text
    assert "3 people were in both" in text
    assert "per reached" in text
    nobody = lift.Groups(who.treated, who.control)
    assert "per reached" not in lift.render(CAMPAIGN, nobody, compared, 28)
