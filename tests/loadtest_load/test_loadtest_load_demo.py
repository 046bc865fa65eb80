"""Load that hardly bids says so; the demo's bodies are by many people, so that it bids."""

from pathlib import Path

import orjson

from loadtest.load.bodies import demo
from loadtest.load.openloop import Tally
from loadtest.load.result import combine, report
from loadtest.load.wire import Answer

REQUEST = Path(__file__).parents[2] / "config/demo/request.json"


def test_the_demo_is_asked_by_its_people_and_as_many_strangers() -> None:
    bodies = [orjson.loads(body) for body in demo(REQUEST, people=3)]
    who = [body["user"]["buyeruid"] for body in bodies]
    assert who[:3] == ["demo-person-1", "demo-person-2", "demo-person-3"]
    assert len(set(who)) == 6
    assert all("{{person}}" in one for one in who[3:])
    asked = orjson.loads(REQUEST.read_bytes())
    assert all(body["imp"] == asked["imp"] for body in bodies)
    assert {body["id"] for body in bodies} == {"demo-{{n}}"}


def notes(bids: int, others: int) -> str:
    tally = Tally()
    for _ in range(bids):
        tally.answered(0.0, 0.001, 0.1, Answer(200, b'{"price":1}', True, False))
    for _ in range(others):
        tally.answered(0.0, 0.001, 0.1, Answer(204, b"", True, False))
    tally.sent = bids + others
    return " ".join(combine([report(tally, 0, 0.1, 1.0)], 100, 1.0).notes)


def test_few_bids_are_pointed_out() -> None:
    assert "Only 10.0% of the answers are bids" in notes(10, 90)
    assert notes(50, 50) == ""
