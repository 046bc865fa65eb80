"""What does a notice change in a campaign's money? Each is counted once, however often it comes."""

from collections.abc import Sequence
from typing import cast

from bidder.pricing.budget import money_keys
from bidder.pricing.leases import Hold
from bidder.pricing.minutes import Scripts

COUNTERS_SECONDS = 400 * 86400
"""How long a campaign's counters outlive its last billing."""
SEEN_SECONDS = 9 * 86400
"""How long a billing, impression or click is known to have been counted, after the last of its
bid's day: longer than the token of a click lives, and as far back as the log can be replayed."""
ORDERS_SECONDS = 40 * 86400
"""The same for conversions, whose tokens live longest."""
AGAIN_SECONDS = 60
"""An overdue billing that was handed out and did not come back is handed out again after this."""


async def bill(
    scripts: Scripts, campaign: int, bid_id: bytes, hold: Hold, cost: int, now: int
) -> str:
    """Count one billed impression: "new" or "duplicate". Frees the hold, spends the cost."""
    return await _run(
        scripts, campaign, hold,
        ["bill", now, bid_id, hold.day, hold.holder, hold.bucket, hold.cost_micros, hold.until,
         cost, SEEN_SECONDS, COUNTERS_SECONDS],
    )  # fmt: skip


async def resolve(scripts: Scripts, campaign: int, bid_id: bytes, hold: Hold, now: int) -> str:
    """Free the hold of a bid that lost: "new" or "duplicate"."""
    arguments: list[bytes | str | int] = [
        "resolve", now, bid_id, hold.bucket, hold.cost_micros, hold.until,
    ]  # fmt: skip
    return await _run(scripts, campaign, hold, arguments)


async def count_once(
    scripts: Scripts, campaign: int, bid_id: bytes, kind: str, hold: Hold, now: int, sale: str = ""
) -> str:
    """Count a pixel, click or conversion (`kind` names the counter): "new" or "duplicate".

    A conversion is known by `sale`, whichever bid of the campaign it is told of.
    """
    keep = ORDERS_SECONDS if kind == "conversions" else SEEN_SECONDS
    return await _run(scripts, campaign, hold, ["once", now, bid_id, kind, keep], sale)


async def await_billing(
    scripts: Scripts, campaign: int, bid_id: bytes, due: int, event: bytes, hold: Hold, now: int
) -> str:
    """An impression was seen: its cost is owed from now on. `event` is logged when it is `due`."""
    return await _run(
        scripts, campaign, hold,
        ["await", now, bid_id, hold.day, hold.holder, hold.bucket, hold.cost_micros, hold.until,
         due, event, SEEN_SECONDS],
    )  # fmt: skip


async def overdue(scripts: Scripts, campaign: int, now: int, most: int) -> list[bytes]:
    """The events of impressions whose billing notice did not come in time."""
    names = money_keys(campaign, "", "")
    answer = await scripts.run("budget", names, ["due", now, most, AGAIN_SECONDS])
    return [event for event in cast(list[bytes | None], answer) if event]


async def reserve(
    scripts: Scripts, campaign: int, day: str, until: int, micros: int, bids: int, now: int
) -> tuple[int, int]:
    """See to it that at least so much is leased for `day`; the micros and bids that were not."""
    names = money_keys(campaign, "", day)
    answer = await scripts.run("budget", names, ["reserve", now, day, until, micros, bids])
    missing, missing_bids = cast(list[int], answer)
    return missing, missing_bids


async def _run(
    scripts: Scripts,
    campaign: int,
    hold: Hold,
    arguments: Sequence[bytes | str | int],
    sale: str = "",
) -> str:
    names = money_keys(campaign, hold.holder, hold.day, hold.bucket, sale)
    answer = await scripts.run("budget", names, arguments)
    return answer.decode() if isinstance(answer, bytes) else str(answer)
