"""Has the person opted out of the sale of their data, as US Privacy (CCPA) strings say it?

Four characters: version 1, notice given, opted out, covered by the LSPA; Y, N or - for "does not
apply" (IAB "U.S. Privacy String", version 1).
"""

from bidder.privacy.bits import InvalidConsent

_FLAGS = frozenset("YN-")


def opted_out(text: str) -> bool:
    """True for `1?Y?`, in either case. Raises `InvalidConsent` on what is no such string."""
    flags = text[1:].upper()
    if len(text) != 4 or text[0] != "1" or not _FLAGS.issuperset(flags):
        raise InvalidConsent("not a US Privacy string of version 1")
    return flags[1] == "Y"
