"""Bid responses: the fields of §4.2, valid against the IAB's schema."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.money import from_micros
from bidder.openrtb.response import (
    BANNER,
    MAX_CRID_BYTES,
    BidOut,
    Dsa,
    Transparency,
    creative_id,
    encode,
    encode_within,
    extension,
    one_taxonomy,
)

SCHEMA = (
    Path(__file__).parents[2] / "../shared/corpus/schema/BidResponse-2.6-from-proto.schema.json"
)


def full_bid(**changes: Any) -> BidOut:
    dsa = Dsa("Maison Lumen", "Maison Lumen", (Transparency("bidder.example", (1, 2)),))
    fields: dict[str, Any] = {
        "id": "b1",
        "impid": "1",
        "price": 2.345678,
        "adm": '<a href="https://t.example/c">é</a>',
        "nurl": "https://t.example/w?p=${AUCTION_PRICE}",
        "burl": "https://t.example/b?p=${AUCTION_PRICE}",
        "lurl": "https://t.example/l?r=${AUCTION_LOSS}",
        "adomain": ("maison-lumen.example",),
        "crid": "maison-lumen/basket",
        "cid": "maison-lumen/winter",
        "cat": ("IAB18",),
        "attr": (1,),
        "dealid": "d1",
        "w": 300,
        "h": 250,
        "exp": 300,
        "mtype": BANNER,
        "ext": extension(dsa, {"k": "v"}),
    }
    return BidOut(**{**fields, **changes})


def test_every_field_is_written() -> None:
    body = json.loads(encode("r1", [full_bid()], seat="s1", currency="EUR"))
    assert body == {
        "id": "r1",
        "cur": "EUR",
        "seatbid": [
            {
                "seat": "s1",
                "bid": [
                    {
                        "id": "b1",
                        "impid": "1",
                        "price": 2.345678,
                        "adm": '<a href="https://t.example/c">é</a>',
                        "nurl": "https://t.example/w?p=${AUCTION_PRICE}",
                        "burl": "https://t.example/b?p=${AUCTION_PRICE}",
                        "lurl": "https://t.example/l?r=${AUCTION_LOSS}",
                        "adomain": ["maison-lumen.example"],
                        "crid": "maison-lumen/basket",
                        "cid": "maison-lumen/winter",
                        "cat": ["IAB18"],
                        "attr": [1],
                        "dealid": "d1",
                        "w": 300,
                        "h": 250,
                        "exp": 300,
                        "mtype": 1,
                        "ext": {
                            "k": "v",
                            "dsa": {
                                "behalf": "Maison Lumen",
                                "paid": "Maison Lumen",
                                "transparency": [{"domain": "bidder.example", "dsaparams": [1, 2]}],
                                "adrender": 1,
                            },
                        },
                    }
                ],
            }
        ],
    }


def test_what_is_not_known_is_left_out() -> None:
    bid = BidOut(id="b", impid="i", price=1.0, ext=extension(None, {}))
    body = encode("r", [bid], seat="", currency="USD")
    assert json.loads(body) == {
        "id": "r",
        "cur": "USD",
        "seatbid": [{"bid": [{"id": "b", "impid": "i", "price": 1.0}]}],
    }


@given(st.integers(min_value=1, max_value=10**9))
def test_the_price_has_no_noise(micros: int) -> None:
    bid = BidOut(id="b", impid="i", price=from_micros(micros))
    body = encode("r", [bid], seat="", currency="USD").decode()
    price = body.partition('"price":')[2].partition("}")[0]
    assert round(float(price) * 1e6) == micros
    if "e" not in price:
        assert len(price.partition(".")[2]) <= 6


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_request_id_is_echoed_whatever_it_is(request_id: str) -> None:
    body = encode(request_id, [full_bid()], seat="s", currency="EUR")
    assert json.loads(body)["id"] == request_id


@pytest.mark.skipif(not SCHEMA.exists(), reason="../shared/corpus is absent")
def test_answers_follow_the_iab_schema() -> None:
    import jsonschema

    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    bare = BidOut(id="b", impid="2", price=0.01)
    for bids in ([full_bid()], [bare], [full_bid(), bare]):
        validator.validate(json.loads(encode("r", bids, seat="s", currency="EUR")))
    broken = json.loads(encode("r", [bare], seat="s", currency="EUR"))
    del broken["seatbid"][0]["bid"][0]["price"]
    assert not validator.is_valid(broken)


def test_a_limit_leaves_out_the_last_bids() -> None:
    bids = [full_bid(id=str(i)) for i in range(3)]
    sizes = [len(encode("r", bids[:n], seat="s", currency="EUR")) for n in (1, 2, 3)]

    def kept(limit: int) -> int:
        body, count = encode_within(limit, "r", bids, seat="s", currency="EUR")
        assert len(body) == (sizes[count - 1] if count else 0)
        return count

    assert [kept(limit) for limit in (0, 10, sizes[0] - 1, sizes[0], sizes[2] - 1, sizes[2])] == [
        3,
        0,
        0,
        1,
        2,
        3,
    ]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.integers(16, 80))
def test_creative_ids_are_short_and_tell_paths_apart(path: str, limit: int) -> None:
    found = creative_id(path, limit)
    assert len(found.encode()) <= limit
    assert found == creative_id(path, limit)
    if len(path.encode()) <= limit:
        assert found == path
    else:
        assert found != creative_id("x" + path, limit)


def test_a_long_path_keeps_its_end() -> None:
    path = "advertiser/" + "campaign" * 10 + "/line-item/creative"
    assert creative_id(path).endswith("line-item/creative")
    assert len(creative_id(path)) == MAX_CRID_BYTES


@pytest.mark.parametrize(
    ("categories", "cat", "cattax"),
    [
        (set(), (), 1),
        ({"IAB2", "IAB18-1"}, ("IAB18-1", "IAB2"), 1),
        ({"6:211", "IAB2"}, ("IAB2",), 1),
        ({"7:5", "6:211", "6:9"}, ("211", "9"), 6),
    ],
)
def test_a_bid_has_one_taxonomy(categories: set[str], cat: tuple[str, ...], cattax: int) -> None:
    assert one_taxonomy(frozenset(categories)) == (cat, cattax)
