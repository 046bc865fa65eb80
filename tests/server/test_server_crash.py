"""Processes die, are told to end, to reload, to stop: nothing is lost, nothing happens twice."""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

Soon = Callable[..., Any]
Bidders = Callable[..., Any]
REQUEST = json.loads((Path(__file__).parents[2] / "config/demo/request.json").read_bytes())


def request_of(person: str) -> dict[str, Any]:
    """The demo request, by somebody else."""
    return {**REQUEST, "user": {"buyeruid": person}}


def bid_of(bidder: Any, person: str, soon: Soon) -> dict[str, Any]:
    """A bid on the person. After a pause a worker has money for one; more takes it a moment."""
    answer = soon(lambda: (given := bidder.post(request_of(person))).status == 200 and given, 5)
    bid: dict[str, Any] = answer.bid()
    return bid


def counters(bidder: Any) -> dict[str, int]:
    """What the shop's one campaign has counted, of all days; nothing before the first event."""
    names = ("spent", "impressions", "clicks", "conversions")
    with bidder.store() as store:
        keys = list(store.scan_iter("c:*:money"))
        assert len(keys) <= 1
        return {name: int(store.hget(key, name) or 0) for key in keys for name in names} or (
            dict.fromkeys(names, 0)
        )


def cost(bid: dict[str, Any]) -> int:
    """What an impression at a price of 1.00 costs in micros."""
    assert bid["price"] >= 1
    return 1000


@pytest.fixture(scope="module")
def bidder(bidders: Bidders) -> Any:
    """Two workers; the tests that end it start it again."""
    made = bidders("workers: 2\ndrain: 1s\n")
    made.start()
    return made


def test_a_killed_worker_is_replaced_and_no_counter_goes_back(bidder: Any, soon: Soon) -> None:
    for _ in range(10):
        assert bidder.post(request_of("nobody-we-know")).status in (200, 204)
    soon(lambda: bidder.metric("bidder_requests_total") == 10)
    before = bidder.metrics()
    victim = bidder.workers()[0]
    victim.kill()
    soon(lambda: bidder.metric("bidder_worker_restarts_total") == 1)
    during = bidder.metrics()
    assert bidder.is_ready()  # the other one serves
    soon(lambda: bidder.metric("bidder_workers") == 2)
    assert victim.pid not in [worker.pid for worker in bidder.workers()]
    after = bidder.metrics()
    for page in (during, after):
        for series, value in before.items():
            if "_total" in series or "_count" in series or "_bucket" in series:
                assert page.get(series, 0) >= value, series
    assert bidder.metric("bidder_model_info") == 1
    assert bidder.metric("bidder_breaker_open") == 0


def test_stop_reaches_all_workers_in_two_seconds_and_start_too(bidder: Any, soon: Soon) -> None:
    stranger = request_of("nobody-we-know")
    soon(lambda: bidder.post(stranger).status == 200)
    assert bidder.run("stop", "shop/wide/anyone").returncode == 0
    told = time.monotonic()
    soon(lambda: all(bidder.post(stranger).status == 204 for _ in range(12)))
    assert time.monotonic() - told < 2.5  # two seconds, and the twelve requests
    assert bid_of(bidder, "demo-person-10", soon)  # another line item bids on
    unknown = bidder.run("stop", "shop/wide/anyon")
    assert unknown.returncode == 1
    assert "shop/wide/anyone" in unknown.stderr


def test_a_stop_survives_a_restart_and_so_does_the_state(bidder: Any, soon: Soon) -> None:
    bid = bid_of(bidder, "demo-person-2", soon)
    assert bidder.call(bid["burl"], 1.0).status == 200
    soon(lambda: counters(bidder)["impressions"] == 1)
    family = bidder.children()
    assert len(family) >= 3  # two workers and a store

    told = time.monotonic()
    bidder.signal(signal.SIGTERM)
    soon(lambda: not bidder.is_ready(), 2)
    assert bid_of(bidder, "demo-person-3", soon)  # answers on while unready
    assert bidder.ended() == 0
    assert time.monotonic() - told < 25
    assert psutil.wait_procs(family, timeout=1)[1] == []

    bidder.start()
    assert counters(bidder)["spent"] == cost(bid)
    assert all(bidder.post(request_of("nobody-we-know")).status == 204 for _ in range(6))
    shown = bidder.run("people", "show", "buyeruid.demo:demo-person-2").stdout.lower()
    assert shown.count("impression") == 1
    assert bidder.run("start", "shop/wide/anyone").returncode == 0
    soon(lambda: bidder.post(request_of("nobody-we-know")).status == 200, 3)


