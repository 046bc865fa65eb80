"""The market judges, settles, bills and delivers as an exchange does."""

import asyncio
import gzip
from collections import Counter, defaultdict
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
import typer
from msgspec.structs import replace
from typer.testing import CliRunner

from loadtest.__main__ import main
from loadtest.exchange import Market, run
from loadtest.exchange.command import exchange
from loadtest.exchange.delivery import Event, deliveries
from loadtest.exchange.http import trade
from loadtest.exchange.market import conversion_url
from loadtest.world import load_world

BASE = "https://bidder.example"


def bidding(price=2.5, adm=True):
    """A bidder in process: one price on every open banner."""

    def bid(request):
        if request.json.keys() & {"wseat", "acat"}:
            return None
        if "maison-lumen.example" in request.json.get("badv", ()):
            return None
        bids = []
        for imp in request.json["imp"]:
            banner = imp.get("banner")
            if not banner or (imp.get("pmp") or {}).get("private_auction"):
                continue
            if imp.get("bidfloor", 0) * (1 if len(request.json["cur"]) == 1 else 1.2) > price:
                continue
            size = (banner.get("format") or [banner])[0]
            key = f"{request.json['id']}-{imp['id']}"
            found = {"id": key, "impid": imp["id"], "price": price, "mtype": 1}
            found |= {"w": size["w"], "h": size["h"], "crid": "brand", "cid": "c"}
            found |= {"adomain": ["maison-lumen.example"], "ext": {"dsa": {"adrender": 1}}}
            found["nurl"] = f"{BASE}/notice/win?t={key}&p=${{AUCTION_PRICE}}"
            found["burl"] = f"{BASE}/notice/billing?t={key}&p=${{AUCTION_PRICE}}"
            found["lurl"] = (
                f"{BASE}/notice/loss?t={key}&r=${{AUCTION_LOSS}}&m=${{AUCTION_MIN_TO_WIN}}"
            )
            if adm:
                found["adm"] = markup(key)
            bids.append(found)
        if not bids:
            return None
        seatbid = [{"seat": "s", "bid": bids}]
        return orjson.dumps(
            {"id": request.json["id"], "cur": request.json["cur"][0], "seatbid": seatbid}
        )

    return bid


def markup(key):
    return (
        f'<a href="{BASE}/track/click?t={key}&amp;x=1"><img src="https://c.example/x.jpg"></a>'
        f'<img src="{BASE}/track/impression?t={key}">'
    )


def play(market, bid, back=lambda event: None):
    seen = []

    def deliver(event):
        seen.append(event)
        return back(event)

    run(market, bid, deliver)
    return seen


@pytest.fixture(scope="module")
def played():
    """One run with clicks that bring click ids; its logs, its calls, its market."""
    logs = defaultdict(list)
    market = Market(
        "repetition-helps", 7, people=600, hours=9, log=lambda name, row: logs[name].append(row)
    )

    def back(event):
        if event.kind == "click":
            return f"https://shop.example/?cid={parse_qs(urlsplit(event.url).query)['t'][0]}"
        return None

    return market, play(market, bidding(), back), logs


def test_requests_do_not_depend_on_answers():
    silent, loud = (Market("repetition-helps", 3, people=300, hours=4) for _ in range(2))
    bodies = []
    play(silent, lambda request: bodies.append(request.body))
    other = bidding()

    def bid(request):
        assert request.body == bodies.pop(0)
        return other(request)

    play(loud, bid)
    assert not bodies
    assert loud.tally.wins
    assert silent.tally.no_bids == silent.tally.requests == loud.tally.requests


def test_calls_arrive_in_order_of_time(played):
    _, events, _ = played
    times = [event.time for event in events]
    assert times == sorted(times)
    assert {e.kind for e in events} == {"win", "loss", "billing", "impression", "click"} | (
        {"conversion"} if any(e.kind == "conversion" for e in events) else set()
    )


def test_a_lawful_bidder_breaks_nothing(played):
    market, _, _ = played
    assert not market.tally.violations, market.tally.examples


def test_the_invoice_is_the_log_to_the_micro(played):
    market, _, logs = played
    by_currency = Counter()
    for row in logs["invoice"]:
        assert row["cost_micros"] == (row["price_cpm_micros"] + 500) // 1000
        assert row["price_cpm_micros"] <= 2_500_000
        by_currency[row["currency"]] += row["cost_micros"]
    assert by_currency == market.tally.invoice_micros
    assert len(logs["invoice"]) == market.tally.billed == market.tally.impressions
    assert market.tally.wins == market.tally.billed + market.tally.not_rendered
    assert 0.9 < market.tally.billed / market.tally.wins < 1


def test_the_truth_is_logged_and_counted(played):
    market, _, logs = played
    rows = [row for row in logs["truth"] if row["type"] == "impression"]
    assert len(rows) == market.tally.impressions
    assert sum(row["clicked"] for row in rows) == market.tally.clicks
    assert sum(row["p_click"] for row in rows) == pytest.approx(market.tally.expected_clicks)
    seen = Counter()
    for row in rows:
        assert row["exposures"] == seen[row["person"]]
        seen[row["person"]] += 1
    summary = market.summary()
    assert summary["exposures_per_person"] == {
        str(n): people for n, people in sorted(Counter(seen.values()).items())
    }
    orjson.dumps(summary)


def test_notices_are_lost_and_doubled_as_often_as_told(played):
    market, events, _ = played
    kinds = Counter(event.kind for event in events)
    distinct = {kind: len({e.url for e in events if e.kind == kind}) for kind in kinds}
    assert distinct["win"] == market.tally.wins
    for kind in ("billing", "impression"):
        assert 0.97 < distinct[kind] / market.tally.billed < 1
        assert 1.002 < kinds[kind] / distinct[kind] < 1.02


def test_prices_are_written_into_notices(played):
    _, events, _ = played
    for event in events:
        assert "AUCTION_" not in event.url
        query = parse_qs(urlsplit(event.url).query)
        if event.kind in ("win", "billing"):
            assert 0 < float(query["p"][0]) <= 2.5
        elif event.kind == "loss":
            assert int(query["r"][0]) in (1, 102, 103)
            assert float(query["m"][0]) > 0


def test_a_sale_is_reported_with_the_click_id_of_the_redirect():
    market = Market("repetition-helps", 7, people=300, hours=1)
    request = market.next_request()
    events = market.answer(request, bidding()(request)) or []
    from loadtest.exchange.delivery import Click

    click = Click(
        9, 0, "maison-lumen.example", "b", f"{BASE}/p/track/click?t=1", 5.0, 81_500_000, 65.0
    )
    told = market.redirected(
        Event(5.0, click.url, "click", click), "https://s.example/?a=1&cid=x%2By"
    )
    assert told
    parts = urlsplit(told[0].url)
    assert told[0].url.startswith(f"{BASE}/p/track/conversion?")
    query = parse_qs(parts.query)
    assert query["cid"] == ["x+y"]
    assert query["value"] == ["81.5"]
    assert market.redirected(Event(5.0, click.url, "click", click), None) == []
    for nowhere in ("https://s.example/", "http://[s.example/?cid=1"):
        assert market.redirected(Event(5.0, click.url, "click", click), nowhere) == []
    assert all(event.time > request.time for event in events)


def eager(name):
    """The world of this name, where most who see an ad click and half of them buy."""
    world = load_world(name)
    click = replace(world.truth.click, base=0.5, maximum=0.9)
    sale = replace(world.truth.sale, base=0.5, maximum=0.9)
    return replace(world, truth=replace(world.truth, click=click, sale=sale))


