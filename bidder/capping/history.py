"""What do the models see of a ledger? Exposures, clicks and contacts, counted for one line item."""

from bisect import bisect_right
from math import nan

from bidder.campaigns.catalogue import LineItem
from bidder.capping.ledger import (
    ADVERTISER,
    ANY_CHANNEL,
    EVERYONE,
    LINE_ITEM,
    Channel,
    Kind,
    Ledger,
)
from bidder.person import NO_HISTORY, History

_HOUR, _DAY, _WEEK, _MONTH = 3600, 86400, 7 * 86400, 30 * 86400
_SHOWN = 1 << Channel.DISPLAY << 4 | Kind.IMPRESSION
_CONTACTED = (1 << Channel.EMAIL | 1 << Channel.SMS | 1 << Channel.PUSH) << 4 | Kind.IMPRESSION
_CLICKED = ANY_CHANNEL << 4 | Kind.CLICK
_CONVERTED = ANY_CHANNEL << 4 | Kind.CONVERSION


def history(ledger: Ledger, line_item: LineItem) -> History:
    """The `History` of one person for the advertiser of `line_item`."""
    if not ledger.raw:
        return NO_HISTORY
    now, times = ledger.now, ledger.times
    advertiser = line_item.campaign.advertiser.id32
    today = _since(times(EVERYONE, 0, _SHOWN), now - _DAY)
    if not ledger.mentions(advertiser):  # nor then any of its line items
        return History(other_impressions_day=today) if today else NO_HISTORY
    shown = times(ADVERTISER, advertiser, _SHOWN)
    own = times(LINE_ITEM, line_item.id32, _SHOWN)
    contacts = times(ADVERTISER, advertiser, _CONTACTED)
    clicks = times(ADVERTISER, advertiser, _CLICKED)
    conversions = times(ADVERTISER, advertiser, _CONVERTED)
    day = _since(shown, now - _DAY)
    return History(
        impressions_hour=_since(shown, now - _HOUR),
        impressions_day=day,
        impressions_week=_since(shown, now - _WEEK),
        impressions_month=_since(shown, now - _MONTH),
        line_item_impressions_day=_since(own, now - _DAY),
        line_item_impressions_week=_since(own, now - _WEEK),
        other_impressions_day=today - day,
        clicks_month=_since(clicks, now - _MONTH),
        conversions_month=_since(conversions, now - _MONTH),
        contacts_week=_since(contacts, now - _WEEK),
        since_impression=_age(shown, now),
        since_click=_age(clicks, now),
        since_conversion=_age(conversions, now),
        since_contact=_age(contacts, now),
    )


def _since(times: list[int], start: int) -> int:
    """How many of these ascending times lie after `start`."""
    return len(times) - bisect_right(times, start) if times else 0


def _age(times: list[int], now: int) -> float:
    return max(now - times[-1], 0) if times else nan
