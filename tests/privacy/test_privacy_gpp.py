from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.privacy import gpp, us_privacy
from bidder.privacy.bits import InvalidConsent

# Widths of the fields of each core segment (IAB Tech Lab section specifications): V version,
# n notice, S sale, H sharing, T targeted advertising, C consent for known children, and plain
# numbers of bits for the rest.
SECTIONS = {
    7: (1, "V n n n n n n S H T 24 C C 2 2 2 2"),
    8: (1, "V n n n S H 18 C C 2 2 2 2"),
    9: (1, "V n n n S T 16 C 2 2 2"),
    10: (1, "V n n n S T 14 C 2 2 2"),
    11: (1, "V n n n n S T 16 C 2 2 2"),
    12: (1, "V n n n S T 16 C C C 2 2 2"),
    13: (1, "V n n n S T 16 C C C 2 2 2 2"),
    14: (1, "V n n n S T 16 C C C 2 2 2 2"),
    15: (1, "V n n n S T 22 C C C 2 2 2 2"),
    16: (1, "V n n n S T 16 C 2 2 2 2"),
    17: (1, "V n n n S T 18 C C C C C 2 2 2 2"),
    18: (1, "V n n n n S T 16 C 2 2 2"),
    19: (1, "V n n n S T 16 C 2 2 2 2"),
    20: (1, "V n n n S T 16 C C C 2 2 2 2"),
    21: (1, "V n n n S T 20 C C C C C 2 2 2 2"),
    22: (1, "V n n n S T 16 C 2 2 2 2"),
    23: (1, "V n n n S T 16 C 2 2 2 2"),
}
NATIONAL_2 = (2, "V n n n n n n S H T 32 C C C 2 2 2 2")


def section(write, layout, answers=(), fill="0", gpc=None):
    """`answers`: by the place of a field among all, or by its letter; 2 where none is given."""
    version, fields = layout
    bits = ""
    for place, field in enumerate(fields.split()):
        if field == "V":
            bits += write.number(version, 6)
        elif field in "SHTC":
            given = dict(answers)
            bits += write.number(given.get(place, given.get(field, 2)), 2)
        else:
            bits += fill * (2 if field == "n" else int(field))
    core = write.text(bits)
    return core if gpc is None else core + "." + write.text("01" + str(gpc))


def asked(layout, letters):
    """The places of these fields."""
    return [place for place, field in enumerate(layout[1].split()) if field in letters]


@pytest.mark.parametrize(
    ("text", "sections"),
    [  # the examples of the specification
        ("DBABM~x", {2: "x"}),
        ("DBACNY~x~1YNN", {2: "x", 6: "1YNN"}),
        ("DBABjw~x~y", {5: "x", 6: "y"}),
        ("DBABMA~x", {2: "x"}),
        ("DBAA", {}),
    ],
)
def test_headers_of_the_specification(text, sections):
    assert gpp.decode(text) == sections


@given(st.frozensets(st.integers(1, 1500), max_size=12))
def test_header_round_trip(write, ids):
    sections = {number: f"s{number}" for number in sorted(ids)}
    assert gpp.decode(write.gpp_string(sections)) == sections


@pytest.mark.parametrize(
    "text",
    [
        "", "D", "DBA", "header~1YNN", "gppString", "DBABM", "DBABM~x~y", "DBAA~x", "DCABM~x",
        "DBABé~x", "D" * 9000,
    ],
)  # fmt: skip
def test_malformed_strings_are_refused(text):
    with pytest.raises(InvalidConsent):
        gpp.decode(text)


def test_hostile_ranges_are_not_expanded(write):
    bits = write.number(3, 6) + write.number(1, 6) + write.number(1, 12) + "1"
    with pytest.raises(InvalidConsent, match="more than"):
        gpp.decode(write.text(bits + "11" + write.fibonacci(1500)) + "~x~y")
    with pytest.raises(InvalidConsent, match="beyond"):
        gpp.decode(write.text(bits + "01" * 30 + "1") + "~x~y")
    assert gpp.decode(write.text(bits + "11" + write.fibonacci(1)) + "~x~y") == {1: "x", 2: "y"}


@pytest.mark.parametrize(("number", "layout"), [*SECTIONS.items(), (7, NATIONAL_2)])
@pytest.mark.parametrize("fill", ["0", "1"])
@pytest.mark.parametrize("letters", ["SHT", "C"])
def test_each_opt_out_and_each_child_without_consent_of_each_section_counts(
    write, number, layout, fill, letters
):
    def outcome(answers, in_force=(number,)):
        text = write.gpp_string({number: section(write, layout, answers, fill)})
        return gpp.opt_out(text, in_force)

    assert outcome({}) == ""
    assert asked(layout, letters)
    for place in asked(layout, letters):
        assert outcome({place: 0}) == ""
        assert outcome({place: 1}) == outcome({place: 1}, ()) == "gpp"
        assert outcome({place: 3}) == "gpp"  # undefined: unreadable
        assert outcome({place: 3}, ()) == ""


