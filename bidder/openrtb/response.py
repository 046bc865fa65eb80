"""What do we answer? Bids written as an OpenRTB 2.6 bid response (§4.2, §4.3).

msgspec writes a bid of all fields in under 2 µs, of which the markup is most; so nothing is
rendered ahead. Fields at their default are left out.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

BANNER = 1
NATIVE = 4
"""Markup types (`bid.mtype`, §4.2.3)."""

MAX_CRID_BYTES = 64


class Transparency(Struct, frozen=True):
    """A platform that used data on the person for this ad (IAB "DSA Transparency")."""

    domain: str
    dsaparams: tuple[int, ...]
    """1 profiling, 2 basic advertising, 3 precise geolocation."""


class Dsa(Struct, frozen=True):
    """`bid.ext.dsa`: on whose behalf, paid by whom, and how the person was chosen."""

    behalf: str
    paid: str
    transparency: tuple[Transparency, ...] = ()
    adrender: int = 1
    """1 = our markup shows it, by its "why this ad" link; 0 where the publisher does."""


class BidOut(Struct, omit_defaults=True, gc=False):
    """One bid (§4.2.3). `price` is CPM in currency units: `bidder.money.from_micros` of micros."""

    id: str
    impid: str
    price: float
    adm: str = ""
    nurl: str = ""
    burl: str = ""
    lurl: str = ""
    adid: str = ""
    adomain: tuple[str, ...] = ()
    crid: str = ""
    """At most `MAX_CRID_BYTES`, as `creative_id` makes them."""
    cid: str = ""
    cat: tuple[str, ...] = ()
    """In the taxonomy of `cattax`, as `one_taxonomy` gives them."""
    cattax: int = 1
    attr: tuple[int, ...] = ()
    apis: tuple[int, ...] = ()
    language: str = ""
    bundle: str = ""
    """Store id of the app that is advertised."""
    dealid: str = ""
    w: int = 0
    h: int = 0
    exp: int = 0
    """Seconds between auction and impression that we accept."""
    mtype: int = 0
    ext: dict[str, Any] | UnsetType = UNSET


class SeatBid(Struct, omit_defaults=True):
    """Bids of one seat (§4.2.2)."""

    bid: Sequence[BidOut]
    seat: str = ""


class _Response(Struct):
    """The whole answer (§4.2.1). `cur` is written even where it is the default, USD."""

    id: str
    seatbid: tuple[SeatBid, ...]
    cur: str


_encoder = msgspec.json.Encoder()


def encode(request_id: str, bids: Sequence[BidOut], *, seat: str, currency: str) -> bytes:
    """The answer to a request, with all bids (at least one) in one seat and one currency."""
    return _encoder.encode(_Response(request_id, (SeatBid(bids, seat),), currency))


def encode_within(
    limit: int, request_id: str, bids: Sequence[BidOut], *, seat: str, currency: str
) -> tuple[bytes, int]:
    """An answer of at most `limit` bytes (0 = any), and how many of the first bids are in it.

    Give the most valuable bids first: those at the end are left out. Empty if none fits.
    """
    kept = len(bids)
    while kept:
        body = encode(request_id, bids[:kept], seat=seat, currency=currency)
        if not limit or len(body) <= limit:
            return body, kept
        kept -= 1
    return b"", 0


def extension(dsa: Dsa | None, extra: dict[str, Any]) -> dict[str, Any] | UnsetType:
    """`bid.ext`: the exchange's constant fields, and transparency where it is required."""
    if dsa is None:
        return extra or UNSET
    return {**extra, "dsa": dsa}


@lru_cache(maxsize=65536)
def one_taxonomy(categories: frozenset[str]) -> tuple[tuple[str, ...], int]:
    """`cat` and `cattax`, as a bid has one taxonomy: IAB 1.0 before any other.

    Takes codes as `Opportunity` has them: ``IAB1-2``, or ``6:123`` for other taxonomies.
    """
    by_taxonomy: dict[int, list[str]] = {}
    for category in sorted(categories):
        taxonomy, _, code = category.rpartition(":")
        by_taxonomy.setdefault(int(taxonomy or 1), []).append(code)
    if not by_taxonomy:
        return (), 1
    chosen = min(by_taxonomy)
    return tuple(by_taxonomy[chosen]), chosen


@lru_cache(maxsize=65536)
def creative_id(path: str, limit: int = MAX_CRID_BYTES) -> str:
    """A creative's or campaign's path as an id of at most `limit` (16 or more) bytes.

    Exchanges review and block creatives by `crid`, so it is the same at every start: a path that
    is too long becomes its end, which tells most, behind a hash of the whole.
    """
    raw = path.encode()
    if len(raw) <= limit:
        return path
    digest = blake2b(raw, digest_size=6).hexdigest()
    tail = raw[len(raw) - max(limit - len(digest) - 1, 0) :] if limit > len(digest) + 1 else b""
    return f"{digest}~{tail.decode(errors='ignore')}"