def test_a_bidder_with_urls_of_its_own_gets_pixels_clicks_and_sales():
    own = "https://ads.other.example:8443"
    market = Market(
        eager("repetition-neutral"), 3, people=300, hours=2,
        conversion="/sold/{click_id}?o={order}&v={value}&c={currency}", click_id="click",
    )  # fmt: skip
    plain = bidding()

    def bid(request):
        answer = orjson.loads(plain(request) or b"{}")
        for seatbid in answer.get("seatbid", ()):
            for one in seatbid["bid"]:
                one |= {"nurl": f"{own}/won?b={one['id']}", "burl": "", "lurl": ""}
                one["adm"] = (
                    f'<a href="{own}/go/{one["id"]}"><img src="{own}/a/{one["id"]}"></a>'
                    f'<img src="{own}/b/{one["id"]}"><img src="https://cdn.example/x.jpg">'
                )
        return orjson.dumps(answer)

    def back(event):
        if event.kind == "click":
            return f"https://shop.example/?cid=no&click=c%2F{urlsplit(event.url).path[4:]}"
        return None

    events = play(market, bid, back)
    called = defaultdict(set)
    for event in events:
        called[event.kind].add(event.url)
    assert all(url.startswith(own + "/") for urls in called.values() for url in urls)
    seen = {place: {u for u in called["impression"] if f"/{place}/" in u} for place in "ab"}
    assert len(seen["a"]) > 0.9 * market.tally.billed < len(seen["b"]) / 0.9
    assert market.tally.impressions == market.tally.billed > 20, "two pixels, one impression"
    assert len(called["click"]) == market.tally.clicks > 10
    assert len(called["conversion"]) == market.tally.sales > 5
    for url in called["conversion"]:
        parts = urlsplit(url)
        assert parts.path.startswith("/sold/c%2F")
        query = parse_qs(parts.query)
        assert query["o"][0].startswith("order-")
        assert float(query["v"][0]) > 0
        assert query["c"] == ["EUR"]


def test_a_place_in_the_conversion_url_that_nobody_fills_is_refused():
    values = {"click_id": "a b", "order": "o", "value": "1", "currency": "EUR"}
    assert conversion_url("/s?i={click_id}", **values) == "/s?i=a%20b"
    for broken in ("{nobody}", "{0}", "{", "{click_id.nothing}"):
        with pytest.raises(ValueError, match=r"place|brace|'\{'"):
            conversion_url(broken, **values)


def test_native_click_trackers_are_called_with_the_click():
    market = Market(eager("repetition-neutral"), 3, people=300, hours=3)
    native = {
        "assets": [{"id": 1, "title": {"text": "x"}}, {"id": 2, "img": {"url": "https://c.ex/"}}],
        "imptrackers": [f"{BASE}/seen"],
        "link": {"url": f"{BASE}/to", "clicktrackers": [f"{BASE}/clicked"]},
    }

    def bid(request):
        bids = [
            {"id": imp["id"], "impid": imp["id"], "price": 9, "mtype": 4, "nurl": f"{BASE}/won"}
            | {"adm": orjson.dumps(native).decode(), "adomain": ["maison-lumen.example"]}
            for imp in request.json["imp"]
            if "native" in imp
        ]
        currency = request.json["cur"][0]
        answer = {"id": request.json["id"], "cur": currency, "seatbid": [{"bid": bids}]}
        return orjson.dumps(answer) if bids else None

    urls = Counter(event.url for event in play(market, bid))
    assert urls[f"{BASE}/to"] >= market.tally.clicks > 3
    assert urls[f"{BASE}/clicked"] >= market.tally.clicks


def test_markup_may_come_with_the_win_notice():
    market = Market("repetition-neutral", 2, people=300, hours=4)

    def back(event):
        if event.pending is not None:
            return markup(parse_qs(urlsplit(event.url).query)["t"][0])
        return None

    events = play(market, bidding(adm=False), back)
    kinds = Counter(event.kind for event in events)
    assert kinds["impression"] > 0.9 * market.tally.billed > 0
    assert market.tally.billed <= market.tally.wins


def test_what_is_no_answer_is_counted():
    market = Market("repetition-neutral", 2, people=300, hours=1)
    request = market.next_request()
    assert market.answer(request, b"{not json") == []
    assert market.tally.violations == {"answer": 1}
    assert market.answer(request, b"[]") == []
    assert market.answer(request, orjson.dumps({"id": request.json["id"], "nbr": 8})) == []
    market.late(request)
    market.failed(request)
    assert (market.tally.late, market.tally.errors, market.tally.no_bids) == (1, 1, 3)


