"""Names are hashed the same way however they are written, and never repeated."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.crm.pseudonyms import BadName, Pseudonyms, normal

OLD, NEW = b"o" * 32, b"n" * 32


@pytest.mark.parametrize(
    "written", ["jo@example.com", " Jo@Example.COM ", "mailto:jo@example.com", "ｊｏ@example.com"]
)
def test_one_address_is_one_person(written: str) -> None:
    assert Pseudonyms([NEW]).of("email", written) == Pseudonyms([NEW]).of("email", "jo@example.com")


def test_an_address_hashed_elsewhere_is_the_same_person() -> None:
    digest = hashlib.sha256(b"jo@example.com").hexdigest()
    mine = Pseudonyms([NEW])
    assert mine.of("email_sha256", digest.upper()) == mine.of("email", "jo@example.com")


@pytest.mark.parametrize(
    "written", ["06 39 98 12 34", "+33 6 39 98 12 34", "0033639981234", "+33 (0)6.39.98.12.34"]
)
def test_one_number_is_one_person(written: str) -> None:
    assert normal("phone", written) == normal("phone", "0639981234")


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("email", "jo"), ("email", "jo@"), ("email", "a@b@c.example"), ("email", "x" * 300),
        ("phone", "12"), ("phone", "call me"), ("crm", "  "), ("crm", "a\nb"),
        ("email_sha256", "abc"),
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_without_being_repeated(kind: str, written: str) -> None:
    with pytest.raises(BadName) as caught:
        normal(kind, written)  # type: ignore[arg-type]
    if len(written.strip()) > 2:
        assert written not in str(caught.value)


def test_customer_numbers_belong_to_a_company() -> None:
    mine = Pseudonyms([NEW])
    assert mine.of("crm", "1", "one") != mine.of("crm", "1", "other")


def test_rotation_finds_by_the_old_key_and_writes_by_the_new() -> None:
    before = Pseudonyms([OLD]).of("crm", "1")
    assert Pseudonyms([NEW, OLD]).of("crm", "1") == [*Pseudonyms([NEW]).of("crm", "1"), *before]


LIKE_AN_ADDRESS = st.one_of(
    st.emails(), st.from_regex(r"\s?[a-zA-ZéK.+]{1,5}@([a-z.-]{1,6}\.){0,3}[a-zA-Zé]{0,4}\s?")
)


@given(st.lists(st.one_of(LIKE_AN_ADDRESS, st.text(max_size=8)), max_size=8))
def test_many_at_once_are_called_what_each_is_called(written: list[str]) -> None:
    mine = Pseudonyms([NEW, OLD])
    for kind in ("email", "phone", "crm"):
        source, (current, old) = mine.of_many(kind, written, "shop")  # type: ignore[arg-type]
        for text, *values in zip(written, current, old, strict=True):
            try:
                each = mine.of(kind, text, "shop")  # type: ignore[arg-type]
            except BadName:
                assert values == [None, None]
            else:
                assert each == [(source, value) for value in values]


@given(st.text(min_size=1, max_size=60))
def test_no_hash_holds_its_name(name: str) -> None:
    try:
        ((source, value),) = Pseudonyms([NEW]).of("crm", name)
    except BadName:
        return
    assert source == "crm"
    assert len(value) == 22
    assert len(name.strip()) < 6 or name.strip() not in value
