"""A bad row costs nothing but itself, whatever state the file is in."""

import codecs
import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidder.crm import portions
from bidder.crm.blocks import Unreadable
from bidder.crm.rows import read

fields = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=8
)
GARBAGE = [b'"never closed', b"too,many,,,,columns,here", b"one", b'a"b,c', b"\xff\xfe\xfd,x",
           b'x,"y"z",q,', b"," * 40, b'"""']  # fmt: skip


def got(path: Path, names: list[str], format: str = "csv") -> tuple[list[tuple[object, ...]], dict]:
    refused: dict[int, str] = {}
    found = []
    for block in read(path, format, names, refused.__setitem__):
        columns = [block.columns[name].to_pylist() for name in names]
        found += list(zip(block.lines.tolist(), *columns, strict=True))
    return sorted(found), refused


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("good"), st.tuples(fields, fields)),
            st.tuples(st.just("bad"), st.sampled_from(GARBAGE)),
        ),
        max_size=14,
    )
)
def test_every_good_row_comes_through_whatever_stands_between(
    tmp_path: Path, lines: list[tuple[str, object]]
) -> None:
    raw, expected = b"key,one,two\n", []
    for number, (kind, what) in enumerate(lines):
        if kind == "good":
            one, two = what  # type: ignore[misc]
            one, two = one.replace("\n", " "), two.replace("\n", " ")
            made = io.StringIO()
            csv.writer(made, lineterminator="\n").writerow([f"k{number}", one, two])
            raw += made.getvalue().encode()
            expected.append((f"k{number}", one or None, two or None))
        else:
            raw += what + b"\n"  # type: ignore[operator]
    path = tmp_path / "any.csv"
    path.write_bytes(raw)
    found, _ = got(path, ["key", "one", "two"])
    keyed = {row[1]: row[1:] for row in found}
    for row in expected:
        assert keyed.get(row[0]) == row


def test_a_field_may_hold_delimiters_quotes_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,"x, ""y""\nz"\n2,plain\n')
    assert got(path, ["a", "b"]) == ([(2, "1", 'x, "y"\nz'), (4, "2", "plain")], {})


def test_a_quote_that_never_closes_takes_its_own_row_only(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        'a,b\n1,ok\n2,"lost\n3,ok\n4,5" lamp\n' + "".join(f"{n},x\n" for n in range(5, 200))
    )
    found, refused = got(path, ["a", "b"])
    assert [row[1] for row in found] == [str(n) for n in range(1, 200)]
    assert refused == {}


@pytest.mark.parametrize(
    "raw",
    [
        "é;ü\n1;2\n".encode(),
        codecs.BOM_UTF8 + "é;ü\n1;2\n".encode(),
        "é;ü\n1;2\n".encode("utf-16"),
        "é;ü\r\n1;2\r\n".encode(),
        "é;ü\r1;2\r".encode(),
        "é;ü\n1;2".encode("cp1252"),
        "é;ü\n\n1;2\n\n".encode(),
    ],
)
def test_encodings_and_line_ends(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(raw)
    found, refused = got(path, ["é", "ü"])
    assert [row[1:] for row in found] == [("1", "2")]
    assert refused == {}


def test_a_line_in_another_encoding_is_mended_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("a,b\n1,é\n".encode() + "2,é\n".encode("cp1252"))
    assert got(path, ["a", "b"])[0] == [(2, "1", "é"), (3, "2", "é")]


def test_giant_fields_are_refused_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1," + "x" * 3_000_000 + "\n2," + "y" * 9000 + "\n3,z\n")
    found, refused = got(path, ["a", "b"])
    assert [(row[1], len(str(row[2]))) for row in found] == [("2", 9000), ("3", 1)]
    assert list(refused) == [2]


def test_blocks_fit_together_wherever_they_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f'{n},"x\ny"\n' for n in range(60)))
    whole = got(path, ["a", "b"])
    assert len(whole[0]) == 60
    for size in (1, 7, 64, 100):
        monkeypatch.setattr(portions, "BLOCK_BYTES", size)
        assert got(path, ["a", "b"]) == whole


def test_json_lines_of_any_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": {"b": 1}, "c": true}\n\nnonsense\n[1]\n{"c": 2.5}\n{"a": 3}\n')
    found, refused = got(path, ["a.b", "c"], "jsonl")
    assert found == [(1, "1", "true"), (5, None, "2.5"), (6, None, None)]
    assert sorted(refused) == [3, 4]


def test_parquet_of_any_type(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    stamps = pa.array([0, None], pa.timestamp("ms", "Europe/Paris"))
    pa.parquet.write_table(pa.table({"n": [1, 2], "at": stamps}), path)
    found, _ = got(path, ["n", "at"], "parquet")
    assert found[0][1] == "1"
    assert found[0][2] == datetime(1970, 1, 1, tzinfo=UTC)
    assert found[1][2] is None


def test_a_file_without_any_of_the_columns_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2\n")
    with pytest.raises(Unreadable, match="none of the columns"):
        got(path, ["a"])
    (tmp_path / "b.parquet").write_text("x")
    with pytest.raises(Unreadable, match="not a Parquet file"):
        got(tmp_path / "b.parquet", ["a"], "parquet")
