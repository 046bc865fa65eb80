"""What is one impression worth to the advertiser? CPM micros of its own currency."""

from collections.abc import Callable
from math import inf, nan

from msgspec import Struct

from bidder.campaigns.catalogue import LineItem
from bidder.money import MICROS

RECENT_CLICK_SECONDS = 3600
RECENT_CLICK_FACTOR = 0.3
"""Someone who clicked within the hour is already on the way: one more ad is worth less
(Diemert et al. 2017 discount touchpoints that follow a click; the size here is an assumption)."""


class Estimate(Struct, frozen=True, gc=False):
    """What the models expect of one impression."""

    p_click: float
    """P(click | impression)."""
    p_conversion: float
    """P(conversion | click)."""
    p_view: float = 0.0
    """P(sale credited to the view | impression); counts where the line item credits views."""
    basket_micros: int = 0
    """Value of the open basket or of a usual order, in the advertiser's currency."""
    since_click: float = nan
    """Seconds since the last click on this advertiser, NaN = never."""
    intrusiveness: float = 0.0


def value(line_item: LineItem, estimate: Estimate, factor: float) -> int:
    """The value of an impression in CPM micros, intrusion taken off, at most the line item's bid.

    `factor` is the product of the trader's modifiers (`modifier`); the hard limit of the advertiser
    holds whatever the factor. Never below 0.
    """
    goal = line_item.goal
    if goal.kind == "cpm":
        worth = float(goal.micros)
    elif goal.kind == "cpc":
        worth = 1000 * estimate.p_click * goal.micros
    elif goal.kind == "cpa":
        worth = 1000 * _sales(line_item, estimate) * goal.micros
    else:
        sale_micros = estimate.basket_micros * MICROS / goal.micros
        worth = 1000 * _sales(line_item, estimate) * sale_micros
    if goal.kind != "cpm" and 0 <= estimate.since_click < RECENT_CLICK_SECONDS:
        worth *= RECENT_CLICK_FACTOR
    worth -= line_item.intrusiveness.cost_cpm_micros * estimate.intrusiveness
    # min() and max() cost four times as much.
    most = line_item.bid.max_cpm_micros
    worth = (most if worth > most else worth) * factor
    limit = line_item.campaign.advertiser.max_cpm_micros
    if limit and worth > limit:
        return limit
    return int(worth) if worth > 0 else 0


def _sales(line_item: LineItem, estimate: Estimate) -> float:
    """Sales to expect of one impression, by click and, within the attribution's window, by view."""
    sales = estimate.p_click * estimate.p_conversion
    return sales + estimate.p_view if line_item.goal.view_window_seconds else sales


def highest(line_item: LineItem) -> int:
    """The most that `value` can come to, in CPM micros, whatever the modifiers say and the pacing
    allows: what budgets count on."""
    most, limit = ceiling(line_item)
    return int(min(most, limit))


def ceiling(line_item: LineItem) -> tuple[float, float]:
    """The most that `value` can come to at a pace of 1, and the limit that it keeps at any pace:
    what pruning counts on. CPM micros."""
    most: float = line_item.bid.max_cpm_micros
    if line_item.goal.kind == "cpm":
        most = min(most, line_item.goal.micros)
    for rule in line_item.bid.modifiers:
        if rule.times > 1:
            most *= rule.times
    return most, line_item.campaign.advertiser.max_cpm_micros or inf


def modifier(line_item: LineItem, facts: Callable[[str], frozenset[str]]) -> float:
    """The product of the trader's modifiers that apply; 0 means do not bid.

    `facts` gives for each dimension the values of this request: ``facts("device") == {"mobile"}``.
    """
    factor = 1.0
    for rule in line_item.bid.modifiers:
        for name, values in rule.when.items():
            if values.isdisjoint(facts(name)):
                break
        else:
            factor *= rule.times
    return factor
