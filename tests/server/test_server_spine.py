"""A bid request in, a billed impression in the log: on the real processes, with the demo."""

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bidder.events.report import report
from bidder.metrics import ALL

ROOT = Path(__file__).parents[2]
REQUEST = json.loads((ROOT / "config/demo/request.json").read_bytes())
DEMO_PERSON = "buyeruid.demo:demo-person-1"
LINE_ITEM = "maison-lumen/basket-left/fresh"
Soon = Callable[..., Any]


@pytest.fixture(scope="module")
def bidder(bidders: Callable[..., Any]) -> Any:
    """The demo as it ships, with two workers."""
    demo = bidders("workers: 2\ndrain: 1s\n", campaigns="")
    demo.start()
    return demo


class Journey:
    """One bid and what was called of it."""

    def __init__(self, bidder: Any, soon: Soon) -> None:
        self.bidder = bidder
        self.bid = soon(self._recognised)
        markup = unescape(self.bid["adm"])
        self.pixel = re.search(r'src="(http[^"]*/track/impression[^"]*)"', markup)[1]  # type: ignore[index]
        self.click = re.search(r'href="(http[^"]*/track/click[^"]*)"', markup)[1]  # type: ignore[index]
        self.price = self.bid["price"] - 0.5
        self.cid = ""

    def _recognised(self) -> Any:
        """A bid on the demo person. A busy machine may bring one on anybody, as the store was too
        slow for once, or none, as the worker was."""
        answer = self.bidder.post()
        bid = answer.bid() if answer.status == 200 else {"cid": "nobody"}
        return bid if LINE_ITEM.startswith(bid["cid"]) else None

    def bid_id(self) -> str:
        return str(self.bid["id"])

    def call_all(self) -> None:
        """Everything that an exchange, a browser and a shop call."""
        called = [
            self.bidder.call(self.bid["nurl"], self.price),
            self.bidder.call(self.bid["burl"], self.price),
            self.bidder.call(self.pixel),
        ]
        assert [answer.status for answer in called] == [200, 200, 200]
        assert called[2].headers["content-type"] == "image/gif"
        assert called[2].body[:6] == b"GIF89a"
        answer = self.bidder.call(self.click)
        assert answer.status == 302
        target = urlsplit(answer.headers["location"])
        assert f"{target.scheme}://{target.netloc}{target.path}" == (
            "https://maison-lumen.example/basket"
        )
        self.cid = parse_qs(target.query)["cid"][0]
        sale = self.bidder.ask("GET", f"/track/conversion?cid={self.cid}&order=A-1&value=80&gdpr=0")
        assert sale.status == 200

    def applied(self) -> dict[str, float]:
        """How many of each kind changed something, by the metrics."""
        return {
            kind: self.bidder.metric("bidder_applied_total", kind=kind, outcome=outcome)
            for kind, outcome in (
                ("win", "noted"), ("billing", "new"), ("impression", "new"),
                ("click", "new"), ("conversion", "new"),
            )
        }  # fmt: skip

    def logged(self) -> float:
        return float(self.bidder.metric("bidder_notices_total", outcome="logged"))

    def applied_in_all(self) -> float:
        return float(self.bidder.metric("bidder_applied_total"))

    def money(self) -> dict[bytes, bytes]:
        """The campaign's counters."""
        with self.bidder.store() as store:
            (key,) = [
                key for key in store.scan_iter("c:*:money") if int(store.hget(key, "clicks") or 0)
            ]
            found = store.hgetall(key)
            return {
                name: value
                for name, value in found.items()
                if name.split(b":")[0] in (b"spent", b"impressions", b"clicks", b"conversions")
            }

    def ledger(self) -> str:
        shown = self.bidder.run("people", "show", DEMO_PERSON)
        assert shown.returncode == 0, shown.stderr
        return str(shown.stdout).lower()

    def report(self) -> list[Any]:
        table = report(self.bidder.state / "events", ["line_item"])
        (row,) = [row for row in table.rows if row.key == (LINE_ITEM,)]
        return [row.wins, row.impressions, row.clicks, row.conversions, row.spend_micros]


