"""What did the exchange ask? A bid request decoded into types, only the fields that we use.

Sections are those of OpenRTB 2.6. An absent field is None, which means "unknown" (§2.3). A fact
that 2.5 keeps in an `ext` is moved to its 2.6 place. An optional field of an unreadable type is as
if it were absent; only `id`, `imp` and `imp.id` are worth refusing a request for (§3.2).
"""

from typing import Any

import msgspec
from msgspec import Struct

from bidder.openrtb.tolerant import InvalidRequest as InvalidRequest
from bidder.openrtb.tolerant import tolerant


class Wire(Struct, gc=False):
    """Base of the request's objects: mutable, so that folding can fill the new places."""


class Format(Wire):  # §3.2.10
    w: int | None = None
    h: int | None = None
    wratio: int | None = None
    hratio: int | None = None
    wmin: int | None = None


class Banner(Wire):  # §3.2.6
    format: list[Format] | None = None
    w: int | None = None
    h: int | None = None
    btype: list[int] | None = None
    battr: list[int] | None = None
    pos: int | None = None
    mimes: list[str] | None = None
    topframe: int | None = None
    expdir: list[int] | None = None
    api: list[int] | None = None


class Native(Wire):  # §3.2.9
    request: str | dict[str, Any] | None = None
    """JSON text; some senders leave it an object."""
    ver: str | None = None
    api: list[int] | None = None
    battr: list[int] | None = None


class Deal(Wire):  # §3.2.12
    id: str
    bidfloor: float = 0.0
    bidfloorcur: str = "USD"
    at: int | None = None
    wseat: list[str] | None = None
    wadomain: list[str] | None = None


class Pmp(Wire):  # §3.2.11
    private_auction: int = 0
    deals: list[Deal] | None = None


class Imp(Wire):  # §3.2.4
    id: str
    banner: Banner | None = None
    native: Native | None = None
    pmp: Pmp | None = None
    instl: int | None = None
    tagid: str | None = None
    bidfloor: float = 0.0
    bidfloorcur: str = "USD"
    secure: int | None = None
    exp: int | None = None
    metric: list["Metric"] | None = None


class Metric(Wire):  # §3.2.5
    type: str | None = None
    value: float | None = None


class Publisher(Wire):  # §3.2.15
    id: str | None = None
    domain: str | None = None


class Content(Wire):  # §3.2.16
    language: str | None = None
    cat: list[str] | None = None
    cattax: int | None = None
    keywords: str | None = None


class Inventory(Wire):  # §3.2.13, §3.2.14: what site and app share with our use
    id: str | None = None
    name: str | None = None
    domain: str | None = None
    cat: list[str] | None = None
    sectioncat: list[str] | None = None
    pagecat: list[str] | None = None
    cattax: int | None = None
    page: str | None = None
    bundle: str | None = None
    keywords: str | None = None
    publisher: Publisher | None = None
    content: Content | None = None


class Geo(Wire):  # §3.2.19
    lat: float | None = None
    lon: float | None = None
    country: str | None = None
    region: str | None = None
    city: str | None = None
    zip: str | None = None
    utcoffset: int | None = None


class BrandVersion(Wire):  # §3.2.30
    brand: str = ""


class UserAgent(Wire):  # §3.2.29
    browsers: list[BrandVersion] | None = None
    platform: BrandVersion | None = None
    mobile: int | None = None


class Device(Wire):  # §3.2.18
    ua: str | None = None
    sua: UserAgent | None = None
    geo: Geo | None = None
    dnt: int | None = None
    lmt: int | None = None
    ip: str | None = None
    ipv6: str | None = None
    devicetype: int | None = None
    os: str | None = None
    language: str | None = None
    langb: str | None = None
    ifa: str | None = None


class Uid(Wire):  # §3.2.28
    id: str | None = None


class Eid(Wire):  # §3.2.27
    source: str | None = None
    uids: list[Uid] | None = None
    mm: int | None = None


class UserExt(Wire):
    consent: str | None = None
    eids: list[Eid] | None = None


