"""Does the bidder obey what a request forbids or asks for? Each asked so that it matters."""

from typing import Any

from loadtest.exchange.lawful import Json, bids_of, violations

from .rules import Failed, Skipped, Trial, rule
from .samples import fresh, with_imp

_GROUP = "obedience"


async def _judge(trial: Trial, request: Json, *wanted: str) -> None:
    """Ask; any bid must break none of the named rules (`exchange.lawful.RULES`)."""
    answer = await trial.bid_on(request)
    if answer is None:
        return
    broken = [v for v in violations(request, answer, trial.rates) if v.rule in wanted]
    if broken:
        raise Failed(f"{broken[0].rule}: {broken[0].detail}")


def _values(answer: Json, name: str) -> list[Any]:
    found = [value for _, bid in bids_of(answer) for value in bid.get(name) or ()]
    if not found:
        raise Skipped(f"its bid has no `{name}`")
    return found


@rule(_GROUP, "floor", "§3.2.4, §7.11")
async def floor(trial: Trial) -> None:
    """No bid is below the floor, in any of the currencies"""
    request, answer = await trial.bid()
    price = max(bid["price"] for _, bid in bids_of(answer))
    for currency in ("EUR", "USD", "GBP"):
        for factor in (0.9, 1.1, 10):
            raised = with_imp(request, bidfloor=round(price * factor, 2), bidfloorcur=currency)
            await _judge(trial, raised, "floor")


@rule(_GROUP, "currency", "§3.2.1, §4.2.1")
async def currency(trial: Trial) -> None:
    """The answer's currency is one that was asked for"""
    request, _ = await trial.bid()
    for wanted in (["EUR"], ["USD"], ["JPY"]):
        await _judge(trial, fresh(request, cur=wanted), "currency")


@rule(_GROUP, "badv", "§3.2.1")
async def badv(trial: Trial) -> None:
    """A blocked advertiser does not bid, whatever the letters' case"""
    request, answer = await trial.bid()
    domains = _values(answer, "adomain")
    await _judge(trial, fresh(request, badv=domains), "badv")
    await _judge(trial, fresh(request, badv=[domain.upper() for domain in domains]), "badv")


@rule(_GROUP, "bcat", "§3.2.1")
async def bcat(trial: Trial) -> None:
    """A blocked category does not bid, nor one below it"""
    request, answer = await trial.bid()
    blocked = [cat.split("-")[0] for cat in _values(answer, "cat")]
    await _judge(trial, fresh(request, bcat=blocked), "bcat")


@rule(_GROUP, "secure", "§3.2.4")
async def secure(trial: Trial) -> None:
    """Markup for a secure page loads nothing over HTTP"""
    request, _ = await trial.bid()
    await _judge(trial, with_imp(request, secure=1), "secure")


@rule(_GROUP, "sizes", "§3.2.6")
async def sizes(trial: Trial) -> None:
    """A banner nobody has a creative for gets none, and an offered size is kept"""
    request, _ = await trial.bid()
    odd = with_imp(request, banner={"format": [{"w": 313, "h": 77}]}, native=None)
    await _judge(trial, odd, "size", "media")
    either = {"format": [{"w": 313, "h": 77}, {"w": 300, "h": 250}]}
    await _judge(trial, with_imp(request, banner=either, native=None), "size", "media")


@rule(_GROUP, "seats", "§3.2.1")
async def seats(trial: Trial) -> None:
    """A blocked seat does not bid"""
    request, answer = await trial.bid()
    blocked = [seat for seat, _ in bids_of(answer) if seat]
    if not blocked:
        raise Skipped("its bid has no `seat`")
    await _judge(trial, fresh(request, bseat=blocked, wseat=None), "seat")


@rule(_GROUP, "private", "§3.2.11")
async def private(trial: Trial) -> None:
    """A private auction gets no open bid"""
    request, _ = await trial.bid()
    deals = [{"id": "certify-deal", "bidfloor": 0.01, "wseat": ["seat-of-nobody"]}]
    pmp = {"private_auction": 1, "deals": deals}
    await _judge(trial, with_imp(request, pmp=pmp), "private", "deal")


@rule(_GROUP, "deals", "§3.2.12")
async def deals(trial: Trial) -> None:
    """Deal bids name an offered deal and keep to its floor, which is in USD unless it says"""
    request, answer = await trial.bid()
    price = max(bid["price"] for _, bid in bids_of(answer))
    for factor in (0.5, 1.05, 20):
        offered = [{"id": f"certify-{factor}", "bidfloor": round(price * factor, 2)}]
        pmp = {"private_auction": 0, "deals": offered}
        await _judge(trial, with_imp(request, pmp=pmp), "deal", "deal-floor")


@rule(_GROUP, "dsa", "DSA transparency extension")
async def dsa(trial: Trial) -> None:
    """Where the law's transparency fields are required, a bid brings them"""
    request, _ = await trial.bid()
    regs = {**request.get("regs", {}), "ext": {"dsa": {"dsarequired": 3, "pubrender": 0}}}
    await _judge(trial, fresh(request, regs=regs), "dsa")


@rule(_GROUP, "fields", "§4.2.3")
async def fields(trial: Trial) -> None:
    """Bids name advertiser, creative (at most 64 bytes) and, for banners, size"""
    _, answer = await trial.bid()
    for _, bid in bids_of(answer):
        creative = bid.get("crid")
        if not creative or len(str(creative).encode()) > 64:
            raise Failed(f"crid {creative!r}")
        if not bid.get("adomain"):
            raise Failed("no adomain")


@rule(_GROUP, "price-macro", "§4.4; Index refuses bids without")
async def price_macro(trial: Trial) -> None:
    """`${AUCTION_PRICE}` stands in `adm`, `nurl` or `burl`"""
    _, answer = await trial.bid()
    for _, bid in bids_of(answer):
        if not any("AUCTION_PRICE" in (bid.get(name) or "") for name in ("adm", "nurl", "burl")):
            raise Failed("nowhere to put the price")
