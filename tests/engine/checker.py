"""Is an answer lawful? An independent reading of OpenRTB 2.6 on plain JSON, without bidder code."""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
Rates = dict[str, float]
"""Units of a currency for one euro."""

SLACK = 1e-6


def breaches(request: Json, answer: Json, rates: Rates) -> list[str]:
    """Every rule of the request that the answer breaks, in words; empty if it is lawful."""
    found = []
    if answer["id"] != str(request["id"]):
        found.append(f"id {answer['id']!r}")
    currency = answer.get("cur", "USD")
    if request.get("cur") and currency not in request["cur"]:
        found.append(f"currency {currency}")
    owners: dict[str, str] = {}
    sold: set[tuple[str, str]] = set()
    for seat, bid in _bids(answer):
        found += _of_seat(request, seat)
        imp = next((i for i in request["imp"] if str(i["id"]) == bid["impid"]), None)
        if imp is None:
            found.append(f"impid {bid['impid']}")
            continue
        found += _of_price(imp, bid, currency, seat, rates)
        found += _of_creative(request, imp, bid)
        place = (bid["impid"], bid.get("dealid", ""))
        if place in sold:
            found.append(f"two bids for {place}")
        sold.add(place)
        if owners.setdefault(bid["adomain"][0], bid["impid"]) != bid["impid"]:
            found.append(f"{bid['adomain'][0]} in two slots of a page")
    ids = [bid["id"] for _, bid in _bids(answer)]
    if len(ids) != len(set(ids)) or not ids:
        found.append("bid ids")
    return found


def _bids(answer: Json) -> Iterator[tuple[str, Json]]:
    for group in answer["seatbid"]:
        for bid in group["bid"]:
            yield group.get("seat", ""), bid


def _of_seat(request: Json, seat: str) -> Iterator[str]:
    if request.get("wseat") and seat not in request["wseat"]:
        yield f"seat {seat} is not in wseat"
    if seat in (request.get("bseat") or ()):
        yield f"seat {seat} is in bseat"


def _of_price(imp: Json, bid: Json, currency: str, seat: str, rates: Rates) -> Iterator[str]:
    if not bid["price"] > 0:
        yield f"price {bid['price']}"
    pmp = imp.get("pmp") or {}
    if "dealid" not in bid:
        if pmp.get("private_auction") == 1:
            yield "an open bid in a private auction"
        yield from _under(bid, imp, currency, rates)
        return
    deal = next((d for d in pmp.get("deals") or () if d["id"] == bid["dealid"]), None)
    if deal is None:
        yield f"deal {bid['dealid']} was not offered"
        return
    if deal.get("wseat") and seat not in deal["wseat"]:
        yield f"deal {deal['id']} is not for seat {seat}"
    if deal.get("wadomain") and not any(_within(d, deal["wadomain"]) for d in bid["adomain"]):
        yield f"deal {deal['id']} is not for {bid['adomain']}"
    yield from _under(bid, deal, currency, rates)
    if deal.get("at") == 3 and deal.get("bidfloor"):
        agreed = _converted(deal, currency, rates)
        if agreed is None or abs(bid["price"] - agreed) > 2e-6:
            yield f"{bid['price']} where {agreed} is agreed"


def _under(bid: Json, floor: Json, currency: str, rates: Rates) -> Iterator[str]:
    least = _converted(floor, currency, rates)
    if least is None:
        yield f"a floor in {floor.get('bidfloorcur')}, which nobody can convert"
    elif bid["price"] < least - SLACK:
        yield f"{bid['price']} {currency} under {least}"


def _converted(floor: Json, currency: str, rates: Rates) -> float | None:
    amount, own = floor.get("bidfloor") or 0.0, floor.get("bidfloorcur") or "USD"
    if own == currency or not amount:
        return float(amount)
    if not {own, currency} <= {*rates, "EUR"}:
        return None
    return float(amount) * rates.get(currency, 1.0) / rates.get(own, 1.0)


def _of_creative(request: Json, imp: Json, bid: Json) -> Iterator[str]:
    kind = imp.get("native") if bid.get("mtype") == 4 else imp.get("banner")
    if kind is None:
        yield f"mtype {bid.get('mtype')} was not asked for"
        return
    if bid.get("mtype") == 1 and not _fits(bid, kind):
        yield f"size {bid.get('w')}x{bid.get('h')}"
    if bid.get("mtype") == 1 and set(kind.get("btype") or ()) & _types(bid["adm"]):
        yield "btype"
    for domain in bid["adomain"]:
        if _within(domain, request.get("badv") or ()):
            yield f"badv has {domain}"
    yield from _of_categories(request, bid)
    if set(bid.get("attr") or ()) & set(kind.get("battr") or ()):
        yield f"battr {bid['attr']}"
    language = (bid.get("language") or "")[:2]
    if request.get("wlang") and language not in [code[:2].lower() for code in request["wlang"]]:
        yield f"language {language!r} is not in wlang"
    if language and language in [code[:2].lower() for code in request.get("wlangb") or ()]:
        yield f"language {language} is in wlangb"
    if imp.get("secure") == 1 and "http://" in bid["adm"]:
        yield "not secure"
    dsa = ((request.get("regs") or {}).get("ext") or {}).get("dsa") or {}
    if dsa.get("dsarequired") in (2, 3) and "dsa" not in bid.get("ext", {}):
        yield "no transparency"
    renders = {0: 1, 2: 0}.get(dsa.get("pubrender"))
    if (
        renders is not None
        and bid.get("ext", {}).get("dsa", {}).get("adrender", renders) != renders
    ):
        yield "transparency is shown by both or by nobody"
    if len(bid["crid"].encode()) > 64 or not bid["adm"]:
        yield "crid or adm"


def _of_categories(request: Json, bid: Json) -> Iterator[str]:
    if bid.get("cattax", 1) != (request.get("cattax") or 1):
        return
    about = bid.get("cat") or []
    blocked, allowed = request.get("bcat") or (), request.get("acat") or ()
    for category in about:
        if {category, category.split("-")[0]} & set(blocked):
            yield f"bcat has {category}"
        if allowed and not {category, category.split("-")[0]} & set(allowed):
            yield f"acat lacks {category}"


def _fits(bid: Json, banner: Json) -> bool:
    width, height = bid["w"], bid["h"]
    formats = [f for f in banner.get("format") or () if f]
    fixed = [(f.get("w"), f.get("h")) for f in formats]
    if not any(w and h for w, h in fixed):
        fixed.append((banner.get("w"), banner.get("h")))
    return (width, height) in fixed or any(
        width * f["hratio"] == height * f["wratio"] and width >= (f.get("wmin") or 0)
        for f in formats
        if f.get("wratio") and f.get("hratio")
    )


def _types(markup: str) -> set[int]:
    """AdCOM creative subtypes: JavaScript, iframe, else an XHTML banner."""
    found = {3} if "<script" in markup.lower() else set()
    if "<iframe" in markup.lower():
        found.add(4)
    return found or {2}


def _within(domain: str, listed: Any) -> bool:
    labels = domain.lower().split(".")
    parents = {".".join(labels[start:]) for start in range(len(labels))}
    return not parents.isdisjoint(name.lower() for name in listed)
