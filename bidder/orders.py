"""Is this a sale that we know already? One keyed hash of the order number, whoever reports it.

The landing page (`/track/conversion`), visits, CRM files and calls tell of the same orders. Each
order number is replaced as it comes in, together with whose it is, so that one sale told of twice
is one, and neither the store nor the log has a number that could be guessed back: order numbers are
short and follow each other. The key does not rotate: under another one every order would be new.
"""

from hashlib import blake2b

_HASH_BYTES = 8


class Orders:
    """Hashes order numbers under a key of at most 64 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def number(self, order: str, advertiser: int) -> int:
        """The 64 bits that stand for an order of an advertiser (its 32-bit id); 0 = no order."""
        order = order.strip()
        if not order:
            return 0
        message = advertiser.to_bytes(4, "little") + order.encode(errors="surrogatepass")
        digest = blake2b(message, digest_size=_HASH_BYTES, key=self._key).digest()
        return int.from_bytes(digest, "little") or 1

    def text(self, order: str, advertiser: int) -> str:
        """The same as the log writes it: 16 hexadecimal digits; empty = no order."""
        return written(self.number(order, advertiser))


def written(number: int) -> str:
    """An order's `number` as text; empty for 0."""
    return f"{number:016x}" if number else ""
