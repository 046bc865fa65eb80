"""What goes back to the exchange, and into the log? Choices become bids, tokens and events."""

from collections.abc import Sequence
from datetime import date

from msgspec import Struct
from msgspec.structs import replace

from bidder import ids
from bidder.campaigns.catalogue import Creative, LineItem
from bidder.choice import Choice
from bidder.creatives import native
from bidder.creatives.markup import Urls, banner
from bidder.events.schema import BidEvent, GhostEvent
from bidder.exchanges.profile import Exchange
from bidder.money import from_micros
from bidder.notices.receive import EPOCH
from bidder.notices.tokens import Audience, Sealed, Tokens
from bidder.openrtb import response
from bidder.openrtb.macros import AUCTION_LOSS, AUCTION_MIN_TO_WIN
from bidder.openrtb.opportunity import Opportunity
from bidder.openrtb.spelling import size_name
from bidder.pricing import Hold, Shader
from bidder.privacy import Permission
from bidder.scoring.features import VERSION as FEATURE_VERSION

CONSENT_PARAMETERS = (1, 2)
"""DSA parameters of a bid on a known person: profiling and basic advertising."""


class Offered(Struct, frozen=True, gc=False):
    """A bid that is paid for and reserved, and may be sent."""

    choice: Choice
    bid_id: bytes
    hold: Hold
    person: str
    """Empty for nobody."""
    hold_seconds: int
    """How long the ledger keeps the place."""


class Source(Struct, frozen=True, gc=False):
    """What all bids of one request share."""

    offer: Opportunity
    exchange: Exchange
    permission: Permission
    now: float
    model: str
    """Version of the models."""
    shading: Shader
    """What the prices rest on."""
    page: int
    """The page view, as the ledger knows it; 0 = unknown."""


class Answerer:
    """Writes answers whose notices come back to `base`, such as ``https://bid.example``."""

    def __init__(self, tokens: Tokens, base: str) -> None:
        self._tokens = tokens
        self._base = base
        self._secure_base = "https://" + base.partition("://")[2]

    def write(self, source: Source, offered: Sequence[Offered]) -> tuple[bytes, int]:
        """The answer, and how many of `offered` are in it; the exchange may limit its size, and
        then the last are left out. Empty if none fits."""
        exchange = source.exchange
        return response.encode_within(
            exchange.response_limit_bytes,
            source.offer.request_id,
            [self._bid(source, one) for one in offered],
            seat=exchange.seat,
            currency=offered[0].choice.currency,
        )

    def urls(self, sealed: Sealed, exchange: Exchange, *, secure: bool) -> Urls:
        """The addresses that go into the markup: HTTPS on a secure page, whatever we listen on."""
        base = self._secure_base if secure else self._base
        token = self._tokens.seal(sealed, Audience.BROWSER)
        price = exchange.price_parameter("adm")
        return Urls(
            impression=f"{base}/track/impression?t={token}" + (f"&p={price}" if price else ""),
            click=f"{base}/track/click?t={token}",
            why=f"{base}/why?t={token}",
        )

    def _bid(self, source: Source, offered: Offered) -> response.BidOut:
        choice, exchange = offered.choice, source.exchange
        item, creative = choice.line_item, choice.candidate.creative
        campaign = item.campaign
        sealed = _seal(source, offered)
        # The page's address is needed again only where the markup is our answer to the win notice.
        told = sealed if exchange.markup == "win_notice" else replace(sealed, url="")
        token = self._tokens.seal(told, Audience.EXCHANGE)
        width, height = choice.candidate.size
        registered = creative.registered.get(exchange.name, "")
        deal = choice.market.deal
        notice = f"{self._base}/notice/"
        cat, cattax = response.one_taxonomy(creative.categories or campaign.advertiser.categories)
        bid = response.BidOut(
            id=ids.to_text(offered.bid_id),
            impid=choice.slot.imp_id,
            price=from_micros(choice.price_micros),
            nurl=f"{notice}win?t={token}&p={exchange.price_parameter('nurl')}",
            lurl=f"{notice}loss?t={token}&r={AUCTION_LOSS}&m={AUCTION_MIN_TO_WIN}",
            adomain=(campaign.advertiser.domain,),
            crid=registered or response.creative_id(creative.path, exchange.max_crid_bytes),
            adid=registered,
            cid=response.creative_id(campaign.path),
            cat=cat,
            cattax=cattax,
            attr=tuple(sorted(creative.attributes)),
            language=creative.language,
            bundle=creative.app,
            dealid=deal.id if deal else "",
            w=width,
            h=height,
            exp=choice.slot.exp_seconds,
            mtype=response.NATIVE if creative.native is not None else response.BANNER,
            ext=response.extension(_transparency(source, offered), dict(exchange.extra)),
        )
        if exchange.billing_notices:
            bid.burl = f"{notice}billing?t={token}&p={exchange.price_parameter('burl')}"
        if exchange.markup == "adm":
            bid.adm = markup(
                creative,
                item,
                choice.candidate.size,
                choice.slot.native,
                choice.slot.secure,
                self.urls(sealed, exchange, secure=choice.slot.secure),
                exchange,
            )
        return bid


