"""Files in, people out: all good rows, none twice, no plain name anywhere."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from bidder.capping import Ledger
from bidder.crm.activity import Keep, opened
from bidder.crm.building import build, preview
from bidder.crm.importing import (
    Checkpoint,
    Imported,
    Rejects,
    fingerprint,
    import_files,
)
from bidder.crm.mapping import load
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.retailer import make
from bidder.crm.segments import Segments
from bidder.crm.taking import Taker
from bidder.crm.writing import Retention, Writer
from bidder.people.identity import Identifier
from bidder.people.showing import find
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.links import Links
from bidder.store.scan import scan
from bidder.yamlfiles import InvalidFile
from loadtest.world.consent import tc_string

NOW, YEAR = 1_795_000_000, 396 * 86400
KEEP = Keep(YEAR, YEAR, YEAR)
RETENTION = Retention(YEAR, YEAR, YEAR, match=YEAR, objection=YEAR, records=KEEP)
CONFIG = Path(__file__).parents[2] / "config"
MAPPING = """
advertiser: maison-lumen
timezone: Europe/Paris
files:
  - match: "contacts*"
    columns:
      ids: {crm: id, email: mail, phone: tel, buyeruid.demo: match}
      match_method: mm
      time: since
      opted_out: no_profile
      consent: tc
      consent_time: tc_at
  - match: "orders*"
    event: purchase
    columns: {ids: {crm: id, email: mail}, time: at, value: total, order: number}
  - match: "messages*"
    events: {sent: email_sent, open: email_opened}
    columns: {ids: {crm: id}, time: at, event: what}
"""
PROOF = tc_string(updated=1_772_323_200, purposes={1, 2, 3, 4}, vendors={1234}, disclosed={1234})
REFUSAL = tc_string(updated=1_772_323_200, purposes=(), vendors=(), disclosed={1234})
CONTACTS = f"""id,mail,tel,match,mm,since,no_profile,tc,tc_at
C-ONE,Jo.Secret@Example.com,06 39 98 11 22,m-1,1,2026-01-02,,{PROOF},2026-03-01
C-TWO,ann@example.com,,m-2,4,2026-01-02,,,
C-THREE,garbled-mail,,,,2026-01-02,oui,,
,garbled-mail,,,,2026-01-02,,,
C-FOUR,jo.secret@example.com,,m-4,,31/31/2026,,,
"""
ORDERS = """id,mail,at,total,number
C-ONE,,2026-10-01 12:00:00,"1 234,50 €",W-1
,jo.secret@example.com,2026-10-02T12:00:00+02:00,10,W-2
C-ONE,,2026-13-40,10,W-3
C-ONE,,2026-10-03,ten,W-4
C-ONE,,2036-10-03,10,W-5
,,2026-10-03,10,W-6
C-ONE,,2026-10-01 12:00:00,1234.5,W-1
C-ONE,,2024-10-01 12:00:00,5,W-7
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    (tmp_path / "contacts.csv").write_text(CONTACTS)
    (tmp_path / "orders.csv").write_text(ORDERS)
    (tmp_path / "messages.jsonl").write_text(
        f'{{"id": "C-ONE", "at": {NOW - 3600}, "what": "sent"}}\n'
        f'{{"id": "C-ONE", "at": {NOW - 1800}, "what": "open"}}\n'
        f'{{"id": "C-ONE", "at": {NOW - 1800}, "what": "bounce"}}\n'
        "{broken\n"
    )
    return [tmp_path / name for name in ("contacts.csv", "orders.csv", "messages.jsonl")]


Run = Callable[..., "asyncio.Future[Imported]"]


@pytest.fixture
def run(links: Links, writer_on: Callable[..., Writer], tmp_path: Path) -> Run:
    async def importing(
        files: list[Path],
        mapping: Path | None = None,
        writer: Writer | None = None,
        now: int = NOW,
    ) -> Imported:
        meaning = load(mapping or tmp_path / "mapping.yaml")
        same = fingerprint(meaning, files, RETENTION)
        checkpoint = Checkpoint(tmp_path / f"{same}.json", now)
        rejects = Rejects(tmp_path / "rejected.csv")
        try:
            return await import_files(
                links,
                writer or writer_on(links),
                Taker(meaning, Pseudonyms([b"k" * 32]), KEEP, checkpoint.now),
                files,
                rejects,
                checkpoint,
            )
        finally:
            rejects.close()

    return importing  # type: ignore[return-value]


