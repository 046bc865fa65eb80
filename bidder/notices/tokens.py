"""Which bid does this notice speak of? Two sealed tokens per bid, and a click id.

The *exchange* token goes into `nurl`, `burl` and `lurl`; the *browser* token into the markup; the
*click* token to the landing page. Each is AES-256-GCM under a key of its own, so that any worker on
any host reads it, no page can, and none passes for another. The nonce is the bid id, 12 bytes that
never come twice; whatever is sealed again for a bid and audience is sealed over the same fields.

    text = base64url( key number (1) | bid id (12) | sealed fields | tag (16) )
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from hashlib import blake2b
from struct import Struct as Layout

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from bidder import ids

MASTER_KEY_BYTES = 32
_HEAD = 1 + ids.BID_ID_BYTES
_FIELDS = Layout("<IIIIIIIHBBQd3s3s12s")
_HOLDER_LIMIT = 32


class Audience(Enum):
    """Who carries a token."""

    EXCHANGE = b"exchange"
    BROWSER = b"browser"
    CLICK = b"click"


class InvalidToken(ValueError):
    """Not one of our tokens, or not meant for this purpose."""


class Sealed(Struct, frozen=True):
    """What a token says of its bid."""

    bid_id: bytes
    exchange: int
    """32-bit id of its name, as of the four that follow."""
    advertiser: int
    campaign: int
    line_item: int
    creative: int
    bid_cpm_micros: int
    """In `currency`, the exchange's."""
    currency: str
    account_currency: str
    rate: float
    """A price in `currency` times this is in `account_currency`."""
    holder: str
    day: int
    """Whose budget pays: days since the epoch, in the campaign's zone."""
    hold_seconds: int
    """How long the reservation in the ledger lasts."""
    person: str = ""
    page: int = 0
    test: bool = False
    """Counts nothing (`test=1`)."""
    measure: bool = False
    """Clicks and sales may be attributed to the person (`Permission.measure`)."""
    url: str = ""
    """Where a click leads: in browser tokens, and in exchange tokens where a win notice is answered
    with the markup. Never in click tokens."""


class Tokens:
    """Seals and opens tokens. Raises `ValueError` if a master key is not 32 bytes."""

    def __init__(self, masters: Mapping[int, bytes], current: int) -> None:
        """`masters`: key number (0..255) -> master key; `current` seals, all of them open."""
        self._ciphers = {
            (number, audience): AESGCM(_derive(master, audience))
            for number, master in masters.items()
            for audience in Audience
        }
        self._current = current
        self._prefix = bytes([current])

    def seal(self, sealed: Sealed, audience: Audience) -> str:
        """The token, as web-safe text."""
        holder = sealed.holder.encode()[:_HOLDER_LIMIT]
        url = b"" if audience is Audience.CLICK else sealed.url.encode()
        fields = _FIELDS.pack(
            sealed.exchange,
            sealed.advertiser,
            sealed.campaign,
            sealed.line_item,
            sealed.creative,
            sealed.page,
            sealed.day,
            min(sealed.hold_seconds, 0xFFFF),
            len(holder),
            sealed.test << 4 | sealed.measure << 5 | bool(sealed.person) << 6,
            sealed.bid_cpm_micros,
            sealed.rate,
            sealed.currency.encode(),
            sealed.account_currency.encode(),
            ids.from_text(sealed.person) if sealed.person else bytes(12),
        )
        cipher = self._ciphers[self._current, audience]
        body = cipher.encrypt(sealed.bid_id, fields + holder + url, self._prefix)
        return ids.to_text(self._prefix + sealed.bid_id + body)

    def open(self, text: str, audience: Audience) -> Sealed:
        """What a token says. Raises `InvalidToken` on anything we did not seal for `audience`."""
        try:
            raw = ids.from_text(text)
            if ids.to_text(raw) != text:  # base64 has several spellings; ours has one
                raise InvalidToken("not as we write it")
            cipher = self._ciphers[raw[0], audience]
            bid_id = raw[1:_HEAD]
            fields = cipher.decrypt(bid_id, raw[_HEAD:], raw[:1])
        except (ValueError, IndexError, KeyError, InvalidTag):
            raise InvalidToken("not a token of ours") from None
        return _read(bid_id, fields)


def numbered(masters: Sequence[bytes]) -> dict[int, bytes]:
    """Master keys under numbers that follow from the keys, so that a key keeps its number while
    others come and go beside it.

    Raises `ValueError` if two of them have the same number, which one pair in 256 has.
    """
    found: dict[int, bytes] = {}
    for master in masters:
        number = blake2b(master, digest_size=1, person=b"bidder key").digest()[0]
        if found.setdefault(number, master) != master:
            raise ValueError("two token keys have the same number: make another new one")
    return found


def _read(bid_id: bytes, fields: bytes) -> Sealed:
    (
        exchange, advertiser, campaign, line_item, creative, page, day, hold_seconds, holder_bytes,
        flags, price, rate, currency, account_currency, person,
    ) = _FIELDS.unpack_from(fields)  # fmt: skip
    url = _FIELDS.size + holder_bytes
    return Sealed(
        bid_id=bid_id,
        exchange=exchange,
        advertiser=advertiser,
        campaign=campaign,
        line_item=line_item,
        creative=creative,
        bid_cpm_micros=price,
        currency=currency.decode(),
        account_currency=account_currency.decode(),
        rate=rate,
        holder=fields[_FIELDS.size : url].decode(),
        day=day,
        hold_seconds=hold_seconds,
        person=ids.to_text(person) if flags >> 6 & 1 else "",
        page=page,
        test=bool(flags >> 4 & 1),
        measure=bool(flags >> 5 & 1),
        url=fields[url:].decode(),
    )


def _derive(master: bytes, audience: Audience) -> bytes:
    if len(master) != MASTER_KEY_BYTES:
        raise ValueError(f"a token key has {MASTER_KEY_BYTES} bytes, this one {len(master)}")
    return HKDF(SHA256(), 32, salt=None, info=b"bidder token " + audience.value).derive(master)
