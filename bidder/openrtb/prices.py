"""What did the impression cost? The price in a notice, plain or encrypted.

Google's encryption, which OpenX shares: iv(16) ‖ micros(8, big endian) XOR
HMAC-SHA1(e_key, iv)[:8] ‖ HMAC-SHA1(i_key, price ‖ iv)[:4], as unpadded web-safe base64
(Authorized Buyers, "Decrypt price confirmations").
"""

import hmac
import re
from base64 import b64decode, urlsafe_b64encode
from typing import Literal

from msgspec import Struct

from bidder.money import to_micros
from bidder.openrtb.macros import unreplaced

Kind = Literal["empty", "audit", "unreplaced", "forged", "malformed", "negative"]

MAX_CPM = 1_000_000
"""Above this many currency units per thousand it is no price."""
_LONGEST = 64
_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_SEALED_BYTES = 28


class UnusablePrice(ValueError):
    """A price that counts no money; `kind` says why, for the metric."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind)
        self.kind: Kind = kind


class Keys(Struct, frozen=True):
    """The two keys of Google's price encryption, 32 bytes each."""

    encryption: bytes
    integrity: bytes


class PriceFormat(Struct, frozen=True):
    """How an exchange writes the clearing price."""

    keys: Keys | None = None
    """Encrypted with these; None = plain decimal text."""
    base64: bool = False
    """The macro asked for ``:B64``."""
    per_impression: bool = False
    """A price of one impression instead of a thousand, as in Google's ``%%WINNING_PRICE%%``."""


PLAIN = PriceFormat()


def read_price(text: str, how: PriceFormat = PLAIN) -> int:
    """The clearing price in CPM micros, of the currency agreed with the exchange.

    Raises `UnusablePrice` on everything that must not count as money.
    """
    text = text.strip()
    if not text:
        raise UnusablePrice("empty")
    if how.base64:
        text = _from_base64(text)
    if text.upper() == "AUDIT":
        raise UnusablePrice("audit")
    if unreplaced(text):
        raise UnusablePrice("unreplaced")
    micros = decrypt(text, how.keys) if how.keys else _plain(text)
    if how.per_impression:
        micros *= 1000
    if micros < 0:
        raise UnusablePrice("negative")
    if micros > to_micros(MAX_CPM):
        raise UnusablePrice("malformed")
    return micros


def decrypt(text: str, keys: Keys) -> int:
    """The micros sealed in `text`. Raises `UnusablePrice`: malformed, or forged."""
    sealed = _bytes(text)
    if len(sealed) != _SEALED_BYTES:
        raise UnusablePrice("malformed")
    iv, hidden, signature = sealed[:16], sealed[16:24], sealed[24:]
    price = _xor(hidden, hmac.digest(keys.encryption, iv, "sha1"))
    if not hmac.compare_digest(signature, _sign(price, iv, keys)):
        raise UnusablePrice("forged")
    return int.from_bytes(price, "big", signed=True)


def encrypt(micros: int, keys: Keys, iv: bytes) -> str:
    """The 38 characters that an exchange would send for `micros`; `iv` is 16 bytes, used once."""
    price = micros.to_bytes(8, "big", signed=True)
    hidden = _xor(price, hmac.digest(keys.encryption, iv, "sha1"))
    return urlsafe_b64encode(iv + hidden + _sign(price, iv, keys)).rstrip(b"=").decode()


def _plain(text: str) -> int:
    if len(text) > _LONGEST or not _PLAIN.fullmatch(text):
        raise UnusablePrice("malformed")
    value = float(text)
    if value > MAX_CPM:
        raise UnusablePrice("malformed")
    if value < 0:
        raise UnusablePrice("negative")
    return to_micros(value)


def _from_base64(text: str) -> str:
    """The text behind ``:B64``, or `text` itself where the macro was not replaced."""
    if unreplaced(text) or text.upper() == "AUDIT":
        return text
    try:
        return _bytes(text).decode("ascii").strip()
    except UnicodeDecodeError:
        raise UnusablePrice("malformed") from None


def _bytes(text: str) -> bytes:
    """Base64, web-safe or not, padded or not."""
    body = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return b64decode(body + "=" * (-len(body) % 4), validate=True)
    except ValueError:
        raise UnusablePrice("malformed") from None


def _sign(price: bytes, iv: bytes, keys: Keys) -> bytes:
    return hmac.digest(keys.integrity, price + iv, "sha1")[:4]


def _xor(price: bytes, pad: bytes) -> bytes:
    return bytes([a ^ b for a, b in zip(price, pad, strict=False)])
