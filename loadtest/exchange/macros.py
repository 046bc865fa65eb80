"""What does an exchange write in the place of `${AUCTION_PRICE}` and its kin?

OpenRTB 2.6 §4.4; `:B64` encodes the value (§4.4, encoded macros), any other suffix is unknown here
and left alone.
"""

import re
from base64 import b64encode
from collections.abc import Mapping

_MACRO = re.compile(r"\$\{AUCTION_([A-Z_]+)(?::([A-Za-z0-9]+))?\}|%24%7BAUCTION_([A-Z_]+)%7D")


def substitute(text: str, values: Mapping[str, str]) -> str:
    """`text` with macros replaced; names are without ``AUCTION_``. Unknown values become empty."""
    if "AUCTION_" not in text:
        return text

    def value_of(match: re.Match[str]) -> str:
        name, suffix = match[1] or match[3], match[2]
        value = values.get(name, "")
        if suffix is None:
            return value
        return b64encode(value.encode()).decode() if suffix == "B64" else match[0]

    return _MACRO.sub(value_of, text)


def decimal(micros: int) -> str:
    """Micros as the decimal text of a price, without trailing zeros."""
    whole, part = divmod(micros, 1_000_000)
    return f"{whole}.{part:06d}".rstrip("0").rstrip(".")
