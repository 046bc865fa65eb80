"""Which creative is shown: after caps, rules for product ads and the ceiling have spoken?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from bidder.campaigns.catalogue import Cap, Creative, Intrusiveness, LineItem, ProductAds
from bidder.capping import Kind, Ledger, Parameters, Rule, load_parameters, rules
from bidder.capping.product_ads import GENERIC_FIRST
from bidder.exchanges.loading import load as load_exchanges
from bidder.openrtb import request as wire
from bidder.openrtb.opportunity import Opportunity, opportunity
from bidder.person import Profile
from bidder.reasons import NoBid
from bidder.rotation import Rotation, Shown
from bidder.trace import Refusal

CONFIG = Path(__file__).parents[2] / "config"
GIVEN = load_parameters(CONFIG / "intrusiveness.yaml")
DEMO = load_exchanges(CONFIG / "exchanges", {})["demo"]
NOW = 1_788_000_000
HOUR, DAY = 3600, 86400

Pick = Callable[..., Shown | Refusal]


@dataclass
class Loaded:
    """What a rotation asks of `Serving`."""

    intrusion: Parameters | None

    def rules_of(self, item: LineItem, creative: Creative) -> tuple[Rule, ...]:
        return rules(item, creative.id32)


def offer() -> Opportunity:
    imp = wire.Imp(id="1", banner=wire.Banner(w=300, h=250))
    return opportunity(wire.BidRequest(id="r", imp=[imp], site=wire.Inventory()), "demo")


def rotation(
    ledger: Ledger, *, known: bool = True, intrusion: Parameters | None = GIVEN
) -> Rotation:
    return Rotation(
        Loaded(intrusion),  # type: ignore[arg-type]  # two of its names are enough
        offer(), DEMO, Profile(), ledger, Random(1), known=known,
    )  # fmt: skip


def pick(item: LineItem, ledger: Ledger, **how: object) -> Shown | Refusal:
    return rotation(ledger, **how).pick(item, offer().slots[0])  # type: ignore[arg-type]


@pytest.fixture
def pair(make_creative: Callable[..., Creative]) -> tuple[Creative, Creative]:
    """A generic creative, 50, and one with products, 51."""
    return make_creative(id="g", id32=50), make_creative(id="p", id32=51, product=True)


def chosen(found: Shown | Refusal) -> str:
    assert isinstance(found, Shown), found
    return found.creative.id


def felt(found: Shown | Refusal) -> float:
    assert isinstance(found, Shown), found
    return found.felt


def refused(found: Shown | Refusal) -> Refusal:
    assert isinstance(found, Refusal), found
    return found


MakeItem = Callable[..., LineItem]
MakeLedger = Callable[..., Ledger]


def shown(times: int, creative: int, ago: int = HOUR) -> list[tuple[int, Kind, dict[str, int]]]:
    return [(NOW - ago, Kind.IMPRESSION, {"creative": creative})] * times


def test_the_one_seen_least_is_next(
    make_item: MakeItem, make_ledger: MakeLedger, pair: tuple[Creative, Creative]
) -> None:
    item = make_item(creatives=pair)
    assert chosen(pick(item, make_ledger(NOW, *shown(2, 50), *shown(1, 51)))) == "p"
    assert chosen(pick(item, make_ledger(NOW, *shown(1, 50), *shown(2, 51)))) == "g"


def test_generic_first_then_products(
    make_item: MakeItem, make_ledger: MakeLedger, pair: tuple[Creative, Creative]
) -> None:
    item = make_item(creatives=pair, product_ads=ProductAds(after_generic=2))
    assert chosen(pick(item, make_ledger(NOW, *shown(1, 50)))) == "g"
    assert chosen(pick(item, make_ledger(NOW, *shown(2, 50), *shown(9, 51)))) == "p"
    only = make_item(creatives=pair[1:], product_ads=ProductAds(after_generic=1))
    waiting = refused(pick(only, Ledger(b"", NOW)))
    assert waiting == Refusal(NoBid.NO_CREATIVE, GENERIC_FIRST)


def test_a_capped_creative_gives_way(
    make_item: MakeItem, make_ledger: MakeLedger, pair: tuple[Creative, Creative]
) -> None:
    item = make_item(creatives=pair, caps=(Cap("creative", 1, DAY),))
    assert chosen(pick(item, make_ledger(NOW, *shown(1, 50)))) == "p"
    both = make_ledger(NOW, *shown(1, 50), *shown(1, 51))
    found = refused(pick(item, both))
    assert (found.reason, found.detail.seen) == (NoBid.CAPPED_CREATIVE, 1)  # type: ignore[union-attr]
    assert isinstance(pick(item, both, known=False), Shown)


def test_above_the_ceiling_silence_and_the_less_personal_ad_first(
    make_item: MakeItem, make_ledger: MakeLedger, pair: tuple[Creative, Creative]
) -> None:
    """Three ads in the last hours: the generic one is felt as 0.34, the other as 0.56."""
    ledger = make_ledger(NOW, *[(NOW - h * HOUR, Kind.IMPRESSION, {}) for h in (7, 5, 3, 2, 1)])
    low, high = (felt(pick(make_item(creatives=(creative,)), ledger)) for creative in pair)
    assert low < high

    def at(ceiling: float) -> Shown | Refusal:
        return pick(make_item(creatives=pair, intrusiveness=Intrusiveness(ceiling)), ledger)

    assert chosen(at(high)) == "p", "seen less, and not above"
    assert chosen(at((low + high) / 2)) == "g"
    silent = refused(at(low - 0.01))
    assert silent.reason == NoBid.TOO_INTRUSIVE
    assert str(silent.detail).endswith(f"above the ceiling of {low - 0.01:g}")


def test_without_parameters_nothing_is_intrusive(
    make_item: MakeItem, make_ledger: MakeLedger, pair: tuple[Creative, Creative]
) -> None:
    item = make_item(creatives=pair, intrusiveness=Intrusiveness(ceiling=0.0))
    ledger = make_ledger(NOW, *shown(3, 50))
    assert refused(pick(item, ledger)).reason == NoBid.TOO_INTRUSIVE
    assert chosen(pick(item, ledger, intrusion=None)) == "p"


def test_a_bid_just_made_counts_at_once(
    make_item: MakeItem, make_ledger: MakeLedger, pair: tuple[Creative, Creative]
) -> None:
    here, item, slot = rotation(Ledger(b"", NOW)), make_item(creatives=pair[:1]), offer().slots[0]
    before = felt(here.pick(item, slot))
    here.follow(make_ledger(NOW, (NOW, Kind.IMPRESSION, {})))
    assert felt(here.pick(item, slot)) > before


def test_what_does_not_fit_says_so(
    make_item: MakeItem, make_creative: Callable[..., Creative]
) -> None:
    item = make_item(creatives=(make_creative(width=1, height=1),))
    assert refused(pick(item, Ledger(b"", NOW))).reason == NoBid.WRONG_SIZE