@pytest.fixture(scope="module")
def journey(bidder: Any, soon: Soon) -> Journey:
    """A bid of which everything was called once, and is applied."""
    made = Journey(bidder, soon)
    made.call_all()
    soon(lambda: made.applied_in_all() >= 5)
    return made


def test_every_step_is_in_the_log_under_one_bid_id(journey: Journey) -> None:
    for kind in ("bid", "win", "billing", "impression", "click", "conversion"):
        (event,) = [
            event for event in journey.bidder.events(kind) if event["bid_id"] == journey.bid_id()
        ]
        assert event["line_item"] == LINE_ITEM
    billing = journey.bidder.events("billing")[0]
    assert billing["cost_micros"] == pytest.approx(journey.price * 1000, abs=1)


def test_every_step_is_in_the_metrics(journey: Journey, soon: Soon) -> None:
    bidder = journey.bidder
    assert journey.applied() == dict.fromkeys(journey.applied(), 1.0)
    soon(lambda: bidder.metric("bidder_notices_total", outcome="logged") == 5)
    assert bidder.metric("bidder_bids_total", exchange="demo") >= 1
    spent = bidder.metric("bidder_spend_micros_total", advertiser="maison-lumen", currency="EUR")
    assert spent == pytest.approx(journey.price * 1000, abs=1)
    for event in ("bid", "billing", "impression", "click", "conversion"):
        assert bidder.metric("bidder_line_item_total", line_item=LINE_ITEM, event=event)


def test_every_step_is_in_the_counters_the_ledger_and_the_report(journey: Journey) -> None:
    money = journey.money()
    assert int(money[b"spent"]) == pytest.approx(journey.price * 1000, abs=1)
    assert (money[b"impressions"], money[b"clicks"], money[b"conversions"]) == (b"1", b"1", b"1")
    shown = journey.ledger()
    for word in ("impression", "click", "conversion"):
        assert word in shown
    assert journey.report() == [1, 1, 1, 1, int(money[b"spent"])]


def test_a_second_call_of_each_changes_nothing(journey: Journey, soon: Soon) -> None:
    before = journey.money(), journey.applied(), journey.report()
    records = re.findall(r"impression|click|conversion", journey.ledger())
    applied = journey.applied_in_all()
    journey.call_all()
    soon(lambda: journey.applied_in_all() == applied + 5)
    after = journey.money(), {**journey.applied(), "win": 1.0}, journey.report()
    assert after == before
    assert re.findall(r"impression|click|conversion", journey.ledger()) == records


def test_the_report_command_reads_the_log(journey: Journey) -> None:
    made = journey.bidder.run("report", "--by", "line_item,day", "--format", "json")
    assert made.returncode == 0, made.stderr
    rows = json.loads(made.stdout)
    row = next(row for row in rows if row["line_item"] == LINE_ITEM)
    assert (row["wins"], row["impressions"], row["clicks"], row["conversions"]) == (1, 1, 1, 1)
    assert row["spend"] == pytest.approx(journey.price / 1000, abs=1e-6)


UNUSABLE = {
    "": "price_empty",
    "AUDIT": "price_audit",
    "${AUCTION_PRICE}": "price_unreplaced",
    "%24%7BAUCTION_PRICE%7D": "price_unreplaced",
    "%2524%257BAUCTION_PRICE%257D": "price_unreplaced",
    "999": "price_above_bid",
    "-1": "price_negative",
}


def test_prices_that_count_nothing_are_accepted_and_counted(journey: Journey, soon: Soon) -> None:
    bidder = journey.bidder
    before = bidder.metrics()
    for price in UNUSABLE:
        parts = urlsplit(journey.bid["burl"].replace("${AUCTION_PRICE}", price))
        assert bidder.ask("GET", f"{parts.path}?{parts.query}").status == 200

    def more(outcome: str) -> float:
        name = f'bidder_notices_total{{kind="billing",outcome="{outcome}"}}'
        return float(bidder.metrics().get(name, 0) - before.get(name, 0))

    outcomes = list(UNUSABLE.values())
    for outcome in outcomes:
        soon(lambda outcome=outcome: more(outcome) == outcomes.count(outcome))


