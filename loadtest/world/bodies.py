"""What does the exchange post? Bid requests of a page view, as varied as real ones.

OpenRTB 2.5 and 2.6 field places, site and app, several imps, native, video, deals, one currency or
two with floors in another, lists of what is blocked and what is allowed, consent in all states as
TCF, GPP, US Privacy and GPC; the JSON of some is lawful but oddly written.
"""

import json
from collections.abc import Callable
from math import exp
from typing import Any, NamedTuple

import orjson

from .consent import GPP_TCF, GPP_USA, gpp_of_american, gpp_of_tc_string
from .description import World
from .draws import mix, normal, uniform
from .people import ABSENT, REFUSED, SHARED_ID_SOURCE, Device, People
from .visits import Publisher, View

Json = dict[str, Any]

NATIVE_REQUEST = orjson.dumps(
    {
        "ver": "1.2",
        "context": 1,
        "plcmttype": 1,
        "assets": [
            {"id": 1, "required": 1, "title": {"len": 90}},
            {"id": 2, "required": 1, "img": {"type": 3, "wmin": 300, "hmin": 157}},
            {"id": 3, "required": 0, "data": {"type": 1, "len": 40}},
            {"id": 4, "required": 0, "data": {"type": 2, "len": 140}},
        ],
        "eventtrackers": [{"event": 1, "methods": [1]}],
    }
).decode()
_SLOTS = 48  # variants of each slot of a publisher
_PAGES = 200  # pages of a site
_HEADERS = {
    old: {"content-type": "application/json", "x-openrtb-version": "2.5" if old else "2.6"}
    for old in (False, True)
}
_OTHER_BADV = [f"blocked-{n}.example" for n in range(40)]
_BCAT = ["IAB25", "IAB26", "IAB7-39", "IAB14-1", "IAB24", "IAB23", "IAB8-5"]
_BCAT_2 = ["211", "379", "391", "453", "286", "483", "223"]
"""Content Taxonomy 2.2, `cattax` 6: alcohol, politics, money, religion and others."""
_ACAT = ["IAB1", "IAB18", "IAB10", "IAB3", "IAB22", "IAB8", "IAB19", "IAB20", "IAB2", "IAB7"]
_OTHER_BAPP = [f"com.blocked.app{n}" for n in range(40)]
_OTHER_SIZES = {"300x250": "336x280", "728x90": "468x60", "320x50": "300x50", "970x250": "970x90"}


class Post(NamedTuple):
    """One request as posted: the parsed body, its bytes (not yet compressed) and its headers."""

    json: Json
    body: bytes
    headers: dict[str, str]
    gzip: bool


