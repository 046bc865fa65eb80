"""What does the browser get? The HTML of an image banner, or of the trader's own HTML.

Both carry our impression pixel, a click that passes the exchange's counter and ours, and a "why
this ad" link. Every value is escaped for the place where it stands, so that no field can break out
of it; the static parts of a creative are put together once and cached by its text.
"""

import re
from functools import lru_cache
from html import escape
from typing import Literal
from urllib.parse import quote
from zlib import crc32

from msgspec import Struct

from bidder.campaigns.catalogue import Creative
from bidder.exchanges.profile import Exchange


class UnsafeUrl(ValueError):
    """A URL that is neither HTTPS, nor HTTP on a page that allows it."""


class Urls(Struct, frozen=True, gc=False):
    """Our own addresses for one bid, whole and unescaped."""

    impression: str
    click: str
    why: str


def banner(
    creative: Creative,
    size: tuple[int, int],
    urls: Urls,
    exchange: Exchange,
    *,
    secure: bool = False,
) -> str:
    """The markup of an image or HTML creative, `size` in pixels.

    Raises `UnsafeUrl` if `secure` and an address of ours or the image's is not HTTPS, or if any is
    not a web address at all; other URLs in a trader's HTML are vouched for by `creative.secure`.
    """
    check(urls, secure)
    if creative.image_url:
        _check(creative.image_url, secure)
        start, middle, end = _image_frame(creative.image_url, *size)
        return (
            f"{start}{escape(click_url(urls.click, exchange))}{middle}"
            f"{escape(urls.why)}{_WHY_END}{_PIXEL}{escape(urls.impression)}{_PIXEL_END}{end}"
        )
    return _fill(_template(creative.html, *size), urls, exchange)


_RESERVED = re.compile(r"[^A-Za-z0-9_.~-]")
_ENCODED = {chr(code): f"%{code:02X}" for code in range(128)}


def percent_encode(text: str) -> str:
    """As `urllib.parse.quote` with nothing safe, ten times as fast on the few signs in a URL."""
    if not text.isascii():
        return quote(text, safe="")
    return _RESERVED.sub(lambda match: _ENCODED[match[0]], text)


def click_url(click: str, exchange: Exchange) -> str:
    """Our click URL behind the exchange's click macro, escaped as that asks."""
    if not exchange.click_macro:
        return click
    return exchange.click_macro + (percent_encode(click) if exchange.click_escape else click)


def encoded_click_url(click: str, exchange: Exchange) -> str:
    """`click_url` percent-encoded once more, for the query of another link.

    Only an exchange that has a macro of which the value arrives encoded can count such a click.
    """
    encoded = percent_encode(click)
    macro = exchange.click_macro_escaped
    if not macro:
        return encoded
    return macro + (percent_encode(encoded) if exchange.click_escape else encoded)


def check(urls: Urls, secure: bool) -> None:
    """Raises `UnsafeUrl` unless all are web addresses, and HTTPS if `secure`."""
    for url in (urls.impression, urls.click, urls.why):
        _check(url, secure)


def _check(url: str, secure: bool) -> None:
    if not (url.startswith("https://") or (not secure and url.startswith("http://"))):
        raise UnsafeUrl(url)


_FRAME = '<div style="position:relative;width:{}px;height:{}px;overflow:hidden">'
_PIXEL = '<img alt="" width="1" height="1" style="position:absolute;left:-9999px;top:0" src="'
_PIXEL_END = '">'
_WHY = (
    '<a target="_blank" rel="noopener" title="Why this ad?" aria-label="Why this ad?"'
    ' style="position:absolute;top:0;right:0;z-index:2147483647;width:16px;height:16px;'
    "background:#fff;color:#333;font:bold 12px/16px sans-serif;text-align:center;"
    'text-decoration:none" href="'
)
_WHY_END = '">i</a>'


@lru_cache(maxsize=65536)
def _image_frame(image_url: str, width: int, height: int) -> tuple[str, str, str]:
    """What stands before the click URL, between it and the why URL, and at the end."""
    return (
        f'{_FRAME.format(width, height)}<a target="_blank" rel="noopener" href="',
        f'"><img src="{escape(image_url)}" width="{width}" height="{height}" alt=""'
        f' style="display:block;border:0"></a>{_WHY}',
        "</div>",
    )


