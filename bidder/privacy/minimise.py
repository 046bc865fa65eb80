"""What may be kept of a request whose person we may not target?

No identifiers, no coordinates, no keywords; of the IP address the network, of the page the domain,
of the browser its family, of the device its class. What is left describes the ad space.
"""

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from msgspec.structs import replace

from bidder.openrtb.opportunity import Opportunity, Signals

_MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv6 address begins that stands for an IPv4 one (RFC 4291, 2.5.5.2)."""


def minimise(opportunity: Opportunity) -> Opportunity:
    """A copy without what could single out the person.

    The consent strings go too: to the decisecond of the click they are nearly unique, and once the
    permission is known nothing needs them. `request_id` stays, for the answer must repeat it.
    """
    signals = opportunity.signals
    return replace(
        opportunity,
        signals=Signals(
            country=signals.country,
            gdpr=signals.gdpr,
            gpp_sid=signals.gpp_sid,
            gpc=signals.gpc,
            limit_tracking=signals.limit_tracking,
            coppa=signals.coppa,
        ),
        postcode="",
        latitude=None,
        longitude=None,
        domain=cut_domain(opportunity.domain),
        page="",
        keywords="",
        identifiers=(),
        transaction_id="",
        ip=cut_ip(opportunity.ip),
        user_agent="",
    )


def cut_ip(ip: str) -> str:
    """The /24 network of an IPv4 address, the /48 of an IPv6 one; empty if it is neither."""
    try:
        if ":" not in ip:
            return inet_ntop(AF_INET, inet_pton(AF_INET, ip)[:3] + b"\0")
        packed = inet_pton(AF_INET6, ip)
    except (OSError, ValueError):  # ValueError: a null character
        return ""
    if packed.startswith(_MAPPED):
        return inet_ntop(AF_INET, packed[12:15] + b"\0")
    return inet_ntop(AF_INET6, packed[:6] + bytes(10))


def cut_domain(domain: str) -> str:
    """The host alone, where an exchange sends more than that as `domain`."""
    host = domain.partition("://")[2] or domain
    for mark in "/?#":
        host = host.partition(mark)[0]
    return host.rpartition("@")[2].partition(":")[0]