class Bodies:
    """Builds requests. Parts are made once and shared between requests: read them, never write."""

    def __init__(self, world: World, people: People) -> None:
        self.world = world
        self.people = people
        self._imps: dict[tuple[int, int, int], Json] = {}
        self._places: dict[tuple[int, int], Json] = {}
        self._users: dict[tuple[int, int, bool], tuple[Json, Json]] = {}
        self._chains = {number: _chain(number) for number in range(world.places.publishers)}
        self._counts = [sum(world.places.imps[: n + 1]) for n in range(len(world.places.imps))]

    def posts(self, view: View) -> list[Post]:
        """The requests of a page view: all slots in one, or one each with a common `source.tid`."""
        key = view.key
        u = uniform(key, 1)
        count = 1 + sum(u >= share for share in self._counts[:-1])
        chance = mix(key, 2)
        imps = [self._imp(view, n, (chance >> (6 * n)) % _SLOTS) for n in range(count)]
        if count > 1 and (chance >> 40) / 2**24 < self.world.places.separate_share:
            return [self._post(view, [imp], n) for n, imp in enumerate(imps)]
        return [self._post(view, imps, 0)]

    def _post(self, view: View, imps: list[Json], part: int) -> Post:
        publisher, wire = view.publisher, self.world.wire
        key = mix(view.key, 200 + part)
        page, chance = mix(view.key, 4), mix(key, 5)
        old = (page & 0xFFFF) / 0x10000 < wire.openrtb_25_share
        device = self.people.device(view.person, view.device)
        user, regs = self._user_and_regs(view, device, old)
        tmax = self.world.places.tmax_ms
        source: Json = {"tid": f"{page:016x}", "fd": 0}
        chain = {"schain": self._chains[publisher.number]}
        request: Json = {
            "id": f"{key:016x}",
            "imp": imps,
            "device": device.app_wire if publisher.app else device.wire,
            "user": user,
            "at": 1 if publisher.first_price else 2,
            "tmax": tmax[(page >> 16) % len(tmax)],
            "cur": list(publisher.currencies),
            "source": source | ({"ext": chain} if old else chain),
            "regs": regs,
        }
        if publisher.app:
            request["app"] = self._place(view, 0)
        else:
            request["site"] = self._place(view, (page >> 24) % _PAGES)
        if uniform(view.key, 44) < self.world.people.coppa_share:
            request["regs"] = regs = regs | {"coppa": 1}
        if self.people.under_gdpr(view.person):
            request["regs"] = _with_transparency(regs, self.world, mix(view.key, 61))
        _add_blocks(request, self.world, mix(view.key, 60))
        if uniform(view.key, 62) < wire.languages_share:
            request["wlang"] = self.people.languages(view.person)
        if (chance & 0xFFFF) / 0x10000 < wire.unknown_field_share:
            request["ext"] = {"exchange_build": "2026.11", "experiments": [1, None, {"é": "…"}]}
            request["fresh_field"] = {"nested": [True, 0.5]}
        if request["at"] == 2 and chance >> 16 & 3 == 0:
            del request["at"]  # 2 is the default, §3.2.1
        odd = (chance >> 20 & 0xFFFF) / 0x10000 < wire.odd_share
        body = _ODD[(chance >> 36) % len(_ODD)](request) if odd else orjson.dumps(request)
        gzip = (chance >> 40 & 0xFFFF) / 0x10000 < wire.gzip_share
        return Post(request, body, _HEADERS[old], gzip)

    def _imp(self, view: View, number: int, slot: int) -> Json:
        """One of the publisher's slots; `number` is its place on the page."""
        index = (view.publisher.number, number, slot)
        imp = self._imps.get(index)
        if imp is None:
            key = mix(mix(view.publisher.number, 70), number * _SLOTS + slot)
            imp = self._imps[index] = make_imp(self.world, view.publisher, key, number)
        return imp

    def _place(self, view: View, page: int) -> Json:
        index = (view.publisher.number, page)
        place = self._places.get(index)
        if place is None:
            make = _app if view.publisher.app else _site
            place = self._places[index] = make(view.publisher, page)
        return place

    def _user_and_regs(self, view: View, device: Device, old: bool) -> tuple[Json, Json]:
        index = (view.person, view.device, old)
        found = self._users.get(index)
        if found is None:
            if len(self._users) > 500_000:
                self._users.clear()
            user = _user(self.people, view.person, device, old)
            regs = _regs(self.world, self.people, view.person, old)
            found = self._users[index] = (user, regs)
        return found


def make_imp(world: World, publisher: Publisher, key: int, number: int) -> Json:
    """One slot, all of it drawn from `key`; `number` is its place on the page, from 0."""
    places = world.places
    imp: Json = {"id": str(number + 1), "tagid": f"p{publisher.number}-{mix(key, 1) % 6}"}
    if uniform(key, 2) < places.secure_share:
        imp["secure"] = 1
    if uniform(key, 3) < places.floor_share:
        floor = places.floor_median_cpm * publisher.floor_factor
        floor *= exp(places.floor_sigma * normal(key, 4))
        imp["bidfloor"] = round(floor, 2 + mix(key, 5) % 3)
        imp["bidfloorcur"] = publisher.floor_currency
    if uniform(key, 6) < places.native_share:
        imp["native"] = {"request": NATIVE_REQUEST, "ver": "1.2"}
    elif uniform(key, 13) < places.video_only_share:
        imp["video"] = _video(key)
    else:
        imp["banner"] = _banner(places_size(world, key), key)
        if uniform(key, 7) < places.video_too_share:
            imp["video"] = {"mimes": ["video/mp4"], "minduration": 5, "protocols": [2, 3]}
    seconds = places.expiry_seconds.app if publisher.app else places.expiry_seconds.site
    if publisher.app and mix(key, 8) % 12 == 0:
        imp["instl"] = 1
        seconds = places.expiry_seconds.interstitial
    if uniform(key, 14) < places.expiry_share:
        imp["exp"] = seconds
    if mix(key, 9) % 3 == 0:
        imp["metric"] = [
            {"type": "viewability", "value": round(uniform(key, 10), 2), "vendor": "EXCHANGE"}
        ]
    private = uniform(key, 11) < places.private_share
    if private or uniform(key, 12) < places.deal_share:
        imp["pmp"] = _pmp(imp, publisher, key, private)
    return imp


def places_size(world: World, key: int) -> str:
    """The size of a slot by the shares of the world."""
    u = uniform(key, 20)
    sizes = world.places.sizes
    for name, size in sizes.items():
        u -= size.share
        if u < 0:
            return name
    return next(iter(sizes))


def _banner(size: str, key: int) -> Json:
    width, height = (int(n) for n in size.split("x"))
    banner: Json = {"pos": (0, 1, 3)[mix(key, 21) % 3]}
    style = mix(key, 22) % 4
    if style == 0:
        banner |= {"w": width, "h": height}
    else:
        banner["format"] = [{"w": width, "h": height}]
        if style == 1 and (other := _OTHER_SIZES.get(size)):
            w, h = (int(n) for n in other.split("x"))
            banner["format"].append({"w": w, "h": h})
        if style == 2:
            banner |= {
                "w": width,
                "h": height,
                "mimes": ["image/jpeg", "image/png", "text/html", "image/gif"],
            }
    if mix(key, 23) % 5 == 0:
        banner["battr"] = [1, 2, 8, 14]
    if mix(key, 24) % 6 == 0:
        banner["api"] = [3, 5]
    return banner


def _video(key: int) -> Json:
    width, height = ((640, 360), (640, 480), (1280, 720))[mix(key, 25) % 3]
    return {
        "mimes": ["video/mp4", "video/webm"],
        "minduration": 5,
        "maxduration": (15, 30, 60)[mix(key, 26) % 3],
        "protocols": [2, 3, 5, 6, 7, 8],
        "w": width,
        "h": height,
        "startdelay": 0,
        "plcmt": 1 + mix(key, 27) % 2,
        "linearity": 1,
    }


def _pmp(imp: Json, publisher: Publisher, key: int, private: bool) -> Json:
    floor = imp.get("bidfloor", 0.3)
    currency = publisher.floor_currency
    deal: Json = {"id": f"deal-{1 + mix(key, 30) % 5}", "bidfloor": round(floor * 1.5, 2)}
    if currency != "USD" or mix(key, 31) % 2:
        deal["bidfloorcur"] = currency  # it does not inherit, and defaults to USD (§3.2.12)
    kind = mix(key, 32) % 4
    if kind == 0:
        deal["at"] = 3
    elif kind == 1:
        deal["at"] = 1
    if mix(key, 33) % 5 == 0:
        deal["wseat"] = ["seat-of-others"]
    return {"private_auction": int(private), "deals": [deal]}


def _user(people: People, person: int, device: Device, old: bool) -> Json:
    user: Json = {"id": f"u{mix(person, 40):012x}"}
    state = people.consent[person]
    # Without consent most exchanges strip identifiers; some forget: the bidder must not use them.
    silent = state in (REFUSED, ABSENT) and mix(person, 41) % 2 == 0
    ext: Json = {}
    if device.buyeruid and not silent:
        user["buyeruid"] = device.buyeruid
    if device.shared_id and not silent:
        eids = [{"source": SHARED_ID_SOURCE, "uids": [{"id": device.shared_id, "atype": 1}]}]
        (ext if old else user)["eids"] = eids
    if text := people.tc_string(person):
        (ext if old else user)["consent"] = text
    if ext:
        user["ext"] = ext
    return user


def _regs(world: World, people: People, person: int, old: bool) -> Json:
    regs: Json = {}
    ext: Json = {}
    facts: Json = {}
    control = False
    if not people.under_gdpr(person):
        if mix(person, 42) % 2:
            facts["gdpr"] = 0
        opted_out = people.american_opt_out(person)
        facts["us_privacy"] = "1YYN" if opted_out else "1YNN"
        if control := opted_out and uniform(person, 45) < world.people.gpc_share:
            ext["gpc"] = "1"
    else:
        facts["gdpr"] = 1
    if uniform(person, 46) < world.wire.gpp_share:
        facts |= _gpp(people, person, control=control)
    if old:
        ext |= facts
    else:
        regs |= facts
    if ext:
        regs["ext"] = ext
    return regs


def _gpp(people: People, person: int, *, control: bool) -> Json:
    """What the person said, once more in GPP; nothing where there is no section for it."""
    if text := people.tc_string(person):
        return {"gpp": gpp_of_tc_string(text), "gpp_sid": [GPP_TCF]}
    if people.countries[people.country[person]] == "USA":
        opted_out = people.american_opt_out(person)
        text = gpp_of_american(opted_out=opted_out, control=control)
        return {"gpp": text, "gpp_sid": [GPP_USA]}
    return {}