@pytest.mark.parametrize("way", ["endpoint", "SIGHUP"])
def test_a_reload_is_applied_or_refused_whole(bidder: Any, soon: Soon, way: str) -> None:
    campaigns = bidder.config / "campaigns" / "shop.yaml"
    good = bidder.campaigns
    applied = bidder.metric("bidder_reloads_total", result="applied")
    refused = bidder.metric("bidder_reloads_total", result="refused")

    campaigns.write_text(good.replace("max_cpm: 2.00", "max_cpm: two"))
    line = 1 + good[: good.index("max_cpm: 2.00")].count("\n")
    if way == "endpoint":
        answer = bidder.reload()
        assert answer.status == 422
        assert f"shop.yaml:{line}" in answer.body.decode()
    else:
        bidder.signal(signal.SIGHUP)
    soon(lambda: bidder.metric("bidder_reloads_total", result="refused") == refused + 1)
    assert bidder.metric("bidder_config_last_reload_successful") == 0
    assert f"shop.yaml:{line}" in bidder.said.read_text()
    assert bidder.is_ready()
    assert bid_of(bidder, "nobody-we-know", soon)["price"] <= 2  # the old one stays

    campaigns.write_text(good.replace("domain: shop.example", f"domain: {way.lower()}.example"))
    if way == "endpoint":
        assert bidder.reload().status == 200
    else:
        bidder.signal(signal.SIGHUP)
    soon(lambda: bidder.metric("bidder_reloads_total", result="applied") == applied + 1)
    assert bidder.metric("bidder_config_last_reload_successful") == 1
    for _ in range(6):  # whichever worker answers
        bid = bid_of(bidder, "nobody-we-know", soon)
        assert bid["adomain"] == [f"{way.lower()}.example"]


def test_a_reload_applies_what_it_can_and_names_the_rest(bidder: Any, soon: Soon) -> None:
    path = bidder.config / "bidder.yaml"
    before = path.read_text()
    assert "\nanswer_ms" not in before
    try:
        path.write_text(before.replace("drain: 1s", "drain: 3s") + "answer_ms: 1\n")
        answer = bidder.reload()
        assert answer.status == 200
        assert answer.body.decode() == "reloaded\ndrain changed: applies at the next start\n"
        assert "drain changed: applies at the next start" in bidder.said.read_text()
        serving = json.loads((bidder.state / "serving/current/settings.json").read_text())
        assert (serving["answer_ms"], serving["drain"]) == (1, "1s")
    finally:
        path.write_text(before)
        assert bidder.reload().body == b"reloaded\n"


def test_notices_of_an_exchange_that_was_paused_still_count(bidder: Any, soon: Soon) -> None:
    bid = bid_of(bidder, "demo-person-7", soon)
    before = counters(bidder)
    path = bidder.config / "exchanges" / "demo.yaml"
    active = path.read_text()
    try:
        path.write_text(active.replace("status: active", "status: paused"))
        assert bidder.reload().status == 200
        assert bidder.post(request_of("demo-person-7")).status == 404
        assert bidder.call(bid["burl"], 1.0).status == 200
        soon(lambda: counters(bidder)["spent"] == before["spent"] + 1000)
    finally:
        path.write_text(active)
        assert bidder.reload().status == 200


