"""The bench workload is what it says: deterministic, lawful, varied, about four rows a request."""

from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import orjson
import pytest
from ruamel.yaml import YAML

from bidder.campaigns.schema import Advertiser
from bidder.openrtb.opportunity import Opportunity, opportunity
from bidder.openrtb.request import decode
from bidder.person import Profile
from bidder.privacy.tcf import decode as decode_tc
from loadtest.bench import workload
from loadtest.bench.workload import Workload

DAY = 1_780_272_000
DAY_SECONDS = 86400


@pytest.fixture(scope="module")
def small() -> Workload:
    changed = {"people": 3000, "line_items": 1000, "bodies": 300, "consent_strings": 50}
    return msgspec.structs.replace(workload.load(), **changed)


@pytest.fixture(scope="module")
def offers(small: Workload) -> list[Opportunity]:
    bodies = workload.made_bodies(small, DAY)
    return [opportunity(decode(orjson.dumps(body)), small.exchange) for body in bodies]


def test_the_parameters_are_those_of_the_issue() -> None:
    full = workload.load()
    assert (full.line_items, full.people, full.models.trees) == (10_000, 1_000_000, 200)
    assert full.bodies >= 10_000
    assert full.expected.min_bid_rate >= 0.6


def test_the_same_seed_and_day_make_the_same_and_another_seed_does_not(small: Workload) -> None:
    other = msgspec.structs.replace(small, seed=2)
    for made in (
        workload.made_bodies,
        lambda w, day: list(islice(workload.made_people(w, day), 50)),
    ):
        assert made(small, DAY) == made(small, DAY)
        assert made(small, DAY) != made(other, DAY)


def test_bodies_are_distinct_and_as_long_as_real_ones(small: Workload) -> None:
    bodies = [orjson.dumps(body) for body in workload.made_bodies(small, DAY)]
    assert len(set(bodies)) == len(bodies)
    assert min(map(len, bodies)) >= 1000
    assert sorted(map(len, bodies))[len(bodies) * 9 // 10] <= 1900


def test_bodies_are_varied_requests_that_permit_our_vendor(
    small: Workload, offers: list[Opportunity]
) -> None:
    assert all(offer.slots and offer.identifiers and offer.signals.gdpr == 1 for offer in offers)
    assert {offer.supply for offer in offers} == {"site", "app"}
    assert {offer.device for offer in offers} == {"mobile", "tablet", "desktop"}
    assert {offer.auction for offer in offers} == {1, 2}
    assert len({offer.country for offer in offers}) == 7
    assert len({offer.browser for offer in offers}) >= 4
    for offer in offers:
        consent = decode_tc(offer.signals.consent)
        assert consent.policy_version >= 4
        assert small.vendor_id in consent.vendor_consents
        assert consent.disclosed_vendors is not None
        assert small.vendor_id in consent.disclosed_vendors
        assert {1, 2, 3, 4, 7, 10} <= set(consent.purpose_consents)


def test_campaign_files_are_what_traders_may_write(small: Workload, tmp_path: Path) -> None:
    workload.write(small, tmp_path, DAY + 5)
    files = sorted((tmp_path / "config" / "campaigns").glob("*.yaml"))
    assert len(files) == small.advertisers == 20
    found = [Advertiser.model_validate(YAML(typ="safe").load(path)) for path in files[:2]]
    assert [sum(len(c.line_items) for c in one.campaigns) for one in found] == [50, 50]
    assert len((tmp_path / "people.jsonl").read_bytes().splitlines()) == 3000
    mark = (tmp_path / "bodies.jsonl").stat().st_mtime_ns
    workload.write(small, tmp_path, DAY + 99)
    assert (tmp_path / "bodies.jsonl").stat().st_mtime_ns == mark, "made once a day"


def test_people_are_profiles(small: Workload) -> None:
    for person in islice(workload.made_people(small, DAY), 200):
        profile = msgspec.convert(person["profile"], Profile)
        assert profile.segments
        assert max(profile.segments.values()) <= DAY
        assert person["ids"][0][0] == "buyeruid.bench"


def test_about_four_rows_a_request_and_few_with_none(
    small: Workload, offers: list[Opportunity]
) -> None:
    """An obvious loop over line items; caps and prices, which come later, can only take off."""
    items = [item for one in workload.made_advertisers(small) for item in one.line_items]
    people = list(workload.made_people(small, DAY))
    random = Random(7)
    counts = []
    for _ in range(200):
        segments = random.choice(people)["profile"]["segments"]
        offer = random.choice(offers)
        counts.append(sum(_may_speak(item, segments, offer) for item in items))
    assert 3.0 <= sum(counts) / len(counts) <= 5.5
    assert sum(count == 0 for count in counts) / len(counts) < 0.25


def _may_speak(item: dict[str, Any], segments: dict[str, int], offer: Opportunity) -> bool:
    def seen(rule: dict[str, str]) -> bool:
        limit = DAY - int(rule["within"][:-1]) * DAY_SECONDS
        return segments.get(rule["segment"], 0) >= limit

    audience, where = item["audience"], item["where"]
    sizes = {f"{w}x{h}" for slot in offer.slots for w, h in slot.sizes}
    return (
        any(map(seen, audience["any_of"]))
        and all(map(seen, audience.get("all_of", [])))
        and not any(map(seen, audience.get("none_of", [])))
        and offer.country in where["countries"]
        and offer.device in where.get("devices", [offer.device])
        and offer.browser in where.get("browsers", [offer.browser])
        and offer.domain not in where.get("domains", {}).get("block", [])
        and any(creative["size"] in sizes for creative in item["creatives"])
    )
