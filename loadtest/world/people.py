"""Who lives in a world: devices, identifiers, consent, and what the advertiser's CRM knows?

Attributes are arrays with one row a person; a device is worked out when first seen.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from .consent import RETARGETING_PURPOSES, tc_string
from .description import World
from .draws import mix, uniform

GRANTED, REFUSED, ABSENT, NOT_APPLYING = range(4)
DAY = 86_400
SHARED_ID_SOURCE = "example-eid.com"
_OTHER_VENDORS = frozenset({10, 52, 76, 755})

_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.{0}"
_BLINK = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/12{0}.0.0.0"
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64"
_AGENTS: tuple[tuple[str, str, int, str], ...] = (
    # kind, OS, OpenRTB devicetype (AdCOM), User-Agent with its version to be filled in
    ("mobile", "Android", 4, f"Mozilla/5.0 (Linux; Android 14; K) {_BLINK} Mobile Safari/537.36"),
    (
        "mobile",
        "iOS",
        4,
        f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_{{0}} like Mac OS X) {_WEBKIT} "
        "Mobile/15E148 Safari/604.1",
    ),
    ("desktop", "Windows", 2, f"{_WINDOWS}) {_BLINK} Safari/537.36"),
    (
        "desktop",
        "macOS",
        2,
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Safari/605.1.15",
    ),
    ("desktop", "Windows", 2, f"{_WINDOWS}; rv:12{{0}}.0) Gecko/20100101 Firefox/12{{0}}.0"),
    (
        "tablet",
        "iPadOS",
        5,
        f"Mozilla/5.0 (iPad; CPU OS 17_{{0}} like Mac OS X) {_WEBKIT} Mobile/15E148 Safari/604.1",
    ),
)


class Device(NamedTuple):
    """One device as exchanges see it. An identifier is empty where there is none."""

    kind: str
    wire: dict[str, Any]
    """The request's `device`, on the web."""
    app_wire: dict[str, Any]
    """The same in an app, where it has an advertising id."""
    buyeruid: str
    shared_id: str
    ifa: str
    matched: bool
    """The advertiser's CRM knows whose it is."""


