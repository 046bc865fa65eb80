"""Is an answer lawful? Each rule with its section of OpenRTB 2.6-202606.

Requests and answers are plain JSON. A rule is named once, in `RULES`; `violations` says which are
broken and by what.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .markup import insecure_url, native_link, native_object, objects

Json = dict[str, Any]
Rates = Mapping[str, float]


class Rule(NamedTuple):
    """One demand: where it stands, what it asks, and the AdCOM loss reason for breaking it."""

    section: str
    text: str
    loss: int


RULES: dict[str, Rule] = {
    "answer": Rule("§4.2", "the answer is a JSON object with fields of the right types", 3),
    "id": Rule("§4.2.1", "`id` echoes the request's", 3),
    "currency": Rule("§4.2.1, §3.2.1", "`cur` is one of the request's; absent means USD", 3),
    "seatbid": Rule("§4.2.1", "an answer with bids has `seatbid[].bid[]`", 3),
    "seat": Rule("§3.2.1", "`seat` obeys `wseat` and `bseat`", 104),
    "bid-fields": Rule("§4.2.3", "a bid has text `id` and `impid`, and a number `price`", 3),
    "bid-id": Rule("§4.2.3", "bid ids differ within an answer", 3),
    "impid": Rule("§4.2.3", "`impid` names an imp of the request", 3),
    "price": Rule("§4.2.3", "`price` is above 0, and under a million", 9),
    "floor": Rule("§3.2.4, §7.11", "`price` is at or above the imp's floor", 100),
    "deal-floor": Rule("§3.2.12", "`price` is at or above the deal's floor", 101),
    "deal": Rule("§4.2.3, §3.2.12", "`dealid` names a deal open to this seat and advertiser", 4),
    "private": Rule("§3.2.11", "a private auction takes deal bids only", 5),
    "adomain": Rule("§4.2.3", "`adomain` lists the advertiser's domain", 6),
    "badv": Rule("§3.2.1", "`adomain` is not blocked by `badv`", 205),
    "bapp": Rule("§3.2.1", "`bundle` is not blocked by `bapp`", 206),
    "language": Rule("§3.2.1", "`language` is in `wlang`, or not in `wlangb`", 208),
    "bcat": Rule("§3.2.1", "`cat` is not blocked by `bcat`", 209),
    "acat": Rule("§3.2.1", "`cat` is given where `acat` is, and all of it is in there", 209),
    "battr": Rule("§3.2.6", "`attr` is not blocked by `battr`", 210),
    "media": Rule("§4.2.3", "`mtype` is a kind that the imp offers", 204),
    "size": Rule("§3.2.6, §3.2.10", "`w` x `h` is a size that the banner offers", 203),
    "markup": Rule("§4.2.3, §4.3", "there is markup, or a registered creative with `nurl`", 7),
    "native": Rule("Native 1.2 §5", "native markup answers every required asset", 8),
    "secure": Rule("§3.2.4", "markup for `secure` = 1 loads nothing over HTTP", 207),
    "dsa": Rule("DSA transparency extension", "`bid.ext.dsa` where `dsarequired` is 2 or 3", 3),
}  # fmt: skip


_MEDIA = {1: "banner", 2: "video", 3: "audio", 4: "native"}
"""`mtype` -> what an imp offers."""


class Violation(NamedTuple):
    """A broken rule. `bid` is the place of the bid among all of the answer, -1 for the answer."""

    rule: str
    bid: int
    detail: str


_HIGHEST_CPM = 1e6
_Type = type | list[type]
"""Of a field: its type, or that of all in its list."""
_ANSWER: dict[str, _Type] = {"bidid": str, "cur": str, "seatbid": [dict]}
_SEATBID: dict[str, _Type] = {"seat": str, "bid": [dict]}
_BID: dict[str, _Type] = {
    **dict.fromkeys(("adid", "adm", "bundle", "burl", "cid", "crid", "dealid"), str),
    **dict.fromkeys(("language", "lurl", "nurl"), str),
    **dict.fromkeys(("cattax", "h", "mtype", "w"), int),
    "adomain": [str],
    "attr": [int],
    "cat": [str],
    "ext": dict,
}
_NAMES = {str: "text", int: "whole number", dict: "object"}


def bids_of(answer: Json) -> list[tuple[str, Json]]:
    """(seat, bid) of all bids, in order; what is not of its type is left out."""
    found = []
    for seatbid in objects(answer.get("seatbid")):
        seat = seatbid.get("seat")
        found += [
            (seat if isinstance(seat, str) else "", bid) for bid in objects(seatbid.get("bid"))
        ]
    return found


def _mistyped(value: Json, kinds: Mapping[str, _Type]) -> Iterator[str]:
    """What is wrong with the types of the fields that are there; null is as if absent."""
    for name, kind in kinds.items():
        found = value.get(name)
        if found is None:
            continue
        if isinstance(kind, list):
            right = isinstance(found, list) and all(_is(one, kind[0]) for one in found)
            wanted = f"list of {_NAMES[kind[0]]}s"
        else:
            right, wanted = _is(found, kind), _NAMES[kind]
        if not right:
            yield f"`{name}` is no {wanted}: {str(found)[:80]}"


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def violations(request: Json, answer: Any, rates: Rates) -> list[Violation]:
    """The rules that `answer` to `request` breaks. `rates` = units of each currency for one base.

    Floors in another currency than the bid's are compared within 5 %, as rates differ by source.
    """
    if not isinstance(answer, dict):
        return [Violation("answer", -1, f"no object: {str(answer)[:80]}")]
    found = [Violation("answer", -1, wrong) for wrong in _mistyped(answer, _ANSWER)]
    for seatbid in objects(answer.get("seatbid")):
        found += [Violation("answer", -1, wrong) for wrong in _mistyped(seatbid, _SEATBID)]
    if answer.get("id") != request.get("id"):
        found.append(Violation("id", -1, f"{answer.get('id')!r} for {request.get('id')!r}"))
    bids = bids_of(answer)
    if not bids:
        if answer.get("seatbid") and not found:
            found.append(Violation("seatbid", -1, "no bid in it"))
        return found
    currency = currency_of(answer)
    allowed = request.get("cur")
    if allowed and currency not in allowed:
        found.append(Violation("currency", -1, f"{currency} not in {allowed}"))
    found += _twins(bids)
    imps = {imp.get("id"): imp for imp in objects(request.get("imp"))}
    for number, (seat, bid) in enumerate(bids):
        named = bid.get("impid")
        imp = imps.get(named, {}) if isinstance(named, str) else {}
        offer = _Offer(request, imp, seat, bid, currency, rates)
        found += [Violation(rule, number, detail) for rule, detail in _broken(offer)]
    return found


def currency_of(answer: Json) -> str:
    """The currency of an answer's bids."""
    currency = answer.get("cur")
    return currency if isinstance(currency, str) else "USD"


