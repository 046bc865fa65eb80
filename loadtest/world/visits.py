"""Who opens which page when?

Sessions start at a rate that follows each person's habits by local hour; a session is some pages of
one publisher on one device, seconds apart, so that ads come bunched as they really do.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .description import World
from .draws import mix, uniform
from .people import People

Floats = NDArray[np.float64]
_SESSIONS_PER_BLOCK = 5_000


class Publisher(NamedTuple):
    """One site or app. `pages` and slots hang on its number."""

    number: int
    domain: str
    app: bool
    category: str
    first_price: bool
    floor_factor: float
    currencies: tuple[str, ...]
    """It takes bids in."""
    floor_currency: str


class View(NamedTuple):
    """One page view. `key` seeds all chance that hangs on it."""

    time: float
    person: int
    device: int
    publisher: Publisher
    key: int


class Visits:
    """The page views of a world in order of time, without end."""

    def __init__(
        self, world: World, people: People, seed: int, views_per_second: float | None = None
    ) -> None:
        """`views_per_second`, averaged over a week, replaces the rate that habits give."""
        self.world = world
        self.people = people
        self._key = mix(seed, 2)
        self._random = np.random.default_rng([seed, 17])
        self.publishers = [
            publisher(world, mix(seed, 3), n) for n in range(world.places.publishers)
        ]
        self._sites = [place for place in self.publishers if not place.app]
        ranks = np.arange(1, len(self.publishers) + 1, dtype=float)
        weights = ranks**-world.places.popularity_exponent
        self._popular = np.cumsum(weights / weights.sum())
        self._groups = _groups(world, people)
        habits = world.habits
        weekly = (5 + 2 * habits.weekend_factor) / 7
        activity = float(people.activity.sum()) * weekly
        natural = activity * habits.sessions_per_person_day / 86_400
        self._scale = 1.0
        if views_per_second is not None:
            self._scale = views_per_second / habits.pages_per_session / natural

    def __iter__(self) -> Iterator[View]:
        now = float(self.people.start)
        rest = np.empty((0, 4))
        number = 0
        while True:
            span = self._span(now)
            views = np.concatenate([rest, self._views(now, span)])
            views = views[np.argsort(views[:, 0], kind="stable")]
            now += span
            split = int(np.searchsorted(views[:, 0], now))
            rest = views[split:]
            for time, person, device, place in views[:split].tolist():
                key = mix(self._key, number)
                number += 1
                yield self._view(time, int(person), int(device), int(place), key)

    def _view(self, time: float, person: int, device: int, place: int, key: int) -> View:
        """Apps are opened on phones and tablets; who has none is on a site instead."""
        chosen = self.publishers[place]
        if chosen.app:
            handheld = self.people.handheld(person, device)
            if handheld >= 0:
                return View(time, person, handheld, chosen, key)
            chosen = self._sites[place % len(self._sites)] if self._sites else chosen
        return View(time, person, device, chosen, key)

    def _span(self, now: float) -> float:
        """Seconds in the next block: to the end of the hour, less where it would be too many."""
        rate = sum(rate for rate, _, _ in self._rates(now))
        return float(min(3600 - now % 3600, max(_SESSIONS_PER_BLOCK / max(rate, 1e-9), 1.0)))

    def _rates(self, now: float) -> Iterator[tuple[float, NDArray[np.int64], Floats]]:
        """Sessions per second, people and cumulated shares of each group at `now`."""
        habits = self.world.habits
        base = habits.sessions_per_person_day / 86_400 * self._scale
        for offset, hours, members, activity, cumulated in self._groups:
            local = datetime.fromtimestamp(now, UTC) + timedelta(minutes=offset)
            weekend = habits.weekend_factor if local.weekday() >= 5 else 1.0
            yield base * activity * hours[local.hour] * weekend, members, cumulated

    def _views(self, now: float, span: float) -> Floats:
        """Rows (time, person, device, publisher) of the sessions that start in the block."""
        random = self._random
        starts, persons = [], []
        for rate, members, cumulated in self._rates(now):
            count = int(random.poisson(rate * span))
            starts.append(now + random.random(count) * span)
            persons.append(members[np.searchsorted(cumulated, random.random(count))])
        start, person = np.concatenate(starts), np.concatenate(persons)
        device = (random.random(len(person)) * self.people.devices[person]).astype(np.int64)
        place = np.searchsorted(self._popular, random.random(len(person)))
        pages = random.geometric(1 / self.world.habits.pages_per_session, len(person))
        gaps = random.exponential(self.world.habits.seconds_between_pages, int(pages.sum()))
        first = np.cumsum(pages) - pages
        gaps[first] = 0.0
        elapsed = np.cumsum(gaps)
        elapsed -= np.repeat(elapsed[first], pages)
        time = np.repeat(start, pages) + elapsed
        columns = [
            time,
            np.repeat(person, pages),
            np.repeat(device, pages),
            np.repeat(place, pages),
        ]
        return np.stack(columns, axis=1).astype(np.float64)


def publisher(world: World, key: int, number: int) -> Publisher:
    """The publisher with this number."""
    places = world.places
    own = mix(key, number)
    app = uniform(own, 1) < places.app_share
    category = places.categories[mix(own, 2) % len(places.categories)]
    domain = f"com.example.app{number}" if app else f"site-{number}.example"
    currencies: tuple[str, ...] = (world.currency if uniform(own, 3) < 0.75 else "USD",)
    if uniform(own, 6) < places.two_currency_share:
        currencies = (world.currency, "USD") if mix(own, 7) % 2 else ("USD", world.currency)
    first_price = uniform(own, 4) < places.first_price_share
    factor = 0.5 + uniform(own, 5)
    return Publisher(number, domain, app, category, first_price, factor, currencies, currencies[-1])


def _groups(
    world: World, people: People
) -> list[tuple[int, list[float], NDArray[np.int64], float, Floats]]:
    """Of each curve and country: offset, hourly factors of mean 1, members, activity, shares."""
    groups = []
    for c, curve in enumerate(world.habits.curves.values()):
        mean = sum(curve.hours) / len(curve.hours)
        for k, country in enumerate(world.people.countries.values()):
            members = np.flatnonzero((people.curve == c) & (people.country == k))
            if len(members):
                cumulated = np.cumsum(people.activity[members].astype(np.float64))
                total = float(cumulated[-1])
                hours = [hour / mean for hour in curve.hours]
                groups.append(
                    (country.utc_offset_minutes, hours, members, total, cumulated / total)
                )
    return groups
