"""What does a TC string say?

Decodes version 2 of the IAB Europe Transparency and Consent String ("Consent string and vendor list
formats v2", as of TCF 2.3). It says what is written, not whether that suffices: dates, policy
versions and purposes are judged in `permission`.
"""

from msgspec import Struct

from bidder.privacy.bits import Bits, Ids, InvalidConsent

MAX_CHARS = 8192
"""Longer strings are refused unread; those of real consent platforms stay below 5,000."""
MAX_SEGMENTS = 8

_FIXED_BITS = 207
"""Of the core segment, after the version and before the vendors."""
_DISCLOSED_VENDORS, _ALLOWED_VENDORS = 1, 2
_MAX_VENDOR = 0xFFFF


class Restriction(Struct, frozen=True, gc=False):
    """What a publisher imposes on some vendors for one purpose."""

    purpose: int
    kind: int
    """0 forbidden, 1 requires consent, 2 requires legitimate interest, 3 undefined."""
    vendors: Ids


class TcString(Struct, frozen=True, gc=False):
    """One decoded TC string. Times are seconds since the epoch."""

    version: int
    created: int
    updated: int
    cmp_id: int
    cmp_version: int
    consent_screen: int
    consent_language: str
    vendor_list_version: int
    policy_version: int
    service_specific: bool
    non_standard_texts: bool
    special_features: Ids
    purpose_consents: Ids
    purpose_interests: Ids
    """Purposes whose legitimate interest was shown and not objected to."""
    purpose_one_treatment: bool
    """Purpose 1 was not disclosed to the person at all."""
    publisher_country: str
    vendor_consents: Ids
    vendor_interests: Ids
    restrictions: tuple[Restriction, ...]
    disclosed_vendors: Ids | None
    """None where the segment is absent."""
    allowed_vendors: Ids | None

    def restrictions_of(self, vendor: int) -> dict[int, set[int]]:
        """Purpose -> the kinds of restriction that the publisher puts on this vendor."""
        found: dict[int, set[int]] = {}
        for restriction in self.restrictions:
            if vendor in restriction.vendors:
                found.setdefault(restriction.purpose, set()).add(restriction.kind)
        return found


def decode(text: str) -> TcString:
    """The TC string in `text`, segments after the core in any order.

    Segments of a type we do not know are skipped, and so is PublisherTC: it is about the
    publisher's own processing, on which a vendor may not rely. Raises `InvalidConsent`.
    """
    if len(text) > MAX_CHARS:
        raise InvalidConsent(f"longer than {MAX_CHARS} characters")
    core, *others = text.split(".")
    if len(others) >= MAX_SEGMENTS:
        raise InvalidConsent(f"more than {MAX_SEGMENTS} segments")
    segments: dict[int, Ids] = {}
    bits = Bits(core)
    version = bits.read(6)
    if version != 2:
        raise InvalidConsent(f"version {version}, not 2")
    fixed = bits.read(_FIXED_BITS)
    for segment in others:
        _read_segment(Bits(segment), segments)
    vendor_list_version = fixed >> 81 & 0xFFF
    if vendor_list_version == 0:
        raise InvalidConsent("vendor list version 0")
    return TcString(
        version=version,
        created=(fixed >> 171) // 10,
        updated=(fixed >> 135 & 0xFFFFFFFFF) // 10,
        cmp_id=fixed >> 123 & 0xFFF,
        cmp_version=fixed >> 111 & 0xFFF,
        consent_screen=fixed >> 105 & 0x3F,
        consent_language=_letters(fixed >> 93),
        vendor_list_version=vendor_list_version,
        policy_version=fixed >> 75 & 0x3F,
        service_specific=fixed >> 74 & 1 == 1,
        non_standard_texts=fixed >> 73 & 1 == 1,
        special_features=Ids(12, fixed >> 61 & 0xFFF),
        purpose_consents=Ids(24, fixed >> 37 & 0xFFFFFF),
        purpose_interests=Ids(24, fixed >> 13 & 0xFFFFFF),
        purpose_one_treatment=fixed >> 12 & 1 == 1,
        publisher_country=_letters(fixed),
        vendor_consents=bits.ids(),
        vendor_interests=bits.ids(),
        restrictions=_restrictions(bits),
        disclosed_vendors=segments.get(_DISCLOSED_VENDORS),
        allowed_vendors=segments.get(_ALLOWED_VENDORS),
    )


def _read_segment(bits: Bits, segments: dict[int, Ids]) -> None:
    kind = bits.read(3)
    if kind == 0:
        raise InvalidConsent("a second core segment")
    if kind in segments:
        raise InvalidConsent(f"a second segment of type {kind}")
    if kind in (_DISCLOSED_VENDORS, _ALLOWED_VENDORS):
        segments[kind] = bits.ids()


def _letters(twelve: int) -> str:
    """Two letters of six bits each, A = 0."""
    return chr(65 + (twelve >> 6 & 0x3F)) + chr(65 + (twelve & 0x3F))


def _restrictions(bits: Bits) -> tuple[Restriction, ...]:
    found = []
    for _ in range(bits.read(12)):
        purpose, kind = bits.read(6), bits.read(2)
        vendors = Ids(_MAX_VENDOR, 0, bits.ranges(_MAX_VENDOR))
        found.append(Restriction(purpose, kind, vendors))
    return tuple(found)
