"""Do the fast caps say what a slow, obvious reading of them says?"""

import time as clock
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidder.campaigns.catalogue import Cap, Creative, LineItem, Silence
from bidder.capping import Channel, Kind, Ledger, Record, rules, sentence, verdict
from bidder.capping.caps import REASON
from bidder.reasons import NoBid
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.links import Links

NOW = 1_788_000_000
DAY, HOUR = 86400, 3600
DISPLAY = frozenset({"display"})
FOREVER = 10**12
OWN = {"everyone": 0, "advertiser": 20, "campaign": 30, "line_item": 40, "creative": 50}

levels = st.sampled_from(list(OWN))
windows = st.sampled_from([60, HOUR, DAY, 7 * DAY, 30 * DAY])
channels = st.one_of(
    st.just(frozenset[str]()),
    st.frozensets(st.sampled_from(["display", "email", "sms", "push"]), max_size=3),
)
caps = st.one_of(
    st.builds(Cap, levels, st.integers(1, 6), st.one_of(windows, st.just(0)), channels=channels),
    st.builds(Cap, levels, min_gap_seconds=windows, channels=channels),
)
silences = st.builds(Silence, st.sampled_from(["click", "conversion"]), windows, levels)
OWNERS = (
    (20, 30, 40, 50),
    (20, 30, 40, 50),
    (20, 30, 40, 51),
    (20, 30, 41, 52),
    (20, 31, 42, 53),
    (21, 32, 43, 54),
    (20, 0, 0, 0),
)
"""Advertiser, campaign, line item, creative: a creative has one line item, and so on up. The last
is a contact of the CRM."""


def _record(
    time: int, kind: Kind, owner: tuple[int, ...], bid_key: bytes, channel: Channel, hold: int
) -> Record:
    if kind == Kind.RESERVATION:
        channel = Channel.DISPLAY
    return Record(time, kind, *owner, bid_key=bid_key, channel=channel, hold=hold)


records = st.builds(
    _record,
    time=st.one_of(
        st.integers(NOW - 2 * HOUR, NOW + 5),
        st.integers(NOW - 32 * DAY, NOW),
        windows.flatmap(lambda window: st.integers(NOW - window - 1, NOW - window + 1)),
    ),
    kind=st.sampled_from([Kind.IMPRESSION, Kind.IMPRESSION, *list(Kind)[:4]]),
    owner=st.sampled_from(OWNERS),
    bid_key=st.binary(min_size=8, max_size=8),
    channel=st.sampled_from([Channel.DISPLAY, Channel.DISPLAY, Channel.EMAIL, Channel.SMS]),
    hold=st.sampled_from([0, 10, HOUR, 2 * HOUR]),
)


def _owner(record: Record, level: str) -> int:
    return 0 if level == "everyone" else getattr(record, level)


def counted(written: Cap | Silence, all_records: list[Record], now: int) -> list[int]:
    """When each event happened that this cap or silence speaks of."""
    found = []
    for each in all_records:
        if _owner(each, written.level) != OWN[written.level]:
            continue
        if isinstance(written, Silence):
            if each.kind.name.lower() == written.after:
                found.append(each.time)
        elif each.channel.name.lower() in (written.channels or DISPLAY):
            if each.kind == Kind.IMPRESSION:
                found.append(each.time)
            elif each.kind == Kind.RESERVATION and each.time + each.hold > now:
                found.append(now)
    return found


def allowed(written: Cap | Silence, times: list[int], at: int) -> bool:
    """Whether one more exposure at `at` breaks nothing."""
    if isinstance(written, Silence):
        return not any(at < time + written.seconds for time in times)
    if written.min_gap_seconds:
        return all(at - time >= written.min_gap_seconds for time in times)
    inside = [time for time in times if not written.seconds or time > at - written.seconds]
    return len(inside) < written.count


def free_at(written: Cap | Silence, times: list[int], now: int) -> int:
    """The first second from `now` on at which it is allowed: by trying all that could be."""
    if isinstance(written, Cap) and not written.seconds and not written.min_gap_seconds:
        return now if allowed(written, times, now) else FOREVER
    spans = written.seconds or getattr(written, "min_gap_seconds", 0)
    moments = sorted({now, *[time + spans for time in times if time + spans > now]})
    return next(at for at in moments if allowed(written, times, at))


