"""What do the requests look like? Made-up OpenRTB bodies of 1.0 to 1.8 kB, all different.

Sites and apps, one or two slots with several sizes, client hints and user agents, consent strings,
supply chains, in 2.6's places and in 2.5's. ``{{n}}`` and ``{{person}}`` are filled when sent.
"""

from random import Random
from typing import Any, NamedTuple

from loadtest.world.consent import RETARGETING_PURPOSES, tc_string

Json = dict[str, Any]

_DAY_SECONDS = 86400
_ALPHA_3 = {
    "FR": "FRA",
    "DE": "DEU",
    "GB": "GBR",
    "IT": "ITA",
    "ES": "ESP",
    "BE": "BEL",
    "NL": "NLD",
}
_COUNTRIES = {"FR": 40, "DE": 18, "GB": 12, "IT": 10, "ES": 10, "BE": 6, "NL": 4}
_LANGUAGES = {"FR": "fr", "DE": "de", "GB": "en", "IT": "it", "ES": "es", "BE": "fr", "NL": "nl"}
_CITIES = ("Paris", "Lyon", "Berlin", "Hamburg", "London", "Leeds", "Milano", "Torino", "Madrid")
_WIDE = ("300x250", "728x90", "970x250", "300x600", "160x600")
_NARROW = ("300x250", "320x50", "320x100")
_CATEGORIES = ("IAB1", "IAB2", "IAB3-1", "IAB9", "IAB10-3", "IAB17", "IAB18", "IAB19-6", "IAB20")
_BLOCKED_CATEGORIES = (
    "IAB7-39",
    "IAB8-5",
    "IAB8-18",
    "IAB9-9",
    "IAB14-1",
    "IAB23",
    "IAB24",
    "IAB25",
)


class Agent(NamedTuple):
    """A kind of device: its user agent with a place for the version, and what goes with it."""

    text: str
    brand: str
    platform: str
    device_type: int
    mobile: int


_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0"
_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.{v} Mobile/15E148 Safari/604.1"
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)"
_FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0"
_PHONE = "Mozilla/5.0 (Linux; Android 10; K)"
_TABLET = "Mozilla/5.0 (Linux; Android 14; SM-X710)"
_DESKTOPS = (
    Agent(f"{_WINDOWS} {_CHROME} Safari/537.36", "Google Chrome", "Windows", 2, 0),
    Agent(f"{_MAC} {_CHROME} Safari/537.36", "Google Chrome", "macOS", 2, 0),
    Agent(f"{_WINDOWS} {_CHROME} Safari/537.36 Edg/{{v}}.0.0.0", "Microsoft Edge", "Windows", 2, 0),
    Agent(_FIREFOX, "", "", 2, 0),
)
_PHONES = (
    Agent(f"{_PHONE} {_CHROME} Mobile Safari/537.36", "Google Chrome", "Android", 4, 1),
    Agent(f"{_IPHONE} {_SAFARI}", "", "", 4, 1),
    Agent(f"{_TABLET} {_CHROME} Safari/537.36", "Google Chrome", "Android", 5, 0),
)


def made(seed: int, count: int, *, day: int, consent_strings: int, vendor_id: int) -> list[Json]:
    """`count` bodies; their consent strings permit `vendor_id` and were given before `day`."""
    random = Random(f"{seed} bodies")
    consents = [_consent(random, day, vendor_id) for _ in range(consent_strings)]
    return [_body(random, random.choice(consents)) for _ in range(count)]


def _consent(random: Random, day: int, vendor_id: int) -> str:
    vendors = {vendor_id, *random.sample(range(1, 1400), random.randrange(2, 14))}
    return tc_string(
        updated=day - random.randrange(1, 180) * _DAY_SECONDS,
        purposes=RETARGETING_PURPOSES,
        vendors=vendors,
        disclosed=vendors,
        language=random.choice(("FR", "DE", "EN", "IT", "ES", "NL")),
    )


def _body(random: Random, consent: str) -> Json:
    country = random.choices(list(_COUNTRIES), list(_COUNTRIES.values()))[0]
    on_phone = random.random() < 0.5
    in_app = on_phone and random.random() < 0.5
    old_places = random.random() < 0.25  # an exchange that still speaks 2.5
    slots = 2 if random.random() < 0.12 else 1
    body: Json = {
        "id": "{{n}}-" + _hex(random, 16),
        "at": random.choices((1, 2), (85, 15))[0],
        "tmax": random.choice((100, 120, 150)),
        "cur": ["EUR"],
        "imp": [_imp(random, number, on_phone, in_app) for number in range(1, slots + 1)],
        "device": _device(random, country, on_phone, in_app),
        "user": _user(random, consent, old_places),
        "regs": {"ext": {"gdpr": 1}} if old_places else {"coppa": 0, "gdpr": 1},
        "bcat": random.sample(_BLOCKED_CATEGORIES, random.randrange(1, 5)),
        "badv": [
            f"rival{random.randrange(500):03d}.example" for _ in range(random.randrange(1, 5))
        ],
        "source": _source(random, old_places),
    }
    body["app" if in_app else "site"] = _app(random) if in_app else _site(random)
    return body


