"""What did we read? A digest of several values, as the Lua scripts compute it."""

from collections.abc import Iterable
from hashlib import sha1


def digest(values: Iterable[bytes | None]) -> str:
    """SHA-1, hexadecimal, of the values, each followed by ``|``; None counts as empty."""
    joined = b"".join([(value or b"") + b"|" for value in values])
    return sha1(joined, usedforsecurity=False).hexdigest()