def slow(item: LineItem, all_records: list[Record], now: int) -> int:
    """When everything allows one more: the latest of the moments, `now` if it is allowed now."""
    return max(
        [free_at(w, counted(w, all_records, now), now) for w in (*item.caps, *item.silences)],
        default=now,
    )


def ledger_of(all_records: list[Record], now: int) -> Ledger:
    ledger = Ledger(b"", now)
    for each in all_records:
        ledger = ledger.plus(each)
    return ledger


@settings(max_examples=300)
@given(st.data())
def test_the_fast_caps_say_what_the_slow_ones_say(
    make_item: Callable[..., LineItem], data: st.DataObject
) -> None:
    item = make_item(
        caps=tuple(data.draw(st.lists(caps, max_size=8))),
        silences=tuple(data.draw(st.lists(silences, max_size=2))),
    )
    all_records = data.draw(st.lists(records, max_size=20))
    found = verdict(ledger_of(all_records, NOW), rules(item, 50))
    expected = slow(item, all_records, NOW)
    assert (found is None) == (expected == NOW)
    if found is None:
        return
    assert (found.free_at or FOREVER) == expected
    written = found.written
    times = counted(written, all_records, NOW)
    assert free_at(written, times, NOW) == expected, "it names a cap that is among the strictest"
    if isinstance(written, Silence):
        assert found.reason == NoBid.SILENT_AFTER_ACTION
    elif written.min_gap_seconds:
        assert found.reason == NoBid.MINIMUM_GAP
    else:
        assert found.reason == REASON[written.level]
        inside = [t for t in times if not written.seconds or t > NOW - written.seconds]
        assert found.seen == len(inside) >= written.count
    assert sentence(found)


@settings(max_examples=40,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.data(), st.integers(2, 6), st.sampled_from([1, 3, 12]))
async def test_a_small_ledger_never_allows_what_the_whole_history_forbids(
    make_item: Callable[..., LineItem],
    any_links: Links,
    data: st.DataObject,
    most: int,
    most_totals: int,
) -> None:
    """However much was folded or forgotten; lifetime caps above all."""
    item = make_item(caps=tuple(data.draw(st.lists(caps, min_size=1, max_size=6))))
    shown = data.draw(
        st.lists(records.filter(lambda r: r.kind != Kind.RESERVATION and r.time <= NOW),
                 min_size=most, max_size=25, unique_by=lambda r: (r.bid_key, r.kind))
    )  # fmt: skip
    shown.sort(key=lambda r: r.time)
    key, scripts = keys.ledger("p"), Scripts(any_links)
    await any_links.bulk([("DEL", key)])
    for each in shown:
        args = ["record", each.time, 500, most, most_totals, each.pack(), 0]
        await scripts.run("ledger", [key, keys.alias("p")], args)
    (raw,) = await any_links.bulk([("GET", key)])
    found = verdict(Ledger(raw, NOW), rules(item, 50))
    expected = slow(item, shown, NOW)
    assert found is not None or expected == NOW
    if found is not None:
        assert (found.free_at or FOREVER) >= expected