def _imp(random: Random, number: int, on_phone: bool, in_app: bool) -> Json:
    sizes = _NARROW if on_phone else _WIDE
    offered = random.sample(sizes, random.randrange(1, len(sizes)))
    formats = [{"w": int(w), "h": int(h)} for w, h in (size.split("x") for size in offered)]
    imp: Json = {
        "id": str(number),
        "tagid": f"/{random.randrange(10**7, 10**8)}/unit-{random.randrange(900)}",
        "banner": {
            "format": formats,
            **formats[0],
            "pos": random.choice((0, 1, 3)),
            "api": [5, 6, 7] if in_app else [3, 5],
            "btype": [4],
            "topframe": random.randrange(2),
        },
        "bidfloor": round(random.uniform(0.02, 0.35), 3),
        "bidfloorcur": "EUR",
        "secure": 1,
        "exp": 300 if in_app else 60,
    }
    if random.random() < 0.4:
        imp["metric"] = [
            {"type": "viewability", "value": round(random.random(), 2), "vendor": "EXCHANGE"}
        ]
    return imp


def _site(random: Random) -> Json:
    number = random.randrange(400)
    domain = f"site{number:03d}.example"
    publisher = number // 4
    section = random.choice(("news", "sport", "home"))
    return {
        "id": str(10_000 + number),
        "domain": domain,
        "cat": random.sample(_CATEGORIES, random.randrange(1, 3)),
        "page": f"https://www.{domain}/{section}/{_hex(random, 10)}.html",
        "publisher": {"id": f"pub-{publisher}", "name": f"Publisher {publisher}", "domain": domain},
    }


def _app(random: Random) -> Json:
    number = random.randrange(200)
    bundle = f"com.example.app{number:03d}"
    return {
        "id": str(50_000 + number),
        "name": f"App {number}",
        "bundle": bundle,
        "storeurl": f"https://play.store.example/store/apps/details?id={bundle}",
        "cat": random.sample(_CATEGORIES, random.randrange(1, 3)),
        "ver": f"{random.randrange(1, 9)}.{random.randrange(20)}.{random.randrange(9)}",
        "publisher": {"id": f"pub-{number // 4}", "name": f"Publisher {number // 4}"},
    }


def _device(random: Random, country: str, on_phone: bool, in_app: bool) -> Json:
    agent = random.choice(_PHONES if on_phone else _DESKTOPS)
    version = random.randrange(118, 142) if "Version/17" not in agent.text else random.randrange(7)
    device: Json = {
        "ua": agent.text.replace("{v}", str(version)),
        "ip": f"198.51.100.{random.randrange(1, 255)}",
        "devicetype": agent.device_type,
        "language": _LANGUAGES[country] if random.random() < 0.85 else "en",
        "lmt": 0,
        "geo": {
            "country": _ALPHA_3[country],
            "city": random.choice(_CITIES),
            "zip": f"{random.randrange(1000, 98000):05d}",
            "lat": round(random.uniform(41, 54), 2),
            "lon": round(random.uniform(-4, 13), 2),
            "type": 2,
            "utcoffset": 60,
        },
    }
    if agent.brand:
        brands = (agent.brand, "Chromium")
        device["sua"] = {
            "browsers": [{"brand": brand, "version": [str(version)]} for brand in brands],
            "platform": {"brand": agent.platform, "version": [str(random.randrange(10, 16))]},
            "mobile": agent.mobile,
            "source": 2,
        }
    if in_app:
        device["ifa"] = "-".join(_hex(random, width) for width in (8, 4, 4, 4, 12))
        device["os"] = "iOS" if "iPhone" in agent.text else "Android"
    return device


def _user(random: Random, consent: str, old_places: bool) -> Json:
    user: Json = {}
    by_cookie = random.random() < 0.85
    if by_cookie:
        user["buyeruid"] = "u{{person}}"
    eids = [{"source": "pubcid.example", "uids": [{"id": _hex(random, 32), "atype": 1}]}]
    if not by_cookie or random.random() < 0.4:
        eids.append({"source": "id5-sync.com", "uids": [{"id": "ID5-{{person}}", "atype": 1}]})
    place = user.setdefault("ext", {}) if old_places else user
    place["consent"] = consent
    place["eids"] = eids
    return user


def _source(random: Random, old_places: bool) -> Json:
    nodes = [{"asi": "ssp.example", "sid": str(random.randrange(10**5)), "hp": 1}]
    schain = {"complete": 1, "ver": "1.0", "nodes": nodes}
    source: Json = {"tid": "{{n}}-" + _hex(random, 16)}  # a page view comes once
    return source | ({"ext": {"schain": schain}} if old_places else {"schain": schain})


def _hex(random: Random, width: int) -> str:
    return f"{random.getrandbits(4 * width):0{width}x}"
