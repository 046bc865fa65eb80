"""How is what is listed and named written, so that it can be compared? In one spelling of each.

Lists are kept by people and come in every spelling there is; what one blocks must not get through
because of it.
"""

import re
from functools import lru_cache

_EMPTY: frozenset[str] = frozenset()
_IAB_1 = re.compile(r"iab[0-9]", re.IGNORECASE).match


def categories(codes: list[str] | None, taxonomy: int) -> frozenset[str]:
    """Category codes with their taxonomy: as they are for 1 (IAB 1.0), else ``taxonomy:code``.

    ``IAB25`` is of the first whatever the request says: no other taxonomy writes its codes so.
    """
    if not codes:
        return _EMPTY
    if taxonomy == 1:
        return frozenset(map(str.upper, codes))
    return frozenset([c.upper() if _IAB_1(c) else f"{taxonomy}:{c}" for c in codes])


def host(address: str) -> str:
    """The host of a web address, which may lack its scheme."""
    text = address.split("://", 1)[-1].lstrip("/")
    for mark in "/?#":
        text = text.split(mark, 1)[0]
    return text.rsplit("@", 1)[-1].split(":", 1)[0]


def bare(domain: str) -> str:
    """A domain in lower case, without ``www.``, a wildcard before it or a dot after it."""
    return domain.strip("*. \t\r\n").lower().removeprefix("www.")


def domains(listed: list[str] | None) -> frozenset[str]:
    """Domains as lists have them: ``www.``, ``*.`` and whole addresses mean the domain."""
    if not listed:
        return _EMPTY
    return frozenset(map(_listed, listed))


@lru_cache(maxsize=16384)
def _listed(one: str) -> str:
    """A publisher's list comes with each of its requests."""
    return bare(host(one) if "/" in one else one)


@lru_cache(maxsize=4096)
def domain_and_parents(domain: str) -> tuple[str, ...]:
    """``a.b.example`` -> itself, ``b.example`` and ``example``."""
    found = [domain]
    while (dot := domain.find(".")) >= 0:
        domain = domain[dot + 1 :]
        found.append(domain)
    return tuple(found)


def category_and_parent(category: str) -> tuple[str, ...]:
    """``IAB1-2`` -> itself and ``IAB1``; other taxonomies have no tiers in their codes."""
    dash = category.find("-")
    return (category, category[:dash]) if dash > 0 else (category,)


@lru_cache(maxsize=4096)
def with_parents(categories: frozenset[str]) -> frozenset[str]:
    """Of `IAB1-2`, `IAB1` as well: who asks for all sport takes a page on tennis, and who blocks it
    an ad for rackets."""
    return frozenset([wider for one in categories for wider in category_and_parent(one)])


def is_category_in(category: str, listed: frozenset[str]) -> bool:
    """The category, or the one it belongs to, is in `listed`."""
    return not listed.isdisjoint(category_and_parent(category))


def is_domain_in(domain: str, listed: frozenset[str]) -> bool:
    """The domain, or one that it is a subdomain of, is in `listed` (lower case)."""
    return not listed.isdisjoint(domain_and_parents(domain.lower()))


@lru_cache(maxsize=4096)
def size_name(size: tuple[int, int]) -> str:
    """A size in pixels as traders, logs and win rates write it: ``300x250``, or ``native``."""
    width, height = size
    return f"{width}x{height}" if width else "native"


def languages(codes: list[str] | None) -> frozenset[str]:
    """ISO 639-1, of codes that may go on with a region."""
    return frozenset([code[:2].lower() for code in codes]) if codes else _EMPTY


def lower(values: list[str] | None) -> frozenset[str]:
    """Values in lower case."""
    return frozenset([value.lower() for value in values]) if values else _EMPTY
