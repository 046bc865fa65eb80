"""Is an exposure reserved once, and turned into an impression once, whatever happens around it?"""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidder.campaigns.catalogue import Cap, LineItem
from bidder.capping import (
    Channel,
    Kind,
    Ledger,
    Record,
    Reservation,
    absorb,
    absorb_all,
    claim,
    record,
    release,
    rules,
    verdict,
)
from bidder.capping.claim import MAX_ALIASES, Arguments
from bidder.capping.ledger import ADVERTISER, ANY_CHANNEL, EVERYONE, KEEP_SECONDS, total_key
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.links import Links

NOW = 1_788_000_000
TTL = 500
DAY = 86400

real_store = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def made(number: int, kind: Kind = Kind.RESERVATION, time: int = NOW, hold: int = 60) -> Record:
    return Record(
        time=time, kind=kind, advertiser=20, campaign=30, line_item=40, creative=50,
        bid_key=number.to_bytes(8, "big"), hold=hold if kind == Kind.RESERVATION else 0,
    )  # fmt: skip


async def held_at(links: Links, person: str, now: int) -> Ledger:
    (raw,) = await links.bulk([("GET", keys.ledger(person))])
    return Ledger(raw or b"", now)


def wish(record: Record, allowed: Callable[[Ledger], bool] = lambda _: True) -> Reservation:
    return Reservation(record, allowed)


@real_store
@given(racing=st.integers(2, 8), cap=st.integers(1, 4), before=st.integers(0, 3))
async def test_racing_claims_never_exceed_a_cap(
    any_links: Links, make_item: Callable[..., LineItem], racing: int, cap: int, before: int
) -> None:
    """All of them read the same ledger, and each comes from a worker of its own."""
    await any_links.bulk([("DEL", keys.ledger("p"))])
    limits = rules(make_item(caps=(Cap("campaign", cap, DAY),)), 50)
    for number in range(before):
        seen = made(100 + number, Kind.IMPRESSION)
        await record(Scripts(any_links), "p", seen, NOW, TTL, claimed=False)
    read = await held_at(any_links, "p", NOW)
    asked = [n for n in range(racing) if verdict(read, limits) is None]
    claimed = await asyncio.gather(
        *[
            claim(
                Scripts(any_links), "p", read,
                [wish(made(n), lambda ledger: verdict(ledger, limits) is None)], NOW, TTL,
            )
            for n in asked
        ]
    )  # fmt: skip
    won = sum(one.held[0] for one in claimed)
    standing = (await held_at(any_links, "p", NOW)).exposures(ADVERTISER, 20, 1)
    assert len(standing) == before + won
    assert len(standing) <= max(cap, before)
    assert won >= min(1, max(cap - before, 0)), "the first of them always gets its place"


async def test_each_reservation_counts_against_those_after_it(
    links: Links, make_item: Callable[..., LineItem]
) -> None:
    limits = rules(make_item(caps=(Cap("advertiser", 2, DAY),)), 50)
    read = await held_at(links, "p", NOW)
    await record(Scripts(links), "p", made(9, Kind.IMPRESSION), NOW, TTL)
    asked = [wish(made(n), lambda ledger: verdict(ledger, limits) is None) for n in range(3)]
    held = (await claim(Scripts(links), "p", read, asked, NOW, TTL)).held
    assert held == (True, False, False)
    standing = await held_at(links, "p", NOW)
    assert [r.bid_key[-1] for r in standing.records()] == [9, 0]


async def test_nothing_is_claimed_when_nothing_is_allowed_any_more(links: Links) -> None:
    read = await held_at(links, "p", NOW)
    await record(Scripts(links), "p", made(9, Kind.IMPRESSION), NOW, TTL)
    asked = [wish(made(1), lambda _: False)]
    assert (await claim(Scripts(links), "p", read, asked, NOW, TTL)).held == (False,)
    assert len((await held_at(links, "p", NOW)).records()) == 1


