"""Who sits in front of this page, and did they mean it? Sealed cookies and sealed forms.

Both are AES-256-GCM under a key of their own: nobody opens a page for somebody else, or fills it in
from elsewhere. The session's cookie is `SameSite=Strict`, `HttpOnly` and, over HTTPS, `Secure` with
the `__Host-` prefix; a form carries a token that is bound to the session.
"""

import os
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from struct import Struct as Layout
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from bidder import ids

Purpose = Literal["session", "form"]
SESSION_BYTES = 8
FORM_SECONDS = 7200
_NONCE = 12
_EXPIRY = Layout(">Q")


class Session(Struct, frozen=True):
    """An open page."""

    number: bytes
    """Random: what ties a form to it."""
    person: str


class Seals:
    """Seals and opens what browsers carry for us. `masters`: the first seals, all open."""

    def __init__(self, masters: list[bytes]) -> None:
        self._ciphers = [
            AESGCM(HKDF(SHA256(), 32, salt=None, info=b"bidder page").derive(each))
            for each in masters
        ]

    def session(self, person: str, until: float) -> tuple[Session, str]:
        """A new session and its cookie's value."""
        session = Session(os.urandom(SESSION_BYTES), person)
        return session, self._seal("session", session.number + person.encode(), until)

    def opened(self, value: str, now: float) -> Session | None:
        """The session in a cookie's value, if it is one of ours and not over."""
        body = self._open("session", value, now)
        if body is None:
            return None
        return Session(body[:SESSION_BYTES], body[SESSION_BYTES:].decode())

    def form(self, session: Session | None, now: float) -> str:
        """The token of a form on the page of `session`, or of nobody."""
        return self._seal("form", session.number if session else b"", now + FORM_SECONDS)

    def meant(self, token: str, session: Session | None, now: float) -> bool:
        """Whether a form came from the page of this very session."""
        return self._open("form", token, now) == (session.number if session else b"")

    def _seal(self, purpose: Purpose, body: bytes, until: float) -> str:
        nonce = os.urandom(_NONCE)
        sealed = self._ciphers[0].encrypt(nonce, _EXPIRY.pack(int(until)) + body, purpose.encode())
        return ids.to_text(nonce + sealed)

    def _open(self, purpose: Purpose, text: str, now: float) -> bytes | None:
        try:
            raw = ids.from_text(text)
        except ValueError:
            return None
        for cipher in self._ciphers:
            try:
                body = cipher.decrypt(raw[:_NONCE], raw[_NONCE:], purpose.encode())
            except (InvalidTag, ValueError):
                continue
            (until,) = _EXPIRY.unpack_from(body)
            return body[_EXPIRY.size :] if until > now else None
        return None


def cookie_name(secure: bool) -> str:
    """The session's cookie. `__Host-`: set by this very host, for all of it, over HTTPS."""
    return "__Host-me" if secure else "me"


def set_cookie(value: str, seconds: int, secure: bool) -> str:
    """The header that opens a session, or with 0 seconds ends it."""
    flags = "; Secure" if secure else ""
    return (
        f"{cookie_name(secure)}={value}; Path=/; Max-Age={seconds}; HttpOnly; "
        f"SameSite=Strict{flags}"
    )


def cookies(header: str) -> Mapping[str, str]:
    """The cookies in a `Cookie` header; none if it is nonsense."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}
