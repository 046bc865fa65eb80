"""What does the test ask? Lawful bid requests of every kind, of our own making."""

from copy import deepcopy
from itertools import count
from typing import Any

from loadtest.world.bodies import NATIVE_REQUEST

Json = dict[str, Any]

_SIZES = ((300, 250), (728, 90), (320, 50), (160, 600), (300, 600), (970, 250), (320, 100))
_numbers = count(1)


def fresh(request: Json, **changes: Any) -> Json:
    """A copy with an id of its own, and top-level fields replaced (None = removed)."""
    copy = deepcopy(request)
    copy["id"] = f"certify-{next(_numbers)}"
    for name, value in changes.items():
        if value is None:
            copy.pop(name, None)
        else:
            copy[name] = value
    return copy


def with_imp(request: Json, **changes: Any) -> Json:
    """A fresh copy of which every imp has these fields replaced (None = removed)."""
    copy = fresh(request)
    for imp in copy["imp"]:
        for name, value in changes.items():
            if value is None:
                imp.pop(name, None)
            else:
                imp[name] = value
    return copy


def samples() -> list[Json]:
    """Banner of each size on site and app, native, several imps, 2.5 places, few fields."""
    found = []
    for number, (width, height) in enumerate(_SIZES):
        imp = {"id": "1", "banner": {"format": [{"w": width, "h": height}]}, "secure": 1}
        imp |= {"bidfloor": 0.01, "bidfloorcur": "EUR"}
        found.append(_request([imp], app=number % 2 == 1))
    found.append(_request([{"id": "1", "native": {"request": NATIVE_REQUEST, "ver": "1.2"}}]))
    several = [
        {"id": str(n + 1), "banner": {"w": w, "h": h}} for n, (w, h) in enumerate(_SIZES[:4])
    ]
    found.append(_request(several))
    old = _request([{"id": "1", "banner": {"w": 300, "h": 250}}])
    old["regs"] = {"ext": {"gdpr": 0, "us_privacy": "1YNN"}}
    old["user"] = {"id": "u-1", "buyeruid": "certify", "ext": {"eids": []}}
    found.append(old)
    found.append({"id": "few", "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}]})
    return found


def _request(imps: list[Json], app: bool = False) -> Json:
    request: Json = {
        "id": "certify-0",
        "imp": imps,
        "device": {
            "ua": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) "
            "AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/125.0.0.0 Safari/537.36",
            "ip": "203.0.113.7",
            "geo": {"country": "FRA"},
            "language": "fr",
            "devicetype": 2,
        },
        "user": {"id": "certify"},
        "at": 1,
        "tmax": 200,
        "cur": ["EUR", "USD"],
        "regs": {"gdpr": 0},
        "source": {"tid": "certify", "fd": 0},
    }
    if app:
        request["app"] = {"id": "a", "bundle": "com.example.certify", "cat": ["IAB1"]}
    else:
        request["site"] = {
            "id": "s",
            "domain": "certify.example",
            "page": "https://certify.example/",
        }
    return request
