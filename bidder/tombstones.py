"""What is left of somebody who was erased? A keyed hash, so that they are not brought back.

HMAC-SHA-256 under a key of its own, cut to 16 bytes. Whoever has an identifier *and* the key can
ask "was this one erased?"; the mark alone answers nothing, not even to a guess of every telephone
number there is. Keys rotate: the first marks, all of them recognise.
"""

import hmac
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bidder import ids

MARK_BYTES = 16


class Tombstones:
    """Makes the marks. `keys`: 32 bytes each, the one that marks first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("tombstones need a key")
        self._keys = tuple(keys)

    def of_identifier(self, source: str, value: str) -> tuple[str, ...]:
        """The marks of one identifier in normal form, one for each key."""
        return self._marks(b"identifier\0" + source.encode() + b"\0" + value.encode())

    def of_person(self, person: str) -> tuple[str, ...]:
        """The marks of one person id, one for each key."""
        return self._marks(b"person\0" + person.encode())

    def of_code(self, code: str) -> str:
        """The mark under which a one-time code is kept. Codes do not outlive a rotation."""
        return self._marks(b"code\0" + code.encode())[0]

    def hidden(self, mark: str, person: str) -> str:
        """A person id sealed for keeping under a mark that is made once and never again."""
        return ids.to_text(self._cipher().encrypt(mark.encode()[:12], person.encode(), None))

    def shown(self, mark: str, text: str | bytes) -> str:
        """The person id behind `hidden`. Raises `ValueError` on anything else."""
        try:
            raw = ids.from_text(text.decode() if isinstance(text, bytes) else text)
            return self._cipher().decrypt(mark.encode()[:12], raw, None).decode()
        except InvalidTag:
            raise ValueError("not hidden under this mark") from None

    def _cipher(self) -> AESGCM:
        return AESGCM(hmac.digest(self._keys[0], b"hidden", "sha256"))

    def scrambled(self, text: str) -> str:
        """Something that stays equal to itself and says nothing else: 8 characters."""
        return self._marks(b"scrambled\0" + text.encode())[0][:8] if text else ""

    def _marks(self, what: bytes) -> tuple[str, ...]:
        return tuple(
            ids.to_text(hmac.digest(key, what, "sha256")[:MARK_BYTES]) for key in self._keys
        )