def _with_transparency(regs: Json, world: World, key: int) -> Json:
    """The DSA transparency extension, which stands in `ext` in all versions."""
    if uniform(key, 1) >= world.wire.dsa_share:
        return regs
    required = 2 * (uniform(key, 2) < world.wire.dsa_required_share) + mix(key, 3) % 2
    dsa: Json = {
        "dsarequired": required,
        "pubrender": mix(key, 4) % 3,
        "datatopub": mix(key, 5) % 3,
    }
    if mix(key, 6) % 2:
        dsa["transparency"] = [{"domain": "exchange.example", "dsaparams": [1, 2]}]
    return regs | {"ext": regs.get("ext", {}) | {"dsa": dsa}}


def _chain(number: int) -> Json:
    node = {"asi": "exchange.example", "sid": f"pub-{number}", "hp": 1}
    return {"ver": "1.0", "complete": 1, "nodes": [node]}


def _app(publisher: Publisher, _page: int) -> Json:
    return {
        "id": f"app-{publisher.number}",
        "name": f"App {publisher.number}",
        "bundle": publisher.domain,
        "cat": [publisher.category],
        "publisher": {"id": f"pub-{publisher.number}"},
    }


def _site(publisher: Publisher, page: int) -> Json:
    site: Json = {
        "id": f"site-{publisher.number}",
        "domain": publisher.domain,
        "page": f"https://www.{publisher.domain}/articles/{page}?utm=n&q=caf%C3%A9",
        "cat": [publisher.category],
        "publisher": {"id": f"pub-{publisher.number}", "domain": publisher.domain},
    }
    if page % 3 == 0:
        site["pagecat"] = [f"{publisher.category}-1"]
        site["keywords"] = "maison,décoration,idées"
    if page % 4 == 0:
        site["content"] = {"language": "fr", "title": "À la une — “l’été”"}
    return site


def _add_blocks(request: Json, world: World, key: int) -> None:
    """Who and what may not come, or may alone. Of each pair of lists only one is sent (§3.2.1)."""
    wire = world.wire
    _add_categories(request, world, key)
    badv = []
    if key >> 16 & 3 == 0:
        first = (key >> 20) % 30
        badv = _OTHER_BADV[first : first + 8]
    if uniform(key, 5) < world.places.blocked_advertiser_share:
        badv = [*badv, world.people.advertiser_domain]
    if badv:
        request["badv"] = badv
    if "app" in request and uniform(key, 7) < wire.blocked_apps_share:
        first = mix(key, 8) % 30
        request["bapp"] = _OTHER_BAPP[first : first + 1 + mix(key, 9) % 6]
    if uniform(key, 6) < world.places.seat_share:
        request["wseat"] = ["seat-of-others"]
    elif uniform(key, 10) < wire.blocked_seats_share:
        request["bseat"] = ["seat-of-others", "seat-of-nobody"]


def _add_categories(request: Json, world: World, key: int) -> None:
    taxonomy, u = world.wire.taxonomy, uniform(key, 11)
    if uniform(key, 12) < world.wire.allowed_categories_share:
        first = mix(key, 13) % 6
        request["acat"] = _ACAT[first : first + 5]
    elif u < taxonomy.other:
        request |= {"cattax": 6, "bcat": _BCAT_2[: 1 + (key >> 8) % len(_BCAT_2)]}
        return
    elif key % 3 == 0:
        request["bcat"] = _BCAT[: 1 + (key >> 8) % len(_BCAT)]
    if u >= 1 - taxonomy.named:
        request["cattax"] = 1


def _escaped(request: Json) -> bytes:
    """Non-ASCII and some plain characters, also in keys, as unicode escapes."""
    text = json.dumps(request, ensure_ascii=True)
    return text.replace("imp", "\\u0069mp").replace("com", "\\u0063om").encode()


def _backwards(request: Json) -> bytes:
    return orjson.dumps(dict(reversed(list(request.items()))))


def _spacious(request: Json) -> bytes:
    return json.dumps(request, indent="\t", separators=(" , ", " : ")).encode() + b"\r\n\n"


def _solidus(request: Json) -> bytes:
    return orjson.dumps(request).replace(b"/", b"\\/")


_ODD: tuple[Callable[[Json], bytes], ...] = (_escaped, _backwards, _spacious, _solidus)
