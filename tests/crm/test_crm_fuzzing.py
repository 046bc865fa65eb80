"""However a file is written: no good row is lost, and each bad one is told of with its place."""

import csv
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet
import pytest

from bidder import cli_crm
from bidder.crm import portions
from bidder.crm.activity import Keep
from bidder.crm.blocks import Unreadable
from bidder.crm.bulk import write
from bidder.crm.crew import Crew
from bidder.crm.csvrows import MAX_JOINED_LINES
from bidder.crm.gathering import Gathered
from bidder.crm.mapping import Mapping, load
from bidder.crm.portions import _safe_cut
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.sorting import Sorted
from bidder.crm.taking import Taker
from bidder.crm.writing import Writer
from bidder.people.showing import find
from bidder.store.links import Links

NOW, YEAR = 1_795_000_000, 396 * 86400
KEEP = Keep(YEAR, YEAR, YEAR)
CONFIG = Path(__file__).parents[2] / "config"
MAPPING = """
advertiser: maison-lumen
timezone: Europe/Paris
files:
  - match: "*"
    event: purchase
    columns: {ids: {crm: id, email: mail}, time: at, value: total, category: category}
"""
TITLES = ["id", "mail", "at", "total", "category"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le+bom", "cp1252"]


@pytest.fixture
def mapping(tmp_path: Path) -> Mapping:
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    return load(tmp_path / "mapping.yaml")


def taker(mapping: Mapping) -> Taker:
    return Taker(mapping, Pseudonyms([b"k" * 32]), KEEP, NOW)


def taken(mapping: Mapping, path: Path) -> tuple[Gathered, list[tuple[int, str, str]]]:
    """What came of one file, and the rows that were refused."""
    refused: list[tuple[int, str, str]] = []
    reading = taker(mapping)
    gathered = Gathered(mapping, reading.read_all, lambda file, *why: refused.append(why))
    source = mapping.source_of(path)
    assert source is not None
    gathered.file(path, source, lambda done: None)
    return gathered, refused


def encoded(text: str, encoding: str) -> bytes:
    if encoding == "utf-16-le+bom":
        return b"\xff\xfe" + text.encode("utf-16-le")
    return text.encode(encoding)


def good_row(random: Random, number: int) -> list[str]:
    names = ["appliques", 'lampe 13"', "décoration, été", "deux\nlignes", "l’œuvre", "x" * 5000]
    return [f"C-{number}", f"jo{number}@example.com", "2026-10-01 12:00:00", "12,50 €",
            random.choice(names)]  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_good_rows_of_any_csv_come_in_and_bad_ones_have_a_place(
    mapping: Mapping, tmp_path: Path, encoding: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(f"{encoding}{ending}")
    monkeypatch.setattr(portions, "BLOCK_BYTES", 4000)
    bad = [["", "", "2026-10-01", "1", ""], ["C-X", "", "31/31/2026", "1", ""],
           ["C-X", "", "2026-10-01", "ten", ""], ["C-X", "", "2026-10-01"],
           ["C-X", "", "2036-10-01", "1", ""], ["C-X", "", "", "1", ""], ["C-X"] * 9]  # fmt: skip
    made, rows, wrong = io.StringIO(), 0, {}
    write_row = csv.writer(made, lineterminator=ending).writerow
    write_row(TITLES)
    for number in range(400):
        if random.random() < 0.2:
            chosen = random.choice(bad)
            wrong[made.getvalue().count("\n") + 1] = chosen
            write_row(chosen)
        else:
            rows += 1
            write_row(good_row(random, number))
        if random.random() < 0.05:
            made.write(ending)
    path = tmp_path / "orders.csv"
    path.write_bytes(encoded(made.getvalue(), encoding))
    gathered, refused = taken(mapping, path)
    assert gathered.tally.rows - gathered.tally.rejected == rows
    assert gathered.events == rows
    assert {line for line, _, _ in refused} == wrong.keys()
    for line, column, reason in refused:
        assert reason
        if len(wrong[line]) == len(TITLES):
            assert column, "the column is named"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a;b;c\n1;2;3\n", "none of the columns"),
        ("id,mail,when,total\nC-1,,2026-10-01,1\n", "no column 'at' (time in the mapping)"),
        ("id,mail,at,Total\nC-1,,2026-10-01,1\n", "did you mean 'Total'?"),
    ],
)
def test_a_file_of_which_no_row_can_be_taken_says_why(
    mapping: Mapping, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(text)
    with pytest.raises(Unreadable) as problem:
        taken(mapping, path)
    assert said in str(problem.value)


def test_a_header_that_is_odd_is_told_of_and_its_rows_are_taken(
    mapping: Mapping, tmp_path: Path
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("id,at,total,total\nC-1,2026-10-01,10,20\n")
    gathered, refused = taken(mapping, path)
    assert not refused
    records, _, _ = gathered.taken()
    assert records["value"].tolist() == [10_000_000]
    assert [note.partition(": ")[2] for note in gathered.notes] == [
        "the header has 'total' twice; the first counts",
        "no column 'mail' (ids.email in the mapping); imported without it",
        "no column 'category' (category in the mapping); imported without it",
    ]


def test_rows_of_json_and_parquet_are_told_of_by_their_place(
    mapping: Mapping, tmp_path: Path
) -> None:
    rows = [{"id": f"C-{n}", "at": "2026-10-01T10:00:00Z", "total": 1.5} for n in range(50)]
    rows[7] |= {"total": "ten"}
    lines = [json.dumps(row) for row in rows]
    lines[20] = lines[20][:-3]
    (tmp_path / "orders.jsonl").write_text("\r\n".join(lines))
    gathered, refused = taken(mapping, tmp_path / "orders.jsonl")
    assert gathered.events == 48
    assert [(line, column) for line, column, _ in refused] == [(8, "total"), (21, "")]
    table = pa.Table.from_pylist([row | {"total": str(row["total"])} for row in rows])
    pa.parquet.write_table(table, tmp_path / "orders.parquet", row_group_size=7)
    gathered, refused = taken(mapping, tmp_path / "orders.parquet")
    assert gathered.events == 49
    assert [(line, column) for line, column, _ in refused] == [(8, "total")]


def test_no_cut_is_made_inside_a_quoted_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows that fill a line or many, up to wherever a block ends."""
    random = Random(4)
    made = 0
    for _ in range(300):
        monkeypatch.setattr(portions, "TAIL_BYTES", random.choice([300, 1000, 1 << 18]))
        share = random.choice([0.005, 0.05, 0.3])
        text, ends = b"", {0}
        for _ in range(random.randint(20, 300)):
            lines = random.randint(2, MAX_JOINED_LINES) if random.random() < share else 1
            text += random.choice([b'a,"%s"\n', b'"%s",b\n']) % b"\n".join([b"x"] * lines)
            ends.add(len(text))
        cut = _safe_cut(text[: random.randint(1, len(text))])
        assert cut in ends
        made += cut > 0
    assert made > 200


def test_long_texts_are_not_cut_inside_quotes_before_much_was_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (b'"' + b"x" * 99_999 + b"\n") * 200
    assert _safe_cut(text) == 0, "20 MB"
    monkeypatch.setattr(portions, "GIVE_UP_BYTES", len(text) - 1)
    assert _safe_cut(text) == len(text)


def test_several_processes_read_the_same_as_one(
    mapping: Mapping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "BLOCK_BYTES", 5000)
    random, made = Random(9), io.StringIO()
    write_row = csv.writer(made).writerow
    write_row(TITLES)
    for number in range(600):
        write_row(good_row(random, number % 80))
    path = tmp_path / "orders.csv"
    path.write_text(made.getvalue(), newline="")
    alone, _ = taken(mapping, path)
    monkeypatch.setenv("BIDDER_CRM_KEY", (b"k" * 32).hex())
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    crew = Crew(2, partial(cli_crm._begin, CONFIG, tmp_path / "mapping.yaml", "", NOW))
    try:
        together = Gathered(mapping, crew.read, lambda *why: None)
        source = mapping.source_of(path)
        assert source is not None
        together.file(path, source, lambda done: None)
    finally:
        crew.close()
    assert together.tally == alone.tally
    assert together.linked.sources == alone.linked.sources
    assert together.linked.values == alone.linked.values
    slices = [[*Sorted(each, NOW).slices(7)] for each in (alone, together)]
    assert slices[0] == slices[1], "down to the order of people"


async def test_written_by_columns_is_what_is_written_one_by_one(
    links: Links, writer_on: Callable[..., Writer], mapping: Mapping, tmp_path: Path
) -> None:
    random, made = Random(9), io.StringIO()
    write_row = csv.writer(made).writerow
    write_row(TITLES)
    for number in range(300):
        write_row(good_row(random, number % 60))
    path = tmp_path / "orders.csv"
    path.write_text(made.getvalue(), newline="")
    (people,) = Sorted(taken(mapping, path)[0], NOW).slices(1000)
    names = [f"{source}:{value}" for ids in people.ids() for source, value in ids]

    async def held() -> list[object]:
        found = []
        for name in names:
            one = await find(links, name)
            assert one is not None
            found.append((one.profile, one.ledger, sorted(one.identifiers)))
        return found

    writer = writer_on(links)
    assert (await write(writer, people, NOW)).new == 60
    by_columns = await held()
    again = await write(writer, people, NOW)
    assert (again.new, again.people) == (0, 60)
    assert await held() == by_columns
    await links.bulk([("FLUSHALL", "SYNC")])
    await writer_on(links).write(people.changes(list(range(len(people)))), NOW)
    assert await held() == by_columns
