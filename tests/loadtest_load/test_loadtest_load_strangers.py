"""Whether the bidder knows anybody is told from what it bids, whoever serves unknown people."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import orjson
import pytest

from loadtest.load import strangers
from loadtest.load.bodies import EVERYONE
from loadtest.load.probe import NothingToMeasure
from loadtest.load.strangers import recognised, stranger, worth
from loadtest.load.wire import Answer

URL = "http://127.0.0.1:1/"
BODIES = [b'{"imp":[],"user":{"buyeruid":"known-%d"}}' % number for number in range(40)]


def answer(price: float) -> Answer:
    body = b'{"seatbid":[{"bid":[{"price":%f}]}]}' % price if price else b""
    return Answer(200 if price else 204, body, keep_alive=True, compressed=False)


def found(
    monkeypatch: pytest.MonkeyPatch,
    price: Callable[[str], float],
    bodies: list[bytes] = BODIES,
) -> int:
    """What `recognised` finds of a bidder that bids `price` for a person; 0 is no bid."""

    @contextmanager
    def asking(url: str) -> Iterator[Callable[[bytes], Answer]]:
        yield lambda body: answer(price(json.loads(body).get("user", {}).get("buyeruid", "")))

    monkeypatch.setattr(strangers, "asking", asking)
    return recognised(URL, bodies, EVERYONE, Random(1))


@pytest.mark.parametrize("seed", range(5))
def test_a_store_with_nobody_in_it_is_refused_though_everybody_gets_a_bid(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)
    for price in (lambda who: 1.5, lambda who: random.choice((0, 1.5, 1.6))):
        with pytest.raises(NothingToMeasure, match=r"store seems empty.*--unknown-people"):
            found(monkeypatch, price)


@pytest.mark.parametrize(
    ("known", "unknown"), [(2.0, 0.0), (2.0, 1.5), (0.0, 1.5)], ids=["bid", "more", "capped"]
)
def test_people_for_whom_something_else_is_bid_are_known(
    monkeypatch: pytest.MonkeyPatch, known: float, unknown: float
) -> None:
    def price(who: str) -> float:
        return known if who.startswith("known") else unknown

    assert found(monkeypatch, price) == strangers.SIGMAS**2


def test_a_fifth_of_people_in_the_store_is_enough_beside_prices_that_vary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = Random(3)

    def price(who: str) -> float:
        return 3.0 if who.startswith("known") and who.endswith(("1", "6")) else random.random() / 9

    assert found(monkeypatch, price) > 0


def test_bodies_without_anybody_are_not_held_against_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert found(monkeypatch, lambda who: 1.5, [b'{"imp":[]}', b'{"user":{"gender":"F"}}']) == 0


def test_a_stranger_differs_from_the_known_one_in_every_identifier_and_in_nothing_else() -> None:
    def body(one: str) -> dict[str, Any]:
        return {
            "id": "r",
            "imp": [{"id": "1"}],
            "user": {
                "id": one,
                "buyeruid": one,
                "data": [{"id": "segments"}],
                "eids": [{"source": "crm", "uids": [{"id": one}, {"id": one, "atype": 1}]}],
                "ext": {"eids": [{"source": "ifa", "uids": [{"id": one}]}]},
            },
            "device": {"ifa": one, "didsha1": one, "ip": "192.0.2.1"},
        }

    twin = orjson.loads(stranger(orjson.dumps(body("known")), Random(1)))
    text = orjson.dumps(twin).decode()
    assert "known" not in text
    user, device = twin["user"], twin["device"]
    made_up = [
        user["id"],
        user["buyeruid"],
        *(uid["id"] for uid in user["eids"][0]["uids"]),
        user["ext"]["eids"][0]["uids"][0]["id"],
        device["ifa"],
        device["didsha1"],
    ]
    assert len(set(made_up)) == 7
    for each in made_up:
        text = text.replace(each, "known")
    assert orjson.loads(text) == body("known")


@pytest.mark.parametrize(
    "body",
    [
        {"imp": []},
        {"user": None, "device": {"ifa": "00000000-0000-0000-0000-000000000000"}},
        {"user": {"buyeruid": "", "eids": [None, {"uids": "no"}]}, "device": []},
    ],
)
def test_a_body_that_names_nobody_has_no_stranger(body: dict[str, Any]) -> None:
    assert stranger(orjson.dumps(body), Random(1)) == b""


def test_an_answer_is_worth_all_its_prices() -> None:
    body = b'{"seatbid":[{"bid":[{"price":1.5,"adm":"{\\"price\\":9}"},{"price": 2e-1}]}]}'
    assert worth(Answer(200, body, True, False)) == pytest.approx(1.7)
    assert worth(answer(0)) == 0
