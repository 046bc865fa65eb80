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
_LOWER_CASE = ("ifa", "email_sha256")
"""Sources whose values are hexadecimal, where case says nothing."""


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

    Sources that are not in `order` are not used. `order` says `buyeruid` for that of any exchange.
    """
    given = [pair for pair in identifiers if pair[0] in order and usable(pair[1])]
    if len(given) > 1:
        given.sort(key=lambda pair: order.index(pair[0]))
    return [
        (f"buyeruid.{exchange}", value) if source == "buyeruid" else normal(source, value)
        for source, value in given[:MAX_TRIED]
    ]
