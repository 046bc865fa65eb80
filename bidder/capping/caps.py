"""May this line item speak to this person once more? The strictest cap decides, and says so."""

from bisect import bisect_right
from collections.abc import Sequence

from msgspec import Struct

from bidder.campaigns.catalogue import Cap, Level, LineItem
from bidder.capping.ledger import CHANNELS, Channel, Kind, Ledger
from bidder.reasons import NoBid

WORD: dict[Level, int] = {
    "everyone": 0,
    "advertiser": 2,
    "campaign": 3,
    "line_item": 4,
    "creative": 5,
}
"""Where a record keeps the id of each level."""

REASON: dict[Level, NoBid] = {
    "everyone": NoBid.CAPPED_PERSON,
    "advertiser": NoBid.CAPPED_ADVERTISER,
    "campaign": NoBid.CAPPED_CAMPAIGN,
    "line_item": NoBid.CAPPED_LINE_ITEM,
    "creative": NoBid.CAPPED_CREATIVE,
}


class Verdict(Struct, frozen=True, gc=False):
    """Why to stay silent, and how long: `free_at` is when this cap would let one more pass."""

    reason: NoBid
    cap: Cap
    free_at: int
    """Seconds since the epoch; 0 = never."""


class Rule(Struct, frozen=True, gc=False):
    """A `Cap` with what is constant about it worked out."""

    word: int
    name: int
    channels: int
    cap: Cap


def rules(line_item: LineItem, creative: int) -> tuple[Rule, ...]:
    """The caps of a line item showing a creative (its 32-bit id), ready to be checked."""
    names: dict[Level, int] = {
        "everyone": 0,
        "advertiser": line_item.campaign.advertiser.id32,
        "campaign": line_item.campaign.id32,
        "line_item": line_item.id32,
        "creative": creative,
    }
    return tuple(
        Rule(WORD[cap.level], names[cap.level], channel_mask(cap.channels), cap)
        for cap in line_item.caps
    )


def channel_mask(names: frozenset[str]) -> int:
    """Bit mask of the channels a cap counts; none named means display alone."""
    if not names:
        return 1 << Channel.DISPLAY
    return sum(1 << CHANNELS[name] for name in names)


def verdict(ledger: Ledger, rules: Sequence[Rule], now: int) -> Verdict | None:
    """The strictest cap that forbids one more exposure at `now`, or None if all allow it.

    Strictest is the one that lasts longest. A folded record may lie in any window that reaches back
    to `ledger.folded_until`, so there it counts: a cap may then silence too long, never too little.
    """
    worst: Verdict | None = None
    for rule in rules:
        free_at = _free_at(ledger, rule, now)
        if free_at is None:
            continue
        if worst is None or free_at == 0 or 0 < worst.free_at < free_at:
            cap = rule.cap
            reason = NoBid.MINIMUM_GAP if cap.min_gap_seconds else REASON[cap.level]
            worst = Verdict(reason, cap, free_at)
            if free_at == 0:
                return worst
    return worst


def _free_at(ledger: Ledger, rule: Rule, now: int) -> int | None:
    """When `rule` allows one more: None = now, 0 = never, else seconds since the epoch."""
    cap = rule.cap
    times = ledger.exposures(rule.word, rule.name, rule.channels, now)
    if cap.min_gap_seconds:
        free_at = times[-1] + cap.min_gap_seconds if times else 0
        return free_at if free_at > now else None
    start = now - cap.seconds if cap.seconds else 0
    inside = len(times) - bisect_right(times, start)
    if ledger.folded_until > start:
        inside += ledger.folded(rule.name, Kind.IMPRESSION, rule.channels)
        if ledger.overflowed and inside < cap.count:
            return 0 if not cap.seconds else ledger.folded_until + cap.seconds
    if inside < cap.count:
        return None
    if not cap.seconds:
        return 0
    leaving = len(times) - cap.count
    oldest = times[leaving] if 0 <= leaving < len(times) else ledger.folded_until
    return max(oldest + cap.seconds, now + 1)
