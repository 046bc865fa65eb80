"""How likely are a click and a sale, truly, and what has each person seen?

The world keeps its own record of exposures; probabilities are a function of that record, the
person, the ad and the page. Factors and their sources stand in `worlds/*.yaml`.
"""

from heapq import heapify, heappop
from math import exp
from typing import NamedTuple

import numpy as np

from .description import Effect, Response, World
from .draws import mix, uniform
from .people import DAY, People


class Ad(NamedTuple):
    """What the truth knows of an ad: who advertises, in which category, and how personally."""

    advertiser: str
    """`adomain`."""
    category: str
    product: bool
    size: str


class Chance(NamedTuple):
    """The truth of one impression, before it happens."""

    click: float
    sale: float
    """Given a click."""
    exposures: int
    """Earlier impressions of this advertiser shown to this person."""
    slow: float
    """Exposures still remembered (half-life of days)."""
    fast: float
    """Exposures just now (half-life of minutes)."""


class OrganicSale(NamedTuple):
    """A sale that no click led to. `without_ads`: it would have happened anyway."""

    time: float
    person: int
    happens: bool
    without_ads: bool


class _Seen:
    """What one person saw of one advertiser."""

    __slots__ = ("at", "click", "count", "fast", "sale", "slow")

    def __init__(self) -> None:
        self.at = 0.0
        self.slow = 0.0
        self.fast = 0.0
        self.count = 0
        self.click = 0.0
        self.sale = 0.0