def markup(
    creative: Creative,
    item: LineItem,
    size: tuple[int, int],
    native_request: str,
    secure: bool,
    urls: Urls,
    exchange: Exchange,
) -> str:
    """What the browser or app shows."""
    if creative.native is None:
        return banner(creative, size, urls, exchange, secure=secure)
    domain = item.campaign.advertiser.domain
    return native.answer(
        native_request, creative.native, urls, domain, wrap=exchange.wrap_native, secure=secure
    )


def record(source: Source, offered: Offered) -> BidEvent:
    """The log's line about a bid that was sent, with the features it was scored on."""
    choice, offer, known = offered.choice, source.offer, bool(offered.person)
    candidate, scored = choice.candidate, choice.scored
    return BidEvent(
        time=source.now,
        bid_id=ids.to_text(offered.bid_id),
        request_id=offer.request_id,
        imp_id=choice.slot.imp_id,
        exchange=source.exchange.name,
        line_item=choice.line_item.path,
        creative=candidate.creative.id,
        price_cpm_micros=choice.price_micros,
        currency=choice.currency,
        value_cpm_micros=scored.value_micros,
        account_currency=choice.line_item.campaign.advertiser.currency,
        rate=1 / candidate.rate,
        first_price=choice.market.auction == 1,
        floor_cpm_micros=choice.market.floor_micros,
        size=size_name(candidate.size),
        deal=choice.market.deal.id if choice.market.deal else "",
        person=offered.person,
        p_click=scored.estimate.p_click,
        p_conversion=scored.estimate.p_conversion,
        p_view=scored.estimate.p_view,
        intrusiveness=scored.estimate.intrusiveness,
        model=source.model,
        features=[*scored.row],
        feature_version=FEATURE_VERSION,
        country=offer.country,
        device=offer.device,
        os=offer.os,
        browser=offer.browser,
        domain=offer.domain or offer.bundle,
        publisher=offer.publisher,
        consent=source.permission.measure,
        train=source.permission.train and known,
        p_win=choice.p_win,
        shading=source.shading.version,
        explored=choice.explored,
        propensity=source.shading.propensity(choice.market.auction, choice.explored),
    )


def ghost(source: Source, choice: Choice, bid_id: bytes, person: str) -> GhostEvent:
    """The log's line about a bid that was not made, for the person is in a control group."""
    return GhostEvent(
        time=source.now,
        bid_id=ids.to_text(bid_id),
        exchange=source.exchange.name,
        line_item=choice.line_item.path,
        creative=choice.candidate.creative.id,
        price_cpm_micros=choice.price_micros,
        currency=choice.currency,
        value_cpm_micros=choice.scored.value_micros,
        p_win=choice.p_win,
        person=person,
    )


def _seal(source: Source, offered: Offered) -> Sealed:
    choice = offered.choice
    item, creative = choice.line_item, choice.candidate.creative
    campaign = item.campaign
    return Sealed(
        bid_id=offered.bid_id,
        exchange=source.exchange.id32,
        advertiser=campaign.advertiser.id32,
        campaign=campaign.id32,
        line_item=item.id32,
        creative=creative.id32,
        bid_cpm_micros=choice.price_micros,
        currency=choice.currency,
        account_currency=campaign.advertiser.currency,
        rate=1 / choice.candidate.rate,
        holder=offered.hold.holder,
        day=(date.fromisoformat(offered.hold.day) - EPOCH).days,
        hold_seconds=offered.hold_seconds,
        person=offered.person,
        page=source.page,
        test=source.offer.test,
        measure=source.permission.measure and source.permission.target,
        url=creative.click_url,
    )


def _transparency(source: Source, offered: Offered) -> response.Dsa | None:
    """Who paid and how the person was chosen, where the request asks for it (EU DSA, Art. 26)."""
    if not source.offer.dsa_required:
        return None
    advertiser = offered.choice.line_item.campaign.advertiser
    used = (response.Transparency(advertiser.domain, CONSENT_PARAMETERS),)
    return response.Dsa(
        behalf=advertiser.domain,
        paid=advertiser.domain,
        transparency=used if offered.person else (),
        adrender=0 if source.offer.dsa_by_publisher else 1,
    )
