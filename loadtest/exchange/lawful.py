"""Is an answer lawful? Each rule with its section of OpenRTB 2.6-202606.

Requests and answers are plain JSON. A rule is named once, in `RULES`; `violations` says which are
broken and by what.
"""

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

from .markup import insecure_url, native_object

Json = dict[str, Any]
Rates = Mapping[str, float]


class Rule(NamedTuple):
    """One demand: where it stands, what it asks, and the AdCOM loss reason for breaking it."""

    section: str
    text: str
    loss: int


RULES: dict[str, Rule] = {
    "answer": Rule("§4.2", "the answer is a JSON object", 3),
    "id": Rule("§4.2.1", "`id` echoes the request's", 3),
    "currency": Rule("§4.2.1, §3.2.1", "`cur` is one of the request's; absent means USD", 3),
    "seatbid": Rule("§4.2.1", "an answer with bids has `seatbid[].bid[]`", 3),
    "seat": Rule("§3.2.1", "`seat` obeys `wseat` and `bseat`", 104),
    "bid-fields": Rule("§4.2.3", "a bid has text `id` and `impid`, and a number `price`", 3),
    "bid-id": Rule("§4.2.3", "bid ids differ within an answer", 3),
    "impid": Rule("§4.2.3", "`impid` names an imp of the request", 3),
    "price": Rule("§4.2.3", "`price` is finite and above 0", 9),
    "floor": Rule("§3.2.4, §7.11", "`price` is at or above the imp's floor", 100),
    "deal-floor": Rule("§3.2.12", "`price` is at or above the deal's floor", 101),
    "deal": Rule("§4.2.3, §3.2.12", "`dealid` names a deal open to this seat and advertiser", 4),
    "private": Rule("§3.2.11", "a private auction takes deal bids only", 5),
    "adomain": Rule("§4.2.3", "`adomain` lists the advertiser's domain", 6),
    "badv": Rule("§3.2.1", "`adomain` is not blocked by `badv`", 205),
    "bcat": Rule("§3.2.1", "`cat` is not blocked by `bcat`", 209),
    "battr": Rule("§3.2.6", "`attr` is not blocked by `battr`", 210),
    "media": Rule("§4.2.3", "`mtype` is a kind that the imp offers", 204),
    "size": Rule("§3.2.6, §3.2.10", "`w` x `h` is a size that the banner offers", 203),
    "markup": Rule("§4.2.3, §4.3", "there is markup, or a registered creative with `nurl`", 7),
    "native": Rule("Native 1.2 §5", "native markup answers every required asset", 8),
    "secure": Rule("§3.2.4", "markup for `secure` = 1 loads nothing over HTTP", 207),
    "dsa": Rule("DSA transparency extension", "`bid.ext.dsa` where `dsarequired` is 2 or 3", 3),
}  # fmt: skip


class Violation(NamedTuple):
    """A broken rule. `bid` is the place of the bid among all of the answer, -1 for the answer."""

    rule: str
    bid: int
    detail: str


def bids_of(answer: Json) -> list[tuple[str, Json]]:
    """(seat, bid) of all bids, in order; what is not an object is left out."""
    found = []
    for seatbid in answer.get("seatbid") or ():
        if isinstance(seatbid, dict):
            seat = seatbid.get("seat") or ""
            found += [(seat, bid) for bid in seatbid.get("bid") or () if isinstance(bid, dict)]
    return found


def violations(request: Json, answer: Any, rates: Rates) -> list[Violation]:
    """The rules that `answer` to `request` breaks. `rates` = units of each currency for one base.

    Floors in another currency than the bid's are compared within 5 %, as rates differ by source.
    """
    if not isinstance(answer, dict):
        return [Violation("answer", -1, f"a {type(answer).__name__}")]
    found = []
    if answer.get("id") != request.get("id"):
        found.append(Violation("id", -1, f"{answer.get('id')!r} for {request.get('id')!r}"))
    bids = bids_of(answer)
    if not bids:
        if answer.get("seatbid"):
            found.append(Violation("seatbid", -1, "no bid in it"))
        return found
    currency = answer.get("cur", "USD")
    allowed = request.get("cur")
    if allowed and currency not in allowed:
        found.append(Violation("currency", -1, f"{currency} not in {allowed}"))
    imps = {imp.get("id"): imp for imp in request["imp"]}
    ids = set()
    for number, (seat, bid) in enumerate(bids):
        if bid.get("id") in ids:
            found.append(Violation("bid-id", number, repr(bid.get("id"))))
        ids.add(bid.get("id"))
        offer = _Offer(request, imps.get(bid.get("impid"), {}), seat, bid, currency, rates)
        found += [Violation(rule, number, detail) for rule, detail in _broken(offer)]
    return found


class _Offer(NamedTuple):
    request: Json
    imp: Json
    seat: str
    bid: Json
    currency: str
    rates: Rates


def _broken(offer: _Offer) -> Iterator[tuple[str, str]]:
    bid = offer.bid
    price = bid.get("price")
    number = isinstance(price, int | float) and not isinstance(price, bool)
    if not (number and isinstance(bid.get("id"), str) and isinstance(bid.get("impid"), str)):
        yield "bid-fields", f"id {bid.get('id')!r}, impid {bid.get('impid')!r}, price {price!r}"
        return
    if not offer.imp:
        yield "impid", repr(bid["impid"])
        return
    if not isfinite(bid["price"]) or bid["price"] <= 0:
        yield "price", repr(price)
    for check in _CHECKS:
        yield from check(offer)


def below(
    offer_price: float, currency: str, floor: float, floor_currency: str, rates: Rates
) -> bool:
    """Is the price below the floor? Across currencies only if by more than 5 %."""
    if floor <= 0:
        return False
    if currency == floor_currency:
        return offer_price < floor - 1e-9
    converted = floor * rates.get(currency, 1.0) / rates.get(floor_currency, 1.0)
    return offer_price < converted * 0.95


