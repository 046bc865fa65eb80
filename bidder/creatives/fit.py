"""May this creative fill this slot, for this publisher, on this exchange?

The slow obvious truth: it repeats what the index knows from load time (size, secure) and adds what
only the request can say. It runs for the few line items that survive everything else.
"""

from functools import lru_cache

from bidder.campaigns.catalogue import Advertiser, Creative
from bidder.creatives import native
from bidder.creatives.mimes import HTML, SCRIPT, accepts_image
from bidder.exchanges.profile import Exchange
from bidder.openrtb.opportunity import Opportunity, Slot
from bidder.openrtb.spelling import is_category_in, is_domain_in, with_parents
from bidder.reasons import NoBid

Size = tuple[int, int]
NATIVE_SIZE: Size = (0, 0)
_WRONG_SIZE = NoBid.WRONG_SIZE
"""The commonest answer; the member of an enumeration is slow to look up."""

XHTML_BANNER, JAVASCRIPT, IFRAME = 2, 3, 4
"""Banner ad types (AdCOM 1.0 "Creative Subtypes - Display", `banner.btype`)."""


def fits(
    creative: Creative,
    advertiser: Advertiser,
    slot: Slot,
    opportunity: Opportunity,
    exchange: Exchange,
) -> Size | NoBid:
    """The size in pixels in which `creative` fills `slot` ((0, 0) if native), or why it may not.

    A fact that the request does not state is taken for permission, except where the standard says
    that unlisted means unsupported: `api` (§3.2.6), and here `expdir` as well.
    """
    size = NATIVE_SIZE
    is_banner = creative.native is None
    if is_banner:
        size = (creative.width, creative.height)
        if size not in slot.sizes and not (
            slot.flexible and any(offer.takes(size) for offer in slot.flexible)
        ):
            return _WRONG_SIZE
    elif not slot.native:
        return _WRONG_SIZE
    if slot.secure and not creative.secure:
        return NoBid.NO_CREATIVE
    if exchange.markup == "registered" and not creative.registered.get(exchange.name):
        return NoBid.NO_CREATIVE
    apis = slot.apis if is_banner else slot.native_apis
    if not (creative.apis <= apis and creative.expandable <= slot.expandable):
        return NoBid.NO_CREATIVE
    if is_banner and slot.mimes and not _takes_banner(creative, slot.mimes):
        return NoBid.NO_CREATIVE
    if not _speaks(creative.language, opportunity):
        return NoBid.WRONG_LANGUAGE
    if blocked_by(creative, advertiser, slot, opportunity):
        return NoBid.BLOCKED_BY_PUBLISHER
    if creative.native is not None and not native.meets(
        slot.native, creative.native, advertiser.domain
    ):
        return NoBid.NO_CREATIVE
    return size


def _takes_banner(creative: Creative, mimes: frozenset[str]) -> bool:
    """`mimes`: an image goes by its own type or as HTML, HTML as itself or as what it runs."""
    if mimes & HTML:
        return True
    if creative.image_url:
        return accepts_image(mimes, creative.image_url)
    return JAVASCRIPT in html_types(creative.html) and bool(mimes & SCRIPT)


def _speaks(language: str, opportunity: Opportunity) -> bool:
    """`wlang` or `wlangb`. With an allow list, a creative must say what language it is in."""
    allowed, blocked = opportunity.allowed_languages, opportunity.blocked_languages
    if not allowed and not blocked:
        return True
    language = language[:2].lower()
    return (not allowed or language in allowed) and language not in blocked


def blocked_by(
    creative: Creative, advertiser: Advertiser, slot: Slot, opportunity: Opportunity
) -> str:
    """The list that keeps the creative out, as OpenRTB calls it; empty if none does.

    For what it does (`battr`), is (`btype`), is about (`bcat`, `acat`), whose it is (`badv`) or
    which app it is for (`bapp`).
    """
    if slot.blocked_attributes and not slot.blocked_attributes.isdisjoint(creative.attributes):
        return "battr"
    if slot.blocked_types and not slot.blocked_types.isdisjoint(banner_types(creative)):
        return "btype"
    blocked_advertisers = opportunity.blocked_advertisers
    if blocked_advertisers and is_domain_in(advertiser.domain, blocked_advertisers):
        return "badv"
    if creative.app and creative.app in opportunity.blocked_apps:
        return "bapp"
    blocked, allowed = opportunity.blocked_categories, opportunity.allowed_categories
    if not blocked and not allowed:
        return ""
    about = creative.categories | advertiser.categories
    if not blocked.isdisjoint(with_parents(about)):
        return "bcat"
    return "acat" if allowed and not _are_allowed(about, allowed) else ""


def _are_allowed(about: frozenset[str], allowed: frozenset[str]) -> bool:
    """`acat`: every category in the list's own taxonomy is on it, and there is one."""
    taxonomies = {_taxonomy(category) for category in allowed}
    comparable = [category for category in about if _taxonomy(category) in taxonomies]
    return bool(comparable) and all(is_category_in(category, allowed) for category in comparable)


def _taxonomy(category: str) -> str:
    """``6`` of ``6:123``; empty for the default, IAB 1.0."""
    return category.rpartition(":")[0]


def banner_types(creative: Creative) -> frozenset[int]:
    """What `btype` calls the creative; nothing if it is native."""
    return html_types(creative.html) if creative.native is None else frozenset()


@lru_cache(maxsize=65536)
def html_types(html: str) -> frozenset[int]:
    """XHTML banner, unless it holds a script or a frame; no HTML at all = an image."""
    low = html.lower()
    found = {kind for tag, kind in (("<script", JAVASCRIPT), ("<iframe", IFRAME)) if tag in low}
    return frozenset(found or {XHTML_BANNER})
