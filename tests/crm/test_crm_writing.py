"""One way into the store: found, joined, added to, judged, and written over nothing unseen."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from bidder.capping import Ledger
from bidder.crm import activity
from bidder.crm.activity import Kind
from bidder.crm.batch import Change
from bidder.crm.live import contact
from bidder.crm.writing import Writer
from bidder.ids import hash32
from bidder.people.erasure import buried
from bidder.people.reading import decode_profile
from bidder.people.showing import Held, find
from bidder.person import Profile
from bidder.store import keys
from bidder.store.links import Links
from bidder.tombstones import Tombstones

NOW, DAY, SHOP = 1_795_000_000, 86400, "maison-lumen"
CUSTOMER, PHONE = ("crm", "c-1"), ("buyeruid.demo", "phone")


def did(kind: Kind, ago: int = 0, **more: int) -> bytes:
    return activity.record(NOW - ago, kind, hash32(SHOP), **more)


async def held(links: Links, identifier: tuple[str, str]) -> Held:
    found = await find(links, ":".join(identifier))
    assert found is not None
    return found


async def test_what_is_written_can_be_bid_on(
    any_links: Links, writer_on: Callable[..., Writer]
) -> None:
    basket = did(Kind.BASKET, 60, value_micros=120_000_000, count=2)
    written = await writer_on(any_links).write([Change((CUSTOMER, PHONE), basket)], NOW)
    assert (written.people, written.new) == (1, 1)
    found = await held(any_links, PHONE)
    assert found.profile.segments["basket"] == NOW - 60
    assert found.profile.baskets[SHOP].value_micros == 120_000_000
    assert set(found.identifiers) == {CUSTOMER, PHONE}


async def test_writing_again_changes_nothing(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    sent = did(Kind.EMAIL_SENT, 100)
    change = Change((CUSTOMER, PHONE), sent + did(Kind.PURCHASE, 50), contact(sent, NOW))
    writer = writer_on(links)
    await writer.write([change], NOW)
    before = await held(links, PHONE)
    again = await writer.write([change, change], NOW)
    after = await held(links, PHONE)
    assert again.new == 0
    assert replace(before, forgotten_in_seconds=0) == replace(after, forgotten_in_seconds=0)
    assert len(Ledger(after.ledger, NOW).records()) == 1


async def test_a_message_counts_in_the_ledger(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    sent = did(Kind.SMS_SENT, 100)
    await writer_on(links).write([Change((PHONE,), sent, contact(sent, NOW))], NOW)
    found = await held(links, PHONE)
    (record,) = Ledger(found.ledger, NOW).records()
    assert (record.advertiser, record.channel.name, record.kind.name) == (
        hash32(SHOP), "SMS", "IMPRESSION",
    )  # fmt: skip
    old = did(Kind.SMS_SENT, 31 * DAY)
    assert contact(old, NOW) == ()


async def test_who_was_erased_is_not_brought_back(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer = writer_on(links)
    await writer.spare_tombstones()
    (mark,) = Tombstones([b"t" * 32]).of_identifier(*CUSTOMER)
    await links.bulk([("SET", keys.tombstone(mark), "1"), ("INCR", keys.ERASURES)])
    for each in (writer, writer_on(links)):
        written = await each.write([Change((PHONE, CUSTOMER), did(Kind.VISIT))], NOW)
        assert (written.erased, written.people) == (1, 0)
    assert await links.bulk([("EXISTS", keys.identifier(*PHONE))]) == [0]


async def test_of_who_objected_only_that_is_kept(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer = writer_on(links)
    await writer.write([Change((CUSTOMER,), did(Kind.PURCHASE))], NOW)
    await writer.write([Change((CUSTOMER,), told=Profile(opted_out=True))], NOW)
    written = await writer.write([Change((CUSTOMER,), did(Kind.VISIT))], NOW)
    found = await held(links, CUSTOMER)
    assert written.objected == 1
    assert found.profile == Profile(opted_out=True)
    assert await links.bulk([("EXISTS", keys.activity(found.id))]) == [0]


async def test_life_here_counts_from_when_we_last_heard(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer = writer_on(links)
    for now in (NOW, NOW + 30 * DAY):  # importing again does not keep anybody longer
        await writer.write([Change((CUSTOMER,), did(Kind.VISIT, 100 * DAY))], now)
        pid = (await held(links, CUSTOMER)).id
        until = await links.bulk(
            [("EXPIRETIME", key) for key in (keys.profile(pid), keys.activity(pid),
                                             keys.identifier(*CUSTOMER))]
        )  # fmt: skip
        assert set(until) == {NOW - 100 * DAY + 396 * DAY}
    late = await writer.write([Change((PHONE,), did(Kind.VISIT, 400 * DAY))], NOW)
    assert late.people == 0
    assert late.outdated == 1 or late.new == 0


async def test_an_identifier_of_an_exchange_lives_for_less_long(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    await writer_on(links).write([Change((CUSTOMER, PHONE), did(Kind.VISIT))], NOW)
    until = await links.bulk([("EXPIRETIME", keys.identifier(*PHONE))])
    assert until == [NOW + 30 * DAY]


async def test_writers_at_the_same_time_lose_nothing(
    any_links: Links, writer_on: Callable[..., Writer]
) -> None:
    one, other = writer_on(any_links), writer_on(any_links)
    other.random.seed(99)
    changes = [Change((CUSTOMER,), did(Kind.VISIT, ago)) for ago in range(40)]
    await asyncio.gather(
        *[
            (one if place % 2 else other).write([change], NOW)
            for place, change in enumerate(changes[:8])
        ],
        one.write(changes[8:24], NOW),
        other.write(changes[24:], NOW),
    )
    pid = (await held(any_links, CUSTOMER)).id
    (raw,) = await any_links.bulk([("GET", keys.activity(pid))])
    assert len(activity.opened(raw)) == 40


async def test_two_customers_on_one_device_stay_two(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer = writer_on(links)
    other = ("crm", "c-2")
    await writer.write([Change((CUSTOMER, PHONE)), Change((other,))], NOW)
    written = await writer.write([Change((other, PHONE), did(Kind.VISIT))], NOW)
    assert written.kept_apart
    assert (await held(links, CUSTOMER)).id != (await held(links, other)).id


async def test_a_new_customer_is_not_the_one_who_has_their_address(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    other, address = ("crm", "c-2"), ("email", "shared")
    writer = writer_on(links)
    await writer.write([Change((CUSTOMER, address), did(Kind.VISIT, 9))], NOW)
    changes = [
        Change((address, other), did(Kind.PURCHASE), told=Profile(opted_out=True)),
        Change((other, PHONE)),
        Change((address,), did(Kind.BASKET)),
    ]
    written = await writer.write(changes, NOW)
    one, two = await held(links, CUSTOMER), await held(links, other)
    assert (one.identifiers, two.identifiers) == ((CUSTOMER, address), (other, PHONE))
    assert (one.profile.opted_out, two.profile.opted_out) == (False, True)
    assert one.profile.baskets
    assert (written.new, written.kept_apart) == (1, 1)


async def test_an_objection_outlives_no_name_and_no_name_outlives_it(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer = writer_on(links)
    await writer.write([Change((CUSTOMER, PHONE), did(Kind.VISIT, 390 * DAY))], NOW)
    pid = (await held(links, CUSTOMER)).id
    lasting = [*map(keys.profile, [pid]), keys.identifiers(pid), keys.identifier(*CUSTOMER)]
    lasting.append(keys.identifier(*PHONE))
    for renew in (True, False):
        if renew:
            await writer.write([Change((CUSTOMER,), told=Profile(opted_out=True))], NOW)
        else:
            await links.bulk([("EXPIRE", key, 60) for key in lasting[:3]])
            await links.bulk([("DEL", lasting[3])])
            await writer.refresh([pid], NOW)
        lives = await links.bulk([("TTL", key) for key in lasting])
        assert min(lives) > 1000 * DAY, "objections last three years"
    assert (await held(links, PHONE)).profile.opted_out


async def test_whoever_objects_is_told_of_before_it_is_written_and_has_no_ledger(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    told: list[tuple[str, bool, bool]] = []

    async def on_silence(people: Sequence[tuple[str, Profile]]) -> None:
        for pid, profile in people:
            (raw,) = await links.bulk([("GET", keys.profile(pid))])
            told.append((pid, profile.opted_out, decode_profile(raw).opted_out))

    writer = writer_on(links, on_silence=on_silence)
    sent = did(Kind.EMAIL_SENT, 100)
    await writer.write([Change((CUSTOMER,), sent, contact(sent, NOW))], NOW)
    found = await held(links, CUSTOMER)
    assert found.ledger
    objection = Change((CUSTOMER,), told=Profile(opted_out=True))
    for _ in range(2):
        await writer.write([objection, Change((PHONE,), told=objection.told)], NOW)
    assert told == [(found.id, True, False)], "once, and not of who is new"
    assert not (await held(links, CUSTOMER)).ledger


async def test_whoever_is_joined_with_an_objector_is_told_of(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    told: list[str] = []

    async def on_silence(people: Sequence[tuple[str, Profile]]) -> None:
        told.extend(pid for pid, profile in people if profile.opted_out)

    writer, sent = writer_on(links, on_silence=on_silence), did(Kind.EMAIL_SENT, 100)
    await writer.write([Change((CUSTOMER,), sent, contact(sent, NOW))], NOW)
    await writer.write([Change((PHONE,), told=Profile(opted_out=True))], NOW)
    customer = (await held(links, CUSTOMER)).id
    await writer.write([Change((CUSTOMER, PHONE))], NOW)
    found = await held(links, PHONE)
    assert told == [customer] == [found.id]
    assert found.profile.opted_out
    assert not found.ledger
    lives = await links.bulk([("TTL", keys.identifier(*each)) for each in (CUSTOMER, PHONE)])
    assert min(lives) > 1000 * DAY


async def erased(links: Links, *identifiers: tuple[str, str]) -> None:
    """Somebody was erased who was known by these."""
    stones = buried(Tombstones([b"t" * 32]), identifiers, NOW, 5000)
    await links.bulk([*stones, ("INCR", keys.ERASURES)])


async def test_an_identifier_shared_with_somebody_erased_costs_nobody_else_their_objection(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer, other, phone = writer_on(links), ("crm", "c-2"), ("phone", "shared")
    await writer.write([Change((CUSTOMER,), did(Kind.VISIT, 9))], NOW)
    await erased(links, ("crm", "c-0"), phone)
    bought = Change((CUSTOMER, phone), did(Kind.PURCHASE))
    assert (await writer.write([bought], NOW)).erased == 0
    assert (await held(links, CUSTOMER)).profile.orders == 1
    objection = Profile(opted_out=True)
    changes = [Change((each, phone), told=objection) for each in (CUSTOMER, other)]
    assert (await writer.write(changes, NOW)).erased == 0
    for each in (CUSTOMER, other):
        found = await held(links, each)
        assert found.profile.opted_out
        assert found.identifiers == (each,)


async def test_what_is_of_somebody_erased_is_nobody_elses(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer, gone, phone = writer_on(links), ("crm", "c-0"), ("phone", "shared")
    await writer.write([Change((PHONE,), did(Kind.VISIT, 9))], NOW)
    await erased(links, gone, phone)
    changes = [
        Change((gone, PHONE), did(Kind.PURCHASE)),
        Change((PHONE, phone), did(Kind.PURCHASE)),
        Change((("crm", "c-2"), phone), did(Kind.PURCHASE)),
        Change((phone,), did(Kind.PURCHASE), told=Profile(opted_out=True)),
    ]
    assert (await writer.write(changes, NOW)).erased == 4
    assert (await held(links, PHONE)).profile.orders == 0
    assert await find(links, "crm:c-2") is None


async def test_who_was_erased_stays_so_when_the_key_of_names_is_changed(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    old, new = ("crm", "under-old"), ("crm", "under-new")
    mail, new_mail = ("email", "under-old"), ("email", "under-new")
    await erased(links, old)
    writer = writer_on(links)
    rotating = Change((new, new_mail), did(Kind.VISIT), former=(old, mail))
    assert (await writer.write([rotating], NOW)).erased == 1
    assert (await writer.write([Change((new,), did(Kind.VISIT))], NOW)).erased == 1
    assert (await writer.write([Change((new_mail,), did(Kind.VISIT))], NOW)).erased == 0
    (mark,) = Tombstones([b"t" * 32]).of_identifier(*new)
    (life,) = await links.bulk([("TTL", keys.tombstone(mark))])
    assert 4900 <= life <= 5000, "it ends with the other"


async def test_a_writer_that_is_late_leaves_no_name_of_who_was_erased(
    links: Links, writer_on: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_on(links)
    await writer.write([Change((CUSTOMER,), did(Kind.VISIT, 9))], NOW)
    pid, read = (await held(links, CUSTOMER)).id, writer._states
    gone = [*keys.everything(pid), keys.identifier(*CUSTOMER)]

    async def early(people: Any) -> Any:
        monkeypatch.undo()
        found = await read(people)
        await erased(links, CUSTOMER)
        await links.bulk([("DEL", key) for key in gone])
        return found

    monkeypatch.setattr(writer, "_states", early)
    assert (await writer.write([Change((CUSTOMER,), did(Kind.VISIT))], NOW)).erased == 1
    assert await links.bulk([("EXISTS", key) for key in gone]) == [0] * len(gone)


@pytest.mark.parametrize("first", ["theirs", "other"])
async def test_names_taken_but_not_written_under_make_nobody_another_customer(
    links: Links, writer_on: Callable[..., Writer], first: str
) -> None:
    other, address = ("crm", "c-2"), ("email", "shared")
    await links.bulk([("SET", keys.identifier(*each), "half") for each in (CUSTOMER, address)])
    changes = [Change((CUSTOMER, PHONE)), Change((other, address))]
    writer = writer_on(links)
    await writer.write(changes if first == "theirs" else changes[::-1], NOW)
    one, two = await held(links, CUSTOMER), await held(links, other)
    assert one.id == "half"
    assert address in one.identifiers
    assert two.identifiers == (other,)


async def test_a_name_whose_taker_was_written_as_another_customer_is_free(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer, other = writer_on(links), ("crm", "c-2")
    await writer.write([Change((CUSTOMER, PHONE))], NOW)
    first = await held(links, CUSTOMER)
    await links.bulk([("SET", keys.identifier(*other), first.id)])
    await writer.write([Change((other, PHONE))], NOW)
    found = await held(links, other)
    assert found.id != first.id
    assert found.identifiers == (other,)


async def test_a_sale_is_told_of_once_before_it_is_written(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    told: list[tuple[str, int]] = []

    async def on_sale(person: str, ledger: bytes, sold: object) -> None:
        told.append((person, len(sold)))  # type: ignore[arg-type]

    writer = writer_on(links, on_sale=on_sale)
    sent = did(Kind.EMAIL_SENT, 100)
    await writer.write([Change((CUSTOMER,), sent, contact(sent, NOW))], NOW)
    change = Change((CUSTOMER,), did(Kind.STORE_PURCHASE, 5, value_micros=1))
    await writer.write([change], NOW)
    await writer.write([change], NOW)
    assert [number for _, number in told] == [1]


async def test_rotation_moves_a_person_to_the_new_name(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    old, new = ("crm", "under-old"), ("crm", "under-new")
    writer = writer_on(links)
    await writer.write([Change((old,), did(Kind.VISIT, 5))], NOW)
    before = (await held(links, old)).id
    await writer.write([Change((new,), did(Kind.VISIT), former=(old,))], NOW)
    found = await held(links, new)
    assert found.id == before
    assert found.identifiers == (new,)
    assert await links.bulk([("EXISTS", keys.identifier(*old))]) == [0]


async def test_judging_again_lets_drop_out_and_renews_nothing(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer = writer_on(links)
    await writer.write([Change((CUSTOMER,), did(Kind.BASKET))], NOW)
    before = await held(links, CUSTOMER)
    await writer.refresh([before.id, "nobodynobodynobo"], NOW + 40 * DAY)
    after = await held(links, CUSTOMER)
    assert "basket" in before.profile.segments
    assert "basket" not in after.profile.segments
    until = await links.bulk([("EXPIRETIME", keys.profile(before.id))])
    assert until == [NOW + 396 * DAY]
