"""Which URLs does an ad call? Pixels, and where its click goes, as a browser would find them.

The harness knows nobody's paths: a URL is called if the bidder named its origin, or on this
machine. The rest of the web, such as the advertiser's images, is left alone.
"""

import re
from collections.abc import Iterable
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

_VALUE = r"\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))"
_IMAGE = re.compile(rf"<img\b[^>]*?[\s\"'/]src{_VALUE}", re.IGNORECASE)
_LINK = re.compile(
    rf"<a\b[^>]*?[\s\"'/]href{_VALUE}[^>]*>(?P<inside>.*?)(?:</a\b|\Z)", re.IGNORECASE | re.DOTALL
)
_INSECURE = re.compile(
    r"http://(?!127\.0\.0\.1|localhost|\[::1\]|www\.w3\.org/)[^\s\"'<>\\]+", re.I
)
_LOCAL_TLS = re.compile(r"^https://(127\.0\.0\.1|localhost|\[::1\])(?=[:/])", re.I)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_PORTS = {"http": 80, "https": 443}
_IMPRESSION, _BY_IMAGE = 1, 1
"""`event` and `method` of a native event tracker (Native 1.2 §4.7)."""


class Calls(NamedTuple):
    """What a browser calls of an ad. Empty where the ad has none."""

    impressions: list[str]
    """Every image or native tracker that loads with the ad: together one impression."""
    click: str
    """The page that a click opens."""
    click_trackers: tuple[str, ...] = ()
    """What else a click on a native ad calls."""


def calls(markup: str, origins: Iterable[str] = ()) -> Calls:
    """The pixels and the click URL in HTML or native markup that lie at `origins` or on loopback.

    Of several links in HTML the one around most is the ad's: people click on the ad, not on the
    sign in its corner that says why they see it.
    """
    ours = frozenset(origins)
    native = native_object(markup) if markup.lstrip().startswith("{") else None
    if native is not None:
        images, links = _native_trackers(native), _native_links(native)
    else:
        images = [_value(match) for match in _IMAGE.finditer(markup)]
        found = sorted(_LINK.finditer(markup), key=lambda match: -len(match["inside"]))
        links = [_value(match) for match in found]
    called = [_spoken(url) for url in dict.fromkeys(images) if _is_called(url, ours)]
    clicks = [_spoken(url) for url in dict.fromkeys(links) if _is_called(url, ours)]
    return Calls(called, clicks[0] if clicks else "", tuple(clicks[1:]) if native else ())


def origin(url: str) -> str:
    """Scheme, host and port of a web address (RFC 6454); empty for anything else."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        return ""
    return f"{scheme}://{host}:{port or _PORTS[scheme]}" if host and scheme in _PORTS else ""


def _is_called(url: str, origins: frozenset[str]) -> bool:
    found = origin(url)
    return bool(found) and (found in origins or urlsplit(url).hostname in _LOOPBACK)


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


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in what should be a list of them."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def native_link(native: dict[str, Any]) -> dict[str, Any]:
    """The link of a native answer, empty if it has none."""
    link = native.get("link")
    return link if isinstance(link, dict) else {}


def _value(match: re.Match[str]) -> str:
    url = unescape(next(group for group in match.groups() if group is not None)).strip()
    return f"https:{url}" if url.startswith("//") else url


def _native_trackers(native: dict[str, Any]) -> list[str]:
    trackers = objects(native.get("eventtrackers"))
    seen = [t for t in trackers if (t.get("event"), t.get("method")) == (_IMPRESSION, _BY_IMAGE)]
    return _texts(native.get("imptrackers")) + _texts([tracker.get("url") for tracker in seen])


def _native_links(native: dict[str, Any]) -> list[str]:
    link = native_link(native)
    return _texts([link.get("url")]) + _texts(link.get("clicktrackers"))


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
