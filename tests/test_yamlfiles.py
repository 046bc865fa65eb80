import json
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from bidder.yamlfiles import (
    Document,
    Duration,
    Expected,
    InvalidFile,
    ListOf,
    Model,
    Problem,
    Window,
    dotted,
    found,
    nearest,
    parse,
    read,
    seconds,
    window_seconds,
)
from bidder.yamlfiles.reading import Reading

FILE = Path("a.yaml")


class Colour(Enum):
    RED = "red"


class Inner(Model):
    name: str
    count: int = 1
    tags: ListOf[str] = ()
    pace: Literal["even", "asap"] = "even"


class Outer(Model):
    title: str = ""
    items: ListOf[Inner] = ()
    rate: float = Field(default=0.5, ge=0, le=1)
    on: bool = False
    every: Duration = 60
    window: Window = 0
    colour: Colour = Colour.RED
    place: Path = Path()
    either: ListOf[str] | Inner | None = None


def problems_of(text: str | bytes) -> list[Problem]:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidFile) as caught:
        parse(raw, FILE, Outer)
    return list(caught.value.problems)


def lines_of(text: str | bytes) -> list[str]:
    return [str(problem) for problem in problems_of(text)]


def good(text: str) -> Outer:
    return parse(text.encode(), FILE, Outer).value


def values_of(text: str) -> object:
    return Reading(FILE).document(text)[0]


# What it reads


def test_a_country_is_not_a_boolean() -> None:
    value = good("title: NO\nitems: [{name: yes, tags: [on, off, n, y]}]")
    assert value.title == "NO"
    assert value.items == (Inner(name="yes", tags=("on", "off", "n", "y")),)


def test_values_written_as_text_become_what_they_mean() -> None:
    value = good("every: 20m\nwindow: 7d\ncolour: red\nplace: /var/lib\nrate: 1\non: true")
    assert (value.every, value.window, value.colour) == (1200, 604800, Colour.RED)
    assert (value.place, value.rate, value.on) == (Path("/var/lib"), 1.0, True)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("0", 0),
        ("-12", -12),
        ("+5", 5),
        ("6.00", 6.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("01000", "01000"),
        ("0o14", "0o14"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("123456789012345678901", "123456789012345678901"),
        ("2026-11-01", "2026-11-01"),
        ("~", None),
        ("Null", None),
        ("TRUE", True),
        ("'true'", "true"),
        ('"5"', "5"),
    ],
)
def test_plain_scalars(written: str, value: object) -> None:
    read_value = values_of(f"- {written}\n")
    assert read_value == [value]
    assert type(read_value[0]) is type(value)  # type: ignore[index]  # it is a list


def test_aliases_repeat_their_anchor() -> None:
    value = good("items:\n- &first {name: a, tags: &t [x]}\n- *first\n- {name: b, tags: *t}\n")
    assert [item.name for item in value.items] == ["a", "a", "b"]
    assert value.items[2].tags == ("x",)


def test_a_problem_with_an_alias_is_shown_where_it_stands() -> None:
    text = "items:\n- {name: &n 5}\n- {name: *n}\n- &m {name: a}\n- {name: b, tags: [*m]}\n"
    assert [problem.line for problem in problems_of(text)] == [2, 3, 5]


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse(b"\xef\xbb\xbftitle: x", FILE, Outer).value.title == "x"


# To libyaml U+2028 and U+2029 end a line, as in YAML 1.1: those JSON may have and YAML may not.
_ODD = ["Cc", "Zl", "Zp"]
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF, exclude_categories=_ODD))
NESTED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**16), 10**16)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.lists(NESTED, min_size=1, max_size=3), st.sampled_from([None, 1, 2]), st.booleans())
def test_json_is_yaml(value: list[object], indent: int | None, pure: bool) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    assert Reading(FILE).document(text, pure)[0] == value


def test_what_only_yaml_1_2_allows() -> None:
    assert good("{title: 2026-11-01T08:00, items: []}").title == "2026-11-01T08:00"


# Where it is wrong


