"""What is a rule of the acceptance test, and what is there to try it on?

A rule is a coroutine decorated with `rule`; it returns nothing when the bidder passes, raises
`Failed` with what was seen when not, `Unproven` where nothing could be seen, and `Skipped` where
the standard leaves to the bidder what it does not do.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from loadtest.exchange.lawful import Json, bids_of

from .samples import fresh
from .shapes import wrong_in_answer
from .wire import Answer, Target, ask

AGAIN_SECONDS = (0.0, 0.2, 0.5)
"""A bidder that bids on nothing is asked again: after a pause it may have little money at hand."""


class Failed(Exception):
    """The bidder breaks the rule; the message says how."""


class Unproven(Exception):
    """The bidder gave no occasion to judge; the message says which was missing."""


class Skipped(Exception):
    """The rule is about something optional that the bidder does not do; the message says what."""


Change = Callable[[Json, Json], Json]
"""A request that got a bid, and its answer -> a fresh request that differs."""
Ask = Callable[[Json], Awaitable[Answer]]
"""A way of its own to send a request."""


def unchanged(request: Json, _: Json) -> Json:
    """The `Change` that changes nothing but the id."""
    return fresh(request)


@dataclass(slots=True)
class Trial:
    """One bidder under test."""

    target: Target
    requests: list[Json]
    """Lawful requests; the first that gets a bid is used wherever one is needed."""
    rates: dict[str, float]
    load_requests: int = 200
    load_rate: float = 50.0
    max_late_share: float = 0.02
    max_error_share: float = 0.01
    max_answer_bytes: int = 32_768
    _won: tuple[Json, Json] | None = field(default=None)
    """The request that last got a bid, and its answer."""

    @property
    def plain(self) -> Json:
        """What to ask where no bid is needed: the request that last got one, else the first."""
        return self._won[0] if self._won else self.requests[0]

    async def post(self, request: Json, headers: dict[str, str] | None = None) -> Answer:
        """Ask on a connection of its own."""
        return await ask(self.target, orjson.dumps(request), headers)

    async def bid_on(self, request: Json) -> Json | None:
        """The answer to a request if it has a bid. Raises `Failed` for what is not 200 or 204."""
        return bid_answer(await self.post(request))

    async def bid(self) -> tuple[Json, Json]:
        """A request and its answer with a bid. Raises `Unproven` if there is none to be had."""
        tried = self.requests if self._won is None else [self._won[0], *self.requests]
        for pause in AGAIN_SECONDS:
            await asyncio.sleep(pause)
            for request in tried:
                asked = fresh(request)
                answer = await self.bid_on(asked)
                if answer is not None:
                    self._won = request, answer
                    return asked, answer
        if self._won is None:
            raise Unproven("no bid on any request; give one it bids on with --request")
        raise Unproven("no more bids: a cap or the money is used up; give more with --request")

    async def vary(self, change: Change, ask: Ask | None = None) -> tuple[Json, Json | None]:
        """A changed request and its answer with a bid, None if the change cost it the bid.

        A no-bid counts only if the request as it was then gets a bid; else the change is tried on
        another. Raises `Unproven` if no request is left to try it on.
        """
        for _ in AGAIN_SECONDS:
            if self._won is None:
                await self.bid()
            assert self._won is not None
            request, answer = self._won
            changed = change(request, answer)
            found = bid_answer(await (ask or self.post)(changed))
            if found is not None:
                return changed, found
            await self.bid()
            if self._won[0] is request:
                return changed, None
        raise Unproven("no bid, but none on the request as it was either")

    async def same(self, change: Change, ask: Ask | None = None) -> None:
        """Raises `Failed` if the change costs the bid, as often as it is tried."""
        for pause in AGAIN_SECONDS:
            await asyncio.sleep(pause)
            if (await self.vary(change, ask))[1] is not None:
                return
        raise Failed("no bid, where the plain request gets one")


def bid_answer(answer: Answer) -> Json | None:
    """The parsed answer if it holds a bid, None for a no-bid. Raises `Failed` for anything else."""
    if answer.status == 204:
        return None
    if answer.status != 200:
        raise Failed(f"status {answer.status}")
    if not answer.content:
        raise Failed("status 200 with an empty body")
    try:
        parsed: Json = orjson.loads(answer.content)
    except orjson.JSONDecodeError as error:
        raise Failed(f"body is not JSON: {error}") from None
    if wrong := wrong_in_answer(parsed):
        raise Failed(f"answer cannot be read: {wrong}")
    return parsed if bids_of(parsed) else None


Probe = Callable[[Trial], Awaitable[None]]


class Rule(NamedTuple):
    """One demand of the acceptance test."""

    group: str
    name: str
    section: str
    """Where it stands: OpenRTB 2.6-202606 unless another source is named."""
    text: str
    probe: Probe


RULES: list[Rule] = []
"""All rules, in the order of each group."""


def rule(group: str, name: str, section: str) -> Callable[[Probe], Probe]:
    """Add a probe to `RULES`; its docstring is the text of the rule."""

    def add(probe: Probe) -> Probe:
        RULES.append(Rule(group, name, section, (probe.__doc__ or "").strip(), probe))
        return probe

    return add
