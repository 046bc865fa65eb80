"""How are bits packed into web-safe text?

TC strings and GPP sections are big-endian bit fields, six bits a character, in the web-safe
alphabet of RFC 4648 section 5 without padding.
"""

from binascii import Error, a2b_base64
from collections.abc import Iterator

from msgspec import Struct

_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
"""Web-safe to standard base64; what is not web-safe becomes a character that is refused."""
_WINDOW_BYTES = 5
"""A range entry has at most 33 bits, so it lies within 5 bytes wherever it starts."""


class InvalidConsent(ValueError):
    """A consent string that cannot be read; the message says what is wrong."""


class Ids(Struct, frozen=True, gc=False):
    """A set of ids from 1 to `max_id`, as encoded: a bit field or a list of ranges.

    It is never expanded: a few bytes of hostile input may stand for 65,535 ids.
    """

    max_id: int
    bits: int = 0
    """`max_id` bits, the first of which stands for id 1."""
    ranges: tuple[tuple[int, int], ...] = ()
    """(first, last), both included."""

    def __contains__(self, number: int) -> bool:
        if not 0 < number <= self.max_id:
            return False
        if self.bits >> (self.max_id - number) & 1:
            return True
        return any(first <= number <= last for first, last in self.ranges)

    def __iter__(self) -> Iterator[int]:
        """The ids in ascending order: for showing, slow where there are many."""
        return (number for number in range(1, self.max_id + 1) if number in self)


class Bits:
    """A cursor over the bits of one text. Reading past the end raises `InvalidConsent`."""

    __slots__ = ("_data", "_size", "at")

    def __init__(self, text: str) -> None:
        try:
            standard = text.encode("ascii").translate(_TO_STANDARD)
            # Filled up with zero bits, which `_size` keeps out of reach.
            self._data = a2b_base64(standard + b"AAA"[: -len(text) % 4], strict_mode=True)
        except (UnicodeEncodeError, Error):
            raise InvalidConsent("not web-safe base64") from None
        self._size = 6 * len(text)
        self.at = 0

    def read(self, count: int) -> int:
        """The next `count` bits as an unsigned integer."""
        start, end = self.at, self.at + count
        if end > self._size:
            raise InvalidConsent(f"ends at bit {self._size}, within a field of bits {start}-{end}")
        self.at = end
        chunk = int.from_bytes(self._data[start >> 3 : (end + 7) >> 3], "big")
        return chunk >> (-end & 7) & ((1 << count) - 1)

    def ids(self) -> Ids:
        """A highest id (16 bits), then a bit field or ranges ("Vendor Consent Section")."""
        max_id = self.read(16)
        if self.read(1):
            return Ids(max_id, 0, self.ranges(max_id))
        return Ids(max_id, self.read(max_id))

    def ranges(self, max_id: int) -> tuple[tuple[int, int], ...]:
        """A count (12 bits) and that many range entries, each within 1..`max_id`."""
        count = self.read(12)
        data, size, at, found = self._data, self._size, self.at, []
        for _ in range(count):
            byte = at >> 3
            # One read for flag, first and last: half the time of three.
            chunk = data[byte : byte + _WINDOW_BYTES].ljust(_WINDOW_BYTES, b"\0")
            window = int.from_bytes(chunk, "big") >> (7 - (at & 7))
            first = last = window >> 16 & 0xFFFF
            at += 17
            if window >> 32 & 1:
                last = window & 0xFFFF
                at += 16
            if at > size:
                raise InvalidConsent(f"ends at bit {size}, within a range entry")
            if not 0 < first <= last <= max_id:
                raise InvalidConsent(f"range entry {first}-{last} is not within 1-{max_id}")
            found.append((first, last))
        self.at = at
        return tuple(found)