def test_kill_9_between_notice_and_application(bidder: Any, soon: Soon) -> None:
    """Notices are logged and answered while the applier is held; then all of it is killed."""
    before = counters(bidder)
    bids = [bid_of(bidder, f"demo-person-{number}", soon) for number in (4, 5, 6)]
    bidder.signal(signal.SIGSTOP)
    family = bidder.children()
    for bid in bids:
        assert bidder.call(bid["burl"], 1.0).status == 200
    assert len(bidder.events("billing")) >= 3
    offsets = bidder.state / "events" / "offsets.json"
    saved = offsets.read_bytes() if offsets.exists() else b"{}"
    bidder.signal(signal.SIGKILL)
    assert bidder.ended() == -signal.SIGKILL
    assert psutil.wait_procs(family, timeout=15)[1] == []  # no worker, no store is left behind

    bidder.start()
    wanted = {
        **before,
        "spent": before["spent"] + 3000,
        "impressions": before["impressions"] + 3,
    }
    soon(lambda: counters(bidder) == wanted)

    # The crash may as well have come after the application and before the offset was saved.
    bidder.signal(signal.SIGKILL)
    bidder.ended()
    psutil.wait_procs(family, timeout=15)
    offsets.write_bytes(saved)
    bidder.start()
    soon(lambda: bidder.metric("bidder_applied_total", kind="billing", outcome="duplicate") >= 3)
    assert counters(bidder) == wanted
    assert bidder.metric("bidder_applied_total", kind="billing", outcome="new") == 0
    shown = bidder.run("people", "show", "buyeruid.demo:demo-person-4").stdout.lower()
    assert shown.count("impression") == 1


def test_a_poisoned_ledger_does_not_stop_the_others(bidder: Any, soon: Soon) -> None:
    sick = bid_of(bidder, "demo-person-7", soon)
    well = bid_of(bidder, "demo-person-8", soon)
    with bidder.store() as store:
        person = store.get("id:buyeruid.demo:demo-person-7").decode()
        store.delete(f"l:{{{person}}}")
        store.lpush(f"l:{{{person}}}", "not a ledger")
        before = counters(bidder)["impressions"]
        for bid in (sick, well):
            assert bidder.call(bid["burl"], 1.0).status == 200
        soon(lambda: counters(bidder)["impressions"] == before + 2)
        soon(lambda: bidder.metric("bidder_applied_total", outcome="failed") == 1)
        said = bidder.run("events", "refused").stdout
        assert f"billing of bid {sick['id']}" in said
        assert "WRONGTYPE" in said
        assert well["id"] not in said
        store.delete(f"l:{{{person}}}")
        assert (
            "1 bids applied again, 0 refused" in bidder.run("events", "refused", "--again").stdout
        )
        assert len(store.get(f"l:{{{person}}}")) > 16
        assert counters(bidder)["impressions"] == before + 2
    assert bidder.run("events", "refused").stdout == "none was refused\n"


def test_while_the_log_cannot_be_written_nothing_is_bid(bidder: Any, soon: Soon) -> None:
    events = bidder.state / "events"
    aside = bidder.state / "aside"
    bid = bid_of(bidder, "demo-person-9", soon)
    before = counters(bidder)["impressions"]
    events.rename(aside)

    def in_the_way() -> bool:
        """A file, where the folder may come back as fast as it is taken away."""
        shutil.rmtree(events, ignore_errors=True)
        try:
            return bool(events.write_text("in the way"))
        except IsADirectoryError:
            return False

    soon(in_the_way)
    try:
        soon(lambda: bidder.call(bid["burl"], 1.0).status == 503)
        soon(lambda: all(bidder.post(request_of("nobody")).status == 204 for _ in range(12)))
        soon(lambda: bidder.metric("bidder_log_stalled") == 1)
        soon(lambda: bidder.metric("bidder_no_bids_total", reason="log_stalled") > 0)
        soon(lambda: bidder.metric("bidder_notices_total", outcome="not_logged") > 0)
    finally:
        events.unlink()
        aside.rename(events)
    soon(lambda: bid_of(bidder, "nobody", soon))
    soon(lambda: bidder.call(bid["burl"], 1.0).status == 200)  # sent again, as 503 asks
    soon(lambda: counters(bidder)["impressions"] == before + 1)
    soon(lambda: bidder.metric("bidder_log_stalled") == 0)


def test_a_second_signal_ends_at_once(bidder: Any, soon: Soon) -> None:
    """Even with a client in the middle of a request."""
    family = bidder.children()
    with socket.create_connection(("127.0.0.1", bidder.port)) as slow:
        slow.sendall(b"POST /openrtb2/demo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        os.kill(bidder.pid, signal.SIGTERM)
        soon(lambda: not bidder.is_ready(), 2)
        told = time.monotonic()
        os.kill(bidder.pid, signal.SIGTERM)
        assert bidder.ended() == 0
        assert time.monotonic() - told < 8
    assert psutil.wait_procs(family, timeout=1)[1] == []
    shutil.rmtree(bidder.state)