async def test_a_ledger_that_changes_twice_is_contended(links: Links) -> None:
    real, numbers = Scripts(links), iter(range(100, 200))

    class Busy:
        """Somebody else always writes first."""

        async def run(
            self, name: str, keys: Sequence[str], args: Arguments, deadline: float | None = None
        ) -> object:
            await record(real, "p", made(next(numbers), Kind.IMPRESSION), NOW, TTL)
            return await real.run(name, keys, args, deadline)

    read = await held_at(links, "p", NOW)
    assert (await claim(Busy(), "p", read, [wish(made(1))], NOW, TTL)).held == (False,)
    kinds = {r.kind for r in (await held_at(links, "p", NOW)).records()}
    assert kinds == {Kind.IMPRESSION}


notices = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["impression", "click", "conversion", "loss"]),
        st.integers(1, 3),
        st.integers(0, 3600),
    ),
    max_size=12,
)


@real_store
@given(notices, st.integers(0, 2**32))
async def test_a_notice_counts_once_however_often_and_late_it_comes(
    any_links: Links, what: list[tuple[int, str, int, int]], seed: int
) -> None:
    """Tripled, shuffled, up to an hour late, at any worker."""
    await any_links.bulk([("DEL", keys.ledger("p"))])
    workers = [Scripts(any_links) for _ in range(4)]
    read = await held_at(any_links, "p", NOW)
    asked = [wish(made(n, hold=60)) for n in range(6)]
    assert all((await claim(workers[0], "p", read, asked, NOW, TTL)).held)
    arriving = [
        (NOW + late + again, number, kind)
        for number, kind, times, late in what
        for again in range(times)
    ]
    random = Random(seed)
    for at, number, kind in sorted(arriving, key=lambda each: (each[0], random.random())):
        worker = random.choice(workers)
        if kind == "loss":
            await release(worker, "p", number.to_bytes(8, "big"), at, TTL)
        else:
            await record(worker, "p", made(number, Kind[kind.upper()], at), at, TTL)
    end = NOW + 2 * 3600
    ledger = await held_at(any_links, "p", end)
    counted = sorted((r.bid_key[-1], r.kind) for r in ledger.records()
                     if r.kind != Kind.RESERVATION)  # fmt: skip
    told = {(number, Kind[kind.upper()]) for number, kind, _, _ in what if kind != "loss"}
    assert counted == sorted(told)
    assert len(ledger.exposures(EVERYONE, 0, 1)) == len(
        {number for number, kind in told if kind == Kind.IMPRESSION}
    )


async def test_how_a_reservation_ends(links: Links) -> None:
    scripts = Scripts(links)
    asked = [wish(made(n, hold=60)) for n in range(3)]
    await claim(scripts, "p", Ledger(b"", NOW), asked, NOW, TTL)
    shown = made(0, Kind.IMPRESSION, NOW + 59)
    assert await record(scripts, "p", shown, NOW + 59, TTL) == "new"
    assert await record(scripts, "p", shown, NOW + 59, TTL) == "duplicate"
    assert await release(scripts, "p", shown.bid_key, NOW + 59, TTL) == "absent"
    assert await release(scripts, "p", made(1).bid_key, NOW + 59, TTL) == "new"
    late = made(2, Kind.IMPRESSION, NOW + 60)
    assert await record(scripts, "p", late, NOW + 60, TTL) == "late"
    never = made(3, Kind.IMPRESSION, NOW + 60)
    assert await record(scripts, "p", never, NOW + 60, TTL, claimed=False) == "new"
    ledger = await held_at(links, "p", NOW + 60)
    assert {r.bid_key[-1]: r.kind for r in ledger.records()} == dict.fromkeys(
        (0, 2, 3), Kind.IMPRESSION
    )


async def test_a_person_who_was_merged_is_followed(any_links: Links) -> None:
    scripts = Scripts(any_links)
    await any_links.bulk([("SET", keys.alias("old"), "new")])
    read = Ledger(b"", NOW)
    assert (await claim(scripts, "old", read, [wish(made(1))], NOW, TTL)).held == (False,)
    assert await record(scripts, "old", made(2, Kind.IMPRESSION), NOW, TTL, False) == "new"
    assert await release(scripts, "old", made(2).bid_key, NOW, TTL) == "absent"
    assert len((await held_at(any_links, "new", NOW)).records()) == 1
    assert (await held_at(any_links, "old", NOW)).raw == b""


