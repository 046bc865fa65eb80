"""Does the bidder obey what a request forbids or asks for? Each asked so that it matters."""

from typing import Any

from loadtest.exchange.lawful import Json, bids_of, violations

from .rules import Change, Failed, Skipped, Trial, Unproven, rule, unchanged
from .samples import fresh, with_imp

_GROUP = "obedience"
_ODD_SIZE = {"w": 313, "h": 77}


async def _judge(trial: Trial, change: Change, *wanted: str) -> None:
    """Ask; any bid must break none of the named rules (`exchange.lawful.RULES`)."""
    request, answer = await trial.vary(change)
    if answer is None:
        return
    broken = [v for v in violations(request, answer, trial.rates) if v.rule in wanted]
    if broken:
        raise Failed(f"{broken[0].rule}: {broken[0].detail}")


def _values(answer: Json, name: str) -> list[Any]:
    found = [value for _, bid in bids_of(answer) for value in bid.get(name) or ()]
    if not found:
        raise Unproven(f"its bid has no `{name}`")
    return found


def _price(answer: Json) -> float:
    return max(float(bid["price"]) for _, bid in bids_of(answer))


@rule(_GROUP, "floor", "§3.2.4, §7.11")
async def floor(trial: Trial) -> None:
    """No bid is below the floor, in any of the currencies"""
    for currency in ("EUR", "USD", "GBP"):
        for factor in (0.9, 1.1, 10):
            await _judge(trial, _floor(currency, factor), "floor")


def _floor(currency: str, factor: float) -> Change:
    def raised(request: Json, answer: Json) -> Json:
        floor = round(_price(answer) * factor, 2)
        return with_imp(request, bidfloor=floor, bidfloorcur=currency)

    return raised


@rule(_GROUP, "currency", "§3.2.1, §4.2.1")
async def currency(trial: Trial) -> None:
    """The answer's currency is one that was asked for"""
    await _judge(trial, lambda request, _: fresh(request, cur=["EUR"]), "currency")
    await _judge(trial, lambda request, _: fresh(request, cur=["USD"]), "currency")
    await _judge(trial, lambda request, _: fresh(request, cur=["JPY"]), "currency")


@rule(_GROUP, "badv", "§3.2.1")
async def badv(trial: Trial) -> None:
    """A blocked advertiser does not bid, whatever the letters' case"""

    def blocked(request: Json, answer: Json) -> Json:
        return fresh(request, badv=_values(answer, "adomain"))

    def in_capitals(request: Json, answer: Json) -> Json:
        return fresh(request, badv=[domain.upper() for domain in _values(answer, "adomain")])

    await _judge(trial, blocked, "badv")
    await _judge(trial, in_capitals, "badv")


@rule(_GROUP, "bcat", "§3.2.1")
async def bcat(trial: Trial) -> None:
    """A blocked category does not bid, nor one below it"""

    def blocked(request: Json, answer: Json) -> Json:
        return fresh(request, bcat=[cat.split("-")[0] for cat in _values(answer, "cat")])

    await _judge(trial, blocked, "bcat")


@rule(_GROUP, "secure", "§3.2.4")
async def secure(trial: Trial) -> None:
    """Markup for a secure page loads nothing over HTTP"""
    await _judge(trial, lambda request, _: with_imp(request, secure=1), "secure")


@rule(_GROUP, "sizes", "§3.2.6")
async def sizes(trial: Trial) -> None:
    """A banner nobody has a creative for gets none, and an offered size is kept"""
    for sizes in ([_ODD_SIZE], [_ODD_SIZE, {"w": 300, "h": 250}]):
        await _judge(trial, _banner(sizes), "size", "media")


def _banner(sizes: list[Json]) -> Change:
    return lambda request, _: with_imp(request, banner={"format": sizes}, native=None)


@rule(_GROUP, "seats", "§3.2.1")
async def seats(trial: Trial) -> None:
    """A blocked seat does not bid"""

    def blocked(request: Json, answer: Json) -> Json:
        seats = [seat for seat, _ in bids_of(answer) if seat]
        if not seats:
            raise Skipped("its bid has no `seat`")
        return fresh(request, bseat=seats, wseat=None)

    await _judge(trial, blocked, "seat")


@rule(_GROUP, "private", "§3.2.11")
async def private(trial: Trial) -> None:
    """A private auction gets no open bid"""
    deals = [{"id": "certify-deal", "bidfloor": 0.01, "wseat": ["seat-of-nobody"]}]
    pmp = {"private_auction": 1, "deals": deals}
    await _judge(trial, lambda request, _: with_imp(request, pmp=pmp), "private", "deal")


@rule(_GROUP, "deals", "§3.2.12")
async def deals(trial: Trial) -> None:
    """Deal bids name an offered deal and keep to its floor, which is in USD unless it says"""
    for factor in (0.5, 1.05, 20):
        await _judge(trial, _deal(factor), "deal", "deal-floor")


def _deal(factor: float) -> Change:
    def offered(request: Json, answer: Json) -> Json:
        deal = {"id": f"certify-{factor}", "bidfloor": round(_price(answer) * factor, 2)}
        return with_imp(request, pmp={"private_auction": 0, "deals": [deal]})

    return offered


@rule(_GROUP, "dsa", "DSA transparency extension")
async def dsa(trial: Trial) -> None:
    """Where the law's transparency fields are required, a bid brings them"""

    def required(request: Json, _: Json) -> Json:
        regs = request.get("regs") or {}
        ext = (regs.get("ext") or {}) | {"dsa": {"dsarequired": 3, "pubrender": 0}}
        return fresh(request, regs=regs | {"ext": ext})

    await _judge(trial, required, "dsa")


@rule(_GROUP, "fields", "§4.2.3")
async def fields(trial: Trial) -> None:
    """Bids name advertiser, creative (at most 64 bytes) and, where a banner has several, size"""
    await _judge(trial, unchanged, "adomain", "size")
    await _judge(trial, _more_sizes, "size")
    _, answer = await trial.bid()
    for _, bid in bids_of(answer):
        creative = bid.get("crid")
        if not isinstance(creative, str) or not 0 < len(creative.encode()) <= 64:
            raise Failed(f"crid {creative!r}")


def _more_sizes(request: Json, _: Json) -> Json:
    """One size more for each banner, so that a bid must say which it takes."""
    found = fresh(request)
    for banner in (imp["banner"] for imp in found["imp"] if imp.get("banner")):
        formats = banner.get("format") or [{name: banner.get(name) for name in ("w", "h")}]
        banner["format"] = [*formats, _ODD_SIZE]
    return found


@rule(_GROUP, "price-macro", "§4.4; not all exchanges take it in `nurl`, Index for one does not")
async def price_macro(trial: Trial) -> None:
    """`${AUCTION_PRICE}` stands in `adm`, `burl` or `nurl`"""
    _, answer = await trial.bid()
    for _, bid in bids_of(answer):
        if not any("AUCTION_PRICE" in (bid.get(name) or "") for name in ("adm", "burl", "nurl")):
            raise Failed("nowhere to put the price")