class Truth:
    """Probabilities of one world, with its record of exposures, clicks and sales."""

    def __init__(self, world: World, people: People, seed: int, hours: float) -> None:
        """Sales without clicks are drawn for `hours` from the start of `people`."""
        self.world = world
        self.people = people
        self._seen: dict[tuple[int, str], _Seen] = {}
        repetition = world.truth.repetition
        self._slow = -np.log(2) / (repetition.slow_half_life_hours * 3600)
        self._fast = -np.log(2) / (repetition.fast_half_life_minutes * 60)
        self._base: dict[tuple[int, bool, str], float] = {}
        self._organic = self._draw_organic(seed, hours)

    def ad(self, advertiser: str, creative: str, size: str) -> Ad:
        """The ad of a bid, from its `adomain`, `crid` and size."""
        known = self.world.advertisers.get(advertiser)
        if known is None:
            return Ad(advertiser, "", False, size)
        product = any(part in creative for part in known.product_creatives)
        return Ad(advertiser, known.category, product, size)

    def chance(self, person: int, ad: Ad, category: str, kind: str, now: float) -> Chance:
        """The truth of showing `ad` to `person` on a page of `category`, on a device of `kind`."""
        seen = self._seen.get((person, ad.advertiser))
        slow, fast = self._remembered(seen, now)
        truth = self.world.truth
        click = self._response(truth.click, person, ad, category, kind, now)
        click *= effect(truth.repetition.click, slow, fast)
        size = self.world.places.sizes.get(ad.size)
        if size is not None:
            click *= size.click
        sale = self._response(truth.sale, person, ad, category, kind, now)
        sale *= effect(truth.repetition.sale, slow, fast)
        count = 0
        if seen is not None:
            count = seen.count
            if seen.click and 0 <= now - seen.click < truth.after_click_hours * 3600:
                click *= truth.after_click
            if seen.sale and 0 <= now - seen.sale < truth.after_sale_days * DAY:
                sale *= truth.after_sale
        return Chance(
            min(click, truth.click.maximum), min(sale, truth.sale.maximum), count, slow, fast
        )

    def shown(self, person: int, advertiser: str, now: float) -> None:
        """An impression happened."""
        seen = self._seen.get((person, advertiser))
        if seen is None:
            seen = self._seen[person, advertiser] = _Seen()
        seen.slow, seen.fast = (value + 1 for value in self._remembered(seen, now))
        seen.at = max(seen.at, now)
        seen.count += 1

    def clicked(self, person: int, advertiser: str, now: float) -> None:
        """A click happened. It follows an impression."""
        self._seen[person, advertiser].click = now

    def bought(self, person: int, advertiser: str, now: float) -> None:
        """A sale happened. It follows an impression."""
        self._seen[person, advertiser].sale = now

    def exposures(self) -> dict[tuple[int, str], int]:
        """(person, advertiser) -> impressions."""
        return {key: seen.count for key, seen in self._seen.items() if seen.count}

    def organic_sales(self, until: float) -> list[OrganicSale]:
        """Sales without clicks up to `until` that happen with the ads seen, or without any."""
        found = []
        truth = self.world.truth
        domain = self.world.people.advertiser_domain
        while self._organic and self._organic[0][0] <= until:
            time, person, u = heappop(self._organic)
            seen = self._seen.get((person, domain))
            slow, fast = self._remembered(seen, time)
            factor = min(effect(truth.repetition.organic, slow, fast), truth.organic.maximum_factor)
            scaled = u * truth.organic.maximum_factor
            if scaled < factor or scaled < 1:
                found.append(OrganicSale(time, person, scaled < factor, scaled < 1))
        return found

    def _remembered(self, seen: _Seen | None, now: float) -> tuple[float, float]:
        if seen is None:
            return 0.0, 0.0
        age = now - seen.at
        if age <= 0:
            return seen.slow, seen.fast
        return seen.slow * exp(self._slow * age), seen.fast * exp(self._fast * age)

    def _response(
        self, response: Response, person: int, ad: Ad, category: str, kind: str, now: float
    ) -> float:
        """`base` times all factors but repetition."""
        ours = ad.advertiser == self.world.people.advertiser_domain
        is_click = response is self.world.truth.click
        value = self._person_factor(response, is_click, person, ad, ours)
        value *= response.device.get(kind, 1.0)
        if ad.category and ad.category == category:
            value *= 1 + response.relevance_gain
        if ours and (visit := int(self.people.last_visit[person])):
            age_days = max(now - visit, 0.0) / DAY
            value *= 1 + response.recency_gain * 0.5 ** (age_days / response.recency_half_life_days)
        return value

    def _person_factor(
        self, response: Response, is_click: bool, person: int, ad: Ad, ours: bool
    ) -> float:
        """What does not change while the world runs."""
        key = (person, is_click, f"{ad.advertiser}{ad.product:d}")
        value = self._base.get(key)
        if value is not None:
            return value
        people = self.people
        value = response.base
        if is_click:
            value *= float(people.propensity[person])
        if ours:
            for name, factor in response.segments.items():
                if people.segments[name][person]:
                    value *= factor
            basket = bool(people.segments["basket"][person])
            if ad.product:
                value *= response.product_with_basket if basket else response.product_without_basket
        if ad.category and self.world.places.categories[people.interest[person]] == ad.category:
            value *= 1 + response.interest_gain
        if len(self._base) > 1_000_000:
            self._base.clear()
        self._base[key] = value
        return value

    def _draw_organic(self, seed: int, hours: float) -> list[tuple[float, int, float]]:
        """Candidates (time, person, uniform) at the highest rate that ads could cause."""
        organic, people = self.world.truth.organic, self.people
        rate = np.where(people.known, organic.per_day, 0.0)
        for name, factor in organic.segments.items():
            rate = np.where(people.segments[name] > 0, rate * factor, rate)
        random = np.random.default_rng([seed, 13])
        counts = random.poisson(rate * organic.maximum_factor * hours / 24)
        candidates = []
        for person in np.flatnonzero(counts).tolist():
            for number in range(int(counts[person])):
                key = mix(mix(seed, 4), person * 64 + number)
                time = people.start + uniform(key, 21) * hours * 3600
                candidates.append((time, person, uniform(key, 22)))
        heapify(candidates)
        return candidates


def effect(effect: Effect, slow: float, fast: float) -> float:
    """The factor of repetition on one action; the formula stands at `Effect`."""
    value = 1.0
    if effect.gain:
        value += effect.gain * (1 - exp(-slow / effect.saturation))
    if effect.wear and slow > effect.tolerance:
        value *= exp(-effect.wear * (slow - effect.tolerance))
    return value / (1 + effect.bunching * fast) if effect.bunching else value