class People:
    """The people of a world; person numbers run from 0 to `count` - 1."""

    def __init__(self, world: World, seed: int, count: int, start: float) -> None:
        """`start`, epoch seconds, is the moment as of which the CRM knows what it knows."""
        self.count = count
        self.world = world
        self.start = int(start)
        self._key = mix(seed, 1)
        truth = world.people
        random = np.random.default_rng([seed, 11])
        self.countries = list(truth.countries)
        self.country = random.choice(
            len(self.countries), count, p=_shares([c.share for c in truth.countries.values()])
        ).astype(np.int8)
        under_gdpr = np.array([c.gdpr for c in truth.countries.values()])[self.country]
        consent = truth.consent
        states = random.choice(3, count, p=[consent.granted, consent.refused, consent.absent])
        self.consent = np.where(under_gdpr, states, NOT_APPLYING).astype(np.int8)
        self.known = random.random(count) < truth.known_share
        self.devices = (
            random.choice(len(truth.devices), count, p=_shares(truth.devices)) + 1
        ).astype(np.int8)
        self.curve = random.choice(
            len(world.habits.curves),
            count,
            p=_shares([c.share for c in world.habits.curves.values()]),
        ).astype(np.int8)
        shape = truth.activity_shape
        self.activity = random.gamma(shape, 1 / shape, count).astype(np.float32)
        sigma = truth.propensity_sigma
        self.propensity = np.exp(random.normal(-sigma * sigma / 2, sigma, count)).astype(np.float32)
        self.interest = random.integers(len(world.places.categories), size=count).astype(np.int8)
        self._draw_segments(random)
        self._seen: dict[tuple[int, int], Device] = {}
        shown = _OTHER_VENDORS | {truth.vendor_id}
        updated = start - 30 * DAY
        self.granted = tc_string(
            updated=updated, purposes=RETARGETING_PURPOSES, vendors=shown, disclosed=shown
        )
        self.refused = tc_string(updated=updated, purposes=(), vendors=(), disclosed=shown)

    def _draw_segments(self, random: np.random.Generator) -> None:
        self.segments: dict[str, NDArray[np.int64]] = {}
        for name, segment in self.world.people.segments.items():
            member = self.known & (random.random(self.count) < segment.share)
            age = random.random(self.count) ** 2 * segment.max_age_days * DAY
            self.segments[name] = np.where(member, self.start - age.astype(np.int64), 0)
        sigma = self.world.people.basket_value_sigma
        value = self.world.people.basket_value_median * np.exp(random.normal(0, sigma, self.count))
        self.basket_value = value.astype(np.float32)
        self.last_visit = np.maximum.reduce(
            [
                self.segments[name]
                for name in ("visitor", "basket", "buyer")
                if name in self.segments
            ]
        )

    def device(self, person: int, number: int) -> Device:
        """The device of this person with this number, from 0."""
        found = self._seen.get((person, number))
        if found is None:
            if len(self._seen) > 500_000:
                self._seen.clear()
            found = self._seen[person, number] = self._make_device(person, number)
        return found

    def _make_device(self, person: int, number: int) -> Device:
        truth = self.world.people
        key = mix(self._key, person * 8 + number)
        kind, system, code, agent = _AGENTS[mix(key, 1) % len(_AGENTS)]
        place = truth.countries[self.countries[self.country[person]]]
        wire: dict[str, Any] = {
            "ua": agent.format(mix(key, 2) % 6),
            "devicetype": code,
            "os": system,
            "language": place.languages[mix(key, 7) % len(place.languages)],
            "geo": {
                "country": self.countries[self.country[person]],
                "region": place.regions[mix(key, 8) % len(place.regions)],
                "utcoffset": place.utc_offset_minutes,
                "type": 2,
            },
            "lmt": int(uniform(key, 9) < truth.limit_tracking_share),
        }
        if uniform(key, 18) < truth.ipv6_share:
            wire["ipv6"] = _address_6(mix(key, 3))
        else:
            wire["ip"] = _address(mix(key, 3))
        track = truth.do_not_track
        if (u := uniform(key, 19)) < track.sent:
            wire["dnt"] = int(u < track.refused)
        if "Chrome" in agent and mix(key, 10) % 2:
            mobile = int(kind == "mobile")
            wire["sua"] = {
                "browsers": [{"brand": "Chromium", "version": ["125"]}],
                "platform": {"brand": system},
                "mobile": mobile,
            }
        known = bool(self.known[person])
        matched = known and uniform(key, 11) < truth.matched_share
        buyeruid = f"{mix(key, 13):016x}" if uniform(key, 12) < truth.buyeruid_share else ""
        shared = f"{mix(key, 15):016x}" if uniform(key, 14) < truth.eid_share else ""
        ifa = _uuid(mix(key, 16), mix(key, 17)) if code in (4, 5) else ""
        app_wire = {**wire, "ifa": ifa} if ifa and not wire["lmt"] else wire
        return Device(kind, wire, app_wire, buyeruid, shared, ifa, matched)

    def handheld(self, person: int, number: int) -> int:
        """This device if apps run on it, else the person's first one that they do on; -1 = none."""
        order = (number, *range(int(self.devices[person])))
        return next((n for n in order if self.device(person, n).kind in ("mobile", "tablet")), -1)

    def languages(self, person: int) -> list[str]:
        """Those of the person's country."""
        return self.world.people.countries[self.countries[self.country[person]]].languages

    def under_gdpr(self, person: int) -> bool:
        """The GDPR applies to this person."""
        return bool(self.consent[person] != NOT_APPLYING)

    def tc_string(self, person: int) -> str:
        """What the person's consent platform writes; empty where nobody was asked."""
        state = self.consent[person]
        return self.granted if state == GRANTED else self.refused if state == REFUSED else ""

    def american_opt_out(self, person: int) -> bool:
        """Said no to sale, sharing and targeting, where US law applies."""
        return uniform(person, 43) < self.world.people.us_opt_out_share

    def identifiers(self, person: int, exchange: str) -> list[list[str]]:
        """[source, value] of all devices of this person that the CRM has matched."""
        found = []
        for number in range(int(self.devices[person])):
            device = self.device(person, number)
            if device.matched:
                named = (
                    (f"buyeruid.{exchange}", device.buyeruid),
                    (SHARED_ID_SOURCE, device.shared_id),
                    ("ifa", device.ifa),
                )
                found += [[source, value] for source, value in named if value]
        return found

    def records(self, exchange: str) -> Iterator[bytes]:
        """What the CRM gives a bidder: one JSON line per known person with an identifier."""
        for person in np.flatnonzero(self.known).tolist():
            ids = self.identifiers(person, exchange)
            if ids:
                yield orjson.dumps({"ids": ids, "profile": self.profile(person)}) + b"\n"

    def profile(self, person: int) -> dict[str, Any]:
        """What the CRM knows of one person; times in epoch seconds, money in micros."""
        since = {name: int(times[person]) for name, times in self.segments.items() if times[person]}
        key = mix(self._key, person * 8 + 7)
        visit = int(self.last_visit[person])
        order = since.get("buyer", 0)
        orders = 1 + mix(key, 1) % 4 if order else 0
        value = int(float(self.basket_value[person]) * 1e6)
        stage = _stage(self.start - order if order else -1, visit > 0)
        profile: dict[str, Any] = {
            "segments": {stage: self.start, **since},  # the CRM places everybody in a stage daily
            "first_seen": (min(since.values()) if since else self.start) - DAY,
            "last_visit": visit,
            "last_order": order,
            "orders": orders,
            "spent_micros": orders * value,
            "stage": stage,
            "interests": {},
        }
        if "basket" in since:
            basket = {
                "value_micros": value,
                "updated": since["basket"],
                "products": 1 + mix(key, 2) % 3,
            }
            profile["baskets"] = {self.world.people.advertiser: basket}
        if visit:
            category = self.world.places.categories[self.interest[person]]
            profile["interests"] = {category: visit}
        if self.consent[person] == GRANTED:
            profile["consent"] = self.granted
            profile["consent_time"] = self.start - 30 * DAY
            profile["consent_source"] = "cmp"
        return profile


def _stage(since_order: int, visited: bool) -> str:
    """Lifecycle stage by seconds since the last order, -1 = never ordered."""
    if since_order < 0:
        return "visitor" if visited else "prospect"
    if since_order < 60 * DAY:
        return "active"
    return "lapsing" if since_order < 120 * DAY else "lapsed"


def _shares(weights: list[float]) -> NDArray[np.float64]:
    values = np.array(weights, dtype=float)
    shares: NDArray[np.float64] = values / values.sum()
    return shares


def _address(bits: int) -> str:
    first, second, third = 80 + bits % 100, bits >> 8 & 255, bits >> 16 & 255
    return f"{first}.{second}.{third}.{1 + (bits >> 24) % 254}"


def _address_6(bits: int) -> str:
    """In the range kept for documentation (RFC 3849)."""
    groups = (bits >> shift & 0xFFFF for shift in (0, 16, 32, 48))
    return "2001:db8::" + ":".join(f"{group:x}" for group in groups)


def _uuid(high: int, low: int) -> str:
    text = f"{high:016x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
