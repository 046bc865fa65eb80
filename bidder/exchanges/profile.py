"""What does this exchange want? One profile per file of `config/exchanges/`, read at load.

What differs between exchanges is a setting here and never a branch on a name elsewhere.
"""

import hmac
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from bidder.ids import hash32
from bidder.openrtb.macros import AUCTION_PRICE
from bidder.openrtb.prices import PLAIN, PriceFormat
from bidder.openrtb.response import MAX_CRID_BYTES

Network = IPv4Network | IPv6Network
Place = Literal["adm", "nurl", "burl"]


class Exchange(Struct, frozen=True):
    """One exchange as the hot path reads it. The defaults are those of plain OpenRTB."""

    name: str
    """As in the path: ``/openrtb2/{name}``."""
    paused: bool = False
    """It gets no bids; notices of earlier ones still count."""
    seat: str = ""
    """Our seat there; empty = none is written."""
    currency: str = "USD"
    """What we bid in where the request allows it, and are billed in."""
    auction: Literal[1, 2] = 1
    """What a request's own kind of auction (`at` above 500) comes down to: first or second."""
    tmax_ms: int = 100
    """Where the request has none: from its sending to our answer's arrival."""
    deadline_ms: int = 0
    """The exchange's own limit, whatever `tmax` says; 0 = none."""
    margin_ms: int = 10
    """Kept for the network, both ways."""
    gzip: bool = True
    """Compress an answer where `Accept-Encoding` allows it."""
    markup: Literal["adm", "win_notice", "registered"] = "adm"
    """In the bid; as the body of our answer to `nurl`; or known there under a registered id."""
    response_limit_bytes: int = 0
    """Longest answer accepted; 0 = any."""
    max_crid_bytes: int = MAX_CRID_BYTES
    price_macro: str = AUCTION_PRICE
    price_in: frozenset[Place] = frozenset({"burl"})
    """Where the price macro goes. Anywhere else a notice comes without a price."""
    price: PriceFormat = PLAIN
    """How the price arrives."""
    billing_notices: bool = True
    """`burl` is called. If not, the impression counts the money."""
    notice_lag_seconds: int = 600
    """After `exp`, how long a notice may still come."""
    click_macro: str = ""
    """Goes before our click URL, so that the exchange counts first; empty = none."""
    click_escape: bool = True
    """What follows `click_macro` must be percent-encoded."""
    click_macro_escaped: str = ""
    """The macro whose value arrives percent-encoded, for a link inside another link's query."""
    allow_from: tuple[Network, ...] = ()
    """Networks its requests come from; empty = any."""
    secret: str = ""
    """What its path ends in: ``/openrtb2/{name}/{secret}``; empty = nothing."""
    loopback_only: bool = False
    wrap_native: bool = False
    """Native markup always has the root object `native`, even where the request has none."""
    extra: Mapping[str, Any] = {}
    """Constant fields of every bid's `ext`."""
    id32: int = 0
    """32-bit id of the name: worked out, never given."""

    def __post_init__(self) -> None:
        force_setattr(self, "id32", hash32(self.name))

    def deadline(self, arrival: float, tmax_ms: int | None) -> float:
        """When our answer must leave, on the clock of `arrival` (seconds, the first byte)."""
        limit = tmax_ms or self.tmax_ms
        if self.deadline_ms:
            limit = min(limit, self.deadline_ms)
        return arrival + max(limit - self.margin_ms, 0) / 1000

    def price_parameter(self, place: Place) -> str:
        """The price macro, if this exchange fills it in there; else empty."""
        return self.price_macro if place in self.price_in else ""

    def admits(self, address: str, secret: str) -> bool:
        """May a request come from this IP address with this end of its path? Every rule counts."""
        if not hmac.compare_digest(secret.encode(), self.secret.encode()):
            return False
        if self.loopback_only and not _is_loopback(address):
            return False
        return not self.allow_from or _is_within(address, self.allow_from)


@lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    ip = _parse(address)
    return ip is not None and ip.is_loopback


@lru_cache(maxsize=4096)
def _is_within(address: str, networks: tuple[Network, ...]) -> bool:
    ip = _parse(address)
    return ip is not None and any(ip in network for network in networks)


def _parse(address: str) -> Any:
    """The address, an IPv4 one if it is only mapped into IPv6 (``::ffff:127.0.0.1``), or None."""
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip
