"""Two people become one, wherever the machine stops meanwhile, and however often it is tried."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from bidder import capping
from bidder.capping import Channel, Kind, Ledger, Record
from bidder.capping.ledger import MAX_RECORDS
from bidder.crm import activity
from bidder.crm.batch import Change
from bidder.crm.merging import Lives, finish_merges, joined, merge, why_apart
from bidder.crm.writing import Writer
from bidder.people.reading import decode_profile
from bidder.people.showing import find
from bidder.person import Basket, Profile
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Scripts
from bidder.store.links import Links

NOW, DAY = 1_795_000_000, 86400
LIVES = Lives(100 * DAY, 100 * DAY, 1000 * DAY)
PHONE, LAPTOP = ("buyeruid.demo", "phone"), ("buyeruid.demo", "laptop")
CUSTOMER = ("crm", "c-1")


class Crash(Exception):
    """The machine stopped here."""


class Failing:
    """Links and scripts that stop before their n-th call, for good."""

    def __init__(self, links: Links, calls: int) -> None:
        self._links, self._scripts = links, Scripts(links)
        self.left = calls

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crash

    async def bulk(self, commands: Sequence[Any]) -> list[Any]:
        self._step()
        return await self._links.bulk(commands)

    async def run(self, *given: Any) -> Any:
        self._step()
        return await self._scripts.run(*given)


def shown(time: int, key: bytes, line_item: int = 5) -> Record:
    return Record(time, Kind.IMPRESSION, 1, 2, line_item, 3, key)


def seen(time: int, kind: activity.Kind = activity.Kind.VISIT) -> bytes:
    return activity.record(time, kind, 7)


async def two_people(links: Links, writer: Writer) -> tuple[str, str]:
    """(who stays, who goes): a customer on the laptop, and a phone with a basket and many ads."""
    await writer.write([Change((CUSTOMER, LAPTOP), seen(NOW - 9))], NOW)
    basket = seen(NOW - 5, activity.Kind.BASKET)
    await writer.write([Change((PHONE,), basket + seen(NOW - 9))], NOW)
    keep, gone = [
        (await links.bulk([("GET", keys.identifier(*each))]))[0].decode()
        for each in (CUSTOMER, PHONE)
    ]
    scripts = Scripts(links)
    for place in range(MAX_RECORDS + 20):  # the oldest are folded into totals
        record = shown(NOW - 1000 + place, b"gone%04d" % place)
        await capping.record(scripts, gone, record, NOW, DAY, claimed=False)
    for place in range(3):
        record = shown(NOW - 100 + place, b"keep%04d" % place)
        await capping.record(scripts, keep, record, NOW, DAY, claimed=False)
    await capping.record(scripts, keep, shown(NOW - 990, b"gone0140"), NOW, DAY, claimed=False)
    return keep, gone


async def state(links: Links, person: str) -> tuple[object, ...]:
    """All that the store has of a person, versions of the ledger apart."""
    held = await find(links, person)
    assert held is not None
    ledger = Ledger(held.ledger, NOW)
    rows = sorted((r.time, r.kind, r.bid_key) for r in ledger.records())
    (records,) = await links.bulk([("GET", keys.activity(held.id))])
    totals = held.ledger[16 : len(held.ledger) - 36 * len(rows)]
    return held.id, sorted(held.identifiers), held.profile, records, rows, totals


async def test_a_merge_stopped_anywhere_ends_the_same(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer = writer_on(links)
    expected: tuple[object, ...] | None = None
    calls = 0
    while True:
        await links.bulk([("FLUSHALL", "SYNC")])
        writer.random = Random(3)
        keep, gone = await two_people(links, writer)
        failing = Failing(links, calls if expected is not None else 1000)
        try:
            await merge(failing, failing, keep, gone, NOW, LIVES)  # type: ignore[arg-type]
            finished = True
        except Crash:
            finished = False
            await finish_merges(links, Scripts(links), NOW, LIVES)
        result = await state(links, keep)
        left = await links.bulk(
            [("MGET", keys.profile(gone), keys.activity(gone), keys.ledger(gone)),
             ("SMEMBERS", keys.MERGES), ("GET", keys.identifier(*PHONE))]
        )  # fmt: skip
        if calls == 0 and not finished:
            assert result is not None  # stopped before the journal: nothing happened at all
        else:
            assert left[0] == [None, None, None]
            assert left[2].decode() == keep
            if expected is None:
                expected = result
            assert result == expected
        assert not left[1]
        if finished and expected is not None and calls > 0:
            break
        calls += 1
    assert calls > 8, "every step was stopped once"


async def test_devices_of_one_person_share_caps_and_segments(
    any_links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer, scripts = writer_on(any_links), Scripts(any_links)
    keep, gone = await two_people(any_links, writer)
    await writer.write([Change((CUSTOMER, PHONE))], NOW)
    held = await find(any_links, f"{LAPTOP[0]}:{LAPTOP[1]}")
    assert held is not None
    assert held.id == keep
    assert "basket" in held.profile.segments
    times = Ledger(held.ledger, NOW)
    assert len(times.records()) >= MAX_RECORDS - 1
    # A token in flight names who is gone: what it writes reaches who they became.
    late = shown(NOW, b"inflight")
    assert await capping.record(scripts, gone, late, NOW, DAY, claimed=False) == "new"
    after = await find(any_links, keep)
    assert after is not None
    assert b"inflight" in [record.bid_key for record in Ledger(after.ledger, NOW).records()]
    (orphan,) = await any_links.bulk([("GET", keys.ledger(gone))])
    assert orphan is None
    # So does a claim of who was read before the merge: it is contended, and nobody bids.
    reservation = capping.Reservation(
        Record(NOW, Kind.RESERVATION, 1, 2, 5, 3, b"claimed.", hold=60), lambda _: True
    )
    answer = await capping.claim(scripts, gone, Ledger(b"", NOW), [reservation], NOW, DAY)
    assert answer.held == (False,)


async def test_a_merge_of_a_merge_is_followed(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer = writer_on(links)
    tablet = ("buyeruid.demo", "tablet")
    for each in (PHONE, LAPTOP, tablet):
        await writer.write([Change((each,), seen(NOW - 50))], NOW)
    firsts = {
        each: (await links.bulk([("GET", keys.identifier(*each))]))[0].decode()
        for each in (PHONE, LAPTOP, tablet)
    }
    await writer.write([Change((PHONE, LAPTOP))], NOW)
    await writer.write([Change((LAPTOP, tablet))], NOW)
    ends = {(await find(links, pid)).id for pid in firsts.values()}  # type: ignore[union-attr]
    assert len(ends) == 1
    held = await find(links, ends.pop())
    assert held is not None
    assert len(held.identifiers) == 3


def test_who_stays_apart() -> None:
    many = [("x", str(number)) for number in range(15)]
    others = [("y", str(number)) for number in range(6)]
    assert "more than 20" in why_apart(many, others)
    assert not why_apart(many, others[:5])
    assert "two customers" in why_apart([("crm", "1")], [("crm", "2")])
    assert not why_apart([("crm", "1")], [("crm", "1"), ("ifa", "2")])
    assert not why_apart([("crm", "1")], [("ifa", "2")])


def test_what_either_told_us_counts() -> None:
    one = Profile(fewer_ads=frozenset({"a"}), first_seen=5, baskets={"s": Basket(1, 10)})
    other = Profile(fewer_ads=frozenset({"b"}), first_seen=3, baskets={"s": Basket(2, 20)})
    both = joined(one, other)
    assert both.fewer_ads == {"a", "b"}
    assert both.first_seen == 3
    assert both.baskets["s"].value_micros == 2
    assert joined(one, Profile(opted_out=True)).opted_out
    assert not joined(one, Profile(opted_out=True)).baskets


async def test_what_the_store_refuses_stays_in_the_journal(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    keep, gone = await two_people(links, writer_on(links))

    class Away(Failing):
        def _step(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise StoreUnavailable("away")

    away = Away(links, 3)
    with pytest.raises(StoreUnavailable):
        await merge(away, away, keep, gone, NOW, LIVES)  # type: ignore[arg-type]
    assert await finish_merges(links, Scripts(links), NOW, LIVES) == 1
    (raw,) = await links.bulk([("GET", keys.profile(keep))])
    assert "basket" in decode_profile(raw).segments
    assert Channel.DISPLAY == 0


async def test_an_objection_that_a_merge_hands_on_is_found_by_the_names_of_both(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer = writer_on(links)
    keep, gone = await two_people(links, writer)
    await writer.write([Change((PHONE,), told=Profile(opted_out=True))], NOW)
    await merge(links, Scripts(links), keep, gone, NOW, LIVES)
    names = [keys.identifier(*each) for each in (CUSTOMER, LAPTOP, PHONE)]
    lasting = [keys.profile(keep), keys.identifiers(keep), *names]
    lives = await links.bulk([("TTL", key) for key in lasting])
    assert min(lives) > 999 * DAY
    assert await links.bulk([("EXISTS", keys.ledger(keep))]) == [0]
