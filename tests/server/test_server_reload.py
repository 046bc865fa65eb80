"""A reload meets the rest of the bidder: workers that die, and money that is still to come."""

import re
import time
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

Soon = Callable[..., Any]


@pytest.fixture(scope="module")
def bidder(bidders: Callable[..., Any]) -> Any:
    made = bidders("workers: 2\ndrain: 1s\n")
    made.start()
    return made


def test_a_worker_starts_again_while_the_files_are_broken(bidder: Any, soon: Soon) -> None:
    path = bidder.config / "exchanges" / "demo.yaml"
    good = path.read_text()
    path.write_text(good.replace("status: active", "status: whatever"))
    try:
        refused = bidder.reload()
        assert (refused.status, b"demo.yaml" in refused.body) == (422, True)
        restarts = bidder.metric("bidder_worker_restarts_total")
        victims = bidder.workers()
        for victim in victims:
            victim.kill()
        soon(lambda: bidder.metric("bidder_worker_restarts_total") >= restarts + 2)
        soon(lambda: bidder.metric("bidder_workers") == 2)
        assert bidder.metric("bidder_worker_restarts_total") == restarts + 2
        soon(lambda: bidder.post().status == 200)
    finally:
        path.write_text(good)


def test_a_reload_while_a_worker_starts_again_reaches_it(bidder: Any, soon: Soon) -> None:
    path = bidder.config / "campaigns" / "shop.yaml"
    restarts = bidder.metric("bidder_worker_restarts_total")
    bidder.workers()[0].kill()
    soon(lambda: bidder.metric("bidder_worker_restarts_total") == restarts + 1)
    path.write_text(bidder.campaigns.replace("domain: shop.example", "domain: new.example"))
    assert bidder.reload().status == 200
    soon(lambda: bidder.metric("bidder_workers") == 2)
    for _ in range(12):  # whichever worker answers
        answer = soon(lambda: (given := bidder.post()).status == 200 and given)
        assert answer.bid()["adomain"] == ["new.example"]


def test_a_longer_notice_lag_is_waited_for_from_the_reload_on(bidder: Any, soon: Soon) -> None:
    path = bidder.config / "exchanges" / "demo.yaml"
    path.write_text(path.read_text().replace("notice_lag: 10m", "notice_lag: 6h"))
    assert bidder.reload().status == 200
    bid = soon(lambda: (given := bidder.post()).status == 200 and given).bid()
    pixel = re.search(r'src="(http[^"]*/track/impression[^"]*)"', unescape(bid["adm"]))
    assert pixel is not None
    assert bidder.call(pixel[1]).status == 200
    with bidder.store() as store:

        def dues() -> list[float]:
            keys = list(store.scan_iter("c:*:unbilled"))
            return [due for key in keys for _, due in store.zrange(key, 0, -1, withscores=True)]

        (due,) = soon(dues)
        assert due > time.time() + 5 * 3600


def test_a_reload_brings_the_exchanges_we_sync_with(bidder: Any) -> None:
    assert bidder.ask("GET", "/sync/other").status == 404
    (bidder.config / "crm" / "sync.yaml").write_text("exchanges: {demo: {}, other: {}}\n")
    assert bidder.reload().status == 200
    statuses = {bidder.ask("GET", "/sync/other").status for _ in range(6)}
    assert statuses == {204}, "nothing was permitted"