def test_all_problems_at_once_each_on_its_line() -> None:
    text = (
        "titel: x\n"
        "items:\n"
        "  - name: 3\n"
        "    count: '3'\n"
        "    pace: evn\n"
        "  - tags: a\n"
        "    tags: b\n"
        "rate: 2\n"
        "on: yes\n"
        "every: 20\n"
        "window: 0d\n"
        "colour: green\n"
        "either: 4\n"
    )
    assert lines_of(text) == [
        "a.yaml:1: error: titel: unknown key; did you mean 'title'?",
        "a.yaml:3: error: items[0].name: found 3, expected text; put it in quotes",
        "a.yaml:4: error: items[0].count: found '3', expected a whole number",
        "a.yaml:5: error: items[0].pace: found 'evn', expected 'even' or 'asap'; "
        "did you mean 'even'?",
        "a.yaml:6: error: items[1].name: missing",
        "a.yaml:6: error: items[1].tags: found 'a', expected a list; write [a]",
        "a.yaml:7: error: items[1].tags: given twice; first on line 6",
        "a.yaml:8: error: rate: found 2, expected at most 1",
        "a.yaml:9: error: on: found 'yes', expected true or false; "
        "YAML 1.2 has only true and false",
        "a.yaml:10: error: every: found 20, expected a duration such as 45s, 20m, 6h, 1d or 2w; "
        "with its unit: 20s, 20m, 20h or 20d?",
        "a.yaml:11: error: window: found '0d', expected a duration above 0, or lifetime",
        "a.yaml:12: error: colour: found 'green', expected 'red'",
        "a.yaml:13: error: either: found 4, expected a list or a mapping (key: value); write [4]",
    ]


def test_an_unknown_key_with_nothing_near_lists_the_known() -> None:
    (line,) = lines_of("items:\n- name: x\n  zzzzzz: 1\n")
    assert line.endswith("items[0].zzzzzz: unknown key; known: count, name, pace, tags")


def test_a_twin_may_be_a_mapping_and_the_first_one_counts() -> None:
    text = "title: x\nitems: [{name: a}]\nitems:\n  - {nam: b, nam: c}\ntitle: [y]\n"
    assert [(p.line, p.where) for p in problems_of(text)] == [
        (3, "items"),
        (4, "items[0].nam"),
        (5, "title"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (b"", 1, "the file is empty"),
        (b"# nothing\n---\n", 1, "the file is empty"),
        (b"title: x\n\xff\xfe", 2, "not UTF-8"),
        ("title: x".encode("utf-16"), 1, "not UTF-8"),
        (b"\x00\x01\x02\x7fELF", 1, "not YAML"),
        (b"title: x: y", 1, "not YAML"),
        (b"title: a\n\tb: c", 2, "not YAML"),
        (b"title: 'a", 1, "not YAML"),
        (b"items: [", 1, "not YAML"),
        (b"- " * 5000, 1, "nested more than"),
        (b"[" * 100_000, 1, "nested more than"),
        (b"{" * 100_000, 1, "a key must be text"),
        (b"a: &x [*x]", 1, "contains itself"),
        (b"a:\n  b: *y", 2, "names nothing above"),
        (b"&a x: 1\n*a : 2", 2, "an alias cannot be a key"),
        (b"title: !!python/object:os.system x", 1, "tags are not understood"),
        (b"items: !!set {a}", 1, "tags are not understood"),
        (b"? [a]\n: b", 1, "a key must be text"),
        (b"title: x\n---\ntitle: y", 2, "a second document"),
        (b"- x", 1, "found a list, expected a mapping"),
        (b"just text", 1, "found 'just text', expected a mapping"),
        (b'title: "\\ud800"', 1, ""),
        (b"<<: {title: x}", 1, "unknown key"),
    ],
)
def test_odd_and_hostile_files_are_problems(text: bytes, line: int, message: str) -> None:
    first = problems_of(text)[0]
    assert message in first.message
    assert first.line == line


def test_an_alias_bomb_stops_early() -> None:
    rows = [b"a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30)]
    assert "aliases of this file expand to too much" in problems_of(b"\n".join(rows))[0].message


def test_aliases_nested_deeper_than_json_may_be() -> None:
    rows = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 400)]
    assert problems_of("\n".join(rows))