class User(Wire):  # §3.2.20
    id: str | None = None
    buyeruid: str | None = None
    consent: str | None = None
    eids: list[Eid] | None = None
    keywords: str | None = None
    geo: Geo | None = None
    ext: UserExt | None = None


class Dsa(Wire):  # EU transparency extension
    dsarequired: int | None = None
    pubrender: int | None = None
    """2 = the publisher shows it, and the markup must not."""


class RegsExt(Wire):
    gdpr: int | None = None
    us_privacy: str | None = None
    gpp: str | None = None
    gpp_sid: list[int] | None = None
    gpc: int | None = None
    """Sent as text, as a number and as true."""
    dsa: Dsa | None = None
    coppa: int | None = None


class Regs(Wire):  # §3.2.3
    coppa: int | None = None
    gpc: int | None = None
    gdpr: int | None = None
    us_privacy: str | None = None
    gpp: str | None = None
    gpp_sid: list[int] | None = None
    ext: RegsExt | None = None


class SupplyNode(Wire):  # §3.2.26
    asi: str | None = None
    sid: str | None = None


class SupplyChain(Wire):  # §3.2.25
    complete: int | None = None
    nodes: list[SupplyNode] | None = None


class SourceExt(Wire):
    schain: SupplyChain | None = None


class Source(Wire):  # §3.2.2
    tid: str | None = None
    schain: SupplyChain | None = None
    ext: SourceExt | None = None


class BidFeedback(Wire):
    """Google Authorized Buyers: how an earlier bid of ours fared."""

    request_id: str | None = None
    creative_status_code: int | None = None
    price: float | None = None
    minimum_bid_to_win: float | None = None
    buyer_creative_id: str | None = None


class RequestExt(Wire):
    bid_feedback: list[BidFeedback] | None = None


class BidRequest(Wire):  # §3.2.1
    id: str
    imp: list[Imp]
    site: Inventory | None = None
    app: Inventory | None = None
    dooh: Inventory | None = None
    device: Device | None = None
    user: User | None = None
    test: int = 0
    at: int = 2
    tmax: int | None = None
    wseat: list[str] | None = None
    bseat: list[str] | None = None
    cur: list[str] | None = None
    wlang: list[str] | None = None
    wlangb: list[str] | None = None
    acat: list[str] | None = None
    bcat: list[str] | None = None
    cattax: int | None = None
    badv: list[str] | None = None
    bapp: list[str] | None = None
    source: Source | None = None
    regs: Regs | None = None
    ext: RequestExt | None = None


_EMPTY: tuple[object, ...] = (None, "", [])

# Numbers in quotes and whole floats are read as the integers they stand for.
_decoder = msgspec.json.Decoder(BidRequest, strict=False)


def decode(body: bytes) -> BidRequest:
    """A folded `BidRequest` from the JSON in `body`.

    Raises `InvalidRequest` for what is not JSON, lacks a required field, or names more than one of
    site, app and dooh.
    """
    try:
        request = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        request = tolerant(BidRequest, body)
    if not request.id:
        raise InvalidRequest("id is missing")
    if not request.imp:
        raise InvalidRequest("imp is empty")
    for imp in request.imp:
        if not imp.id:
            raise InvalidRequest("imp.id is missing")
    if (request.site is not None) + (request.app is not None) + (request.dooh is not None) > 1:
        raise InvalidRequest("more than one of site, app and dooh")
    _fold(request)
    return request


def _fold(request: BidRequest) -> None:
    """Move what 2.5 keeps in an `ext` to its 2.6 place; the new place wins, unless it is empty."""
    regs = request.regs
    if regs is not None and regs.ext is not None:
        ext = regs.ext
        for name in ("gdpr", "us_privacy", "gpp", "gpp_sid", "gpc", "coppa"):
            if getattr(regs, name) in _EMPTY:
                setattr(regs, name, getattr(ext, name))
    user = request.user
    if user is not None and user.ext is not None:
        user.consent = user.consent or user.ext.consent
        user.eids = user.eids or user.ext.eids
    source = request.source
    if source is not None and source.schain is None and source.ext is not None:
        source.schain = source.ext.schain