def test_no_undefined_answer_hides_an_opt_out(write):
    places = asked(SECTIONS[8], "SHTC")
    for place in places:
        answers = dict.fromkeys(places, 3) | {place: 1}
        text = write.gpp_string({8: section(write, SECTIONS[8], answers)})
        assert gpp.opt_out(text, ()) == gpp.opt_out(text, (8,)) == "gpp"


@pytest.mark.parametrize("number", SECTIONS)
def test_a_section_too_short_or_of_another_version_is_an_opt_out_where_in_force(write, number):
    layout = SECTIONS[number]
    whole = section(write, layout)
    for bad in (
        whole[:-1],
        "",
        "!",
        section(write, (0, layout[1])),
        section(write, (3, layout[1])),
    ):
        text = write.gpp_string({number: bad})
        assert gpp.opt_out(text, (number,)) == "gpp"
        assert gpp.opt_out(text, ()) == ""


def test_global_privacy_control(write):
    on = write.gpp_string({8: section(write, SECTIONS[8], gpc=1)})
    off = write.gpp_string({8: section(write, SECTIONS[8], gpc=0)})
    assert gpp.opt_out(on, (8,)) == "gpc"
    assert gpp.opt_out(on, ()) == "gpc"
    assert gpp.opt_out(off, (8,)) == ""
    both = write.gpp_string({8: section(write, SECTIONS[8], {"S": 1}, gpc=1)})
    assert gpp.opt_out(both, (8,)) == "gpp"


def test_other_sub_sections_are_skipped_but_must_be_readable(write):
    core = section(write, SECTIONS[8])
    assert gpp.opt_out(write.gpp_string({8: core + "." + write.text("101")}), (8,)) == ""
    assert gpp.opt_out(write.gpp_string({8: core + "."}), (8,)) == "gpp"


def test_only_sections_in_force_count(write):
    text = write.gpp_string({
        7: section(write, SECTIONS[7]), 8: section(write, SECTIONS[8], {"H": 1}),
    })  # fmt: skip
    assert gpp.opt_out(text, (7,)) == ""
    assert gpp.opt_out(text, (8,)) == "gpp"
    assert gpp.opt_out(text, (7, 8)) == "gpp"
    assert gpp.opt_out(text, ()) == "gpp"


@pytest.mark.parametrize("in_force", [(), (-1,), (0,), (2,), (3,), (4,)])
def test_ids_that_say_nothing_about_opting_out(in_force):
    assert gpp.opt_out("", in_force) == ""
    assert gpp.opt_out("gppString", in_force) == ""


@pytest.mark.parametrize("number", [1, 5, 6, 7, 12, 23, 24, 27, 99])
def test_a_section_in_force_that_is_absent_or_unknown_is_an_opt_out(write, number):
    assert gpp.opt_out("", (number,)) == "gpp"
    assert gpp.opt_out("gppString", (number,)) == "gpp"
    assert gpp.opt_out(write.gpp_string({9: section(write, SECTIONS[9])}), (number,)) == "gpp"


def test_us_privacy_inside_gpp(write):
    assert gpp.opt_out(write.gpp_string({6: "1YYN"}), (6,)) == "us-privacy"
    assert gpp.opt_out(write.gpp_string({6: "1YYN"}), ()) == "us-privacy"
    assert gpp.opt_out(write.gpp_string({6: "1YNN"}), (6,)) == ""
    assert gpp.opt_out(write.gpp_string({6: "what"}), (6,)) == "gpp"


@pytest.mark.parametrize(
    ("text", "out"),
    [("1YYN", True), ("1-Y-", True), ("1nyn", True), ("1YNY", False), ("1---", False)],
)
def test_us_privacy(text, out):
    assert us_privacy.opted_out(text) is out


@pytest.mark.parametrize("text", ["", "1", "1YY", "1YYNN", "2YYN", "1YXN", "YYNN", "1YıN"])
def test_malformed_us_privacy_is_refused(text):
    with pytest.raises(InvalidConsent):
        us_privacy.opted_out(text)


@given(st.text(max_size=40) | st.text("DBA~.LMYw_-1", max_size=40),
       st.lists(st.integers(-2, 30), max_size=3))  # fmt: skip
def test_any_text_is_read_or_refused(text, in_force):
    with suppress(InvalidConsent):
        gpp.decode(text)
    assert gpp.opt_out(text, tuple(in_force)) in ("", "gpp", "gpc", "us-privacy")