# The trader's own HTML, cut at its macros. Values go in percent-encoded beyond what a URL needs, so
# that they hold in an attribute without quotes and in a script's string as well as between quotes.

Part = Literal["text", "CLICK_URL", "CLICK_URL_ENC", "CACHEBUSTER", "WHY_URL", "IMPRESSION_URL"]


class Piece(Struct, frozen=True, gc=False):
    """Literal text, or the place of a macro; `raw` inside script and style, where `&` is `&`."""

    part: Part
    text: str = ""
    raw: bool = False


_MACRO = re.compile(r"\$\{(CLICK_URL_ENC|CLICK_URL|CACHEBUSTER|WHY_URL)\}")
_RAW_TEXT = re.compile(r"<(script|style)\b[^>]*>(.*?)(?:</\1|\Z)", re.IGNORECASE | re.DOTALL)
_DOCUMENT = re.compile(r"\A\s*(?:<!--.*?-->\s*)*<(?:!doctype|html|head|body)\b", re.I | re.S)
_BODY = re.compile(r"<body\b[^>]*>", re.IGNORECASE)
_BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)
_URL_CHARACTERS = "%$:/?#[]@!*+,;=&{}|~-._"


@lru_cache(maxsize=65536)
def _template(html: str, width: int, height: int) -> tuple[Piece, ...]:
    """The pieces of `html` with pixel and why link; a fragment gets a frame of the ad's size."""
    furniture = [Piece("text", _PIXEL), Piece("IMPRESSION_URL"), Piece("text", _PIXEL_END)]
    if "${WHY_URL}" not in html:
        furniture += [Piece("text", _WHY), Piece("WHY_URL"), Piece("text", _WHY_END)]
    pieces = _pieces(html)
    if not _DOCUMENT.match(html):
        # Ahead of the trader's HTML, which may end inside a tag that it never closes.
        frame = Piece("text", _FRAME.format(width, height))
        return (frame, *furniture, *pieces, Piece("text", "</div>"))
    at = _furniture_position(html)
    return (*_pieces(html, 0, at), *furniture, *_pieces(html, at))


def _furniture_position(document: str) -> int:
    """Where in a whole document the pixel goes: first in its body, or else last."""
    if body := _BODY.search(document):
        return body.end()
    if end := _BODY_END.search(document):
        return end.start()
    return len(document)


def _pieces(html: str, start: int = 0, end: int | None = None) -> list[Piece]:
    """The text and the macros of ``html[start:end]``."""
    end = len(html) if end is None else end
    raw = [match.span(2) for match in _RAW_TEXT.finditer(html)]
    pieces = []
    for match in _MACRO.finditer(html, start, end):
        pieces.append(Piece("text", html[start : match.start()]))
        inside = any(first <= match.start() < last for first, last in raw)
        pieces.append(Piece(match[1], raw=inside))  # type: ignore[arg-type]  # named by the pattern
        start = match.end()
    return [*pieces, Piece("text", html[start:end])]


def _fill(pieces: tuple[Piece, ...], urls: Urls, exchange: Exchange) -> str:
    """The template with this bid's addresses."""
    out = []
    for piece in pieces:
        if piece.part == "text":
            out.append(piece.text)
            continue
        value = quote(_value(piece.part, urls, exchange), safe=_URL_CHARACTERS)
        out.append(value if piece.raw else escape(value))
    return "".join(out)


def _value(part: Part, urls: Urls, exchange: Exchange) -> str:
    if part == "CLICK_URL":
        return click_url(urls.click, exchange)
    if part == "CLICK_URL_ENC":
        return encoded_click_url(urls.click, exchange)
    if part == "WHY_URL":
        return urls.why
    if part == "IMPRESSION_URL":
        return urls.impression
    # The impression URL differs with every bid, so its checksum does for a number used once.
    return str(crc32(urls.impression.encode()))
