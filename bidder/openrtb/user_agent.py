"""What does a User-Agent say of system, browser and device? Signs that begin a word, in order.

Inside a word they mean nothing: `Microsoft` is not ChromeOS (`cros`), `RadiosApp` not iOS.
"""

import re
from functools import lru_cache

from bidder.openrtb.request import Device

Signs = tuple[tuple[str, re.Pattern[str], str], ...]
"""Per sign: the letters it begins with, the whole of it, and what it is a sign of."""


def _signs(meanings: dict[str, tuple[str, ...]]) -> Signs:
    """Patterns of lower-case text, each of which must begin a word, in the order given."""
    return tuple(
        (re.split(r"[^a-z0-9 -]", sign)[0], re.compile(rf"(?<![a-z0-9]){sign}"), name)
        for name, signs in meanings.items()
        for sign in signs
    )


_SYSTEMS = _signs(
    {
        "ios": ("iphone", "ipad", "ipod", "ios(?![a-z])"),
        "android": ("android",),
        "windows": ("windows",),
        "chromeos": ("cros(?![a-z])", "chrome os", "chromeos"),
        "macos": ("mac os", "macos", "macintosh", "os x"),
        "linux": ("linux",),
    }
)
_BROWSERS = _signs(
    {
        "edge": ("edge(?![a-z])", "edg(a|ios)?/"),
        "opera": ("opr/", "opera(?![a-z])"),
        "samsung": ("samsung",),
        "firefox": ("firefox", "fxios"),
        "chrome": ("chrome(?![a-z])", "chromium", "crios", "headlesschrome"),
        "safari": ("safari", "mobilesafari"),
    }
)
_TELEVISIONS = (
    "smart-tv", "smarttv", "smart tv", "appletv", "apple tv", "googletv", "google tv", "android tv",
    "hbbtv", "bravia", "roku", "crkey", "web0s", "webos.tv", "tizen[^)]* tv(?![a-z])",
)  # fmt: skip
_FORMS = (
    _signs({"ctv": _TELEVISIONS, "tablet": ("ipad", "tablet"), "mobile": ("mobi", "iemobi")})
    + _signs({"mobile": ("iphone", "ipod"), "tablet": ("android",)})
)  # fmt: skip
_FIRE_TV = re.compile(r"\bAFT[A-Z0-9]")
"""Models of Amazon's Fire TV, written in capitals."""


def of_device(device: Device) -> tuple[str, str, str]:
    """(os, browser, device type): what the request says outright, then the structured user agent
    (§3.2.29), then the string; each empty if none of them says."""
    os, browser, form = parse_user_agent(device.ua or "")
    sua = device.sua
    if sua is not None:
        brands = " ".join([b.brand for b in sua.browsers or ()]).lower()
        browser = _first(_BROWSERS, brands) or browser
        if sua.platform is not None:
            os = _system(sua.platform.brand) or os
        if sua.mobile is not None:
            form = "mobile" if sua.mobile else form or "desktop"
    if device.os:
        os = _system(device.os) or os
    return os, browser, form


@lru_cache(maxsize=4096)
def parse_user_agent(text: str) -> tuple[str, str, str]:
    """(os, browser, device type) of a User-Agent string; each empty if it does not say."""
    if not text:
        return "", "", ""
    low = text.lower()
    os = _first(_SYSTEMS, low)
    form = "ctv" if _FIRE_TV.search(text) else _first(_FORMS, low)
    return os or "other", _first(_BROWSERS, low) or "other", form or ("desktop" if os else "")


@lru_cache(maxsize=4096)
def _system(name: str) -> str:
    return _first(_SYSTEMS, name.lower())


def _first(signs: Signs, text: str) -> str:
    for beginning, sign, name in signs:
        if beginning in text and sign.search(text):
            return name
    return ""
