"""Does the script keep the ledger as a slow, obvious model does, and can we read what it wrote?"""

from collections import Counter
from struct import pack, unpack_from
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidder.capping import Channel, Kind, Ledger, Record, claim, record
from bidder.capping.claim import Reservation
from bidder.capping.ledger import (
    ADVERTISER,
    ANY_CHANNEL,
    CAMPAIGN,
    EVERYONE,
    HEADER_BYTES,
    KEEP_SECONDS,
    LINE_ITEM,
    MAX_BYTES,
    MAX_RECORDS,
    RECORD_BYTES,
    TOTAL_BYTES,
    total_key,
)
from bidder.store import keys
from bidder.store.coalesce import ScriptError, Scripts
from bidder.store.links import Links

START = 1_788_000_000
DAY = 86400
LATE = 3600


def made(key: int, kind: Kind = Kind.IMPRESSION, time: int = START, **other: Any) -> Record:
    """A record of line item 40 of campaign 30 of advertiser 20, unless said otherwise."""
    fields = {"advertiser": 20, "campaign": 30, "line_item": 40, "creative": 50, **other}
    return Record(time=time, kind=kind, bid_key=key.to_bytes(8, "big"), **fields)


class Model:
    """The ledger as a list, with no regard for speed."""

    def __init__(self, most: int, most_totals: int) -> None:
        self.most, self.most_totals = most, most_totals
        self.version = self.folded_until = self.unlisted = 0
        self.totals: dict[tuple[int, int], tuple[int, int]] = {}
        self.records: list[Record] = []

    def claim(self, now: int, version: int, new: list[Record]) -> object:
        if version != self.version:
            return "another version"
        kept = self._swept(now) + new
        state = (list(self.records), dict(self.totals), self.folded_until, self.unlisted)
        self.records = kept
        self._fold(now, youngest=now - LATE)
        if len(self.records) > self.most:
            self.records, self.totals, self.folded_until, self.unlisted = state
            return 0
        self._written(now)
        return 1

    def record(self, now: int, what: Record, claimed: bool) -> bytes:
        if any((r.bid_key, r.kind) == (what.bid_key, what.kind) for r in self.records):
            return b"duplicate"
        self.records = self._swept(now)
        outcome = b"new"
        if what.kind == Kind.IMPRESSION:
            held = [r for r in self.records if _is(r, what.bid_key, Kind.RESERVATION)]
            if held:
                self.records.remove(held[0])
            elif claimed:
                outcome = b"late"
        self.records.append(what)
        self._fold(now, youngest=2**32)
        self._written(now)
        return outcome

    def release(self, now: int, key: bytes) -> bytes:
        held = [r for r in self.records if _is(r, key, Kind.RESERVATION)]
        if not held:
            return b"absent"
        self.records.remove(held[0])
        self._written(now)
        return b"new"

    def _swept(self, now: int) -> list[Record]:
        return [r for r in self.records if r.kind != Kind.RESERVATION or r.time + r.hold > now]

    def _fold(self, now: int, youngest: int) -> None:
        if not self.records:
            return
        if len(self.records) <= self.most and self.records[0].time >= now - KEEP_SECONDS:
            return
        impressions_first = sorted(
            self.records, key=lambda r: (r.kind != Kind.IMPRESSION, r.time, self.records.index(r))
        )
        loose = [r for r in impressions_first if r.kind != Kind.RESERVATION]
        gone = [r for r in loose if r.time < now - KEEP_SECONDS]
        too_many = max(len(self.records) - len(gone) - self.most, 0)
        gone += [r for r in loose if r not in gone and r.time <= youngest][:too_many]
        self.records = [r for r in self.records if r not in gone]
        self._count([r for r in gone if r.kind == Kind.IMPRESSION])

    def _count(self, gone: list[Record]) -> None:
        bound = self.unlisted
        for each in gone:
            self.folded_until = max(self.folded_until, each.time)
            owners = (each.advertiser, each.campaign, each.line_item, each.creative)
            for name in (0, *[owner for owner in owners if owner]):
                key = (name, int(each.channel))
                if key in self.totals:
                    count, last = self.totals[key]
                    self.totals[key] = (count + 1, max(last, each.time))
                else:
                    self.totals[key] = (bound + 1, self.folded_until if bound else each.time)
        ranked = sorted(
            self.totals, key=lambda key: (-self.totals[key][0], -self.totals[key][1], _bytes(key))
        )
        for key in ranked[self.most_totals :]:
            self.unlisted = max(self.unlisted, self.totals.pop(key)[0])

    def _written(self, now: int) -> None:
        self.version = now if self.version == 0 else (self.version + 1) % 2**32