async def test_a_ring_of_merges_ends(links: Links) -> None:
    assert MAX_ALIASES > 2
    await links.bulk([("SET", keys.alias("a"), "b"), ("SET", keys.alias("b"), "a")])
    assert await record(Scripts(links), "a", made(1, Kind.CLICK), NOW, TTL) == "absent"
    assert await absorb(Scripts(links), "a", [made(1).pack()], NOW, TTL) == 0


async def test_absorbing_a_contact_twice_counts_it_once(any_links: Links) -> None:
    contact = Record(
        time=NOW - 60, kind=Kind.IMPRESSION, channel=Channel.EMAIL, advertiser=20, campaign=0,
        line_item=0, creative=0, bid_key=b"a letter",
    ).pack()  # fmt: skip
    assert await absorb(Scripts(any_links), "p", [contact, contact], NOW, TTL) == 1
    assert await absorb(Scripts(any_links), "p", [contact], NOW, TTL) == 0
    ledger = await held_at(any_links, "p", NOW)
    assert ledger.exposures(ADVERTISER, 20, 1 << Channel.EMAIL) == [NOW - 60]


async def test_contacts_of_many_are_absorbed_at_once_wherever_they_went(any_links: Links) -> None:
    def contact(number: int) -> bytes:
        return Record(
            time=NOW - number, kind=Kind.IMPRESSION, channel=Channel.SMS, advertiser=20,
            campaign=0, line_item=0, creative=0, bid_key=number.to_bytes(8, "big"),
        ).pack()  # fmt: skip

    await any_links.bulk([("SET", keys.alias("gone"), "kept")])
    people = [("p", [contact(1), contact(2)]), ("gone", [contact(3)]), ("q", [contact(4)])]
    for _ in range(2):
        await absorb_all(Scripts(any_links), people, NOW, TTL)
    found = {who: (await held_at(any_links, who, NOW)).records() for who in ("p", "kept", "q")}
    assert {who: len(records) for who, records in found.items()} == {"p": 2, "kept": 1, "q": 1}
    assert (await held_at(any_links, "gone", NOW)).raw == b""


@real_store
@given(
    ours=st.lists(st.integers(1, 6), max_size=12),
    theirs=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    most_totals=st.sampled_from([2, 4, 128]),
)
async def test_absorbing_a_ledger_loses_no_count(
    any_links: Links, ours: list[int], theirs: list[int], most_totals: int
) -> None:
    """Totals of both, also what either forgot; done twice under one mark, it counts once."""
    scripts = Scripts(any_links)
    old = NOW - KEEP_SECONDS - DAY
    numbers = iter(range(1000))
    for person, shown in (("ours", ours), ("theirs", theirs)):
        await any_links.bulk([("DEL", keys.ledger(person))])
        for creative in shown:
            what = Record(
                time=old, kind=Kind.IMPRESSION, advertiser=20, campaign=30, line_item=40,
                creative=creative, bid_key=next(numbers).to_bytes(8, "big"),
            )  # fmt: skip
            both = [keys.ledger(person), keys.alias(person)]
            await scripts.run(
                "ledger", both, ["record", NOW, TTL, 128, most_totals, what.pack(), 0]
            )
    other = (await held_at(any_links, "theirs", NOW)).raw
    both = [keys.ledger("ours"), keys.alias("ours")]
    merged = []
    for _ in range(2):
        args = ["absorb", NOW, TTL, 128, most_totals, b"the mark", other]
        await scripts.run("ledger", both, args)
        ledger = await held_at(any_links, "ours", NOW)
        merged.append([ledger.folded((total_key(c, 0),), 100) for c in range(7)])
        assert ledger.exposures(EVERYONE, 0, ANY_CHANNEL) == []
    assert merged[0] == merged[1]
    for creative in range(1, 7):
        true = (ours + theirs).count(creative)
        assert len(merged[0][creative]) >= true
        if most_totals == 128:
            assert len(merged[0][creative]) == true
    if most_totals == 128:
        assert len(merged[0][0]) == len(ours + theirs)