def test_a_file_with_a_thousand_errors_shows_the_first() -> None:
    found_problems = problems_of("items:\n" + "- {}\n" * 1000)
    assert len(found_problems) == 201
    assert found_problems[-1].message == "and more, from here on"


YAML_LIKE = st.text("{}[]&*!|>'\"%@`- :,#\n\tab1?", max_size=60).map(str.encode)


@settings(max_examples=150)
@given(st.binary(max_size=200) | YAML_LIKE)
def test_any_bytes_are_a_document_or_problems(raw: bytes) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        parse(raw, FILE, Outer)
    except InvalidFile as error:
        problems = error.problems or pytest.fail("a refusal without a reason")
    assert all(problem.line >= 1 for problem in problems)


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_what_cannot_be_opened_is_a_problem(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidFile, match="cannot be read"):
        read(tmp_path / name, Outer)


def test_a_huge_file_is_a_problem(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(InvalidFile, match="larger than 64 MiB"):
        read(huge, Outer)


# Positions


def _document(tmp_path: Path) -> Document[Outer]:
    file = tmp_path / "b.yaml"
    file.write_text(
        "title: x\nitems:\n\n  - name: a\n    tags:\n      - p\n      - q\n  - {name: b}\n"
    )
    return read(file, Outer)


def test_line_of(tmp_path: Path) -> None:
    document = _document(tmp_path)
    assert document.line_of() == 1
    assert document.line_of("items") == 2
    assert document.line_of("items", 0) == 4
    assert document.line_of("items", 0, "tags") == 5
    assert document.line_of("items", 0, "tags", 1) == 7
    assert document.line_of("items", 1, "name") == 8
    assert document.line_of("items", 1, "count") == 8, "of what is absent, its parent's"
    assert document.line_of("rate") == 1


def test_has_knows_what_was_written(tmp_path: Path) -> None:
    document = _document(tmp_path)
    assert document.has("items", 1, "name")
    assert not document.has("items", 1, "count")
    assert not document.has("items", 7)


def test_a_problem_of_a_document(tmp_path: Path) -> None:
    document = _document(tmp_path)
    problem = document.problem("warning", ("items", 0, "tags", 1), "odd", "try r")
    assert str(problem) == f"{document.path}:7: warning: items[0].tags[1]: odd; try r"


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_lines_count_blank_lines(gaps: list[int]) -> None:
    text, lines = "items:\n", []
    for gap in gaps:
        text += "\n" * gap
        lines.append(text.count("\n") + 1)
        text += "  - name: x\n"
    document = parse(text.encode(), FILE, Outer)
    assert [document.line_of("items", i) for i in range(len(gaps))] == lines


# Words


@given(st.integers(0, 999_999_999), st.sampled_from("smhdw"))
def test_durations(number: int, unit: str) -> None:
    factor = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}[unit]
    assert seconds(f"{number}{unit}") == number * factor


@pytest.mark.parametrize("text", ["", "20", "m", "1.5h", "-1d", "1 d", "1D", "²d", 20, True, None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(Expected):
        seconds(text)
    with pytest.raises(Expected):
        window_seconds(text)


def test_lifetime_is_a_window_and_no_duration() -> None:
    assert window_seconds("lifetime") == 0
    with pytest.raises(Expected):
        seconds("lifetime")


def test_nearest() -> None:
    assert nearest("Fr", ["DE", "FR"]) == "did you mean 'FR'?"
    assert nearest("baskte", {"basket", "buyer"}) == "did you mean 'basket'?"
    assert nearest("xyz", ["basket"]) == ""


def test_dotted() -> None:
    assert dotted(("campaigns", 0, "line_items", 1, "id")) == "campaigns[0].line_items[1].id"
    assert dotted(()) == ""
    assert dotted((0, "a")) == "[0].a"


def test_found_is_short() -> None:
    assert len(found("x" * 1000)) == 60
    assert [found(x) for x in (None, [], [1], {}, {"a": 1}, True, False, 1.5)] == [
        "nothing",
        "an empty list",
        "a list",
        "an empty mapping",
        "a mapping",
        "true",
        "false",
        "1.5",
    ]
