"""Writers of consent strings, slow and obvious: bits as text of 0s and 1s, as the specs tell it."""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def number(value: int, width: int) -> str:
    assert 0 <= value < 2**width
    return format(value, f"0{width}b")


def text(bits: str) -> str:
    bits += "0" * (-len(bits) % 6)
    return "".join(ALPHABET[int(bits[i : i + 6], 2)] for i in range(0, len(bits), 6))


def flags(ids: Iterable[int], count: int) -> str:
    chosen = frozenset(ids)
    return "".join("1" if n in chosen else "0" for n in range(1, count + 1))


def letters(word: str) -> str:
    return "".join(number(ord(letter) - ord("A"), 6) for letter in word)


def entries(ranges: list[tuple[int, int]]) -> str:
    bits = number(len(ranges), 12)
    for first, last in ranges:
        if first == last:
            bits += "0" + number(first, 16)
        else:
            bits += "1" + number(first, 16) + number(last, 16)
    return bits


def vendors(ids: Iterable[int], max_id: int | None = None, ranges: bool = False) -> str:
    ids = sorted(ids)
    max_id = max([0, *ids]) if max_id is None else max_id
    if ranges:
        return number(max_id, 16) + "1" + entries([(n, n) for n in ids])
    return number(max_id, 16) + "0" + flags(ids, max_id)


def disclosed(ids: Iterable[int], kind: int = 1, **options: bool) -> str:
    return text(number(kind, 3) + vendors(ids, **options))


def tc_string(
    *,
    version: int = 2,
    created: int = 0,
    updated: int = 0,
    cmp_id: int = 3,
    cmp_version: int = 1,
    screen: int = 0,
    language: str = "FR",
    vendor_list_version: int = 200,
    policy_version: int = 4,
    service_specific: bool = True,
    non_standard_texts: bool = False,
    special_features: Iterable[int] = (),
    purposes: Iterable[int] = (),
    purpose_interests: Iterable[int] = (),
    purpose_one_treatment: bool = False,
    country: str = "FR",
    consents: str | Iterable[int] = (),
    interests: str | Iterable[int] = (),
    restrictions: Iterable[tuple[int, int, list[tuple[int, int]]]] = (),
    segments: Iterable[str] = (),
) -> str:
    restrictions = list(restrictions)
    core = [
        number(version, 6), number(created * 10, 36), number(updated * 10, 36),
        number(cmp_id, 12), number(cmp_version, 12), number(screen, 6), letters(language),
        number(vendor_list_version, 12), number(policy_version, 6),
        number(service_specific, 1), number(non_standard_texts, 1),
        flags(special_features, 12), flags(purposes, 24), flags(purpose_interests, 24),
        number(purpose_one_treatment, 1), letters(country),
        consents if isinstance(consents, str) else vendors(consents),
        interests if isinstance(interests, str) else vendors(interests),
        number(len(restrictions), 12),
        *[number(p, 6) + number(k, 2) + entries(r) for p, k, r in restrictions],
    ]  # fmt: skip
    return ".".join([text("".join(core)), *segments])


def fibonacci(value: int) -> str:
    series = [1, 2]
    while series[-1] <= value:
        series.append(series[-1] + series[-2])
    bits = ""
    for one in reversed(series):
        if one <= value:
            value -= one
            bits = "1" + bits
        elif bits:
            bits = "0" + bits
    return bits + "1"


def gpp_string(sections: Mapping[int, str], version: int = 1, kind: int = 3) -> str:
    header = number(kind, 6) + number(version, 6) + number(len(sections), 12)
    last = 0
    for section in sections:
        header += "0" + fibonacci(section - last)
        last = section
    return "~".join([text(header), *sections.values()])


def consent(**fields: Any) -> str:
    """Of all our purposes and of vendor 77, us, but for what is given."""
    fields.setdefault("purposes", (1, 2, 3, 4, 7, 10))
    fields.setdefault("consents", [77])
    return tc_string(**fields)


def national(sale: int = 2, gpc: int = 0) -> str:
    """A GPP string of the US national section: `sale` 1 = opted out."""
    bits = number(1, 6) + "00" * 6 + number(sale, 2) + "1010" + "0" * 36
    return gpp_string({7: text(bits) + "." + text(f"01{gpc}")})


@pytest.fixture(scope="session")
def write() -> SimpleNamespace:
    return SimpleNamespace(
        number=number, text=text, flags=flags, entries=entries, vendors=vendors,
        disclosed=disclosed, tc_string=tc_string, fibonacci=fibonacci, gpp_string=gpp_string,
        consent=consent, national=national,
    )  # fmt: skip
