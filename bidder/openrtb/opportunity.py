"""What is on offer? One bid request boiled down to the values that decisions ask for.

An `Opportunity` says where, on what device, for whom and under which rules; its `Slot`s say what
each `imp` would take. Every room behind the decoder reads these and never the wire.
"""

import json

from msgspec import Struct

from bidder.openrtb.apps import app_id
from bidder.openrtb.countries import alpha_2
from bidder.openrtb.request import (
    Banner,
    BidFeedback,
    BidRequest,
    Deal,
    Device,
    Geo,
    Imp,
    Inventory,
    Native,
    Regs,
    User,
)
from bidder.openrtb.spelling import bare, categories, domains, host, languages, lower
from bidder.openrtb.user_agent import of_device

DEVICE_TYPES = {
    1: "mobile",
    2: "desktop",
    3: "ctv",
    4: "mobile",
    5: "tablet",
    6: "other",
    7: "ctv",
    8: "ooh",
}
"""AdCOM 1.0 List: Device Types."""

MAX_SIZES = 64
MAX_SLOTS = 32
"""What of one request we look at: more sizes or slots than this cost us more than they bring."""

_EMPTY: frozenset[str] = frozenset()
_EMPTY_NUMBERS: frozenset[int] = frozenset()
_NO_GEO, _NO_DEVICE, _NO_USER, _NO_REGS = Geo(), Device(), User(), Regs()
_NO_INVENTORY, _NO_BANNER = Inventory(), Banner()

_OF_ADDRESSES = frozenset("/?#@:")
"""Signs that no domain has."""

POSITIONS = 8
"""Placement positions (AdCOM 1.0), 2 being the locked one of OpenRTB 2.x."""
MAX_EXP_SECONDS = 86_400
"""The longest we wait from the auction to the impression: a notice of it counts for a day."""
MAX_TMAX_MS = 60_000
"""No auction waits longer, whatever its request says."""


class Signals(Struct, frozen=True, gc=False):
    """Everything a request says about what we may do: the input of `bidder.privacy`."""

    country: str = ""
    """ISO 3166-1 alpha-2; empty if unknown."""
    gdpr: int | None = None
    consent: str = ""
    us_privacy: str = ""
    gpp: str = ""
    gpp_sid: tuple[int, ...] = ()
    gpc: bool = False
    limit_tracking: bool = False
    """`device.lmt` or `device.dnt`."""
    coppa: bool = False


class FlexibleSize(Struct, frozen=True, gc=False):
    """A banner size given as a ratio and a least width (§3.2.10)."""

    wratio: int
    hratio: int
    wmin: int

    def takes(self, size: tuple[int, int]) -> bool:
        """A size of exactly the ratio asked for, and at least as wide as asked for."""
        width, height = size
        return width >= self.wmin and width * self.hratio == height * self.wratio


class DealOffer(Struct, frozen=True, gc=False):
    """A deal we may use on a slot (§3.2.12)."""

    id: str
    floor_cpm: float
    floor_currency: str
    auction: int
    """1 first price, 2 second price, 3 fixed price at the floor."""
    seats: frozenset[str]
    """Seats that may use it; empty = any."""
    advertisers: frozenset[str]
    """Domains that may use it; empty = any."""


class Slot(Struct, frozen=True, gc=False):
    """One `imp` that a banner or native creative may fill."""

    imp_id: str
    index: int
    sizes: tuple[tuple[int, int], ...]
    """Banner sizes in pixels, in the order offered; empty if only native."""
    flexible: tuple[FlexibleSize, ...]
    native: str
    """The native request as JSON text; empty if none."""
    floor_cpm: float
    floor_currency: str
    deals: tuple[DealOffer, ...]
    private: bool
    """Only deals may bid."""
    secure: bool
    position: int
    """AdCOM placement position; 0 = unknown."""
    interstitial: bool
    blocked_attributes: frozenset[int]
    blocked_types: frozenset[int]
    """Banner ad types (`btype`): 1 XHTML text, 2 XHTML banner, 3 JavaScript, 4 iframe."""
    mimes: frozenset[str]
    """Accepted content types; empty = any."""
    apis: frozenset[int]
    """API frameworks that a banner may use; what is not listed is not supported."""
    viewability: float
    """Predicted, 0..1; -1 = unknown."""
    exp_seconds: int
    """Auction to impression, at most (§7.2)."""
    tag_id: str
    expandable: frozenset[int] = frozenset()
    """Directions (`expdir`) in which an ad may expand; empty = not known to be allowed."""
    native_apis: frozenset[int] = frozenset()
    """What `apis` is to banners, to native ads."""


