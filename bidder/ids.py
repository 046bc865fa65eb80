"""How are bids, people and trader-written names identified?

A bid id is 12 bytes: seconds since the epoch (4, big endian) then 8 random bytes, the *bid key* by
which ledgers and de-duplication sets know it. On the wire and in the log it is 16 characters of
web-safe base64. A person id is 12 random bytes, written the same way. Names that traders write
(advertiser, campaign, line item, creative) become 32-bit hashes of their full path; `bidder check`
refuses two paths that collide.
"""

from binascii import a2b_base64, b2a_base64
from hashlib import blake2b
from random import Random

BID_ID_BYTES = 12
BID_KEY_BYTES = 8
PERSON_ID_CHARS = 16

_WEB_SAFE = bytes.maketrans(b"+/", b"-_")
_PLAIN = bytes.maketrans(b"-_+/", b"+/!!")
"""What is not web-safe becomes no base64 at all."""


def hash32(path: str) -> int:
    """The 32-bit id, never 0, of a path such as ``maison-lumen/winter/basket-left``."""
    return int.from_bytes(blake2b(path.encode(), digest_size=4).digest(), "big") or 1


def new_bid_id(now: float, random: Random) -> bytes:
    """A fresh bid id: 12 bytes, ordered by the second it was made in."""
    return (int(now) << 64 | random.getrandbits(64)).to_bytes(BID_ID_BYTES, "big")


def bid_key(bid_id: bytes) -> bytes:
    """The 8 random bytes of a bid id: what ledgers and de-duplication sets store."""
    return bid_id[-BID_KEY_BYTES:]


def bid_time(bid_id: bytes) -> int:
    """The second, since the epoch, in which the bid was made."""
    return int.from_bytes(bid_id[:4], "big")


def new_person_id(random: Random) -> str:
    """A fresh person id: 16 web-safe characters, 96 random bits."""
    return to_text(random.getrandbits(96).to_bytes(12, "big"))


def to_text(raw: bytes) -> str:
    """Bytes as unpadded web-safe base64."""
    return b2a_base64(raw, newline=False).translate(_WEB_SAFE).rstrip(b"=").decode()


def from_text(text: str) -> bytes:
    """The bytes behind `to_text`. Raises `ValueError` on anything else."""
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    return a2b_base64(padded.translate(_PLAIN), strict_mode=True)
