"""Ids: what they carry, and that their text has one spelling."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder import ids


@given(st.binary(max_size=64))
def test_text_and_back(raw: bytes) -> None:
    text = ids.to_text(raw)
    assert ids.from_text(text) == raw
    assert "=" not in text
    assert text.replace("-", "").replace("_", "").isalnum() or not raw


@given(st.floats(0, 2**32 - 1), st.integers(0))
def test_a_bid_id_knows_when_it_was_made(now: float, seed: int) -> None:
    bid_id = ids.new_bid_id(now, Random(seed))
    assert len(bid_id) == ids.BID_ID_BYTES
    assert ids.bid_time(bid_id) == int(now)
    assert bid_id.endswith(ids.bid_key(bid_id))
    assert len(ids.bid_key(bid_id)) == ids.BID_KEY_BYTES


def test_bid_ids_of_one_second_differ_and_later_ones_sort_after() -> None:
    random = Random(1)
    same = {ids.new_bid_id(1_790_000_000.9, random) for _ in range(1000)}
    assert len(same) == 1000
    assert max(same) < ids.new_bid_id(1_790_000_001.0, random)


def test_a_person_id_is_16_web_safe_characters() -> None:
    random = Random(2)
    found = {ids.new_person_id(random) for _ in range(1000)}
    assert len(found) == 1000
    assert {len(each) for each in found} == {ids.PERSON_ID_CHARS}


@given(st.text())
def test_a_hash_is_a_positive_32_bit_number(path: str) -> None:
    assert 0 < ids.hash32(path) < 2**32


def test_hashes_are_the_same_everywhere() -> None:
    """They stand in ledgers and tokens: another value here would lose what is stored."""
    assert ids.hash32("maison-lumen/winter/basket-left") == 0xBB4AEE12


@pytest.mark.parametrize("text", ["é", "A", "AAAAA"])
def test_what_is_no_text_of_ours(text: str) -> None:
    with pytest.raises(ValueError):
        ids.from_text(text)