class Opportunity(Struct, frozen=True, gc=False):
    """One bid request as the decision sees it. Unknown text is empty, unknown numbers are None."""

    request_id: str
    exchange: str
    slots: tuple[Slot, ...]
    auction: int
    """1 first price, 2 second price, above 500 the exchange's own."""
    currencies: tuple[str, ...]
    tmax_ms: int | None
    test: bool
    signals: Signals
    country: str
    region: str
    city: str
    postcode: str
    latitude: float | None
    longitude: float | None
    utc_offset_minutes: int | None
    device: str
    """mobile, tablet, desktop, ctv, ooh, other; empty = unknown."""
    os: str
    """ios, android, windows, macos, linux, chromeos, other; empty = unknown."""
    browser: str
    """chrome, safari, firefox, edge, samsung, opera, other; empty = unknown."""
    language: str
    """ISO 639-1, lower case."""
    supply: str
    """site, app, dooh; empty = unknown."""
    domain: str
    bundle: str
    publisher: str
    page: str
    categories: frozenset[str]
    """Of site, section, page and content; `IAB1-2`, or `6:123` for taxonomies other than 1."""
    keywords: str
    blocked_categories: frozenset[str]
    allowed_categories: frozenset[str]
    """Empty = any."""
    blocked_advertisers: frozenset[str]
    blocked_apps: frozenset[str]
    """As `app_id` writes them."""
    seats: frozenset[str]
    """Seats that may bid; empty = any."""
    blocked_seats: frozenset[str]
    allowed_languages: frozenset[str]
    blocked_languages: frozenset[str]
    identifiers: tuple[tuple[str, str], ...]
    """(source, value): `buyeruid`, `ifa`, or an eid's source. Bridged ids are left out (§7.12)."""
    transaction_id: str
    ip: str
    user_agent: str
    dsa_required: bool
    feedback: tuple[BidFeedback, ...]
    dsa_by_publisher: bool = False
    """The publisher shows who paid; markup that did so as well would be refused."""


def opportunity(request: BidRequest, exchange: str) -> Opportunity:
    """What `request`, from the exchange of this name, offers."""
    device = request.device or _NO_DEVICE
    user = request.user or _NO_USER
    regs = request.regs or _NO_REGS
    geo = device.geo or _NO_GEO
    home = user.geo or _NO_GEO
    place = request.site or request.app or request.dooh or _NO_INVENTORY
    country = alpha_2(geo.country) or alpha_2(home.country)
    os, browser, form = of_device(device)
    taxonomy = request.cattax or 1
    publisher = place.publisher
    dsa = regs.ext.dsa if regs.ext else None
    return Opportunity(
        request_id=request.id,
        exchange=exchange,
        slots=_slots(request.imp),
        auction=request.at,
        currencies=tuple(c.upper() for c in request.cur or ()),
        tmax_ms=min(request.tmax, MAX_TMAX_MS) if request.tmax and request.tmax > 0 else None,
        test=request.test == 1,
        signals=_signals(country, regs, user, device),
        country=country,
        region=geo.region or "",
        city=geo.city or "",
        postcode=geo.zip or "",
        latitude=geo.lat,
        longitude=geo.lon,
        utc_offset_minutes=geo.utcoffset if abs(geo.utcoffset or 0) <= 1440 else None,
        device=DEVICE_TYPES.get(device.devicetype or 0) or form,
        os=os,
        browser=browser,
        language=(device.language or device.langb or "")[:2].lower(),
        supply="site" if request.site else "app" if request.app else "dooh" if request.dooh else "",
        domain=_domain(place),
        bundle=place.bundle or "",
        publisher=(publisher.id or "") if publisher else "",
        page=place.page or "",
        categories=_categories_of(place),
        keywords=place.keywords or "",
        blocked_categories=categories(request.bcat, taxonomy),
        allowed_categories=categories(request.acat, taxonomy),
        blocked_advertisers=domains(request.badv),
        blocked_apps=frozenset(map(app_id, request.bapp)) if request.bapp else _EMPTY,
        seats=frozenset(request.wseat) if request.wseat else _EMPTY,
        blocked_seats=frozenset(request.bseat) if request.bseat else _EMPTY,
        allowed_languages=languages(request.wlang),
        blocked_languages=languages(request.wlangb),
        identifiers=_identifiers(user, device),
        transaction_id=(request.source.tid or "") if request.source else "",
        ip=device.ip or device.ipv6 or "",
        user_agent=device.ua or "",
        dsa_required=bool(dsa and (dsa.dsarequired or 0) >= 2),
        feedback=tuple(request.ext.bid_feedback or ()) if request.ext else (),
        dsa_by_publisher=bool(dsa and dsa.pubrender == 2),
    )


def _signals(country: str, regs: Regs, user: User, device: Device) -> Signals:
    return Signals(
        country=country,
        gdpr=regs.gdpr,
        consent=user.consent or "",
        us_privacy=regs.us_privacy or "",
        gpp=regs.gpp or "",
        gpp_sid=tuple(regs.gpp_sid or ()),
        gpc=regs.gpc == 1,
        limit_tracking=device.lmt == 1 or device.dnt == 1,
        coppa=regs.coppa == 1,
    )


def _categories_of(place: Inventory) -> frozenset[str]:
    own = [*(place.cat or ()), *(place.sectioncat or ()), *(place.pagecat or ())]
    found = categories(own, place.cattax or 1)
    content = place.content
    if content is not None and content.cat:
        found |= categories(content.cat, content.cattax or 1)
    return found


