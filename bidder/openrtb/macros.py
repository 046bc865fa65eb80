"""Which substitution macros does an exchange fill in, and what if it leaves that to us?

The exchange replaces the macros of OpenRTB 2.6 §4.4 in notice URLs and markup. We do it ourselves
where the markup is returned on the win notice, after the exchange filled in the notice's URL.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from urllib.parse import unquote

AUCTION_ID = "${AUCTION_ID}"
AUCTION_BID_ID = "${AUCTION_BID_ID}"
AUCTION_IMP_ID = "${AUCTION_IMP_ID}"
AUCTION_SEAT_ID = "${AUCTION_SEAT_ID}"
AUCTION_AD_ID = "${AUCTION_AD_ID}"
AUCTION_PRICE = "${AUCTION_PRICE}"
AUCTION_CURRENCY = "${AUCTION_CURRENCY}"
AUCTION_MBR = "${AUCTION_MBR}"
AUCTION_LOSS = "${AUCTION_LOSS}"
AUCTION_MIN_TO_WIN = "${AUCTION_MIN_TO_WIN}"
AUCTION_MULTIPLIER = "${AUCTION_MULTIPLIER}"

ALL = (
    AUCTION_ID,
    AUCTION_BID_ID,
    AUCTION_IMP_ID,
    AUCTION_SEAT_ID,
    AUCTION_AD_ID,
    AUCTION_PRICE,
    AUCTION_CURRENCY,
    AUCTION_MBR,
    AUCTION_LOSS,
    AUCTION_MIN_TO_WIN,
    AUCTION_MULTIPLIER,
)

_MACRO = re.compile(r"\$\{(AUCTION_[A-Z_]+)(?::([A-Za-z0-9]+))?\}")
_NAMES = frozenset(macro[2:-1] for macro in ALL)
_SIGNS = ("${", "%%", "AUCTION_", "WINNING_PRICE")


def substitute(
    text: str, values: Mapping[str, str], escape: Callable[[str], str] = lambda value: value
) -> str:
    """`text` with each macro replaced by `values` under its name, as ``{"AUCTION_PRICE": "1.2"}``.

    A standard macro without a value is removed, as §4.4 asks; others are left alone. The suffix
    ``:B64`` encodes the value in base64; a value in a suffix we do not know stays as it was.
    `escape` makes a value safe for where `text` stands, as `html.escape` does in markup.
    """

    def replace(match: re.Match[str]) -> str:
        name, encoding = match.groups()
        if name not in _NAMES or encoding not in (None, "B64"):
            return match[0]
        value = values.get(name, "")
        if encoding:
            value = urlsafe_b64encode(value.encode()).decode()
        return escape(value)

    return _MACRO.sub(replace, text)


def unreplaced(value: str) -> bool:
    """Whether a parameter still holds a macro, OpenRTB's or Google's, URL-encoded up to twice."""
    for _ in range(3):
        if any(sign in value.upper() for sign in _SIGNS):
            return True
        decoded = unquote(value)
        if decoded == value:
            return False
        value = decoded
    return False
