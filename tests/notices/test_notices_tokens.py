"""Tokens: what is sealed comes back whole, and nothing that we did not seal opens."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder import ids
from bidder.notices.tokens import Audience, InvalidToken, Sealed, Tokens, numbered

Make = Callable[..., Sealed]
U32 = st.integers(0, 2**32 - 1)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("audience", [Audience.EXCHANGE, Audience.BROWSER])
def test_what_is_sealed_comes_back(tokens: Tokens, sealed: Make, audience: Audience) -> None:
    assert tokens.open(tokens.seal(sealed(), audience), audience) == sealed()


def test_a_click_token_has_no_address(tokens: Tokens, sealed: Make) -> None:
    text = tokens.seal(sealed(), Audience.CLICK)
    assert tokens.open(text, Audience.CLICK) == sealed(url="")
    assert text == tokens.seal(sealed(url=""), Audience.CLICK)  # one nonce, one plaintext


@given(
    ids_=st.tuples(U32, U32, U32, U32, U32, U32),
    price=st.integers(0, 2**64 - 1),
    rate=st.floats(0, 1e9),
    holder=st.text(ALPHABET, max_size=32),
    person=st.one_of(st.just(""), st.binary(min_size=12, max_size=12).map(ids.to_text)),
    flags=st.tuples(st.booleans(), st.booleans()),
    url=st.text(max_size=300).filter(lambda text: text.isprintable()),
    hold=st.integers(0, 0xFFFF),
)
def test_every_field_survives(
    tokens: Tokens,
    ids_: tuple[int, ...],
    price: int,
    rate: float,
    holder: str,
    person: str,
    flags: tuple[bool, bool],
    url: str,
    hold: int,
) -> None:
    exchange, advertiser, campaign, line_item, creative, page = ids_
    told = Sealed(
        bid_id=bytes(range(12)),
        exchange=exchange,
        advertiser=advertiser,
        campaign=campaign,
        line_item=line_item,
        creative=creative,
        bid_cpm_micros=price,
        currency="JPY",
        account_currency="EUR",
        rate=rate,
        holder=holder,
        day=20_000,
        hold_seconds=hold,
        person=person,
        page=page,
        test=flags[0],
        measure=flags[1],
        url=url,
    )
    assert tokens.open(tokens.seal(told, Audience.BROWSER), Audience.BROWSER) == told


def test_a_long_hold_is_cut_to_what_fits(tokens: Tokens, sealed: Make) -> None:
    text = tokens.seal(sealed(hold_seconds=100_000), Audience.EXCHANGE)
    assert tokens.open(text, Audience.EXCHANGE).hold_seconds == 0xFFFF


def test_no_bit_can_be_changed(tokens: Tokens, sealed: Make) -> None:
    raw = ids.from_text(tokens.seal(sealed(), Audience.BROWSER))
    for place in range(len(raw)):
        for bit in (1, 0x80):
            forged = bytearray(raw)
            forged[place] ^= bit
            with pytest.raises(InvalidToken):
                tokens.open(ids.to_text(bytes(forged)), Audience.BROWSER)


@pytest.mark.parametrize("holder", ["0-cafe", "0-cafe1", "0-cafe12"])
def test_no_character_can_be_changed(tokens: Tokens, sealed: Make, holder: str) -> None:
    """Not even one that base64 reads as the same bytes."""
    text = tokens.seal(sealed(holder=holder), Audience.EXCHANGE)
    for other in ALPHABET:
        if other != text[-1]:
            with pytest.raises(InvalidToken):
                tokens.open(text[:-1] + other, Audience.EXCHANGE)
    for spelling in (text + "=", text + "!", text[:9] + "\n" + text[9:], " " + text, text + "AA"):
        with pytest.raises(InvalidToken):
            tokens.open(spelling, Audience.EXCHANGE)


@given(st.one_of(st.text(), st.binary(max_size=200).map(ids.to_text)))
def test_nothing_else_opens(tokens: Tokens, text: str) -> None:
    for audience in Audience:
        with pytest.raises(InvalidToken):
            tokens.open(text, audience)


@pytest.mark.parametrize("cut", [0, 1, 12, 13, 20, 60])
def test_a_cut_token_does_not_open(tokens: Tokens, sealed: Make, cut: int) -> None:
    raw = ids.from_text(tokens.seal(sealed(), Audience.CLICK))
    with pytest.raises(InvalidToken):
        tokens.open(ids.to_text(raw[:cut]), Audience.CLICK)


@pytest.mark.parametrize("audience", list(Audience))
def test_a_token_is_for_one_audience(tokens: Tokens, sealed: Make, audience: Audience) -> None:
    text = tokens.seal(sealed(), audience)
    for other in Audience:
        if other is not audience:
            with pytest.raises(InvalidToken):
                tokens.open(text, other)


def test_the_same_nonce_never_meets_the_same_key_with_another_text(
    tokens: Tokens, sealed: Make
) -> None:
    """Audiences have keys of their own, so that their texts under one bid id share no keystream."""
    bodies = {}
    for audience in Audience:
        raw = ids.from_text(tokens.seal(sealed(url=""), audience))
        assert raw[:13] == b"\x03" + sealed().bid_id
        bodies[audience] = raw[13:-16]
    assert len({bytes(body) for body in bodies.values()}) == len(Audience)
    again = tokens.seal(tokens.open(tokens.seal(sealed(), Audience.BROWSER), Audience.BROWSER),
                        Audience.BROWSER)  # fmt: skip
    assert again == tokens.seal(sealed(), Audience.BROWSER)  # what we read back seals to the same


def test_keys_rotate_without_losing_a_token(sealed: Make) -> None:
    old, new = bytes(32), bytes([1]) * 32

    def tokens_of(*keys: bytes) -> Tokens:
        masters = numbered(keys)
        return Tokens(masters, current=next(iter(masters)))

    before = tokens_of(old)
    text = before.seal(sealed(), Audience.BROWSER)
    during = tokens_of(new, old)
    assert during.open(text, Audience.BROWSER) == sealed()
    fresh = during.seal(sealed(), Audience.BROWSER)
    assert tokens_of(new).open(fresh, Audience.BROWSER) == sealed()
    for stranger, given_text in ((tokens_of(new), text), (before, fresh)):
        with pytest.raises(InvalidToken):
            stranger.open(given_text, Audience.BROWSER)


def test_the_first_key_seals() -> None:
    keys = [bytes([n]) * 32 for n in (9, 4)]
    assert list(numbered(keys).values()) == keys
    assert numbered([keys[0], keys[0]]) == numbered(keys[:1])


def test_keys_with_one_number_are_refused() -> None:
    by_number: dict[int, bytes] = {}
    for n in range(1000):
        key = n.to_bytes(32, "big")
        number = next(iter(numbered([key])))
        if number in by_number:
            with pytest.raises(ValueError, match="same number"):
                numbered([by_number[number], key])
            return
        by_number[number] = key
    raise AssertionError("a thousand keys, 256 numbers")


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes, this one 16"):
        Tokens({0: bytes(16)}, current=0)


def test_a_token_says_nothing_to_who_has_no_key(tokens: Tokens, sealed: Make) -> None:
    raw = ids.from_text(tokens.seal(sealed(), Audience.BROWSER))
    for secret in (b"shop.example", ids.from_text(sealed().person), b"EUR", b"0-cafe"):
        assert secret not in raw
