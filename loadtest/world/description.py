"""What is true in a world? `worlds/*.yaml` read into values, every field required and checked.

A world file may say `extends: NAME`; mappings are merged, all else is replaced.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from ruamel.yaml import YAML

WORLDS = Path(__file__).parent.parent / "worlds"


class Fact(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all parts of a world."""


class SegmentTruth(Fact, frozen=True):
    share: float
    max_age_days: float


class Country(Fact, frozen=True):
    share: float
    utc_offset_minutes: int
    gdpr: bool
    languages: list[str]
    regions: list[str]


class ConsentShares(Fact, frozen=True):
    granted: float
    refused: float
    absent: float


class DoNotTrack(Fact, frozen=True):
    sent: float
    refused: float


class PeopleTruth(Fact, frozen=True):
    count: int
    known_share: float
    matched_share: float
    buyeruid_share: float
    eid_share: float
    devices: list[float]
    activity_shape: float
    propensity_sigma: float
    limit_tracking_share: float
    do_not_track: DoNotTrack
    ipv6_share: float
    coppa_share: float
    consent: ConsentShares
    us_opt_out_share: float
    gpc_share: float
    vendor_id: int
    advertiser: str
    advertiser_domain: str
    segments: dict[str, SegmentTruth]
    basket_value_median: float
    basket_value_sigma: float
    countries: dict[str, Country]


class Curve(Fact, frozen=True):
    share: float
    hours: list[float]


class Habits(Fact, frozen=True):
    sessions_per_person_day: float
    pages_per_session: float
    seconds_between_pages: float
    weekend_factor: float
    curves: dict[str, Curve]


class SizeTruth(Fact, frozen=True):
    share: float
    click: float


class ExpirySeconds(Fact, frozen=True):
    site: int
    app: int
    interstitial: int


class PlacesTruth(Fact, frozen=True):
    publishers: int
    popularity_exponent: float
    app_share: float
    categories: list[str]
    imps: list[float]
    separate_share: float
    native_share: float
    video_only_share: float
    video_too_share: float
    expiry_share: float
    expiry_seconds: ExpirySeconds
    secure_share: float
    first_price_share: float
    deal_share: float
    private_share: float
    blocked_advertiser_share: float
    seat_share: float
    two_currency_share: float
    floor_median_cpm: float
    floor_sigma: float
    floor_share: float
    tmax_ms: list[int]
    sizes: dict[str, SizeTruth]


class Taxonomy(Fact, frozen=True):
    named: float
    other: float


class Wire(Fact, frozen=True):
    openrtb_25_share: float
    gzip_share: float
    odd_share: float
    unknown_field_share: float
    gpp_share: float
    dsa_share: float
    dsa_required_share: float
    taxonomy: Taxonomy
    allowed_categories_share: float
    blocked_apps_share: float
    blocked_seats_share: float
    languages_share: float


class Prices(Fact, frozen=True):
    weights: list[float]
    log_means: list[float]
    log_sigmas: list[float]
    unit_cpm: float
    known_person_factor: float
    error_share: float
    deal_loss_share: float


class Delivery(Fact, frozen=True):
    render_share: float
    win_seconds: float
    render_seconds: float
    loss_seconds: float
    click_seconds_median: float
    click_seconds_sigma: float
    late_share: float
    late_seconds: float
    duplicate_share: float
    billing_lost_share: float
    pixel_lost_share: float
    conversion_minutes_median: float
    conversion_sigma: float


class AdvertiserTruth(Fact, frozen=True):
    category: str
    product_creatives: list[str]
    """Parts of creative ids that mark an ad as product-level."""


class Response(Fact, frozen=True):
    """What one action (click, sale) depends on, as factors on `base`."""

    base: float
    maximum: float
    segments: dict[str, float]
    recency_gain: float
    recency_half_life_days: float
    relevance_gain: float
    interest_gain: float
    product_with_basket: float
    product_without_basket: float
    device: dict[str, float]


class Organic(Fact, frozen=True):
    per_day: float
    segments: dict[str, float]
    maximum_factor: float


class Effect(Fact, frozen=True):
    """What exposures do to one action, with `slow` and `fast` the remembered exposures.

    (1 + gain (1 - exp(-slow / saturation)))
    * exp(-wear max(0, slow - tolerance)) / (1 + bunching fast)
    """

    gain: float
    saturation: float
    wear: float
    tolerance: float
    bunching: float


class Repetition(Fact, frozen=True):
    slow_half_life_hours: float
    fast_half_life_minutes: float
    click: Effect
    sale: Effect
    organic: Effect


class Truth(Fact, frozen=True):
    click: Response
    sale: Response
    after_sale: float
    after_sale_days: float
    after_click: float
    after_click_hours: float
    organic: Organic
    repetition: Repetition


class World(Fact, frozen=True):
    """All of one world. `start` is when its clock begins."""

    name: str
    description: str
    currency: str
    rates: dict[str, float]
    start: datetime
    people: PeopleTruth
    habits: Habits
    places: PlacesTruth
    wire: Wire
    prices: Prices
    delivery: Delivery
    advertisers: dict[str, AdvertiserTruth]
    truth: Truth


def world_names(folder: Path = WORLDS) -> list[str]:
    """The worlds one can ask for, in order."""
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem != "base")


def load_world(name: str, folder: Path = WORLDS) -> World:
    """The world of this name.

    Raises `LookupError` if there is none, `msgspec.ValidationError` naming the place if a field is
    missing, unknown or of the wrong type.
    """
    if name not in world_names(folder):
        raise LookupError(f"no world {name!r}; there are {', '.join(world_names(folder))}")
    return msgspec.convert({"name": name, **_read(name, folder)}, World)


def _read(name: str, folder: Path) -> dict[str, Any]:
    own: dict[str, Any] = YAML(typ="safe", pure=True).load(folder / f"{name}.yaml")
    parent = own.pop("extends", None)
    return own if parent is None else _merged(_read(parent, folder), own)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merged(old, value)
        else:
            merged[key] = value
    return merged
