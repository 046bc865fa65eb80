"""May an ad show the very products a person looked at? Not before it is clear what they want.

Lambrecht and Tucker 2013: product-specific retargeting does worse than a generic ad until the
person's preferences are well defined, and better from then on. Generic ads come first.
"""

from bidder.campaigns.catalogue import LineItem, SegmentRule
from bidder.capping.ledger import CREATIVE, Channel, Ledger
from bidder.person import Profile

UNDEFINED = "product ads wait until the person's preference is well defined"
GENERIC_FIRST = "product ads wait until the generic ones have been seen"


def why_not_products(line_item: LineItem, profile: Profile, ledger: Ledger) -> str:
    """Why creatives that show products must wait, empty if they may speak (then they go first)."""
    rule = line_item.product_ads
    if rule is None:
        return ""
    now = ledger.now
    signals = rule.basket_seconds or rule.any_of
    basket = profile.baskets.get(line_item.campaign.advertiser.id)
    wanted = basket is not None and basket.updated > now - rule.basket_seconds
    if signals and not wanted and not any(_seen(each, profile, now) for each in rule.any_of):
        return UNDEFINED
    if rule.after_generic:
        display = 1 << Channel.DISPLAY
        seen = sum(
            len(ledger.exposures(CREATIVE, creative.id32, display))
            for creative in line_item.creatives
            if not creative.product
        )
        if seen < rule.after_generic:
            return GENERIC_FIRST
    return ""


def _seen(rule: SegmentRule, profile: Profile, now: int) -> bool:
    """As `targeting` has it: at the very edge of the window still counts."""
    seen = profile.segments.get(rule.segment)
    return seen is not None and (not rule.within_seconds or seen >= now - rule.within_seconds)
