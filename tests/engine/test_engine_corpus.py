"""All requests of the corpus through edge and engine: answered, lawfully, and mostly bid on.

The catalogue is one run-of-network line item with a creative of every size that the corpus asks
for, and a native one. What is refused or gets no bid is printed with its reason (`pytest -rP`).
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bidder.campaigns.catalogue import Catalogue
from bidder.campaigns.loading import load
from bidder.campaigns.rates import load_rates
from bidder.campaigns.vocabulary import LARGEST_SIDE

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "../shared/corpus"
pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason="../shared/corpus is absent")
FILE = """\
advertiser: wide
domain: wide.example
currency: EUR
timezone: Europe/Paris
categories: [IAB22]
campaigns:
  - id: all
    goal: {cpm: 200}
    line_items:
      - id: run-of-network
        unknown_people: serve
        bid: {max_cpm: 200}
        creatives:
          - id: native
            native:
              title: "Wide, and well made"
              description: "Made to be looked at."
              sponsored_by: "Wide"
              cta: "See more"
              image: {url: "https://cdn.wide.example/1200x627.jpg", w: 1200, h: 627}
              icon: {url: "https://cdn.wide.example/icon.png", w: 80, h: 80}
            click: "https://wide.example/"
"""
CREATIVE = """\
          - id: c{w}x{h}
            size: {w}x{h}
            image: "https://cdn.wide.example/{w}x{h}.jpg"
            click: "https://wide.example/"
"""
LEAST_SHARE = 0.95


def lines(name: str) -> list[Json]:
    return [json.loads(line) for line in (CORPUS / "openrtb" / name).read_text().splitlines()]


def sizes_of(body: Json) -> set[tuple[int, int]]:
    """The sizes of a request's banners that a campaign file can name."""
    found = set()
    for imp in body.get("imp") or ():
        banner = imp.get("banner") if isinstance(imp, dict) else None
        if isinstance(banner, dict):
            for place in [banner, *(banner.get("format") or ())]:
                found.add((place.get("w"), place.get("h")))
    return {
        (w, h)
        for w, h in found
        if all(isinstance(n, int) and 0 < n <= LARGEST_SIDE for n in (w, h))
    }


def is_lawful(case: Json) -> bool:
    """By the schema, and by the rules of §3.2 that it cannot say."""
    body = case["body"]
    imps = body.get("imp")
    return bool(
        case["schema_ok"]
        and body.get("id")
        and imps
        and all(imp.get("id") for imp in imps)
        and sum(name in body for name in ("site", "app", "dooh")) <= 1
    )


def may_get_a_bid(body: Json) -> bool:
    """Someone with every size, seat `demo` and no more than HTTPS images may bid on a banner."""
    if body.get("wseat") and "demo" not in body["wseat"]:
        return False
    return any(
        sizes_of({"imp": [imp]})
        and not ((imp.get("pmp") or {}).get("private_auction") == 1 and not imp["pmp"].get("deals"))
        for imp in body["imp"]
        if imp.get("banner")
    )


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Run of network in every size of the corpus."""
    sizes = set().union(*(sizes_of(case["body"]) for case in lines("requests.jsonl")))
    text = FILE + "".join(CREATIVE.format(w=w, h=h) for w, h in sorted(sizes))
    folder = tmp_path_factory.mktemp("campaigns")
    (folder / "wide.yaml").write_text(text)
    return load(folder, now=datetime(2026, 11, 18, tzinfo=UTC))[0]


async def test_every_request_of_the_corpus(
    build: Any, breaches: Callable[..., list[str]], wide: Catalogue
) -> None:
    rates = load_rates(ROOT / "config/rates.yaml")
    scene = await build(wide, per_euro=dict(rates.per_base))
    schema = json.loads((CORPUS / "schema/BidResponse-2.6-from-proto.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    counts: Counter[str] = Counter()
    silent: Counter[str] = Counter()
    natives = Counter[str]()
    for case in lines("requests.jsonl"):
        body = case["body"]
        answer = await scene.post(json.dumps(body).encode())
        counts[f"status {answer.status}"] += 1
        assert answer.status in (200, 204, 400), case["src"]
        lawful = is_lawful(case)
        if answer.status == 400:
            counts["refused, lawful" if lawful else "refused, unlawful"] += 1
            assert not lawful, case["src"]
            continue
        wanted = lawful and may_get_a_bid(body)
        counts["banner requests that may get a bid"] += wanted
        if answer.status == 204:
            if wanted:
                reason = (await scene.decide(body)).reason
                silent[f"{reason.name.lower()}: {why_silent(body)}"] += 1
            continue
        counts["of those, bid on"] += wanted
        parsed = json.loads(answer.body)
        problems = [error.message for error in validator.iter_errors(parsed)]
        assert not problems, (case["src"], problems)
        assert not breaches(body, parsed, dict(rates.per_base)), case["src"]
        natives["native"] += parsed["seatbid"][0]["bid"][0]["mtype"] == 4
    print(json.dumps(dict(counts) | dict(natives), indent=1))
    print("no bid on:", json.dumps(dict(silent), indent=1))
    wanted_total = counts["banner requests that may get a bid"]
    assert wanted_total > 900
    assert counts["of those, bid on"] >= LEAST_SHARE * wanted_total


def why_silent(body: Json) -> str:
    """What is unusual about a request."""
    imps = body["imp"]
    marks = {
        "cur": body.get("cur"),
        "floors": sorted({(i.get("bidfloor"), i.get("bidfloorcur")) for i in imps}, key=str),
        "mimes": [i["banner"].get("mimes") for i in imps if "banner" in i],
        "bcat": body.get("bcat"),
    }
    return json.dumps({name: value for name, value in marks.items() if value not in (None, [None])})


async def test_every_native_request_of_the_corpus(
    build: Any, breaches: Callable[..., list[str]], wide: Catalogue
) -> None:
    """As text, and as the object that some senders leave it: the same answer."""
    scene = await build(wide)
    outcomes: Counter[str] = Counter()
    for number, asked in enumerate(lines("native_requests.jsonl")):
        kinds = []
        for written in (json.dumps(asked), asked):
            body = {"id": f"n{number}", "imp": [{"id": "1", "native": {"request": written}}]}
            answer = await scene.post(json.dumps(body).encode())
            assert answer.status in (200, 204), asked
            kinds.append(answer.status)
            if answer.status == 200:
                parsed = json.loads(answer.body)
                assert not breaches(body, parsed, {}), asked
                assert required_are_there(asked, parsed["seatbid"][0]["bid"][0]["adm"]), asked
        assert kinds[0] == kinds[1], asked
        outcomes[str(kinds[0])] += 1
        if kinds[0] == 204:
            print("no native bid on", json.dumps(asked)[:300])
    print(dict(outcomes))
    assert outcomes["200"] >= 18


def required_are_there(asked: Json, markup: str) -> bool:
    """Every required asset is in the answer."""
    inner = asked.get("native", asked)
    given = json.loads(markup)
    given = given.get("native", given)
    ids = {asset["id"] for asset in given["assets"]}
    return {a["id"] for a in inner["assets"] if a.get("required") == 1} <= ids


@pytest.mark.parametrize("name", ["invalid_requests.jsonl", "iab_spec_examples.jsonl"])
async def test_other_bodies_of_the_corpus_break_nothing(
    build: Any, wide: Catalogue, name: str
) -> None:
    scene = await build(wide)
    for case in lines(name):
        body = case.get("raw") or json.dumps(case.get("body", case))
        answer = await scene.post(str(body).encode())
        assert answer.status in (200, 204, 400), case
