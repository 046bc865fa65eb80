"""How does a native creative answer what the publisher's page asks for?

OpenRTB Dynamic Native Ads 1.2, and 1.0 and 1.1 with their `native` root object. Requests recur, a
few per placement, so they are parsed once and cached by their text; so are a creative's assets.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from bidder.campaigns.catalogue import NativeAsset
from bidder.creatives.markup import Urls, check
from bidder.creatives.mimes import accepts_image

VERSION = "1.2"
MAX_ASSETS = 64

_IMPRESSION, _BY_IMAGE = 1, 1
"""Event type and tracking method (§7.6, §7.7)."""
_ICON, _LOGO = 1, 2
"""Image types (§7.4); 3 = main. The logo was deprecated for the icon in 1.2."""

_DATA: dict[int, Callable[[NativeAsset], str]] = {
    1: lambda native: native.sponsored_by,
    2: lambda native: native.description,
    12: lambda native: native.cta,
}
"""Data asset types (§7.3) that a creative has. 11, the display URL, is the advertiser's domain."""
_DISPLAY_URL = 11


class Title(Struct, frozen=True):  # §4.3
    len: int = 0


class Image(Struct, frozen=True):  # §4.4
    type: int = 0
    w: int | None = None
    h: int | None = None
    wmin: int | None = None
    hmin: int | None = None
    mimes: frozenset[str] = frozenset()


class Data(Struct, frozen=True):  # §4.6
    type: int
    len: int = 0


class Asset(Struct, frozen=True):  # §4.2
    """One asset asked for. None of the three set = a video, or something newer than we are."""

    id: int
    required: int = 0
    title: Title | None = None
    img: Image | None = None
    data: Data | None = None


class EventTracker(Struct, frozen=True):  # §4.7
    event: int
    methods: frozenset[int]


class NativeRequest(Struct, frozen=True):
    """A native request, without the assets that are optional and cannot be read."""

    assets: tuple[Asset, ...]
    by_event: bool
    """The page wants an image pixel for the impression in `eventtrackers`; else `imptrackers`."""
    privacy: bool
    """It shows a link to why this ad."""
    wrapped: bool
    """It has the root object `native`, and so must the answer."""


@lru_cache(maxsize=4096)
def parse(text: str) -> NativeRequest | None:
    """The request in `text`, or None if it is not one or asks for something nobody can give."""
    root = _json_object(text)
    if root is None:
        return None
    inner = root.get("native")
    request = inner if isinstance(inner, dict) else root
    assets = request.get("assets")
    if not isinstance(assets, list) or not 0 < len(assets) <= MAX_ASSETS:
        return None
    readable = []
    for value in assets:
        asset = _read(value, Asset)
        if asset is not None:
            readable.append(asset)
        elif not isinstance(value, dict) or value.get("required") not in (None, 0, "0", False):
            return None
    trackers = request.get("eventtrackers")
    if not isinstance(trackers, list):
        trackers = []
    events = [_read(value, EventTracker) for value in trackers]
    return NativeRequest(
        assets=tuple(readable),
        by_event=any(e and e.event == _IMPRESSION and _BY_IMAGE in e.methods for e in events),
        privacy=request.get("privacy") in (1, "1"),
        wrapped=request is inner,
    )


def meets(text: str, native: NativeAsset, domain: str = "") -> bool:
    """Whether the creative can give every asset that the request in `text` requires, and any."""
    return bool(_assets(text, native, domain))


def answer(
    text: str,
    native: NativeAsset,
    urls: Urls,
    domain: str = "",
    *,
    wrap: bool = False,
    secure: bool = False,
) -> str:
    """The native response as JSON text: what goes into `adm`.

    `domain`, the advertiser's, is shown where the page asks for a display URL. The root object
    `native` is there if the request has it, or the exchange always wants it (`wrap`). Raises
    `ValueError` if not `meets`, `UnsafeUrl` as for banners.
    """
    check(urls, secure)
    request, assets = parse(text), _assets(text, native, domain)
    if request is None or not assets:
        raise ValueError("the creative does not meet the native request")
    response: dict[str, Any] = {"ver": VERSION, "assets": assets, "link": {"url": urls.click}}
    if request.by_event:
        tracker = {"event": _IMPRESSION, "method": _BY_IMAGE, "url": urls.impression}
        response["eventtrackers"] = [tracker]
    else:
        response["imptrackers"] = [urls.impression]
    if request.privacy:
        response["privacy"] = urls.why
    wrapped = {"native": response} if wrap or request.wrapped else response
    return msgspec.json.encode(wrapped).decode()


@lru_cache(maxsize=65536)
def _assets(text: str, native: NativeAsset, domain: str) -> tuple[dict[str, Any], ...]:
    """The assets of the answer; none if one that is required cannot be given."""
    request = parse(text)
    found = []
    for asset in request.assets if request else ():
        filled = _fill(asset, native, domain)
        if filled is not None:
            found.append({"id": asset.id, **filled})
        elif asset.required:
            return ()
    return tuple(found)


def _fill(asset: Asset, native: NativeAsset, domain: str) -> dict[str, Any] | None:
    if asset.title is not None:
        title = shorten(native.title, asset.title.len)
        return {"title": {"text": title}} if title else None
    if asset.img is not None:
        return _image(asset.img, native)
    if asset.data is not None:
        text = _data(asset.data, native, domain)
        return {"data": {"value": text}} if text else None
    return None


def _data(data: Data, native: NativeAsset, domain: str) -> str:
    if data.type == _DISPLAY_URL:
        return domain if not data.len or len(domain) <= data.len else ""  # half a domain misleads
    source = _DATA.get(data.type)
    return shorten(source(native), data.len) if source else ""


def _image(image: Image, native: NativeAsset) -> dict[str, Any] | None:
    if image.type in (_ICON, _LOGO):
        url, width, height = native.icon_url, native.icon_width, native.icon_height
    else:
        url, width, height = native.image_url, native.image_width, native.image_height
    if not url or not accepts_image(image.mimes, url):
        return None
    if not (_fits(width, image.w, image.wmin) and _fits(height, image.h, image.hmin)):
        return None
    size = {"w": width, "h": height} if width and height else {}
    return {"img": {"url": url, **size}}


def _fits(length: int, exact: int | None, least: int | None) -> bool:
    """§4.4: with a least length the page rescales; a length alone is an exact requirement."""
    if least is not None:
        return length >= least
    return not exact or length == exact


def shorten(text: str, limit: int) -> str:
    """`text` in at most `limit` characters (0 = any), cut between words and ended by an ellipsis.

    Empty if not even one word fits.
    """
    if limit <= 0 or len(text) <= limit:
        return text
    head, following = text[: limit - 1], text[limit - 1]
    if head and not head[-1].isspace() and not following.isspace():
        head = head[: len(head) - len(head.split()[-1])]  # the last word was cut
    head = head.rstrip(" \t\n,;:.-–—")
    return f"{head}…" if head else ""


def _json_object(text: str) -> dict[str, Any] | None:
    """The object in `text`, which some senders encode as a string a second time."""
    value: Any = text
    for _ in range(2):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return None
    return value if isinstance(value, dict) else None


def _read(value: Any, kind: type[Any]) -> Any:
    """`value` as `kind`, or None if it does not fit; numbers may be written as text, and null is
    as if it were absent."""
    try:
        return msgspec.convert(_without_nulls(value), kind, strict=False)
    except (msgspec.ValidationError, OverflowError):
        return None


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(one) for name, one in value.items() if one is not None}
