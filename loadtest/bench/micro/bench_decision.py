"""What does a decision cost between its two waits for the store? Part by part, then as a whole.

On the models of `make bench` where it has run (200 trees each), else on the demo's.
"""

from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
import pytest

from bidder.answering import Answerer, Offered, Source, record
from bidder.campaigns.rates import load_rates
from bidder.capping import Ledger, history, load_parameters
from bidder.choice import Asker, Choice
from bidder.choosing import Chooser
from bidder.engine import audience, candidates, permitted
from bidder.exchanges.profile import Exchange
from bidder.ids import new_bid_id
from bidder.notices.tokens import Audience, Sealed, Tokens
from bidder.openrtb.opportunity import Opportunity
from bidder.people.reading import decode_profile, encode_profile
from bidder.person import History, Person, Profile
from bidder.pricing import Hold
from bidder.privacy import Permission, Rules
from bidder.scoring import features
from bidder.scoring.model import Scorer
from bidder.serving import Serving
from loadtest.bench.micro import Timed, over
from loadtest.bench.micro.made import NOW, PER_ADVERTISER, catalogue, offers, profile

ROOT = Path(__file__).parents[3]
BENCH_MODELS = ROOT / "build" / "bench" / "models"
LINE_ITEMS = 10_000
EXCHANGE = Exchange(name="bench", seat="bench", currency="EUR")
RULES = Rules(vendor_id=1234)
DAY = "2026-06-01"


class Asked(NamedTuple):
    """One request on its way: what the earlier stages made of it."""

    offer: Opportunity
    allowed: Permission
    profile: Profile
    masks: list[int]


class Made(NamedTuple):
    """What serves, requests that reach the choice, and the bids that come of them."""

    serving: Serving
    asked: list[Asked]
    chosen: list[tuple[Source, Offered]]


@pytest.fixture(scope="module")
def made() -> Made:
    """A thousand requests by people whom the store knows."""
    return _made()


@cache
def _made() -> Made:
    models = BENCH_MODELS if BENCH_MODELS.is_dir() else ROOT / "models" / "demo"
    serving = Serving(
        catalogue(LINE_ITEMS),
        {EXCHANGE.name: EXCHANGE},
        Scorer.load(models),
        load_rates(ROOT / "config" / "rates.yaml"),
        load_parameters(ROOT / "config" / "intrusiveness.yaml"),
    )
    serving.schedule.fund((1 << LINE_ITEMS) - 1)
    asked = []
    for number, offer in enumerate(offers(1000)):
        allowed, offer = permitted(offer, RULES, NOW)
        masks, _ = candidates(serving, offer, EXCHANGE, allowed, NOW)
        known = profile(number, LINE_ITEMS // PER_ADVERTISER)
        masks = audience(serving, masks, Person("p", known, b""), NOW)
        if any(masks):
            asked.append(Asked(offer, allowed, known, masks))
    chosen = [
        (_source(serving, one), _offered(choice))
        for one in asked
        for choice in _choose(serving, one)[:1]
    ]
    return Made(serving, asked, chosen)


def _choose(serving: Serving, asked: Asked) -> list[Choice]:
    asker = Asker(asked.profile, Ledger(b"", NOW), True, "AAAAAAAAAAAAAAAA")
    chooser = Chooser(serving, asked.offer, EXCHANGE, asker, {}, NOW, Random(1))
    return chooser.choose(asked.masks)


def _source(serving: Serving, asked: Asked) -> Source:
    return Source(asked.offer, EXCHANGE, asked.allowed, NOW, "bench", serving.shader, 1)


def _offered(choice: Choice) -> Offered:
    hold = Hold("holder", DAY, 1000, "1:bench", NOW + 900)
    return Offered(choice, new_bid_id(NOW, Random(2)), hold, "AAAAAAAAAAAAAAAA", 900)


def bench_permit(timed: Timed, made: Made) -> None:
    """What the request's consent allows."""
    timed(over(made.asked, lambda asked: permitted(asked.offer, RULES, NOW)))


def bench_profile(timed: Timed, made: Made) -> None:
    """A stored profile, read."""
    raw = [encode_profile(asked.profile) for asked in made.asked]
    timed(over(raw, decode_profile))


def bench_choose(timed: Timed, made: Made) -> None:
    """From the masks to the priced bids: creatives, caps, features, scores, values."""
    timed(over(made.asked, lambda asked: _choose(made.serving, asked)))


def bench_choose_below_the_floor(timed: Timed, made: Made) -> None:
    """The same for all that the index lets through, where none can pay what the slot costs."""
    dear = []
    for asked in made.asked:
        slots = tuple(msgspec.structs.replace(slot, floor_cpm=900.0) for slot in asked.offer.slots)
        offer = msgspec.structs.replace(asked.offer, slots=slots)
        masks, _ = candidates(made.serving, offer, EXCHANGE, asked.allowed, NOW)
        dear.append(asked._replace(offer=offer, masks=masks))
    timed(over(dear, lambda asked: _choose(made.serving, asked)))


def bench_context(timed: Timed, made: Made) -> None:
    """What the rows of one request share."""
    timed(over(made.asked, lambda one: features.context(one.offer, one.profile, NOW)))


def bench_features(timed: Timed, made: Made) -> None:
    """One row."""
    known: list[tuple[features.Context, Choice, History]] = []
    for source, offered in made.chosen:
        choice = offered.choice
        context = features.context(source.offer, Profile(), NOW)
        known.append((context, choice, history(Ledger(b"", NOW), choice.line_item)))

    def fill(one: tuple[features.Context, Choice, History]) -> None:
        context, choice, seen = one
        shown = choice.candidate
        features.row(context, choice.slot, shown.size, seen, choice.line_item, shown.creative)

    timed(over(known, fill))


def bench_score(timed: Timed, made: Made) -> None:
    """One row through the click and the conversion model, calibrated."""
    rows = [each.choice.scored.row for _, each in made.chosen]
    timed(over(rows, made.serving.scorer.score))


@pytest.mark.parametrize("carrier", [Audience.EXCHANGE, Audience.BROWSER])
def bench_seal(timed: Timed, carrier: Audience) -> None:
    """One token."""
    tokens = Tokens({1: bytes(32)}, 1)
    random = Random(1)
    sealed = [
        Sealed(
            random.randbytes(12), 1, 2, 3, 4, 5, 10**6, "EUR", "EUR", 1.0, "holder", 20000, 900,
            person="AAAAAAAAAAAAAAAA", url="https://shop.example/a/landing/page?c=300x250",
        )
        for _ in range(1000)
    ]  # fmt: skip
    timed(over(sealed, lambda one: tokens.seal(one, carrier)))


def bench_answer(timed: Timed, made: Made) -> None:
    """The body of the answer: two tokens, markup and JSON."""
    answerer = Answerer(Tokens({1: bytes(32)}, 1), "https://bid.example")
    timed(over(made.chosen, lambda one: answerer.write(one[0], [one[1]])))


def bench_log(timed: Timed, made: Made) -> None:
    """The event of one bid, made and written as a line; the file is another thread's."""
    encoder = msgspec.json.Encoder()
    timed(over(made.chosen, lambda one: encoder.encode(record(*one))))
