"""Which types must the fields have that this test reads, of an answer and of a given request?

A null counts as absent, and fields that nobody here reads are not looked at.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert

from loadtest.exchange.lawful import Json, bids_of
from loadtest.exchange.markup import native_object


class _Bid(Struct):
    """OpenRTB 2.6 §4.2.3."""

    id: str
    impid: str
    price: float
    adm: str | None = None
    nurl: str | None = None
    burl: str | None = None
    lurl: str | None = None
    adomain: list[str] | None = None
    cat: list[str] | None = None
    attr: list[int] | None = None
    cattax: int | None = None
    mtype: int | None = None
    dealid: str | None = None
    w: int | None = None
    h: int | None = None
    ext: Json | None = None


class _SeatBid(Struct):
    """§4.2.2."""

    bid: list[_Bid] | None = None
    seat: str | None = None


class _Answer(Struct):
    """§4.2.1."""

    id: str | None = None
    cur: str | None = None
    seatbid: list[_SeatBid] | None = None


class _Link(Struct):
    url: str | None = None
    clicktrackers: list[str] | None = None


class _Tracker(Struct):
    event: int | None = None
    url: str | None = None


class _Asset(Struct):
    id: int | None = None


class _Native(Struct):
    """Native 1.2 §5.1."""

    link: _Link | None = None
    assets: list[_Asset] | None = None
    imptrackers: list[str] | None = None
    eventtrackers: list[_Tracker] | None = None


class _Request(Struct):
    """§3.2.1."""

    imp: Annotated[list[Json], Meta(min_length=1)]
    tmax: float | None = None
    device: Json | None = None
    regs: Json | None = None
    ext: Json | None = None


def wrong_in_answer(answer: Any) -> str:
    """What in parsed JSON keeps it from being read as an answer, and where; empty if nothing."""
    if wrong := _wrong(answer, _Answer):
        return wrong
    for _, bid in bids_of(answer):
        markup = (bid.get("adm") or "").lstrip()
        native = native_object(markup) if markup.startswith("{") else None
        if native is not None and (wrong := _wrong(native, _Native)):
            return f"native `adm`: {wrong}"
    return ""


def wrong_in_request(request: Any) -> str:
    """The same of a request that somebody gave us."""
    return _wrong(request, _Request)


def _wrong(parsed: Any, shape: type[Struct]) -> str:
    try:
        convert(parsed, shape)
    except ValidationError as error:
        return str(error)
    return ""
