"""Which sections does a GPP string hold, and do the American ones say that the person opted out?

IAB Tech Lab Global Privacy Platform, string specification 1.0, and its US section specifications.
Sections are joined by `~`: a header that lists their ids (ranges of Fibonacci-coded offsets), then
the sections in that order.

Of the US sections, those in force (`gpp_sid`) count. One that is said to be in force but is absent,
cannot be read, or is of a kind we do not know, counts as an opt-out: it may say no. Where nothing
is said to be in force, every US section that can be read counts.

A known child for whom consent was asked and not given (``KnownChildSensitiveDataConsents``) is an
opt-out as well: for minors these laws want an opt-in.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from bidder.privacy import us_privacy
from bidder.privacy.bits import Bits, InvalidConsent

OptOut = Literal["", "gpp", "gpc", "us-privacy"]
"""What opts a person out: a section, the GPC in one, or the US Privacy string in one."""

TCF_EU = 2
"""The section that holds a TC string."""
US_PRIVACY = 6
MAX_CHARS = 8192

_HEADER_TYPE, _HEADER_VERSION = 3, 1
_GPC = 1
"""Type of the sub-section that carries Global Privacy Control."""
_SILENT = frozenset({-1, 0, 3, 4})
"""Ids that say nothing of the person: none in force, header, signal integrity."""
_LONGEST_CODE = 16
"""Bits of a Fibonacci code; ids stay far below 1,597, the first that needs one more."""


class _Layout(Struct, frozen=True):
    """Where the core segment of a US section keeps what may forbid, in fields of two bits each."""

    name: str
    opt_outs: tuple[int, ...]
    """First bits of: sale, sharing, targeted advertising, as far as the section has them."""
    children: range
    """First bits of the consents for known children, by age and activity."""
    bits: int
    """Of the whole core segment."""


_LAYOUTS: Mapping[int, tuple[_Layout, ...]] = {
    7: (
        _Layout("usnat", (18, 20, 22), range(48, 52, 2), 60),
        _Layout("usnat", (18, 20, 22), range(56, 62, 2), 70),
    ),
    8: (_Layout("usca", (12, 14), range(34, 38, 2), 46),),
    9: (_Layout("usva", (12, 14), range(32, 34, 2), 40),),
    10: (_Layout("usco", (12, 14), range(30, 32, 2), 38),),
    11: (_Layout("usut", (14, 16), range(34, 36, 2), 42),),
    12: (_Layout("usct", (12, 14), range(32, 38, 2), 44),),
    13: (_Layout("usfl", (12, 14), range(32, 38, 2), 46),),
    14: (_Layout("usmt", (12, 14), range(32, 38, 2), 46),),
    15: (_Layout("usor", (12, 14), range(38, 44, 2), 52),),
    16: (_Layout("ustx", (12, 14), range(32, 34, 2), 42),),
    17: (_Layout("usde", (12, 14), range(34, 44, 2), 52),),
    18: (_Layout("usia", (14, 16), range(34, 36, 2), 42),),
    19: (_Layout("usne", (12, 14), range(32, 34, 2), 42),),
    20: (_Layout("usnh", (12, 14), range(32, 38, 2), 46),),
    21: (_Layout("usnj", (12, 14), range(36, 46, 2), 54),),
    22: (_Layout("ustn", (12, 14), range(32, 34, 2), 42),),
    23: (_Layout("usmn", (12, 14), range(32, 34, 2), 42),),
}
"""By section id, one for each version. 24-27 (Maryland and later) are laid out in another way and
are not read."""


def decode(text: str) -> dict[int, str]:
    """Section id -> its text, still encoded. Raises `InvalidConsent`."""
    if len(text) > MAX_CHARS:
        raise InvalidConsent(f"longer than {MAX_CHARS} characters")
    header, *sections = text.split("~")
    ids = _section_ids(Bits(header), len(sections))
    return dict(zip(ids, sections, strict=True))


def opt_out(text: str, in_force: tuple[int, ...]) -> OptOut:
    """What opts the person out in the US sections; empty if nothing does.

    `in_force` is `gpp_sid`. Sections that are not American are not looked at, save that one in
    force that we cannot read (Canada's, for one) counts as an opt-out.
    """
    try:
        sections = decode(text) if text else {}
    except InvalidConsent:
        sections = {}
    if not in_force:
        found = [_lenient(number, section) for number, section in sections.items()]
    else:
        found = [_strict(number, sections) for number in in_force]
    return next((reason for reason in found if reason), "")


def _strict(number: int, sections: Mapping[int, str]) -> OptOut:
    """The opt-out of a section in force; unreadable means opted out."""
    if number in _SILENT or number == TCF_EU:
        return ""
    try:
        return _section_opt_out(number, sections[number])
    except (KeyError, InvalidConsent):
        return "gpp"


def _lenient(number: int, section: str) -> OptOut:
    """The opt-out of a section not said to be in force; unreadable means nothing."""
    try:
        return _section_opt_out(number, section)
    except (KeyError, InvalidConsent):
        return ""


def _section_opt_out(number: int, section: str) -> OptOut:
    """Raises `KeyError` for a section of unknown layout, `InvalidConsent` for an unreadable one."""
    if number == US_PRIVACY:
        return "us-privacy" if us_privacy.opted_out(section) else ""
    layouts = _LAYOUTS[number]
    core, *others = section.split(".")
    bits = Bits(core)
    version = bits.read(6)
    if not 0 < version <= len(layouts):
        raise InvalidConsent(f"{layouts[0].name} of version {version}")
    layout = layouts[version - 1]
    rest = bits.read(layout.bits - 6)
    # 0 does not apply, 1 opted out or no consent, 2 did not opt out or consent
    answers = {rest >> (layout.bits - at - 2) & 3 for at in (*layout.opt_outs, *layout.children)}
    if 1 in answers:
        return "gpp"
    if 3 in answers:
        raise InvalidConsent(f"{layout.name} with an undefined answer")
    controls = [_global_privacy_control(Bits(other)) for other in others]
    return "gpc" if any(controls) else ""


def _global_privacy_control(bits: Bits) -> bool:
    return bits.read(2) == _GPC and bits.read(1) == 1


def _section_ids(bits: Bits, count: int) -> list[int]:
    """The ids in the header, which must be as many as there are sections."""
    if bits.read(6) != _HEADER_TYPE:
        raise InvalidConsent("not a GPP header")
    version = bits.read(6)
    if version != _HEADER_VERSION:
        raise InvalidConsent(f"GPP version {version}")
    ids: list[int] = []
    last = 0
    for _ in range(bits.read(12)):
        is_range = bits.read(1)
        first = last + _fibonacci(bits)
        last = first + _fibonacci(bits) if is_range else first
        if last - first >= count - len(ids):  # checked before it is expanded
            raise InvalidConsent(f"the header lists more than the {count} sections there are")
        ids += range(first, last + 1)
    if len(ids) != count:
        raise InvalidConsent(f"the header lists {len(ids)} of {count} sections")
    return ids


def _fibonacci(bits: Bits) -> int:
    """A Fibonacci-coded integer: the sum of 1, 2, 3, 5... where bits are set, ended by 11."""
    total, smaller, larger, before = 0, 1, 1, 0
    for _ in range(_LONGEST_CODE):
        bit = bits.read(1)
        if bit and before:
            return total
        total += bit * larger
        smaller, larger, before = larger, smaller + larger, bit
    raise InvalidConsent("a section id beyond all that are defined")
