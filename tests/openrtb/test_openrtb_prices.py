"""Prices in notices: what counts, and why the rest does not."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.openrtb.prices import (
    PLAIN,
    Keys,
    PriceFormat,
    UnusablePrice,
    decrypt,
    encrypt,
    read_price,
)

VECTORS = Path(__file__).parents[2] / "../shared/corpus/google_price_vectors.json"
KEYS = Keys(encryption=bytes(range(32)), integrity=bytes(range(32, 64)))
SEALED = PriceFormat(keys=KEYS)
IV = bytes(range(16))


def kind_of(text: str, how: PriceFormat = PLAIN) -> str:
    with pytest.raises(UnusablePrice) as caught:
        read_price(text, how)
    return caught.value.kind


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1.23", 1_230_000),
        (" 0.5 ", 500_000),
        ("0", 0),
        ("3", 3_000_000),
        (".25", 250_000),
        ("2.", 2_000_000),
        ("+1.5", 1_500_000),
        ("1.5E-1", 150_000),
        ("0.0000004", 0),
        ("0.0000006", 1),
        ("1000000", 1_000_000_000_000),
    ],
)
def test_a_plain_price_is_cpm_in_currency_units(text: str, micros: int) -> None:
    assert read_price(text) == micros


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("AUDIT", "audit"),
        ("audit", "audit"),
        ("${AUCTION_PRICE}", "unreplaced"),
        ("${AUCTION_PRICE:B64}", "unreplaced"),
        ("%24%7BAUCTION_PRICE%7D", "unreplaced"),
        ("%2524%257BAUCTION_PRICE%257D", "unreplaced"),
        ("%%WINNING_PRICE%%", "unreplaced"),
        ("%25%25WINNING_PRICE%25%25", "unreplaced"),
        ("%%WINNING_PRICE_ESC%%", "unreplaced"),
        ("{AUCTION_PRICE}", "unreplaced"),
        ("-1", "negative"),
        ("-0.01", "negative"),
        ("abc", "malformed"),
        ("1,23", "malformed"),
        ("1_000", "malformed"),
        ("1.2.3", "malformed"),
        ("nan", "malformed"),
        ("inf", "malformed"),
        ("-inf", "malformed"),
        ("0x10", "malformed"),
        ("1e999", "malformed"),
        ("1e400", "malformed"),
        ("1000000.01", "malformed"),
        ("١", "malformed"),
        ("1" * 65, "malformed"),
        ("1 2", "malformed"),
        ("%31", "malformed"),
    ],
)
def test_what_is_no_price_says_why(text: str, kind: str) -> None:
    assert kind_of(text) == kind


@given(st.text(max_size=80))
def test_any_text_is_a_price_or_unusable(text: str) -> None:
    for how in (PLAIN, PriceFormat(base64=True), SEALED):
        with suppress(UnusablePrice):
            assert read_price(text, how) >= 0


@given(st.integers(min_value=0, max_value=10**12))
def test_six_decimals_come_back_exactly(micros: int) -> None:
    assert read_price(f"{micros // 10**6}.{micros % 10**6:06}") == micros


@given(st.integers(min_value=0, max_value=10**12), st.binary(min_size=16, max_size=16))
def test_what_is_encrypted_decrypts(micros: int, iv: bytes) -> None:
    text = encrypt(micros, KEYS, iv)
    assert len(text) == 38
    assert read_price(text, SEALED) == micros
    assert read_price(text + "==", SEALED) == micros


@given(st.integers(min_value=0, max_value=28 * 8 - 1))
def test_one_changed_bit_is_forged(bit: int) -> None:
    sealed = bytearray(urlsafe_b64decode(encrypt(1_200_000, KEYS, IV) + "=="))
    sealed[bit // 8] ^= 1 << bit % 8
    assert kind_of(urlsafe_b64encode(bytes(sealed)).decode(), SEALED) == "forged"


def test_a_negative_sealed_price_is_negative() -> None:
    assert kind_of(encrypt(-1, KEYS, IV), SEALED) == "negative"


def test_an_absurd_sealed_price_is_malformed() -> None:
    assert kind_of(encrypt(2**62, KEYS, IV), SEALED) == "malformed"


@pytest.mark.parametrize("text", ["1.23", "garbage", "A" * 37, "A" * 40, "é" * 38, "A" * 36 + "!!"])
def test_what_is_not_sealed_does_not_count_where_prices_are(text: str) -> None:
    assert kind_of(text, SEALED) == "malformed"


def test_googles_price_of_one_impression_becomes_cpm() -> None:
    how = PriceFormat(keys=KEYS, per_impression=True)
    assert read_price(encrypt(5_000, KEYS, IV), how) == 5_000_000


def test_base64_as_the_macro_suffix_asks() -> None:
    how = PriceFormat(base64=True)
    assert read_price(urlsafe_b64encode(b"1.23").decode(), how) == 1_230_000
    assert kind_of("${AUCTION_PRICE:B64}", how) == "unreplaced"
    assert kind_of(quote("${AUCTION_PRICE:B64}"), how) == "unreplaced"
    assert kind_of(urlsafe_b64encode(b"AUDIT").decode(), how) == "audit"
    assert kind_of("AUDIT", how) == "audit"
    assert kind_of("!!", how) == "malformed"
    assert kind_of(urlsafe_b64encode(b"\xff\xfe").decode(), how) == "malformed"


@pytest.mark.skipif(not VECTORS.exists(), reason="../shared/corpus is absent")
def test_googles_own_vectors() -> None:
    vectors = json.loads(VECTORS.read_text())
    for case in vectors["valid"]:
        keys = _keys(case)
        assert decrypt(case["cipher"], keys) == case["micros"]
        again = encrypt(case["micros"], keys, bytes.fromhex(case["iv_hex"]))
        assert again == case["cipher"].rstrip("=")
    for case in vectors["invalid"]:
        keys = _keys(case)
        if case.get("swap_keys"):
            keys = Keys(keys.integrity, keys.encryption)
        expected = "forged" if "signature" in case["expect"] else "malformed"
        assert kind_of(case["cipher"], PriceFormat(keys=keys)) == expected


def _keys(case: dict[str, str]) -> Keys:
    return Keys(urlsafe_b64decode(case["e_key"]), urlsafe_b64decode(case["i_key"]))
