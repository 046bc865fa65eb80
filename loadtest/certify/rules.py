"""What is a rule of the acceptance test, and what is there to try it on?

A rule is a coroutine decorated with `rule`; it returns nothing when the bidder passes, raises
`Failed` with what was seen when not, and `Skipped` where there is nothing to judge.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from loadtest.exchange.lawful import Json, bids_of

from .samples import fresh
from .wire import Answer, Target, ask

AGAIN_SECONDS = (0.0, 0.2, 0.5)
"""A bidder that bids on nothing is asked again: after a pause it may have little money at hand."""


class Failed(Exception):
    """The bidder breaks the rule; the message says how."""


class Skipped(Exception):
    """Nothing to judge; the message says why."""


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
    _winner: Json | None = field(default=None)

    async def post(self, request: Json, headers: dict[str, str] | None = None) -> Answer:
        """Ask on a connection of its own."""
        return await ask(self.target, orjson.dumps(request), headers)

    async def bid_on(self, request: Json) -> Json | None:
        """The answer to a request if it has a bid. Raises `Failed` for what is not 200 or 204."""
        return bid_answer(await self.post(request))

    async def bid(self) -> tuple[Json, Json]:
        """A request and its answer with a bid. Raises `Skipped` if there is none to be had."""
        tried = self.requests if self._winner is None else [self._winner, *self.requests]
        for pause in AGAIN_SECONDS:
            await asyncio.sleep(pause)
            for request in tried:
                asked = fresh(request)
                answer = await self.bid_on(asked)
                if answer is not None:
                    self._winner = request
                    return asked, answer
        raise Skipped("no bid on any request; give one it bids on with --request")


def bid_answer(answer: Answer) -> Json | None:
    """The parsed answer if it holds a bid, None for a no-bid. Raises `Failed` for anything else."""
    if answer.status == 204:
        return None
    if answer.status != 200:
        raise Failed(f"status {answer.status}")
    if not answer.content:
        raise Failed("status 200 with an empty body")
    try:
        parsed = orjson.loads(answer.content)
    except orjson.JSONDecodeError as error:
        raise Failed(f"body is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise Failed("body is not a JSON object")
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
