"""May this line item speak to this person once more? The strictest cap decides, and says so.

Every rule comes down to one question: did `count` events of some kind, of some owner, happen in the
last `seconds`? A cap counts exposures; a minimum gap is a cap of one; a silence is a cap of one on
clicks or conversions. Windows are spans of seconds: no zone and no change of clocks touches them.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import inf

from msgspec import Struct

from bidder.campaigns.catalogue import Cap, Level, LineItem, Silence
from bidder.capping.ledger import (
    ADVERTISER,
    ANY_CHANNEL,
    CAMPAIGN,
    CHANNELS,
    CREATIVE,
    EVERYONE,
    LINE_ITEM,
    Channel,
    Kind,
    Ledger,
    total_key,
)
from bidder.reasons import NoBid

WORD: dict[Level, int] = {
    "everyone": EVERYONE,
    "advertiser": ADVERTISER,
    "campaign": CAMPAIGN,
    "line_item": LINE_ITEM,
    "creative": CREATIVE,
}

REASON: dict[Level, NoBid] = {
    "everyone": NoBid.CAPPED_PERSON,
    "advertiser": NoBid.CAPPED_ADVERTISER,
    "campaign": NoBid.CAPPED_CAMPAIGN,
    "line_item": NoBid.CAPPED_LINE_ITEM,
    "creative": NoBid.CAPPED_CREATIVE,
}


class Limit(Struct, frozen=True, gc=False):
    """At most `most` events in any `seconds` (0 = ever), and what the trader wrote for it."""

    most: int
    seconds: int
    written: Cap | Silence


class Rule(Struct, frozen=True, gc=False):
    """All limits on the same events, with what is constant about them worked out."""

    word: int
    """Which field of a record is compared with `name`."""
    name: int
    mask: int
    """Kind and channels, as `Ledger.times` takes them."""
    totals: tuple[bytes, ...]
    """Where the folded ones of these events are counted; none for clicks and conversions."""
    least: int
    most: int
    """The smallest and the largest `most` of the limits."""
    longest: float
    """The longest `seconds`, infinite where any limit is for ever."""
    limits: tuple[Limit, ...]


class Verdict(Struct, frozen=True, gc=False):
    """Why to stay silent, and until when: `free_at` is when this limit would let one more pass."""

    reason: NoBid
    written: Cap | Silence
    seen: int
    """How many were counted. Of folded ones, perhaps more than there were."""
    free_at: int
    """Seconds since the epoch; 0 = never."""


def rules(line_item: LineItem, creative: int) -> tuple[Rule, ...]:
    """The caps and silences of a line item showing a creative (its 32-bit id), to be checked."""
    names: dict[Level, int] = {
        "everyone": 0,
        "advertiser": line_item.campaign.advertiser.id32,
        "campaign": line_item.campaign.id32,
        "line_item": line_item.id32,
        "creative": creative,
    }
    limits: dict[tuple[Level, int], list[Limit]] = {}
    for cap in line_item.caps:
        mask = channel_mask(cap.channels) << 4 | Kind.IMPRESSION
        limit = Limit(cap.count or 1, cap.seconds or cap.min_gap_seconds, cap)
        limits.setdefault((cap.level, mask), []).append(limit)
    for silence in line_item.silences:
        mask = ANY_CHANNEL << 4 | Kind[silence.after.upper()]
        limits.setdefault((silence.level, mask), []).append(Limit(1, silence.seconds, silence))
    made = [_rule(WORD[level], names[level], mask, same) for (level, mask), same in limits.items()]
    return tuple(sorted(made, key=lambda rule: (rule.mask, rule.word)))  # `verdict` needs it


def _rule(word: int, name: int, mask: int, limits: Iterable[Limit]) -> Rule:
    folded = [c for c in Channel if mask >> 4 >> c & 1] if mask & 15 == Kind.IMPRESSION else []
    ordered = tuple(sorted(limits, key=lambda limit: limit.most))
    return Rule(
        word,
        name,
        mask,
        tuple(total_key(name, channel) for channel in folded),
        ordered[0].most,
        ordered[-1].most,
        max(limit.seconds or inf for limit in ordered),
        ordered,
    )


def channel_mask(names: Iterable[str]) -> int:
    """Bit mask of the channels a cap counts; none named means display alone."""
    return sum(1 << CHANNELS[name] for name in names) or 1 << Channel.DISPLAY


def verdict(ledger: Ledger, rules: Sequence[Rule]) -> Verdict | None:
    """The strictest limit that forbids one more exposure now, or None if all allow it.

    Strictest is the one that lasts longest. Of folded impressions it is only known when the last of
    them was, and they all count as of then: silence may last too long, never too short.
    """
    if not ledger.raw:
        return None
    now, has_folded = ledger.now, ledger.folded_until > 0
    worst: Verdict | None = None
    many = mask = 0
    for rule in rules:
        least = rule.least
        if rule.mask == mask and many < least and not has_folded:
            continue  # levels nest: a narrower one has no more than the one before
        mask = rule.mask
        times = ledger.times(rule.word, rule.name, mask)
        if has_folded and rule.totals:
            folded = ledger.folded(rule.totals, rule.most)
            if folded:
                times = sorted(times + folded)
        many = len(times)
        if many < least or times[-least] + rule.longest <= now:
            continue
        for limit in rule.limits:
            if many < limit.most:
                break
            if not limit.seconds:
                return _verdict(limit.written, many, 0)
            free_at = times[-limit.most] + limit.seconds
            if free_at > now and (worst is None or free_at > worst.free_at):
                seen = many - bisect_right(times, now - limit.seconds)
                worst = _verdict(limit.written, seen, free_at)
    return worst


def _verdict(written: Cap | Silence, seen: int, free_at: int) -> Verdict:
    if isinstance(written, Silence):
        return Verdict(NoBid.SILENT_AFTER_ACTION, written, seen, free_at)
    reason = NoBid.MINIMUM_GAP if written.min_gap_seconds else REASON[written.level]
    return Verdict(reason, written, seen, free_at)


def sentence(verdict: Verdict) -> str:
    """The verdict for a trader: ``3 of 3 per 1d of campaign; free again 2026-11-22 08:15 UTC``."""
    written = verdict.written
    if isinstance(written, Silence):
        text = f"silent for {_duration(written.seconds)} after a {written.after}"
    elif written.min_gap_seconds:
        text = f"at least {_duration(written.min_gap_seconds)} apart"
    else:
        per = f"per {_duration(written.seconds)}" if written.seconds else "ever"
        text = f"{verdict.seen} of {written.count} {per}"
    text += f", of {written.level}"
    if isinstance(written, Cap) and written.channels:
        text += f" in {', '.join(sorted(written.channels))}"
    if not verdict.free_at:
        return text
    at = datetime.fromtimestamp(verdict.free_at, UTC)
    return f"{text}; free again {at:%Y-%m-%d %H:%M:%S} UTC"


def _duration(seconds: int) -> str:
    """As traders write it: the largest unit that divides it."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
