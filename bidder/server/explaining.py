"""How does `bidder explain` see people and money? It reads the store, if a bidder runs."""

import asyncio
from datetime import UTC, datetime

from bidder import explain
from bidder.openrtb.opportunity import Opportunity
from bidder.pricing.budget import remains
from bidder.server.worker import policy
from bidder.serving import Serving
from bidder.settings import Settings
from bidder.store import keys
from bidder.store.breaker import Breaker, StoreUnavailable
from bidder.store.coalesce import Reader
from bidder.store.connect import connect
from bidder.store.links import Links

TIMEOUT_SECONDS = 2.0


async def explained(
    serving: Serving, given: Settings, store_url: str, offer: Opportunity, now: float
) -> str:
    """The stages of `offer` as text. Without a store, people are unknown and budgets untouched."""
    everything = serving.index.everyone
    if not store_url:
        return await _text(serving, given, None, everything, offer, now)
    client = connect(store_url)
    links = Links(client, Breaker(asyncio.get_running_loop().time), timeout_seconds=TIMEOUT_SECONDS)
    try:
        await links.ping()
        (stopped,) = await links.bulk([("SMEMBERS", keys.STOPS)])
        serving.schedule.stop([path.decode() for path in stopped])
        funded = await _funded(serving, links, now)
        return await _text(serving, given, Reader(links), funded, offer, now)
    except StoreUnavailable as problem:
        text = await _text(serving, given, None, everything, offer, now)
        return f"the store does not answer ({problem}): as if it were empty\n{text}"
    finally:
        await links.aclose()
        await client.aclose()


async def _text(
    serving: Serving,
    given: Settings,
    reader: Reader | None,
    funded: int,
    offer: Opportunity,
    now: float,
) -> str:
    explainer = explain.Explainer(serving, policy(given), reader, funded, {}, now)
    return explain.render(await explainer.explain(offer, serving.exchanges[offer.exchange]))


async def _funded(serving: Serving, links: Links, now: float) -> int:
    """The line items whose campaign has not spent its budgets."""
    mask = 0
    for item in serving.line_items:
        campaign = item.campaign
        zone = campaign.advertiser.zone
        day = datetime.fromtimestamp(now, UTC).astimezone(zone).date().isoformat()
        fields = ("spent", f"spent:{day}", "impressions", f"impressions:{day}")
        key = keys.campaign(campaign.id32, "money")
        (counters,) = await links.bulk([("HMGET", key, *fields)])
        if remains(campaign.budget, [int(value or 0) for value in counters]):
            mask |= 1 << item.index
    return mask