def _is(record: Record, key: bytes, kind: Kind) -> bool:
    return record.bid_key == key and record.kind == kind


def _bytes(key: tuple[int, int]) -> bytes:
    return pack("<II", key[0], 1 | key[1] << 4)


def totals_of(raw: bytes) -> dict[tuple[int, int], tuple[int, int]]:
    """(id, channel) -> (count, last), read without `Ledger`."""
    (many,) = unpack_from("<H", raw, 2)
    found = {}
    for place in range(many):
        name, what, count, last = unpack_from("<IB3xII", raw, HEADER_BYTES + place * TOTAL_BYTES)
        assert what & 15 == Kind.IMPRESSION
        found[name, what >> 4] = (count, last)
    return found


bid_keys = st.integers(0, 9)
owners = st.fixed_dictionaries(
    {
        "advertiser": st.sampled_from([1, 2]),
        "campaign": st.integers(0, 4),
        "line_item": st.integers(0, 9),
        "creative": st.sampled_from([0, 7, 8, 2**32 - 1]),
        "page": st.sampled_from([0, 99]),
    }
)
operations = st.lists(
    st.tuples(
        st.sampled_from(["claim", "claim", "claim2", "impression", "impression", "click", "email",
                         "conversion", "release"]),
        bid_keys,
        owners,
        st.sampled_from([0, 1, 60, 60, 240, 4000, 3 * DAY, 32 * DAY]),
        st.sampled_from([0, 0, 0, -30, -5000, -33 * DAY, 20]),
        st.booleans(),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=70,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(operations, st.integers(2, 6), st.sampled_from([1, 5, 30]))
async def test_the_script_does_what_the_model_does(
    any_links: Links, what: list[Any], most: int, most_totals: int
) -> None:
    scripts, model, now = Scripts(any_links), Model(most, most_totals), START
    key = keys.ledger("p")
    both = [key, keys.alias("p")]
    await any_links.bulk([("DEL", key)])
    for operation, number, whose, later, skew, flag in what:
        now += later
        bid_key = number.to_bytes(8, "big")
        common = [now, 500, most, most_totals]
        answer: object
        if operation.startswith("claim"):
            version = model.version if flag or number else model.version + 1
            new = [
                made(number + 100 * n, Kind.RESERVATION, now, hold=60 * number, **whose)
                for n in range(2 if operation == "claim2" else 1)
            ]
            args = ["claim", *common, version, *[each.pack() for each in new]]
            answer = await scripts.run("ledger", both, args)
            expected = model.claim(now, version, new)
            if expected == "another version":
                (expected,) = await any_links.bulk([("GET", key)])
                expected = expected or b""
        elif operation == "release":
            answer = await scripts.run("ledger", both, ["release", *common, bid_key])
            expected = model.release(now, bid_key)
        else:
            kind = {"click": Kind.CLICK, "conversion": Kind.CONVERSION}.get(
                operation, Kind.IMPRESSION
            )
            channel = Channel.EMAIL if operation == "email" else Channel.DISPLAY
            new_one = made(number, kind, now + skew, channel=channel, **whose)
            args = ["record", *common, new_one.pack(), int(flag)]
            answer = await scripts.run("ledger", both, args)
            expected = model.record(now, new_one, flag)
        assert answer == expected, operation
        (raw,) = await any_links.bulk([("GET", key)])
        ledger = Ledger(raw or b"", now)
        assert ledger.version == model.version
        assert Counter(ledger.records()) == Counter(model.records)
        if raw:
            assert (ledger.folded_until, ledger.unlisted) == (model.folded_until, model.unlisted)
            assert totals_of(raw) == model.totals
            assert len(model.totals) <= most_totals
            assert len(ledger.records()) <= most
            (ttl,) = await any_links.bulk([("TTL", key)])
            assert 498 <= ttl <= 500


async def test_an_unknown_layout_is_neither_read_nor_overwritten(any_links: Links) -> None:
    raw = bytes([2]) + bytes(15)
    await any_links.bulk([("SET", keys.ledger("p"), raw)])
    with pytest.raises(ScriptError, match="ledger layout 2 is unknown"):
        await record(Scripts(any_links), "p", made(1), START, 500)
    (after,) = await any_links.bulk([("GET", keys.ledger("p"))])
    assert after == raw


@pytest.mark.parametrize(
    "raw",
    [b"\x01", bytes(16), bytes([1]) + bytes(16), bytes([1, 0, 1, 0]) + bytes(12),
     bytes([1]) + bytes(15 + RECORD_BYTES + 1)],
)  # fmt: skip
def test_what_is_not_a_ledger_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a ledger"):
        Ledger(raw, START)


async def test_a_record_comes_back_as_it_went(links: Links) -> None:
    written = Record(
        time=START, kind=Kind.CLICK, channel=Channel.STORE, hold=70_000, page=77, measured=True,
        advertiser=2**32 - 1, campaign=2, line_item=3, creative=4, bid_key=b"\x04abcdef\xff",
    )  # fmt: skip
    assert await record(Scripts(links), "p", written, START, 500) == "new"
    (raw,) = await links.bulk([("GET", keys.ledger("p"))])
    (read,) = Ledger(raw, START).records()
    assert read == msgspec.structs.replace(written, hold=0xFFFF)


async def test_a_ledger_stays_small_whatever_happens(links: Links) -> None:
    """A year of a person who is shown new creatives without end, with contacts and clicks."""
    scripts, now = Scripts(links), START
    for number in range(700):
        now += 6 * 3600
        whose = {"campaign": 1000 + number // 3, "line_item": number + 1, "creative": 9000 + number}
        channel = Channel(number % 3)
        await record(
            scripts, "p", made(number, time=now, channel=channel, **whose), now, 500, False
        )
        await record(scripts, "p", made(number, Kind.CLICK, now, **whose), now, 500)
    (raw,) = await links.bulk([("GET", keys.ledger("p"))])
    assert MAX_BYTES - TOTAL_BYTES - RECORD_BYTES < len(raw) <= MAX_BYTES
    ledger = Ledger(raw, now)
    shown = [r for r in ledger.records() if r.kind == Kind.IMPRESSION]
    every = ledger.folded(tuple(total_key(0, channel) for channel in range(3)), 10_000)
    assert len(shown) + len(every) == 700
    assert ledger.unlisted >= 1
    for number in range(700):  # nobody's count is lost, not even of those that were forgotten
        keys_of = tuple(total_key(9000 + number, channel) for channel in range(3))
        there = ledger.exposures(5, 9000 + number, ANY_CHANNEL)
        assert len(there) + len(ledger.folded(keys_of, 10)) >= 1


async def test_folding_spares_what_a_notice_may_repeat(links: Links) -> None:
    """A claim never folds what is younger than an hour; it is refused instead."""
    scripts = Scripts(links)
    for number in range(MAX_RECORDS):
        await record(scripts, "p", made(number, time=START), START, 500, False)

    async def wish(now: int) -> tuple[bool, ...]:
        (raw,) = await links.bulk([("GET", keys.ledger("p"))])
        new = made(999, Kind.RESERVATION, now, hold=60)
        asked = [Reservation(new, lambda ledger: True)]
        return (await claim(scripts, "p", Ledger(raw, now), asked, now, 500)).held

    assert await wish(START + LATE - 1) == (False,)
    assert await record(scripts, "p", made(0, time=START + 30), START + 30, 500) == "duplicate"
    assert await wish(START + LATE) == (True,)


async def test_clicks_and_conversions_outlast_impressions(links: Links) -> None:
    scripts = Scripts(links)
    await record(scripts, "p", made(1, Kind.CONVERSION, START), START, 500)
    for number in range(3 * MAX_RECORDS):
        await record(scripts, "p", made(number, time=START + number), START + number, 500, False)
    (raw,) = await links.bulk([("GET", keys.ledger("p"))])
    assert Ledger(raw, START + 400).times(ADVERTISER, 20, ANY_CHANNEL << 4 | Kind.CONVERSION) == [
        START
    ]


def ledger_of(*records: Record, now: int = START) -> Ledger:
    ledger = Ledger(b"", now)
    for each in records:
        ledger = ledger.plus(each)
    return ledger


def test_what_stands_at_a_moment() -> None:
    ledger = ledger_of(
        made(1, time=START - 10, campaign=31),
        made(2, time=START - 90),
        made(3, Kind.RESERVATION, START - 60, hold=60),
        made(4, Kind.RESERVATION, START - 60, hold=61, page=99),
        made(5, time=START - 50, channel=Channel.SMS, page=98),
        made(6, Kind.CLICK, START - 40),
        made(7, time=START - 5, advertiser=21, page=99),
        made(8, Kind.RESERVATION, START - 60, hold=59, advertiser=22, page=99),
    )
    display = 1 << Channel.DISPLAY
    assert ledger.exposures(EVERYONE, 0, display) == [START - 90, START - 10, START - 5, START]
    assert ledger.exposures(ADVERTISER, 20, display) == [START - 90, START - 10, START]
    assert ledger.exposures(CAMPAIGN, 31, display) == [START - 10]
    assert ledger.exposures(ADVERTISER, 20, ANY_CHANNEL) == [
        START - 90, START - 50, START - 10, START,
    ]  # fmt: skip
    assert ledger.exposures(LINE_ITEM, 41, ANY_CHANNEL) == []
    assert ledger.times(ADVERTISER, 20, ANY_CHANNEL << 4 | Kind.CLICK) == [START - 40]
    assert ledger.times(ADVERTISER, 20, ANY_CHANNEL << 4 | Kind.CONVERSION) == []
    assert ledger.advertisers_on(99) == {20, 21}, "a reservation that ended is on no page"
    assert ledger.advertisers_on(97) == ledger.advertisers_on(0) == set()
    assert Ledger(b"", START).advertisers_on(99) == set()


def test_a_total_is_found_by_its_own_key_only() -> None:
    """Bytes that look like a key may straddle two totals."""
    key = total_key(0x11_00_00_00, Channel.EMAIL)
    decoy = pack("<IIII", 5, 1, 0x22_22_22_22, 0) + pack("<IIII", 0x11, 1, 1, 1)
    for shift in (1, 4, 5, 8, 12):
        straddling = bytes(shift) + key + bytes(32 - shift - 8)
        raw = pack("<BxHIII", 1, 3, 1, START, 0) + straddling + key + pack("<II", 2, START - 7)
        assert Ledger(raw, START).folded((key,), 5) == [START - 7] * 2
        raw = pack("<BxHIII", 1, 2, 1, START - 1, 3) + straddling
        assert Ledger(raw, START).folded((key,), 5) == [START - 1] * 3
    assert decoy.find(key) == -1
