"""Whatever a trader's modifier may ask about a request has an answer."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import orjson
import pytest

from bidder.campaigns import schema
from bidder.openrtb.opportunity import opportunity
from bidder.openrtb.request import decode
from bidder.targeting.facts import Facts

REQUEST = {
    "id": "1",
    "site": {
        "page": "https://a.news.example/x",
        "cat": ["IAB17-2"],
        "publisher": {"id": "p1"},
        "content": {"language": "fr"},
    },
    "device": {
        "ua": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
        " Chrome/126.0.0.0 Safari/537.36",
        "devicetype": 2,
        "language": "fr",
        "geo": {"country": "FRA", "region": "IDF", "city": "Paris", "zip": "75001"},
    },
    "imp": [{"id": "1", "banner": {"w": 300, "h": 250, "pos": 1}}],
}
NIGHT = datetime(2026, 11, 22, 23, 30, tzinfo=UTC).timestamp()
OTHERWISE = {"app": "bundle", "category": "categories"}


@pytest.fixture
def facts() -> Facts:
    offer = opportunity(decode(orjson.dumps(REQUEST)), "demo")
    (slot,) = offer.slots
    return Facts(offer, ("vip", "basket"), slot, (300, 250), NIGHT, ZoneInfo("Europe/Paris"))


def test_each_fact_is_that_of_the_request(facts: Facts) -> None:
    expected = {
        "country": {"FR"},
        "city": {"Paris"},
        "device": {"desktop"},
        "os": {"windows"},
        "browser": {"chrome"},
        "exchange": {"demo"},
        "supply": {"site"},
        "publisher": {"p1"},
        "domain": {"a.news.example", "news.example", "example"},
        "categories": {"IAB17-2", "IAB17"},
        "segment": {"vip", "basket"},
        "size": {"300x250"},
        "position": {"1"},
        "hour": {"0"},  # it is past midnight in Paris, where it is Monday
        "weekday": {"mon"},
    }
    assert {name: set(facts.of(name)) for name in expected} == expected


def test_every_dimension_a_condition_can_name_is_known(facts: Facts) -> None:
    for name in schema.Condition.model_fields:
        assert facts.of(OTHERWISE.get(name, name)), name


def test_what_is_no_dimension_has_no_values(facts: Facts) -> None:
    assert facts.of("weather") == frozenset()
