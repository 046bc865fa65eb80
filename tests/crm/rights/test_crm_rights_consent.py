"""Consent: what counts as proof, from where and since when it is withdrawn, and what ends that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bidder.crm.batch import Change
from bidder.crm.live import receive
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.rights import Desk, Verdict, Wish
from bidder.crm.rights.consent import MOST_PLACES, granted, heard, judge, own_pages, proven
from bidder.crm.rights.spreading import spread
from bidder.crm.writing import Writer
from bidder.events.forgotten import Forgotten
from bidder.people.showing import find
from bidder.person import Profile, kept
from bidder.privacy import Rules
from bidder.store.links import Links
from bidder.tombstones import Tombstones
from loadtest.world.consent import tc_string

RULES, DAY, HOUR = Rules(vendor_id=1234), 86400, 3600
NOW = 1_795_000_000
MIDNIGHT = NOW // DAY * DAY
ALL, NARROW, NONE = frozenset({1, 2, 3, 4, 7, 10}), frozenset({1, 2, 4, 7}), frozenset[int]()
SHOP, OTHER, SYNC = own_pages("shop"), own_pages("other"), "sync demo"


def tc(purposes: frozenset[int], at: float = NOW) -> str:
    """A TC string of the day of `at`, as consent platforms write them: dated at midnight."""
    return tc_string(updated=at, purposes=purposes, vendors={1234}, disclosed={1234})


def allowed(*places: str, at: int = NOW) -> Profile:
    """Somebody with segments who consented at these places on the day of `at`."""
    profile = Profile(segments={"basket": at})
    for place in places:
        told = Profile(consent=tc(ALL, at), consent_source=place)
        profile = heard(profile, told, RULES, NOW)
    assert list(profile.consents) == list(places)
    return profile


def verdict(profile: Profile, purposes: frozenset[int], place: str, at: float = NOW) -> Verdict:
    return judge(profile, tc(purposes, at), place, RULES, NOW + HOUR)[0]


def test_a_refusal_on_the_day_of_the_consent_counts() -> None:
    profile = allowed(SHOP)
    assert profile.consents == {SHOP: MIDNIGHT}
    assert verdict(profile, NONE, SHOP) is Verdict.WITHDRAWN
    assert verdict(profile, NARROW, SHOP) is Verdict.NARROWED
    assert verdict(profile, NARROW, SHOP, NOW - DAY) is Verdict.STALE
    assert verdict(profile, ALL, SHOP) is Verdict.STALE, "the very string that we keep"
    by_the_clock = granted(Profile(), "yes", own_pages("shop", "a form"), MIDNIGHT + 10 * HOUR)
    assert verdict(by_the_clock, NARROW, SHOP) is Verdict.NARROWED
    assert verdict(by_the_clock, NARROW, SHOP, NOW - DAY) is Verdict.STALE


def test_what_a_string_that_we_keep_says_by_new_rules_is_no_withdrawal() -> None:
    strict = Rules(vendor_id=1234, declared=frozenset({1, 2, 4}))
    profile = allowed(SHOP)
    assert judge(profile, profile.consent, SHOP, strict, NOW)[0] is Verdict.STALE


def test_a_withdrawal_counts_from_when_we_were_told() -> None:
    told = Profile(consent=tc(NARROW), consent_source=SHOP)
    profile = heard(allowed(SHOP), told, RULES, NOW)
    assert (profile.withdrawn, profile.withdrawn_at) == (NOW, {SHOP})
    assert not profile.segments
    assert not proven(profile, RULES, NOW)
    assert verdict(profile, NARROW, SHOP) is Verdict.STALE, "it is done"
    assert verdict(profile, NONE, SHOP) is Verdict.WITHDRAWN
    earlier = Profile(consent="yes", consent_time=NOW - HOUR, consent_source=SHOP)
    assert heard(profile, earlier, RULES, NOW + HOUR) == profile
    assert verdict(profile, ALL, SHOP) is Verdict.STALE, "of that day, and may be of before"
    later = Profile(consent=tc(ALL, NOW + DAY), consent_source=SHOP)
    assert not heard(profile, later, RULES, NOW + DAY).withdrawn


async def test_what_was_logged_on_the_day_of_a_withdrawal_is_forgotten(
    desk: Desk, state: Path, loaded: Any, links: Links
) -> None:
    person = await loaded(links)
    forgotten = Forgotten(state / "events", Tombstones([bytes(range(32))]))
    await desk.consent_seen(person, tc(ALL), SHOP, "ops")
    assert await desk.consent_seen(person, tc(NARROW), SHOP, "ops") is Verdict.NARROWED
    forgotten.refresh()
    assert forgotten.covers(person, NOW - 1)
    assert not forgotten.covers(person, NOW)


async def test_no_withdrawal_brings_back_what_an_objection_forgot(
    desk: Desk, desk_on: Any, state: Path, tmp_path: Path, loaded: Any, links: Links
) -> None:
    person = await loaded(links)
    forgotten = Forgotten(state / "events", Tombstones([bytes(range(32))]))
    elsewhere = desk_on(links, tmp_path / "another host, which has not heard of the objection")
    await desk.consent_seen(person, tc(ALL), SHOP, "ops")
    await desk.wish(person, Wish("object"), "person")
    assert await elsewhere.consent_seen(person, tc(NARROW), SHOP, "ops") is Verdict.NARROWED
    await spread(links, forgotten, NOW, DAY)
    assert forgotten.covers(person, NOW + DAY)
    await desk.wish(person, Wish("allow"), "person")
    forgotten.refresh()
    assert not forgotten.covers(person, NOW + DAY)


TOLD = [
    Profile(consent=tc(NONE, NOW + DAY), consent_time=NOW + DAY, consent_source=SHOP),
    Profile(consent="no", consent_time=NOW + DAY, consent_source=SHOP),
    Profile(consent="perhaps", consent_time=NOW + DAY, consent_source=SHOP),
    Profile(consent="x", consent_source=SHOP),
    Profile(consent="yes", consent_source=SHOP),
    Profile(consent=tc(NARROW, NOW + DAY), consent_source=SHOP),
]


@pytest.mark.parametrize("told", TOLD)
def test_what_is_no_consent_ends_no_withdrawal_and_becomes_no_proof(told: Profile) -> None:
    refusal = Profile(consent=tc(NARROW), consent_source=SHOP)
    before = heard(allowed(SHOP), refusal, RULES, NOW)
    after = heard(before, told, RULES, NOW + 2 * DAY)
    assert after.withdrawn
    assert after.consent == before.consent
    assert not heard(Profile(), told, RULES, NOW + 2 * DAY).consents


@pytest.mark.parametrize("told", TOLD)
def test_a_refusal_is_obeyed_by_whatever_way_it_comes(told: Profile) -> None:
    after = heard(allowed(SHOP), told, RULES, NOW + 2 * DAY)
    assert bool(after.withdrawn) is (told.consent not in ("perhaps", "x", "yes"))


def test_a_company_may_say_yes_or_no_in_plain_words() -> None:
    yes = Profile(consent=" Oui ", consent_time=NOW, consent_source=own_pages("shop", "a form"))
    profile = heard(Profile(), yes, RULES, NOW)
    assert (profile.consents, profile.consent_source) == ({SHOP: NOW}, "visit shop: a form")
    assert proven(profile, RULES, NOW)
    no = Profile(consent="non", consent_time=NOW, consent_source=SHOP)
    assert heard(profile, no, RULES, NOW).withdrawn == NOW, "it may say the day alone"
    assert heard(profile, no, RULES, NOW).withdrawn_at == {SHOP}
    unknown_there = Profile(consent="no", consent_time=NOW, consent_source=OTHER)
    assert heard(profile, unknown_there, RULES, NOW).withdrawn, "of its own customer"
    for word in ("yes", "no"):
        by_a_page = Profile(consent=word, consent_source=SHOP)
        assert heard(Profile(), by_a_page, RULES, NOW) == Profile(), "no page may"


def test_consent_can_be_withdrawn_wherever_it_was_given() -> None:
    for profile in (allowed(SHOP, SYNC), allowed(SYNC, SHOP), allowed(SHOP, OTHER, SYNC)):
        for place in profile.consents:
            assert verdict(profile, NONE, place) is Verdict.WITHDRAWN
        assert verdict(profile, NONE, "news.example") is Verdict.ELSEWHERE
    told = Profile(consent="yes", consent_time=NOW, consent_source=own_pages("shop", "x.csv"))
    assert verdict(heard(allowed(SYNC), told, RULES, NOW), NONE, SHOP) is Verdict.WITHDRAWN
    one, other = allowed(SHOP), allowed(SYNC)
    assert kept(one, other).consents == {SHOP: MIDNIGHT, SYNC: MIDNIGHT}
    from_a_file = Profile(consent="C", consent_time=NOW - DAY, consent_source="news.example")
    assert verdict(from_a_file, NONE, "news.example") is Verdict.WITHDRAWN
    assert verdict(from_a_file, NONE, SHOP) is Verdict.ELSEWHERE


def test_a_withdrawal_ends_where_it_was_made() -> None:
    profile = allowed(SHOP, SYNC)
    for place in (SHOP, SYNC):
        told = Profile(consent=tc(NARROW), consent_source=place)
        profile = heard(profile, told, RULES, NOW)
    assert profile.withdrawn_at == {SHOP, SYNC}
    late = NOW + DAY
    assert judge(profile, tc(ALL, late), OTHER, RULES, late)[0] is Verdict.ELSEWHERE
    profile = heard(profile, Profile(consent=tc(ALL, late), consent_source=SYNC), RULES, late)
    assert (bool(profile.withdrawn), profile.withdrawn_at) == (True, {SHOP})
    profile = heard(profile, Profile(consent=tc(ALL, late), consent_source=SHOP), RULES, late)
    assert (profile.withdrawn, profile.withdrawn_at) == (0, frozenset())
    assert proven(profile, RULES, late)


def test_two_who_are_one_have_withdrawn_if_either_has() -> None:
    refusal = Profile(consent=tc(NARROW), consent_source=SHOP)
    gone = heard(allowed(SHOP), refusal, RULES, NOW)
    newer = granted(Profile(segments={"s": NOW}), tc(ALL, NOW + DAY), SHOP, NOW + DAY)
    for both in (kept(gone, newer), kept(newer, gone)):
        assert (both.withdrawn, both.withdrawn_at, both.segments) == (NOW, {SHOP}, {})


def test_the_places_of_one_person_are_few() -> None:
    profile = Profile()
    for number in range(MOST_PLACES + 5):
        profile = granted(profile, "C", f"site-{number}.example", NOW + number)
    assert len(profile.consents) == MOST_PLACES
    assert "site-0.example" not in profile.consents


async def test_a_call_that_says_no_is_obeyed_and_an_older_yes_does_not_undo_it(
    links: Links, writer_on: Callable[..., Writer], pseudonyms: Pseudonyms
) -> None:
    writer = writer_on(links)

    async def said(consent: str, at: int) -> Profile:
        body = (
            b'{"advertiser": "shop", "events": [{"ids": {"crm": "C-1"}, "event": "visit",'
            b'"consent": "%s", "consent_time": %d, "time": %d}]}' % (consent.encode(), at, NOW)
        )
        await writer.write(receive(body, pseudonyms, NOW).changes, NOW)
        found = await find(links, ":".join(pseudonyms.of("crm", "C-1", "shop")[0]))
        assert found is not None
        return found.profile

    assert (await said("yes", NOW - 3 * DAY)).consents == {SHOP: NOW - 3 * DAY}
    profile = await said(tc(NONE, NOW - DAY), NOW - DAY)
    assert (profile.withdrawn, profile.last_visit) == (NOW, 0)
    assert await said("yes", NOW - 2 * DAY) == profile
    assert await said("perhaps", NOW) == profile


async def test_a_page_cannot_lift_a_withdrawal_with_what_is_no_consent(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    writer, cookie = writer_on(links), ("cookie", "c")
    for consent in (tc(ALL, NOW - DAY), tc(NARROW), "x"):
        told = Profile(consent=consent, consent_source=SYNC)
        await writer.write([Change((cookie,), told=told)], NOW)
    found = await find(links, ":".join(cookie))
    assert found is not None
    assert (found.profile.withdrawn, found.profile.consent) == (NOW, tc(ALL, NOW - DAY))
