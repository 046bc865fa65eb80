"""Consent is kept with its proof, and withdrawing it erases: on a whole bidder, by its pixel."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import redis

from bidder.people.reading import decode_profile

ALL = frozenset({1, 2, 3, 4, 7, 9, 10})


def tc(at: float, purposes: frozenset[int]) -> str:
    """A TC string of version 2.3 for vendor 1234, written bit by bit."""

    def number(value: int, width: int) -> str:
        return format(value, f"0{width}b")

    def flags(chosen: frozenset[int], count: int) -> str:
        return "".join("01"[each in chosen] for each in range(1, count + 1))

    def text(bits: str) -> str:
        signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        bits += "0" * (-len(bits) % 6)
        return "".join(signs[int(bits[start : start + 6], 2)] for start in range(0, len(bits), 6))

    vendor = frozenset({1234})
    core = (
        number(2, 6) + number(int(at) * 10, 36) * 2 + number(3, 12) + number(1, 12) + number(0, 6)
        + number(5, 6) + number(17, 6) + number(200, 12) + number(4, 6) + "10" + "0" * 12
        + flags(purposes, 24) + "0" * 24 + "0" + number(5, 6) + number(17, 6)
        + number(1234, 16) + "0" + flags(vendor, 1234) + number(0, 16) + "0" + number(0, 12)
    )  # fmt: skip
    return f"{text(core)}.{text(number(1, 3) + number(1234, 16) + '0' + flags(vendor, 1234))}"


@pytest.fixture(scope="module")
def bidder(bidders: Callable[..., Any]) -> Any:
    """A running bidder."""
    made = bidders()
    made.start()
    return made


@pytest.fixture
def store(bidder: Any) -> Any:
    """Its store."""
    with redis.Redis.from_url((bidder.state / "store.url").read_text()) as client:
        yield client


def call(bidder: Any, path: str, consent: str, cookie: str = "") -> Any:
    """One call of a page, as from a browser with this cookie."""
    headers = {"Cookie": f"bidder_id={cookie}"} if cookie else {}
    mark = "&" if "?" in path else "?"
    return bidder.ask("GET", f"{path}{mark}gdpr=1&gdpr_consent={quote(consent)}", **headers)


def cookie_of(answer: Any) -> str:
    return str(answer.headers["set-cookie"]).partition("bidder_id=")[2].partition(";")[0]


def people(store: Any) -> dict[str, Any]:
    """Person id -> profile, of those known by a cookie."""
    found = {}
    for key in store.scan_iter("id:cookie:*"):
        person = store.get(key).decode()
        found[person] = decode_profile(store.get("p:{" + person + "}"))
    return found


@pytest.mark.parametrize("path", ["/track/visit?a=shop&e=product", "/sync/demo"])
def test_consent_is_proven_and_withdrawing_it_erases(
    bidder: Any, store: Any, soon: Callable[..., Any], path: str
) -> None:
    known = people(store).keys()
    early = tc(time.time() - 1000, ALL)
    first = call(bidder, path, early)
    assert first.status == 200
    cookie = cookie_of(first)
    (person,) = soon(lambda: people(store).keys() - known)
    profile = soon(lambda: people(store)[person].consent and people(store)[person])
    assert profile.consent == early, "the string"
    assert abs(profile.consent_time - (time.time() - 1000)) < 60, "when it was given"
    assert profile.consent_source == ("sync demo" if "sync" in path else "visit shop"), "and where"

    refused = call(bidder, path, tc(time.time() - 500, frozenset()), cookie)
    assert refused.status == 204
    assert "set-cookie" not in refused.headers
    soon(lambda: person not in people(store))
    soon(lambda: not list(store.scan_iter("*{" + person + "}*")))
    assert list(store.scan_iter("t:*")), "a tombstone"
    audit = bidder.state / "audit/rights.jsonl"
    written = soon(lambda: audit.exists() and audit.read_bytes().splitlines())
    assert msgspec.json.decode(written[-1])["action"] == "erase"

    again = call(bidder, path, tc(time.time() - 100, ALL), cookie)
    assert again.status in (200, 204)
    assert person not in people(store)


def test_a_refusal_of_before_changes_nothing(
    bidder: Any, store: Any, soon: Callable[..., Any]
) -> None:
    known = people(store).keys()
    path = "/track/visit?a=shop"
    cookie = cookie_of(call(bidder, path, tc(time.time() - 100, ALL)))
    (person,) = soon(lambda: people(store).keys() - known)
    assert call(bidder, path, tc(time.time() - 5000, frozenset()), cookie).status == 204
    assert call(bidder, path, "nonsense", cookie).status == 204
    call(bidder, path, tc(time.time() - 50, ALL), cookie)  # comes after: when it is written...
    soon(lambda: people(store)[person].consent_time > time.time() - 90)
    soon(lambda: not store.llen(next(iter(store.scan_iter("refusals:*")), "none")))
    assert person in people(store)


def test_what_was_answered_is_not_lost_with_the_worker(
    bidder: Any, store: Any, soon: Callable[..., Any]
) -> None:
    known = people(store).keys()
    for number in range(20):
        answer = call(
            bidder, f"/track/visit?a=shop&e=purchase&o=W-{number}&v=10", tc(time.time() - 100, ALL)
        )
        assert answer.status == 200
    for worker in bidder.workers():
        worker.kill()  # SIGKILL, with nothing in between
    soon(lambda: len(people(store).keys() - known) == 20)
    soon(bidder.is_ready)