def test_forged_tokens_lead_nowhere(journey: Journey) -> None:
    parts = urlsplit(journey.click)
    token = parse_qs(parts.query)["t"][0]
    swapped = token[:40] + ("A" if token[40] != "A" else "B") + token[41:]
    answer = journey.bidder.ask("GET", f"/track/click?t={swapped}&url=https://evil.example/")
    assert answer.status == 400
    assert "location" not in answer.headers
    for path in ("/notice/win", "/notice/loss", "/notice/billing", "/track/impression"):
        assert journey.bidder.ask("GET", f"{path}?t={swapped}&p=1").status == 200
    assert journey.bidder.ask("GET", f"/track/conversion?cid={token}").status == 200


def test_a_click_goes_only_where_its_token_says(journey: Journey) -> None:
    answer = journey.bidder.call(journey.click + "&url=https://evil.example/&cid=x")
    assert answer.headers["location"].startswith("https://maison-lumen.example/basket?cid=")


def test_operators_see_health_and_every_declared_metric(journey: Journey, soon: Soon) -> None:
    bidder = journey.bidder
    assert bidder.ask("GET", "/-/healthy", port=bidder.ops_port).status == 200
    assert bidder.metric("bidder_workers") == 2
    assert bidder.metric("bidder_config_last_reload_successful") == 1
    assert bidder.metric("bidder_model_info") == 1
    soon(lambda: bidder.metric("bidder_log_bytes_total") > 0)
    page = bidder.ask("GET", "/metrics", port=bidder.ops_port).body.decode()
    for metric in ALL:
        assert f"# TYPE {metric.name.removesuffix('_total')}" in page, metric.name
    assert 'le="0.00025"' in page
    assert bidder.ask("GET", "/nothing", port=bidder.ops_port).status == 404


def test_stages_are_timed(journey: Journey, soon: Soon) -> None:
    stranger = {**REQUEST, "user": {"buyeruid": "nobody-we-know"}}

    def timed() -> bool:
        for _ in range(64):  # of which one is timed
            journey.bidder.post(stranger)
        series = journey.bidder.metrics()
        stages = {"permit", "candidates", "read", "audience", "choose", "claim", "answer"}
        return all(series.get(f'bidder_stage_seconds_count{{stage="{one}"}}') for one in stages)

    soon(timed)


def test_the_exchange_is_answered_as_the_protocol_says(journey: Journey) -> None:
    bidder = journey.bidder
    assert bidder.post(b"{").status == 400
    assert bidder.post(b"{").body == b""
    assert bidder.post({"id": "r", "imp": [{"id": "1"}]}).status == 204
    assert bidder.ask("POST", "/openrtb2/nobody", b"{}").status == 404
    assert bidder.ask("GET", "/openrtb2/demo").status == 405
    for answer in (
        bidder.post(x_openrtb_version="2.6"),
        bidder.post(b"{", x_openrtb_version="2.6"),
        bidder.post({"id": "r", "imp": [{"id": "1"}]}, x_openrtb_version="2.6"),
        bidder.ask("GET", "/openrtb2/demo", x_openrtb_version="2.6"),
    ):
        assert answer.headers["x-openrtb-version"] == "2.6", answer.status


def test_nothing_was_logged_as_an_error(journey: Journey) -> None:
    said = journey.bidder.said.read_text()
    errors = r"^worker \d+: .*|Traceback.*|.*cannot be applied.*"
    assert re.findall(errors, said, re.MULTILINE) == []


def test_the_dashboard_asks_only_for_metrics_there_are() -> None:
    board = json.loads((ROOT / "config/grafana/bidder.json").read_text())
    assert board["title"]
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) >= 12
    series = set()
    for metric in ALL:
        endings = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        series |= {metric.name + ending for ending in endings}
    asked = set()
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            named = set(re.findall(r"\bbidder_[a-z_]+", target["expr"]))
            assert named, panel["title"]
            assert named <= series, named - series
            asked |= named
    for metric in ALL:
        assert any(name.startswith(metric.name) for name in asked), f"no panel shows {metric.name}"
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)
