"""What consent string does a person's browser send?

Small encoders of IAB TCF v2.3 strings (core and DisclosedVendors segments), and of Global Privacy
Platform strings with one section, written from the specifications and independent of the bidder's
decoders.
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable

POLICY_VERSION = 5
RETARGETING_PURPOSES = frozenset({1, 2, 3, 4, 7, 9, 10})
"""What retargeters declare on consent (PROTOCOL.md, Privacy)."""

_CMP_ID = 300
_VENDOR_LIST_VERSION = 120
_CORE, _DISCLOSED = 2, 1
GPP_TCF, GPP_USA = 2, 7
"""Section ids of a TC string (`tcfeu2`) and of the US National section (`usnat`)."""
_GPP_HEADERS = {GPP_TCF: "DBABMA", GPP_USA: "DBABLA"}
"""Type 3, version 1, one section: its id as a Fibonacci number (GPP string specification 1.0)."""
_NOTICE_GIVEN = 1
_OPTED_OUT, _DID_NOT_OPT_OUT = 1, 2


def tc_string(
    *,
    updated: float,
    purposes: Iterable[int],
    vendors: Iterable[int],
    disclosed: Iterable[int],
    language: str = "EN",
    policy_version: int = POLICY_VERSION,
) -> str:
    """A TC string last updated at `updated` (epoch seconds, kept to the day).

    Purposes and vendors are those consented to, on no legitimate interest; `disclosed` are the
    vendors shown to the person.
    """
    deciseconds = int(updated) // 86400 * 864000
    core = [
        (_CORE, 6),
        (deciseconds, 36),
        (deciseconds, 36),
        (_CMP_ID, 12),
        (1, 12),
        (1, 6),
        (_letters(language), 12),
        (_VENDOR_LIST_VERSION, 12),
        (policy_version, 6),
        (1, 1),  # service specific
        (0, 1),
        (0, 12),  # special features
        (_bits(purposes, 24), 24),
        (0, 24),  # purposes on legitimate interest
        (0, 1),
        (_letters("FR"), 12),
        *_vendor_field(vendors),
        *_vendor_field(()),
        (0, 12),  # publisher restrictions
    ]
    shown = [(_DISCLOSED, 3), *_vendor_field(disclosed)]
    return f"{_pack(core)}.{_pack(shown)}"


def gpp_of_tc_string(text: str) -> str:
    """The GPP string that holds a TC string."""
    return f"{_GPP_HEADERS[GPP_TCF]}~{text}"


def gpp_of_american(*, opted_out: bool, control: bool) -> str:
    """The GPP string (US National section 1.0) of somebody told of sale, sharing and targeting.

    Opted out of all three or of none; `control` adds that Global Privacy Control is on. Nothing
    sensitive is processed, no child is known of, and no MSPA covers it.
    """
    answer = _OPTED_OUT if opted_out else _DID_NOT_OPT_OUT
    core = [
        (1, 6),  # version
        *[(_NOTICE_GIVEN, 2)] * 4,  # of sharing; of opting out of sale, sharing, targeting
        (0, 4),  # notices about sensitive data
        *[(answer, 2)] * 3,
        (0, 24 + 4 + 2),  # sensitive data, children, unrelated uses
        (2, 2),  # MSPA: not covered ...
        (0, 4),  # ... and so in no mode of it
    ]
    controls = [(1, 2), (int(control), 1)]
    return f"{_GPP_HEADERS[GPP_USA]}~{_pack(core)}.{_pack(controls)}"


def _letters(code: str) -> int:
    first, second = (ord(letter) - ord("A") for letter in code.upper())
    return first << 6 | second


def _bits(members: Iterable[int], width: int) -> int:
    """Bit 1 is the leftmost of `width`."""
    return sum(1 << (width - member) for member in set(members))


def _vendor_field(vendors: Iterable[int]) -> list[tuple[int, int]]:
    """The range encoding, which stays short whatever the highest id; each range is one id."""
    ids = sorted(set(vendors))
    if not ids:
        return [(0, 16), (0, 1)]
    fields = [(ids[-1], 16), (1, 1), (len(ids), 12)]
    for vendor in ids:
        fields += [(0, 1), (vendor, 16)]
    return fields


def _pack(fields: list[tuple[int, int]]) -> str:
    value = width = 0
    for number, bits in fields:
        value = value << bits | number
        width += bits
    padding = -width % 8
    raw = (value << padding).to_bytes((width + padding) // 8, "big")
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