def test_bids_in_a_currency_without_a_rate_are_not_settled():
    market = Market("repetition-neutral", 2, people=300, hours=1)
    request = market.next_request()
    request.json["cur"] = ["JPY"]
    answer = orjson.loads(bidding()(request)) | {"cur": "JPY"}
    market.answer(request, orjson.dumps(answer))
    assert market.tally.violations["currency"] == 1
    assert market.tally.wins == 0
    market.summary()


MISSHAPEN = [
    {"id": ["1"]},
    {"cur": ["EUR"]},
    {"seatbid": 5},
    {"seatbid": [{"bid": 5}]},
    {"seatbid": [{"seat": {}, "bid": [{}]}]},
    *(
        {"seatbid": [{"bid": [{"id": "b", "impid": "1", "price": 9, "crid": "c"} | field]}]}
        for field in (
            {"id": []}, {"impid": []}, {"impid": {}}, {"lurl": 5}, {"nurl": []}, {"adm": {}},
            {"price": "9"}, {"price": None}, {"price": -9}, {"price": 1e200}, {"adomain": 5},
            {"adomain": [5]}, {"mtype": {}}, {"cat": [{}]}, {"w": []}, {"seat": []},
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("part", MISSHAPEN, ids=str)
def test_no_answer_is_too_misshapen_to_be_judged(part):
    line = b'{"id":"1","imp":[{"id":"1","banner":{"w":300,"h":250}}]}'
    market = Market("repetition-neutral", 1, people=50, recorded=[line])
    request = market.next_request()
    market.answer(request, orjson.dumps({"id": "1", "cur": "EUR"} | part))
    assert market.tally.violations
    assert market.tally.wins == 0


def test_recorded_requests_are_sent_instead():
    lines = [
        b'{"id":"1","imp":[{"id":"1","banner":{"w":300,"h":250}}]}',
        b'{"body":{"id":"2","imp":[]}}',
    ]
    market = Market("repetition-neutral", 1, people=50, recorded=lines, requests_per_second=10)
    first, second = market.next_request(), market.next_request()
    assert market.next_request() is None
    assert [orjson.loads(r.body)["id"] for r in (first, second)] == ["1", "2"]
    assert second.time - first.time == pytest.approx(0.1)


def test_the_oracle_gives_the_truth_of_a_slot():
    market = Market("repetition-neutral", 1, people=50, hours=1)
    request = market.next_request()
    imp = request.json["imp"][0]["id"]
    chance, competing = market.chance(request, imp, "maison-lumen.example", "brand", "300x250")
    assert 0 < chance.click < 1
    assert competing > 0


def test_deliveries_have_the_asked_shares():
    delivery = load_world("repetition-neutral").delivery
    event = Event(100.0, "u", "billing")
    counts, late = Counter(), 0
    for key in range(40_000):
        arrived = deliveries(delivery, key, event, 0.01)
        counts[len(arrived)] += 1
        late += bool(arrived) and arrived[0].time > 100
    assert counts[0] / 40_000 == pytest.approx(0.01, abs=0.002)
    assert counts[2] / 40_000 == pytest.approx(0.01, abs=0.002)
    assert late / 40_000 == pytest.approx(0.01, abs=0.002)


async def test_the_market_trades_over_http(start_bidder):
    bidder, url = await start_bidder()
    market = Market("repetition-helps", 5, people=400, hours=3)
    await asyncio.wait_for(trade(market, url, speed=0, connections=8), 30)
    tally = market.tally
    assert tally.requests > 50
    assert tally.answers_with_bid > 20
    assert tally.errors == 0
    assert tally.wins > 5
    assert tally.calls["win 200"] == bidder.calls["win"] >= tally.wins
    assert bidder.calls["impression"] > 0.8 * tally.billed
    assert "seat" not in tally.violations


async def test_late_answers_are_ignored(start_bidder):
    _, url = await start_bidder("slow")
    lines = [
        orjson.dumps({"id": "1", "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}], "tmax": 50})
    ]
    market = Market("repetition-neutral", 1, people=50, recorded=lines)
    await trade(market, url, speed=0, connections=1)
    assert market.tally.late == 1
    assert market.tally.bids == 0


async def test_a_dead_bidder_is_counted(unused_tcp_port):
    lines = [b'{"id":"1","imp":[]}'] * 3
    market = Market("repetition-neutral", 1, people=50, recorded=lines)
    await trade(market, f"http://127.0.0.1:{unused_tcp_port}/", speed=0, connections=2)
    assert market.tally.errors == 3


async def test_what_no_rule_foresaw_is_counted(start_bidder, monkeypatch):
    _, url = await start_bidder()

    def stumble(*_):
        raise TypeError("unhashable")

    market = Market("repetition-neutral", 5, people=200, hours=0.2)
    monkeypatch.setattr(market, "answer", stumble)
    await asyncio.wait_for(trade(market, url, speed=0, connections=2), 30)
    assert market.tally.violations["answer"] == market.tally.requests > 5
    assert market.tally.examples["answer"][0] == "TypeError: unhashable"


def command(*arguments):
    app = typer.Typer()
    app.command()(exchange)
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--connections", "0"], "--connections"),
        (["--speed", "-1"], "--speed"),
        (["--speed", "0"], "--speed"),
        (["--speed", "nan"], "--speed"),
        (["--speed", "soon"], "--speed"),
        (["--hours", "-1"], "--hours"),
        (["--rate", "-1"], "--rate"),
        (["--people", "-1"], "--people"),
        (["--seed", "-1"], "--seed"),
        (["--replay", "/nowhere/at.jsonl"], "--replay"),
        (["--conversion", "/sold?id={cid}"], "--conversion"),
    ],
    ids=str,
)
def test_flags_out_of_bounds_are_refused_by_name(arguments, named):
    result = command("http://127.0.0.1:1/", *arguments)
    assert result.exit_code == 2
    assert named in result.output


@pytest.mark.parametrize("line", [b"{broken", b"[]", b'{"body": 5}'])
def test_recordings_that_are_no_requests_are_refused_with_their_place(line, tmp_path):
    path = tmp_path / "recorded.jsonl"
    path.write_bytes(b'{"id":"1","imp":[]}\n\n' + line)
    result = command("http://127.0.0.1:1/", "--replay", str(path))
    assert result.exit_code == 2
    assert "request 2" in result.output


@pytest.mark.parametrize("url", ["127.0.0.1:8080/openrtb2/demo", "ftp://127.0.0.1/", "nonsense"])
def test_what_is_no_web_address_is_no_bidder(url):
    result = command(url)
    assert result.exit_code == 2
    assert "http://" in result.output


async def test_the_command_writes_its_books(start_bidder, tmp_path):
    _, url = await start_bidder()
    arguments = [url, "--speed", "max", "--hours", "0.2", "--people", "200", "--out", str(tmp_path)]
    result = await asyncio.to_thread(command, *arguments)
    assert result.exit_code == 0, result.output
    summary = orjson.loads((tmp_path / "summary.json").read_bytes())
    billed = (tmp_path / "invoice.jsonl").read_bytes().splitlines()
    assert len(billed) == summary["billed"]
    assert (tmp_path / "truth.jsonl").exists()
    assert (tmp_path / "people.jsonl").stat().st_size > 1000


def test_people_are_written_for_the_bidder(tmp_path):
    out = tmp_path / "people.jsonl"
    with pytest.raises(SystemExit) as stopped:
        main(["exchange", "--people", "100", "--people-out", str(out)])
    assert not stopped.value.code
    assert all(orjson.loads(line)["ids"] for line in out.read_bytes().splitlines())


def test_gzip_is_left_to_the_driver():
    market = Market("repetition-neutral", 1, people=50, hours=24)
    requests = [market.next_request() for _ in range(60)]
    assert any(request.gzip for request in requests)
    for request in requests:
        with pytest.raises(gzip.BadGzipFile):
            gzip.decompress(request.body)
