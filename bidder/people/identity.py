"""By which identifiers may we know a person?

An identifier is a (source, value): `buyeruid` (which becomes `buyeruid.<exchange>`, as each has its
own), `ifa`, the source of an eid, `email_sha256`, `crm`. Anything from the wire that could not be
one is left out: it would only cost a read.
"""

from collections.abc import Iterable, Sequence

Identifier = tuple[str, str]

MAX_CHARS = 256
MAX_TRIED = 8
"""Identifiers of one request that we look up, at most."""
ANY = "*"
"""In an order of sources: every eid source that the order does not name."""
_LOWER_CASE = ("ifa", "email_sha256")
"""Sources whose values are hexadecimal, where case says nothing."""
_OURS = "buyeruid."
"""How the sources that we write ourselves begin; nobody else may speak for an exchange."""


def usable(text: str) -> bool:
    """Neither empty, longer than `MAX_CHARS`, nor with control characters or lone surrogates."""
    return 0 < len(text) <= MAX_CHARS and text.isprintable()


def normal(source: str, value: str) -> Identifier:
    """The one way to write an identifier."""
    return source, value.lower() if source in _LOWER_CASE else value


def candidates(
    identifiers: Iterable[Identifier], exchange: str, order: Sequence[str]
) -> list[Identifier]:
    """The usable identifiers of a request in the order of their sources in `order`, normal form.

    Sources that are not in `order` are used where it says `ANY`, else not at all. `order` says
    `buyeruid` for that of any exchange.
    """
    given = []
    for source, value in identifiers:
        at = _place(source, order)
        if at >= 0 and usable(value):
            ours = source == "buyeruid"
            given.append((at, (f"{_OURS}{exchange}", value) if ours else normal(source, value)))
    if len(given) > 1:
        given.sort(key=_at)
    return [identifier for _, identifier in given[:MAX_TRIED]]


def _place(source: str, order: Sequence[str]) -> int:
    """Where `source` comes in `order`; -1 = nowhere."""
    if source in order:
        return order.index(source)
    if ANY in order and usable(source) and not source.startswith(_OURS) and ":" not in source:
        return order.index(ANY)
    return -1


def _at(ranked: tuple[int, Identifier]) -> int:
    return ranked[0]
