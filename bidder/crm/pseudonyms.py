"""Under which name may the store know this customer? A keyed hash, never the plain one.

Email addresses, phone numbers and CRM ids are written in one normal form and hashed with
HMAC-SHA-256 under a key that only the environment has, cut to 128 bits. Email addresses and phone
numbers are hashed without a key first (SHA-256, hexadecimal): so many systems export nothing else,
and both forms must lead to the same person. CRM ids are hashed together with their advertiser,
since two companies both have a customer number 1.

While keys rotate, a person is looked for under every key and written under the current one.
"""

import hashlib
import re
import unicodedata
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Literal, get_args

from bidder.ids import to_text
from bidder.orders import Orders

Kind = Literal["crm", "email", "email_sha256", "phone", "phone_sha256", "cookie"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Kinds of names that are hashed; every other source is a pseudonym already."""
Identifier = tuple[str, str]

HASH_BYTES = 16
_MAX_CHARS = 254
_EMAIL = re.compile(r"[^@\s\x00-\x1f\"<>,;:\\()\[\]]{1,64}@[^@\s\x00-\x1f\"<>,;:\\()\[\]]{1,190}")
_PLAIN_EMAIL = re.compile(r"[a-zA-Z0-9._+-]{1,64}@(?:[a-zA-Z0-9-]{1,60}\.){1,2}[a-zA-Z]{2,10}")
"""Nearly all addresses: those whose normal form is themselves in lower case."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PHONE_NOISE = re.compile(r"[\s.\-/()\u00a0\u202f]|\(0\)")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
_COUNTRY_CODES = {
    "FR": "33", "BE": "32", "CH": "41", "LU": "352", "GB": "44", "DE": "49",
    "ES": "34", "IT": "39", "NL": "31", "PT": "351", "US": "1", "CA": "1",
}  # fmt: skip
_NO_TRUNK_ZERO = frozenset({"ES", "IT", "LU", "PT", "US", "CA"})
"""Countries where a national number is written abroad as it is at home."""


class BadName(ValueError):
    """This cannot be an identifier of its kind. The message never repeats it."""


class Pseudonyms:
    """Hashes names under one or more keys, the current one first. Raises `ValueError` for none."""

    def __init__(
        self, keys: Sequence[bytes], country: str = "FR", orders: Orders | None = None
    ) -> None:
        """`country` (alpha-2) is that of phone numbers written without one. Without `orders` their
        numbers are hashed under the oldest key."""
        if not keys:
            raise ValueError("at least one key is needed")
        self._keys = tuple(keys)
        self._macs = tuple(_Mac(key) for key in keys)
        self._country = country
        self.orders = orders or Orders(keys[-1])

    @property
    def rotating(self) -> bool:
        """There are old keys, under which a person may still be stored."""
        return len(self._keys) > 1

    def marks(self) -> list[str]:
        """What tells the keys apart, and says nothing of them."""
        return [to_text(mac.digest(b"which key")[:HASH_BYTES]) for mac in self._macs]

    def of(self, kind: Kind, plain: str, advertiser: str = "") -> list[Identifier]:
        """The identifiers that `plain` stands for, one for each key, the current first.

        Raises `BadName` if it is none of its kind.
        """
        message = self._message(kind, plain, advertiser)
        source = message.partition(b"\0")[0].decode()
        return [(source, to_text(mac.digest(message)[:HASH_BYTES])) for mac in self._macs]

    def of_many(
        self, kind: Kind, plain: Sequence[str], advertiser: str = ""
    ) -> tuple[str, list[list[str | None]]]:
        """`of` for many at once: the source of all, and for each key what each is called under it,
        the current key first. None where one is none of its kind."""
        messages = [self._message_or_none(kind, text, advertiser) for text in plain]
        good = [message for message in messages if message is not None]
        by_key: list[list[str | None]] = []
        for mac in self._macs:
            named = iter(_texts([mac.digest(message) for message in good]))
            by_key.append([None if message is None else next(named) for message in messages])
        return kind.removesuffix("_sha256"), by_key

    def _message_or_none(self, kind: Kind, plain: str, advertiser: str) -> bytes | None:
        if kind == "email" and len(plain) <= _MAX_CHARS and _PLAIN_EMAIL.fullmatch(plain):
            return b"email\0" + _sha256(plain.lower()).encode()
        try:
            return self._message(kind, plain, advertiser)
        except BadName:
            return None

    def _message(self, kind: Kind, plain: str, advertiser: str) -> bytes:
        source, text = normal(kind, plain, self._country)
        if source == "crm":
            text = f"{advertiser}\0{text}"
        return f"{source}\0{text}".encode()

    def partner(self, cookie: str, exchange: str) -> str:
        """What we tell an exchange a browser is called: of no use to any other exchange."""
        message = f"partner\0{exchange}\0{cookie}".encode()
        return to_text(self._macs[0].digest(message)[:HASH_BYTES])


class _Mac:
    """HMAC-SHA-256 (RFC 2104) under one key, whose two first blocks are hashed once and for all: a
    third of the price of `hmac.digest`, which sets OpenSSL up anew each time."""

    def __init__(self, key: bytes) -> None:
        block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, message: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


def _texts(digests: list[bytes]) -> list[str]:
    """Each digest as `to_text` writes its first `HASH_BYTES`."""
    gap = bytes(-HASH_BYTES % 3)  # so that each begins with a whole character
    written = urlsafe_b64encode(gap.join([digest[:HASH_BYTES] for digest in digests])).decode()
    step = (HASH_BYTES + len(gap)) * 4 // 3
    chars = (HASH_BYTES * 8 + 5) // 6
    return [written[at : at + chars] for at in range(0, len(digests) * step, step)]


def normal(kind: Kind, plain: str, country: str = "FR") -> Identifier:
    """Source and normal form of a name of `kind`, before it is keyed. Raises `BadName`."""
    if len(plain) > _MAX_CHARS:
        raise BadName(f"the {kind} is longer than {_MAX_CHARS} characters")
    text = plain.strip()
    if not text or not text.isprintable():
        raise BadName(f"the {kind} is empty or has odd characters")
    if kind == "email":
        return "email", _sha256(_email(text))
    if kind == "phone":
        return "phone", _sha256(phone_number(text, country))
    if kind in ("email_sha256", "phone_sha256"):
        text = text.lower()
        if not _SHA256.fullmatch(text):
            raise BadName(f"the {kind} is not 64 hexadecimal digits")
        return kind.removesuffix("_sha256"), text
    return kind, text


def _email(text: str) -> str:
    text = unicodedata.normalize("NFKC", text.removeprefix("mailto:")).strip().lower()
    if not _EMAIL.fullmatch(text) or "." not in text.partition("@")[2].strip("."):
        raise BadName("the email is not an address")
    return text


def phone_number(text: str, country: str) -> str:
    """A phone number in E.164, `country` assumed where it names none. Raises `BadName`."""
    digits = _PHONE_NOISE.sub("", text.replace("(0)", ""))
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    elif not digits.startswith("+"):
        code = _COUNTRY_CODES.get(country)
        if code is None:
            raise BadName("the phone names no country")
        if country not in _NO_TRUNK_ZERO:
            digits = digits.removeprefix("0")
        digits = f"+{code}{digits}"
    if not _E164.fullmatch(digits):
        raise BadName("the phone is not a phone number")
    return digits


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
