"""Which URLs does an ad call? Pixels, and where its click goes, as a browser would find them."""

import re
from html import unescape
from typing import Any, NamedTuple

import orjson

_IMAGE = re.compile(r"<img\b[^>]*?\bsrc\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))", re.IGNORECASE)
_LINK = re.compile(r"<a\b[^>]*?\bhref\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))", re.IGNORECASE)
_INSECURE = re.compile(
    r"http://(?!127\.0\.0\.1|localhost|\[::1\]|www\.w3\.org/)[^\s\"'<>\\]+", re.I
)
_LOCAL_TLS = re.compile(r"^https://(127\.0\.0\.1|localhost|\[::1\])(?=[:/])", re.I)
IMPRESSION_PATH = "/track/impression"
CLICK_PATH = "/track/click"


class Calls(NamedTuple):
    """What a browser calls of an ad. Empty where the ad has none."""

    impressions: list[str]
    click: str


def calls(markup: str) -> Calls:
    """The impression pixels and the click URL in HTML or native markup."""
    if markup.lstrip().startswith("{"):
        found = _native_calls(markup)
    else:
        images = [_value(match) for match in _IMAGE.finditer(markup)]
        links = [_value(match) for match in _LINK.finditer(markup)]
        found = Calls(
            [url for url in images if IMPRESSION_PATH in url],
            next((url for url in links if CLICK_PATH in url), ""),
        )
    return Calls([_spoken(url) for url in found.impressions], _spoken(found.click))


def _spoken(url: str) -> str:
    """The URL as it can be called: on this machine nothing stands before a bidder that ends TLS."""
    return _LOCAL_TLS.sub(r"http://\1", url)


def native_object(markup: str) -> dict[str, Any] | None:
    """The native answer in `adm`, in or out of its ``native`` wrapper; None if it is not one."""
    try:
        parsed = orjson.loads(markup)
    except orjson.JSONDecodeError:
        return None
    inner = parsed.get("native", parsed) if isinstance(parsed, dict) else None
    return inner if isinstance(inner, dict) else None


def insecure_url(markup: str) -> str:
    """The first URL that a secure page may not load, or empty.

    Loopback addresses count as secure (W3C Secure Contexts §3.1), so that a bidder on the same
    machine can be tested without certificates.
    """
    if "http://" not in markup and "HTTP://" not in markup:
        return ""
    found = _INSECURE.search(markup)
    return found[0] if found else ""


def _value(match: re.Match[str]) -> str:
    return unescape(next(group for group in match.groups() if group is not None))


def _native_calls(markup: str) -> Calls:
    native = native_object(markup) or {}
    pixels = [url for url in native.get("imptrackers") or () if isinstance(url, str)]
    pixels += [
        tracker["url"]
        for tracker in native.get("eventtrackers") or ()
        if isinstance(tracker, dict) and tracker.get("event") == 1 and tracker.get("url")
    ]
    link = native.get("link") or {}
    urls = [link.get("url") or "", *(link.get("clicktrackers") or ())]
    click = next((url for url in urls if CLICK_PATH in url), "")
    return Calls([url for url in dict.fromkeys(pixels) if IMPRESSION_PATH in url], click)