def _slots(imps: list[Imp]) -> tuple[Slot, ...]:
    """The slots we can fill, the first of each imp id; video and audio are not ours."""
    slots: dict[str, Slot] = {}
    for index, imp in enumerate(imps[:MAX_SLOTS]):
        if imp.id not in slots and (slot := _slot(index, imp)) is not None:
            slots[imp.id] = slot
    return tuple(slots.values())


def _slot(index: int, imp: Imp) -> Slot | None:
    banner = imp.banner or _NO_BANNER
    native = imp.native
    sizes, flexible = _sizes(banner)
    native_text = _native_text(native) if native else ""
    if not sizes and not flexible and not native_text:
        return None
    viewability = -1.0
    for metric in imp.metric or ():
        if metric.type == "viewability" and metric.value is not None:
            viewability = metric.value
    pmp = imp.pmp
    attributes = [*(banner.battr or ()), *((native.battr or ()) if native else ())]
    return Slot(
        imp_id=imp.id,
        index=index,
        sizes=sizes,
        flexible=flexible,
        native=native_text,
        floor_cpm=max(imp.bidfloor, 0.0),
        floor_currency=imp.bidfloorcur.upper(),
        deals=_deals(pmp.deals) if pmp and pmp.deals else (),
        private=pmp is not None and pmp.private_auction == 1,
        secure=imp.secure == 1,
        position=banner.pos if banner.pos and 0 < banner.pos < POSITIONS else 0,
        interstitial=imp.instl == 1,
        blocked_attributes=frozenset(attributes),
        blocked_types=frozenset(banner.btype or ()),
        mimes=lower(banner.mimes),
        apis=frozenset(banner.api or ()),
        viewability=viewability,
        exp_seconds=min(imp.exp, MAX_EXP_SECONDS) if imp.exp and imp.exp > 0 else _usual_exp(imp),
        tag_id=imp.tagid or "",
        expandable=frozenset(banner.expdir or ()),
        native_apis=frozenset(native.api or ()) if native else _EMPTY_NUMBERS,
    )


def _usual_exp(imp: Imp) -> int:
    """Rules of thumb of §7.2. Whether it is an app is not known here, so the longer of the two."""
    return 1800 if imp.instl == 1 else 300


def _sizes(banner: Banner) -> tuple[tuple[tuple[int, int], ...], tuple[FlexibleSize, ...]]:
    """Fixed sizes in the order offered, and flexible ones; `w`/`h` where there is no format."""
    sizes: dict[tuple[int, int], None] = {}
    flexible = []
    for offer in (banner.format or ())[:MAX_SIZES]:
        if (offer.w or 0) > 0 and (offer.h or 0) > 0:
            sizes[offer.w, offer.h] = None  # type: ignore[index]  # both are above 0, so not None
        elif (offer.wratio or 0) > 0 and (offer.hratio or 0) > 0:
            flexible.append(FlexibleSize(offer.wratio, offer.hratio, offer.wmin or 1))  # type: ignore[arg-type]
    if not sizes and not flexible and (banner.w or 0) > 0 and (banner.h or 0) > 0:
        sizes[banner.w, banner.h] = None  # type: ignore[index]
    return tuple(sizes), tuple(flexible)


def _deals(deals: list[Deal]) -> tuple[DealOffer, ...]:
    """The first of each id; a bid could not say which deal it is for, if that has none."""
    found: dict[str, DealOffer] = {}
    for deal in deals:
        if deal.id and deal.id not in found:
            found[deal.id] = _deal(deal)
    return tuple(found.values())


def _deal(deal: Deal) -> DealOffer:
    return DealOffer(
        id=deal.id,
        floor_cpm=max(deal.bidfloor, 0.0),
        floor_currency=deal.bidfloorcur.upper(),
        auction=deal.at or 0,
        seats=frozenset(deal.wseat) if deal.wseat else _EMPTY,
        advertisers=domains(deal.wadomain),
    )


def _domain(place: Inventory) -> str:
    """The site's domain, from `domain` or the page's host; lower case, without ``www.``."""
    text = place.domain or place.page or ""
    if not _OF_ADDRESSES.isdisjoint(text):
        text = host(text)
    return bare(text)


def _native_text(native: Native) -> str:
    """The native request as text, though some senders leave it an object (§3.2.9)."""
    request = native.request
    if isinstance(request, dict):
        return json.dumps(request)  # unlike others, it writes lone surrogates
    return request or ""


def _identifiers(user: User, device: Device) -> tuple[tuple[str, str], ...]:
    found = []
    if user.buyeruid:
        found.append(("buyeruid", user.buyeruid))
    for eid in user.eids or ():
        if eid.source and eid.uids and eid.mm not in (3, 4, 5):
            found += [(eid.source, uid.id) for uid in eid.uids if uid.id]
    if device.ifa and device.ifa.strip("0-"):
        found.append(("ifa", device.ifa.lower()))
    return tuple(found)