async def test_lifetime_caps_outlive_the_records(
    make_item: Callable[..., LineItem], links: Links
) -> None:
    """Exactly, for who sees no more than a ledger has totals for."""
    item = make_item(caps=(Cap("line_item", 3), Cap("everyone", 1000, 30 * DAY)))
    scripts, key = Scripts(links), keys.ledger("p")
    seen = []
    for number in range(4):
        now = NOW + number * 100 * DAY
        what = Record(time=now, kind=Kind.IMPRESSION, advertiser=20, campaign=30, line_item=40,
                      creative=50, bid_key=number.to_bytes(8, "big"))  # fmt: skip
        args = ["record", now, 500, 128, 128, what.pack(), 0]
        (raw,) = await links.bulk([("GET", key)])
        seen.append(verdict(Ledger(raw or b"", now), rules(item, 50)))
        await scripts.run("ledger", [key, keys.alias("p")], args)
    assert seen[:3] == [None, None, None]
    last = seen[3]
    assert last is not None
    assert (last.reason, last.seen, last.free_at) == (NoBid.CAPPED_LINE_ITEM, 3, 0)


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts this process in a time zone."""

    def put(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        clock.tzset()

    yield put
    monkeypatch.undo()
    clock.tzset()


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "2026-11-01", "2026-04-05"])
def test_a_window_has_as_many_seconds_on_the_day_the_clocks_change(
    make_item: Callable[..., LineItem],
    make_ledger: Callable[..., Ledger],
    in_zone: Callable[[str], None],
    zone: str,
    day: str,
) -> None:
    """``per: 1d`` is 86,400 seconds, be the day of 23, 24 or 25 hours long."""
    in_zone(zone)
    item = make_item(caps=(Cap("campaign", 1, DAY),))
    noon_before = datetime.fromisoformat(day).replace(hour=12, tzinfo=ZoneInfo(zone))
    shown = int((noon_before - timedelta(days=1)).timestamp())

    def at(now: int) -> Any:
        return verdict(make_ledger(now, (shown, Kind.IMPRESSION, {})), rules(item, 50))

    assert at(shown + DAY - 1).free_at == shown + DAY
    assert at(shown + DAY) is None


def test_an_empty_ledger_allows_everything(make_item: Callable[..., LineItem]) -> None:
    item = make_item(caps=(Cap("everyone", 1, 0),), silences=(Silence("click", DAY),))
    assert verdict(Ledger(b"", NOW), rules(item, 50)) is None
    assert rules(make_item(), 50) == ()


def test_a_silence_hears_of_a_sale_in_the_shop(
    make_item: Callable[..., LineItem], make_ledger: Callable[..., Ledger]
) -> None:
    """A sale that the CRM reports has an advertiser and nothing below it."""
    item = make_item(silences=(Silence("conversion", 30 * DAY),))
    sale = {"campaign": 0, "line_item": 0, "creative": 0, "channel": Channel.STORE}
    ledger = make_ledger(NOW, (NOW - DAY, Kind.CONVERSION, sale))
    found = verdict(ledger, rules(item, 50))
    assert found is not None
    assert (found.reason, found.free_at) == (NoBid.SILENT_AFTER_ACTION, NOW + 29 * DAY)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (Cap("campaign", 2, DAY), "2 of 2 per 1d, of campaign; free again 2026-08-30 09:40:00 UTC"),
        (Cap("line_item", 1), "3 of 1 ever, of line_item"),
        (
            Cap("advertiser", 1, 90 * 60, channels=frozenset({"sms", "display"})),
            "2 of 1 per 90m, of advertiser in display, sms; free again 2026-08-29 12:08:20 UTC",
        ),
        (
            Cap("everyone", min_gap_seconds=2 * HOUR),
            "at least 2h apart, of everyone; free again 2026-08-29 12:38:20 UTC",
        ),
        (
            Silence("click", 61, "campaign"),
            "silent for 61s after a click, of campaign; free again 2026-08-29 10:40:59 UTC",
        ),
    ],
)
def test_the_verdict_in_words(
    make_item: Callable[..., LineItem],
    make_ledger: Callable[..., Ledger],
    written: Cap | Silence,
    text: str,
) -> None:
    ledger = make_ledger(
        NOW,
        (NOW - 2 * DAY, Kind.IMPRESSION, {}),
        (NOW - HOUR, Kind.IMPRESSION, {}),
        (NOW - 100, Kind.IMPRESSION, {}),
        (NOW - 2, Kind.CLICK, {}),
    )
    own = {"silences" if isinstance(written, Silence) else "caps": (written,)}
    found = verdict(ledger, rules(make_item(**own), 50))
    assert found is not None
    assert sentence(found) == text


def test_each_creative_has_its_own_cap(
    make_item: Callable[..., LineItem],
    make_creative: Callable[..., Creative],
    make_ledger: Callable[..., Ledger],
) -> None:
    item = make_item(caps=(Cap("creative", 1, DAY),))
    ledger = make_ledger(NOW, (NOW - 5, Kind.IMPRESSION, {"creative": 50}))
    assert verdict(ledger, rules(item, 51)) is None
    found = verdict(ledger, rules(item, 50))
    assert found is not None
    assert found.reason == NoBid.CAPPED_CREATIVE


def test_a_wider_level_with_little_in_it_hides_no_narrower_cap(
    make_item: Callable[..., LineItem], make_ledger: Callable[..., Ledger]
) -> None:
    """Two impressions: too few for a cap of five over everyone, too many for one of two."""
    item = make_item(
        caps=(Cap("everyone", 5, DAY), Cap("campaign", 9, DAY), Cap("campaign", 2, DAY))
    )
    found = verdict(make_ledger(NOW, *[(NOW - 9, Kind.IMPRESSION, {})] * 2), rules(item, 50))
    assert found is not None
    assert found.reason == NoBid.CAPPED_CAMPAIGN