async def whole_store(links: Links) -> dict[str, object]:
    """Every key, and what stands there."""
    found: dict[str, object] = {}
    async for names in scan(links, "*"):
        for name in names:
            (kind,) = await links.bulk([("TYPE", name)])
            read = {b"string": "GET", b"hash": "HGETALL", b"set": "SMEMBERS"}[kind]
            (found[name],) = await links.bulk([(read, name)])
    return found


async def test_good_rows_come_in_and_bad_ones_are_told_of(
    links: Links, files: list[Path], run: Run, tmp_path: Path
) -> None:
    result = await run(files)
    head, *listed = (tmp_path / "rejected.csv").read_text().splitlines()
    assert head == "file,line,column,reason"
    assert [line.partition(": ")[0] for line in sorted(listed)] == [
        "contacts.csv,5,mail,the email is not an address",
        'messages.jsonl,4,,"not JSON',
        "orders.csv,4,at,the time is not one",
        'orders.csv,5,total,"the value is not an amount of 0 to 10,000,000, such as 1234.50"',
        "orders.csv,6,at,the time lies in the future",
        'orders.csv,7,"id, mail",the row names nobody',
    ]
    assert result.tally.rejected == 6
    assert result.tally.passed_over == 1, "a bounce, which the mapping does not name"
    assert result.tally.outdated == 1
    assert result.tally.bridged == 2, "neither the address nor the match of C-TWO"
    assert result.tally.dropped == 1, "the address of C-THREE"
    one = await find(links, "buyeruid.demo:m-1")
    assert one is not None
    assert one.profile.orders == 2
    assert one.profile.spent_micros == 1_244_500_000
    assert (one.profile.consent, one.profile.consent_time) == (PROOF, 1_772_323_200)
    assert one.profile.consent_source == "visit maison-lumen: contacts.csv"
    assert len(Ledger(one.ledger, NOW).records()) == 1
    (raw,) = await links.bulk([("GET", keys.activity(one.id))])
    at = sorted(opened(raw)["time"].tolist())[:2]
    assert at == [1790848800, 1790935200], "10:00 UTC is noon in Paris in summer"
    four = await find(links, "buyeruid.demo:m-4")
    assert four is not None
    assert four.id != one.id, "two customers share an address"
    assert await find(links, "buyeruid.demo:m-2") is None, "that match was inferred"


