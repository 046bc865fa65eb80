"""Where does a fault happen? A running bidder under load, and what can be seen of it meanwhile."""

import asyncio
from collections.abc import Mapping
from random import Random

from loadtest.faults.installation import Installation
from loadtest.faults.traffic import Traffic

SIGN_SECONDS = 30.0
_LOOK_SECONDS = 0.1


class DidNotBite(RuntimeError):
    """The fault left no trace where it should: what was measured was a healthy bidder."""


class Scene:
    """One bidder, its traffic, and the time that a fault lasts."""

    def __init__(
        self, installation: Installation, traffic: Traffic, seconds: float, random: Random
    ) -> None:
        self.installation = installation
        self.traffic = traffic
        self.seconds = seconds
        """How long what is broken stays so."""
        self.random = random
        self.notes: list[str] = []
        """What else was seen, for whoever reads the table."""
        self._before: Mapping[str, float] = {}

    async def remember(self) -> None:
        """From here on `gained` counts."""
        self._before = await asyncio.to_thread(self.installation.metrics)

    async def gained(self, name: str, **labels: str) -> float:
        """By how much the series of this name that have these labels grew since `remember`."""
        now = await asyncio.to_thread(self.installation.metrics)
        return _total(now, name, labels) - _total(self._before, name, labels)

    async def sees(self, name: str, least: float = 1, **labels: str) -> None:
        """Return when a metric has gained so much. Raises `DidNotBite` if it does not."""
        loop = asyncio.get_running_loop()
        end = loop.time() + SIGN_SECONDS
        while await self.gained(name, **labels) < least:
            if loop.time() > end:
                raise DidNotBite(f"{name}{dict(labels) or ''} never grew by {least:g}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def last(self) -> None:
        """Wait for as long as the fault lasts."""
        await asyncio.sleep(self.seconds)


def _total(samples: Mapping[str, float], name: str, labels: Mapping[str, str]) -> float:
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value
        for series, value in samples.items()
        if series.partition("{")[0] == name and all(one in series for one in wanted)
    )
