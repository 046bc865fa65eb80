"""Clusters are found again, named apart, and become segments like any other."""

from pathlib import Path

import numpy as np
import pytest

from bidder.crm import activity
from bidder.crm.activity import DTYPE, Kind
from bidder.crm.asking import Crowd, listed, members
from bidder.crm.segments import load
from bidder.person import Profile
from models import clusters, customers, listing

NOW, DAY = 1_795_000_000, 86400


def test_groups_that_differ_are_found_whatever_the_seed() -> None:
    random = np.random.default_rng(3)
    centres = np.array([[0.0, 6.0, 0.0], [6.0, 0.0, 0.0], [0.0, 0.0, 6.0], [6.0, 6.0, 6.0]])
    truth = random.integers(0, 4, 800)
    values = clusters.scaled(centres[truth] + random.normal(0, 0.4, (800, 3)))
    found = clusters.fit(values, 0, seed=1)
    assert len(found.centres) == 4, "as many as fit best"
    assert found.same_again == pytest.approx(1.0)
    assert found.silhouette > 0.7
    for group in range(4):
        assert len(set(found.labels[truth == group].tolist())) == 1


def test_noise_is_said_to_be_noise() -> None:
    values = np.random.default_rng(3).normal(0, 1, (600, 8))
    assert clusters.fit(values, 5, seed=1).same_again < 0.5


def test_too_few_people_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        clusters.fit(np.zeros((3, 2)), 0, seed=1)


def test_each_cluster_is_named_by_what_sets_it_apart() -> None:
    features = ["orders", "interest in lampes-de-bureau", "buys in stores"]
    centres = np.array([[2.0, 0.1, -1.0], [2.0, 0.1, -1.1], [0.1, 1.5, 0.0], [2.0, -0.1, -1.0]])
    named = clusters.names(features, centres)
    assert named[0] == ("cluster-frequent-online", "high orders, low buys in stores")
    assert named[2][0] == "cluster-lampes-de-bureau"
    assert len({name for name, _ in named}) == 4, "no two alike"


def _raw(*events: tuple[int, Kind]) -> bytes:
    return b"".join(activity.record(NOW - ago * DAY, kind, 1) for ago, kind in events)


def test_a_row_says_what_the_person_did() -> None:
    raws = [_raw((50, Kind.VISIT), (9, Kind.STORE_PURCHASE)), b""]
    table = clusters.features(raws, ["suspensions"], NOW)
    row = dict(zip(table.names, table.values[0].tolist(), strict=True))
    assert row["days since an order"] == pytest.approx(np.log1p(9))
    assert row["days since a visit"] == pytest.approx(np.log1p(50))
    assert row["buys in stores"] == 1
    never = dict(zip(table.names, table.values[1].tolist(), strict=True))
    assert never["days since an order"] == pytest.approx(np.log1p(customers.NEVER_DAYS))


def test_what_is_found_is_defined_as_a_segment_and_holds_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    found = [listing.Found("cluster-frequent", "Behavioural cluster: high orders", ["p"])]
    listing.define(tmp_path, "clusters", found, lasts_days=35)
    rules = load(tmp_path / "segments")
    assert rules.listed() == {"cluster-frequent"}
    profiles = [
        Profile(segments={"cluster-frequent": NOW - 5 * DAY}),
        Profile(segments={"cluster-frequent": NOW - 36 * DAY}),
        Profile(),
    ]
    crowd = Crowd([np.empty(0, DTYPE).tobytes()] * 3, NOW)
    crowd.listed = listed(profiles, rules)
    holds, seen = members(crowd, rules)["cluster-frequent"]
    assert holds.tolist() == [True, False, False]
    assert seen[0] == NOW - 5 * DAY, "membership carries the time it was given"