def deal_of(imp: Json, bid: Json) -> Json | None:
    """The imp's deal that the bid names, if there is one."""
    name = bid.get("dealid")
    deals = (imp.get("pmp") or {}).get("deals") or ()
    return next((deal for deal in deals if deal.get("id") == name), None) if name else None


def _check_price(offer: _Offer) -> Iterator[tuple[str, str]]:
    bid, imp = offer.bid, offer.imp
    deal = deal_of(imp, bid)
    if bid.get("dealid"):
        if deal is None:
            yield "deal", f"no deal {bid['dealid']!r}"
            return
        seats, advertisers = deal.get("wseat"), deal.get("wadomain")
        if seats and offer.seat not in seats:
            yield "deal", f"seat {offer.seat!r} not in {seats}"
        if advertisers and not any(_covered(d, advertisers) for d in bid.get("adomain") or ()):
            yield "deal", f"advertiser {bid.get('adomain')} not in {advertisers}"
        floor, floor_currency, rule = (
            deal.get("bidfloor", 0),
            deal.get("bidfloorcur", "USD"),
            "deal-floor",
        )
    else:
        if (imp.get("pmp") or {}).get("private_auction") == 1:
            yield "private", "no dealid"
        floor, floor_currency, rule = imp.get("bidfloor", 0), imp.get("bidfloorcur", "USD"), "floor"
    if below(bid["price"], offer.currency, floor, floor_currency, offer.rates):
        yield rule, f"{bid['price']} {offer.currency} under {floor} {floor_currency}"


def _check_parties(offer: _Offer) -> Iterator[tuple[str, str]]:
    request, bid = offer.request, offer.bid
    allowed, blocked = request.get("wseat"), request.get("bseat")
    if (allowed and offer.seat not in allowed) or (blocked and offer.seat in blocked):
        yield "seat", f"{offer.seat!r}"
    domains = bid.get("adomain")
    if not isinstance(domains, list) or not domains:
        yield "adomain", repr(domains)
        domains = []
    for domain in domains:
        if (badv := request.get("badv")) and _covered(domain, badv):
            yield "badv", domain
    same_taxonomy = request.get("cattax", 1) == bid.get("cattax", 1)
    if (bcat := request.get("bcat")) and same_taxonomy:
        for cat in bid.get("cat") or ():
            if any(cat == block or cat.startswith(block + "-") for block in bcat):
                yield "bcat", cat
    dsa = ((request.get("regs") or {}).get("ext") or {}).get("dsa") or {}
    if dsa.get("dsarequired", 0) in (2, 3) and not (bid.get("ext") or {}).get("dsa"):
        yield "dsa", "absent"


def _check_creative(offer: _Offer) -> Iterator[tuple[str, str]]:
    imp, bid = offer.imp, offer.bid
    banner, native = imp.get("banner"), imp.get("native")
    markup = bid.get("adm") or ""
    kind = bid.get("mtype") or (4 if banner is None or markup.startswith("{") else 1)
    holder = {1: banner, 2: imp.get("video"), 3: imp.get("audio"), 4: native}.get(kind)
    if holder is None:
        yield "media", f"mtype {kind}"
        return
    for attribute in bid.get("attr") or ():
        if attribute in (holder.get("battr") or ()):
            yield "battr", str(attribute)
    if kind == 1 and not fits(holder, bid.get("w"), bid.get("h")):
        yield "size", f"{bid.get('w')}x{bid.get('h')}"
    if not isinstance(markup, str) or not (markup or (bid.get("nurl") and bid.get("crid"))):
        yield "markup", "neither adm nor nurl with crid"
        return
    if imp.get("secure") == 1 and (url := insecure_url(markup)):
        yield "secure", url
    if kind == 4 and markup:
        yield from _check_native(native or {}, markup)


def _check_native(native: Json, markup: str) -> Iterator[tuple[str, str]]:
    answer = native_object(markup)
    wanted = native_object(native.get("request") or "{}") or {}
    if answer is None or not (answer.get("link") or {}).get("url"):
        yield "native", "no native object with a link"
        return
    given = {asset.get("id") for asset in answer.get("assets") or ()}
    for asset in wanted.get("assets") or ():
        if asset.get("required") == 1 and asset.get("id") not in given:
            yield "native", f"asset {asset.get('id')} is missing"


def fits(banner: Json, width: Any, height: Any) -> bool:
    """Does the banner take this size? Without sizes in the bid only a single offered one does."""
    formats = banner.get("format") or []
    sizes = [(f["w"], f["h"]) for f in formats if f.get("w") and f.get("h")]
    flexible = [f for f in formats if f.get("wratio") and f.get("hratio")]
    if not formats and banner.get("w") and banner.get("h"):
        sizes = [(banner["w"], banner["h"])]
    if not sizes and not flexible:
        return True
    if not isinstance(width, int) or not isinstance(height, int):
        return len(sizes) == 1 and not flexible
    if (width, height) in sizes or (width, height) == (banner.get("w"), banner.get("h")):
        return True
    return any(
        width >= f.get("wmin", 1) and abs(width * f["hratio"] - height * f["wratio"]) <= f["wratio"]
        for f in flexible
    )


def _covered(domain: str, listed: list[str]) -> bool:
    """Is the domain, or one above it, in the list?"""
    low = domain.lower()
    return any(low == d.lower() or low.endswith("." + d.lower()) for d in listed)


_CHECKS: tuple[Callable[[_Offer], Iterator[tuple[str, str]]], ...] = (
    _check_price,
    _check_parties,
    _check_creative,
)
