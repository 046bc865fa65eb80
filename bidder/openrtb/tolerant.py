"""How is a request read that is not as it should be? What can be read is; the rest is left out.

The slow road, for what msgspec refuses: each optional field that cannot be read is absent, and only
what must be there makes a request invalid.
"""

import json
from contextlib import suppress
from functools import cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

T = TypeVar("T", bound=Struct)


_TRUTHS = {"true": True, "false": False}
_SCALARS = frozenset({str, int, float, bool})
MAX_OBJECTS = 1000
"""Of one list, on this road; no request needs as many, and each that is odd takes 10 µs."""


class InvalidRequest(ValueError):
    """The body is not an OpenRTB request; the message names the place."""


def tolerant(kind: type[T], body: bytes) -> T:
    """What can be read of the JSON in `body` as a `kind`. Raises `InvalidRequest`."""
    try:
        value = json.loads(body.decode("utf-8-sig", "replace"), parse_constant=_refuse_constant)
        return _tolerant(kind, value, "request")
    except (ValueError, RecursionError, OverflowError) as error:
        raise InvalidRequest(str(error)) from None


def _refuse_constant(name: str) -> None:
    raise InvalidRequest(f"{name} is not JSON")


class _Field(NamedTuple):
    name: str
    written: str
    """Its name in JSON."""
    required: bool
    kind: Any


@cache  # msgspec works the fields out anew each time, for which it takes 0.2 ms
def _fields(kind: type[Struct]) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    return tuple(
        [
            _Field(field.name, field.encode_name, field.required, hints[field.name])
            for field in msgspec.structs.fields(kind)
        ]
    )


def _tolerant(kind: type[T], value: Any, place: str) -> T:
    """`value` as a `kind` of struct, without the optional fields that do not fit."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{place} should be an object")
    fields: dict[str, Any] = {}
    for field in _fields(kind):
        if field.written not in value:
            if field.required:
                raise InvalidRequest(f"{place}.{field.name} is missing")
            continue
        try:
            fields[field.name] = _fit(field.kind, value[field.written], f"{place}.{field.name}")
        except (InvalidRequest, msgspec.ValidationError):
            if field.required:
                raise InvalidRequest(f"{place}.{field.name} cannot be read") from None
    return kind(**fields)


def _fit(kind: Any, value: Any, place: str) -> Any:
    """`value` as `kind`: a scalar, a struct, a list of either, or whichever fits of several."""
    if isinstance(kind, UnionType):
        return _fit_one(get_args(kind), value, place)
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        if not _is_struct(item):
            return _readable(item, value, place)
        if not isinstance(value, list):
            raise InvalidRequest(f"{place} should be a list")
        return [_fit(item, one, f"{place}[{i}]") for i, one in enumerate(value[:MAX_OBJECTS])]
    if _is_struct(kind):
        return _tolerant(kind, value, place)
    if isinstance(value, str):
        plain = value.encode("utf-8", "replace").decode()
        if (plain != value or "\ufffd" in value) and place.endswith(".id"):
            raise InvalidRequest(f"{place} has half a character, which cannot be sent back")
        value = plain
    if kind is int:
        # `coppa`, `lmt` and `secure` are too dear to lose for how they are said.
        value = _TRUTHS.get(value, value) if isinstance(value, str) else value
        return int(value) if isinstance(value, bool) else msgspec.convert(value, int, strict=False)
    if kind is str and type(value) is int:
        return str(value)  # an id is its digits
    return msgspec.convert(value, kind, strict=False)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _readable(kind: Any, value: Any, place: str) -> list[Any]:
    """What can be read of a list of scalars; one that stands alone, or several with commas between
    them, are a list.

    Of what a publisher blocks, nothing is lost because something beside it is odd.
    """
    found = []
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    for one in value if isinstance(value, list) else [value]:
        if type(one) not in _SCALARS:
            continue
        with suppress(InvalidRequest, msgspec.ValidationError):
            found.append(_fit(kind, one, place))
    if not found and value != []:
        raise InvalidRequest(f"{place} cannot be read")
    return found


def _those_that_fit(kind: Any, values: list[Any], place: str) -> list[Any]:
    """The structs of an optional list, without those that cannot be read: an odd id or deal must
    not hide the others."""
    found = []
    for i, one in enumerate(values[:MAX_OBJECTS]):
        with suppress(InvalidRequest, msgspec.ValidationError):
            found.append(_fit(kind, one, f"{place}[{i}]"))
    return found


def _fit_one(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """`value` as the first of `kinds` that it fits. Raises what the last of them raises."""
    if value is None:
        return None
    *others, last = [kind for kind in kinds if kind is not NoneType]
    if get_origin(last) is list and isinstance(value, list) and _is_struct(get_args(last)[0]):
        return _those_that_fit(get_args(last)[0], value, place)
    for kind in others:
        try:
            return _fit(kind, value, place)
        except (InvalidRequest, msgspec.ValidationError):
            continue
    return _fit(last, value, place)
