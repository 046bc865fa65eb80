"""Are the campaigns that ship with the project in order, and does the schema say what is?"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
from ruamel.yaml import YAML

from bidder.campaigns.loading import json_schema, load

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONFIG = Path(__file__).parents[2] / "config"


def test_the_demo_has_no_problem_now_or_in_two_years() -> None:
    for now in (NOW, NOW + timedelta(days=730)):
        catalogue, problems = load(CONFIG / "campaigns", now=now)
        assert problems == []
        assert all(
            flight.end is None and flight.start is not None and flight.start < NOW
            for campaign in catalogue.campaigns
            for flight in campaign.flights
        )
    assert {advertiser.currency for advertiser in catalogue.advertisers} == {"EUR", "USD"}
    assert any(item.needs_nobody for item in catalogue.line_items)
    assert any(not item.active for item in catalogue.line_items)


def test_the_json_schema_takes_the_demo_and_refuses_mistakes() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    text = (CONFIG / "campaigns" / "maison-lumen.yaml").read_text()
    yaml = YAML(typ="safe", pure=True)
    demo = yaml.load(text.replace("start: 2026", "start: !!str 2026"))
    assert list(validator.iter_errors(demo)) == []
    demo["statuss"] = "active"
    demo["campaigns"][0]["budget"]["pacing"] = "evn"
    assert len(list(validator.iter_errors(demo))) == 2