async def test_no_objection_in_a_file_is_lost(links: Links, run: Run, tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text(
        "advertiser: maison-lumen\nfiles:\n"
        '  - match: "*"\n    event: purchase\n'
        "    columns: {ids: {buyeruid.demo: id}, time: at, value: total, opted_out: no_profile}\n"
    )
    sales, renamed = tmp_path / "sales.csv", tmp_path / "renamed.csv"
    sales.write_text(
        "id,at,total,no_profile\nm-1,2026-10-01,1,no\nm-2,2026-10-01,1,refusé\n"
        "m-3,yesterday,1,1.0\nm-4,2026-10-01,ten,2026-05-01\nm-5,2026-10-01,1,active\n"
        ",2026-10-01,1,yes\n"
    )
    renamed.write_text("id,at,total,no_profiling\nm-6,2026-10-01,1,yes\n")
    result = await run([sales, renamed])
    found = [await find(links, f"buyeruid.demo:m-{number}") for number in range(1, 7)]
    said = [held.profile.opted_out if held is not None else None for held in found]
    assert said == [False, True, True, True, None, None]
    listed = (tmp_path / "rejected.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1:3] for line in sorted(listed)] == [
        ["4", "at"], ["5", "total"], ["6", "no_profile"], ["7", "id"],
    ]  # fmt: skip
    assert "no column 'no_profile' (opted_out in the mapping)" in result.problems[0]


async def test_what_a_file_says_of_consent_is_judged(
    links: Links, files: list[Path], run: Run
) -> None:
    old = "2026-03-01"
    rows = {
        "yes": ("oui", old), "undated": ("yes", ""), "no": ("non", ""), "odd": ("perhaps", old),
        "refused": (REFUSAL, ""),
    }  # fmt: skip
    lines = [f"{name},,,,,2026-01-02,,{tc},{at}" for name, (tc, at) in rows.items()]
    files[0].write_text("\n".join([CONTACTS.partition("\n")[0], *lines, ""]))
    head = ORDERS.partition("\n")[0]
    files[1].write_text(f"{head}\nno,,2026-10-01,10,W-1\nyes,,2026-10-01,10,W-2\n")
    for _ in range(2):  # as people whom the store does not know, and as those it knows
        await run(files[:2])
        found = {}
        for name in rows:
            identifier = Pseudonyms([b"k" * 32]).of("crm", name, "maison-lumen")[0]
            one = await find(links, ":".join(identifier))
            assert one is not None
            found[name] = one.profile
            (did,) = await links.bulk([("EXISTS", keys.activity(one.id))])
            assert did == (name == "yes")
        assert {name for name, one in found.items() if one.withdrawn} == {"no", "refused"}
        assert {name for name, one in found.items() if one.consents} == {"yes"}


@pytest.mark.parametrize("words", [("oui", "non"), ("non", "oui")])
async def test_of_a_yes_and_a_no_of_one_day_the_no_counts(
    links: Links, files: list[Path], run: Run, words: tuple[str, str]
) -> None:
    day = "2026-03-01"
    rows = [f"C-9,,,,,2026-01-02,,{word},{day}" for word in words]
    files[0].write_text("\n".join([CONTACTS.partition("\n")[0], *rows, ""]))
    await run(files[:1])
    identifier = Pseudonyms([b"k" * 32]).of("crm", "C-9", "maison-lumen")[0]
    found = await find(links, ":".join(identifier))
    assert found is not None
    assert found.profile.withdrawn


async def test_importing_again_changes_nothing(links: Links, files: list[Path], run: Run) -> None:
    await run(files)
    before = await whole_store(links)
    again = await run(files)
    assert again.written.new == 0
    assert await whole_store(links) == before


async def test_the_order_of_the_files_does_not_matter(
    links: Links, files: list[Path], run: Run
) -> None:
    await run(files)
    one = await find(links, "buyeruid.demo:m-1")
    await links.bulk([("FLUSHALL", "SYNC")])
    for path in reversed(files):
        await run([path])
    other = await find(links, "buyeruid.demo:m-1")
    assert one is not None
    assert other is not None
    assert one.profile == other.profile
    assert sorted(one.identifiers) == sorted(other.identifiers)


async def test_a_later_file_makes_no_two_customers_one(
    links: Links, files: list[Path], run: Run, tmp_path: Path
) -> None:
    await run(files)
    later = tmp_path / "contacts-2.csv"
    shared = "C-NEW,jo.secret@example.com,,m-9,1,2026-01-02,oui,,"
    later.write_text(f"{CONTACTS.splitlines()[0]}\n{shared}\n")
    result = await run([later])
    assert (result.written.new, result.written.kept_apart) == (1, 1)
    one, new = [await find(links, f"buyeruid.demo:{name}") for name in ("m-1", "m-9")]
    assert one is not None
    assert new is not None
    assert one.id != new.id
    assert (one.profile.opted_out, new.profile.opted_out) == (False, True)


async def test_no_plain_name_is_stored_or_logged(
    links: Links, files: list[Path], run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await run(files)
    kept = repr(await whole_store(links)).encode()
    kept += _written_beside(tmp_path) + caplog.text.encode()
    for plain in (b"secret", b"Secret", b"C-ONE", b"C-FOUR", b"39 98", b"639981122", b"garbled"):
        assert plain not in kept
    import hashlib

    unkeyed = hashlib.sha256(b"jo.secret@example.com").hexdigest().encode()
    assert unkeyed not in kept


async def test_an_import_that_was_stopped_goes_on_where_it_was(
    links: Links, writer_on: Callable[..., Writer], run: Run, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("bidder.crm.importing.BATCH", 10)
    files = make(tmp_path / "shop", 100, NOW)
    mapping = CONFIG / "crm" / "maison-lumen.yaml"
    whole = await run(files, mapping)
    expected = await _sums(links)
    await links.bulk([("FLUSHALL", "SYNC")])

    writer, calls = writer_on(links), 0
    real = writer.buried

    async def failing(identifiers: list[Identifier]) -> object:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise StoreUnavailable("away")
        return await real(identifiers)

    monkeypatch.setattr(writer, "buried", failing)
    with pytest.raises(StoreUnavailable):
        await run(files, mapping, writer)
    rest = await run(files, mapping, now=NOW - YEAR)  # by that clock all lies in the future
    assert 0 < rest.skipped < 6
    assert await _sums(links) == expected
    assert whole.tally == rest.tally
    assert not _notes(tmp_path), "the note is gone when all is done"


def test_a_stopped_import_keeps_its_clock_for_a_week(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_text('{"done": 5}')  # as it was written once
    first = Checkpoint(path, NOW)
    assert (first.done, first.now) == (0, NOW)
    first.save(3)
    for now, expected in ((NOW + 3600, (3, NOW)), (NOW + 8 * 86400, (0, NOW + 8 * 86400))):
        found = Checkpoint(path, now)
        assert (found.done, found.now) == expected


def test_an_import_in_another_order_is_another_one(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meaning = load(tmp_path / "mapping.yaml")
    found = [fingerprint(meaning, files, RETENTION)]
    assert fingerprint(meaning, files, RETENTION) == found[0]
    found.append(fingerprint(meaning, files, replace(RETENTION, records=Keep(1, YEAR, YEAR))))
    for name in ("ORDER", "BLOCK_BYTES", "ROUND_EVENTS", "BATCH"):
        monkeypatch.setattr(f"bidder.crm.importing.{name}", 7)
        found.append(fingerprint(meaning, files, RETENTION))
    assert len(set(found)) == 6


def _notes(folder: Path) -> list[Path]:
    return list(folder.glob("*.json"))


def _written_beside(folder: Path) -> bytes:
    """What an import leaves outside the store."""
    return b"".join(path.read_bytes() for path in [*_notes(folder), folder / "rejected.csv"])


async def _sums(links: Links) -> tuple[int, int, int]:
    people = orders = spent = 0
    async for names in scan(links, keys.profile("*")):
        for name in names:
            found = await find(links, name[3:-1])
            assert found is not None
            people += 1
            orders += found.profile.orders
            spent += found.profile.spent_micros
    return people, orders, spent


async def test_the_demo_shop_fills_every_segment(
    links: Links, writer_on: Callable[..., Writer], run: Run, tmp_path: Path, shipped: Segments
) -> None:
    files = make(tmp_path / "shop", 1500, NOW)
    result = await run(files, CONFIG / "crm" / "maison-lumen.yaml")
    assert result.tally.rejected == 0
    assert not result.problems
    assert result.written.records / 1500 > 8
    before = await whole_store(links)
    shown = await preview(links, shipped, KEEP, NOW)
    assert await whole_store(links) == before, "a preview stores nothing"
    empty = {name for name, size in shown.sizes.items() if not size.people}
    assert not empty
    assert shown.people == result.written.people
    for name, size in shown.sizes.items():
        person = await find(links, size.examples[0])
        assert person is not None
        assert name in person.profile.segments
        assert size.oldest <= person.profile.segments[name] <= size.newest <= NOW
    active_buyers = shown.overlaps["active", "buyer"]
    assert active_buyers == shown.sizes["active"].people
    built = await build(links, writer_on(links), NOW)
    assert built.people == shown.people
    assert await whole_store(links) == before, "nothing has happened since the import"


async def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    links: Links, files: list[Path], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "orders-2.parquet").write_text("no")
    (tmp_path / "what.csv").write_text("a,b\n")
    result = await run([tmp_path / "orders-2.parquet", tmp_path / "what.csv", *files])
    assert len(result.problems) == 2
    assert "not a Parquet file" in result.problems[0]
    assert "no entry of the mapping" in result.problems[1]
    assert await find(links, "buyeruid.demo:m-1") is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("advertiser: a\nfiles: [{match: x, columns: {ids: {}}}]", "ids"),
        (
            "advertiser: a\nfiles: [{match: x, event: purchse, columns: {ids: {crm: a}}}]",
            "purchase",
        ),
        ("advertiser: a\nfiles: [{match: x, event: visit, columns: {ids: {crm: a}}}]", "time"),
        ("advertiser: a\ntimezone: Mars\nfiles: []", "time zone"),
        ("advertiser: a\nfiles: [{match: x, columns: {ids: {cookie: a}}}]", "ours alone"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    with pytest.raises(InvalidFile) as caught:
        load(path)
    assert said in "\n".join(map(str, caught.value.problems))