def _twins(bids: list[tuple[str, Json]]) -> Iterator[Violation]:
    ids = set()
    for number, (_, bid) in enumerate(bids):
        name = repr(bid.get("id"))
        if name in ids:
            yield Violation("bid-id", number, name)
        ids.add(name)


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
    if wrong := list(_mistyped(bid, _BID)):
        yield from (("answer", one) for one in wrong)
        return
    if not 0 < bid["price"] < _HIGHEST_CPM:
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
    if not domains:
        yield "adomain", repr(domains)
        domains = []
    for domain in domains:
        if (badv := request.get("badv")) and _covered(domain, badv):
            yield "badv", domain
    if (bundle := bid.get("bundle")) and bundle in (request.get("bapp") or ()):
        yield "bapp", bundle
    regs = request.get("regs") or {}
    dsa = regs.get("dsa") or (regs.get("ext") or {}).get("dsa") or {}
    if dsa.get("dsarequired", 0) in (2, 3) and not (bid.get("ext") or {}).get("dsa"):
        yield "dsa", "absent"


def _check_subject(offer: _Offer) -> Iterator[tuple[str, str]]:
    """Categories, in the taxonomy of the request's lists only, and the language if it is told."""
    request, bid = offer.request, offer.bid
    if (request.get("cattax") or 1) == (bid.get("cattax") or 1):
        cats = bid.get("cat") or []
        for cat in cats:
            if _is_under(cat, request.get("bcat") or ()):
                yield "bcat", cat
        if acat := request.get("acat"):
            if not cats:
                yield "acat", "no `cat`"
            for cat in cats:
                if not _is_under(cat, acat):
                    yield "acat", cat
    language = (bid.get("language") or "")[:2].lower()
    allowed, blocked = request.get("wlang"), request.get("wlangb")
    if language and ((allowed and language not in allowed) or (blocked and language in blocked)):
        yield "language", language


def _check_creative(offer: _Offer) -> Iterator[tuple[str, str]]:
    imp, bid = offer.imp, offer.bid
    markup = bid.get("adm") or ""
    kind = bid.get("mtype") or _medium(imp, markup)
    holder = imp.get(_MEDIA.get(kind, ""))
    if holder is None:
        yield "media", f"mtype {kind}"
        return
    for attribute in bid.get("attr") or ():
        if attribute in (holder.get("battr") or ()):
            yield "battr", str(attribute)
    if kind == 1 and not fits(holder, bid.get("w"), bid.get("h")):
        yield "size", f"{bid.get('w')}x{bid.get('h')}"
    if not (markup or (bid.get("nurl") and bid.get("crid"))):
        yield "markup", "neither adm nor nurl with crid"
        return
    if imp.get("secure") == 1 and (url := insecure_url(markup)):
        yield "secure", url
    if kind == 4 and markup:
        yield from _check_native(holder, markup)


def _medium(imp: Json, markup: str) -> int:
    """What a bid without `mtype` is, by its markup or else by what the imp offers first."""
    if markup:
        return 4 if native_object(markup) is not None else 2 if "<VAST" in markup else 1
    return next((kind for kind, name in _MEDIA.items() if name in imp), 1)


def _check_native(native: Json, markup: str) -> Iterator[tuple[str, str]]:
    answer = native_object(markup)
    wanted = native_object(native.get("request") or "{}") or {}
    if answer is None or not native_link(answer).get("url"):
        yield "native", "no native object with a link"
        return
    given = [asset.get("id") for asset in objects(answer.get("assets"))]
    for asset in objects(wanted.get("assets")):
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


def _is_under(category: str, listed: Iterable[str]) -> bool:
    """Is the category, or one above it, in the list?"""
    return any(category == other or category.startswith(other + "-") for other in listed)


def _covered(domain: str, listed: list[str]) -> bool:
    """Is the domain, or one above it, in the list?"""
    low = domain.lower()
    return any(low == d.lower() or low.endswith("." + d.lower()) for d in listed)


_CHECKS: tuple[Callable[[_Offer], Iterator[tuple[str, str]]], ...] = (
    _check_price,
    _check_parties,
    _check_subject,
    _check_creative,
)
