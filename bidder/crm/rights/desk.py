"""Who carries out what people ask? The desk: for the commands, the ops port and the pages alike.

Every act ends with a line in the audit log. Acts are safe to repeat: what a crash or an outage cut
short is completed by asking again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.rights.audit import Action, Audit, By
from bidder.crm.rights.consent import Verdict, heard, judge
from bidder.crm.rights.held import Everything, formerly, gather, readable, resolve
from bidder.crm.rights.rectifying import patch, without, without_events
from bidder.crm.rights.spreading import said
from bidder.crm.rights.wishes import Wish, wished
from bidder.events.compacting import mentions
from bidder.events.forgotten import Forgotten
from bidder.people.erasure import buried
from bidder.people.holding import hold
from bidder.people.reading import decode_profile, encode_profile
from bidder.person import Profile
from bidder.privacy import Rules
from bidder.store import keys
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Scripts
from bidder.store.link import Command
from bidder.store.links import Links
from bidder.tombstones import Tombstones

GRACE_SECONDS = 1.5
"""After deleting, until we look again: a bid under way has ended by then, and so has its claim."""
TRIES = 8
MOST_EVENTS = 20_000
"""Lines of the log that one copy holds."""
CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without what looks alike."""
CODE_CHARS = 12
"""60 bits: nobody finds one by trying within its life."""


class NotFound(LookupError):
    """Nobody is known by that name, or no longer."""


class Erased(Struct, frozen=True):
    """What an erasure did."""

    keys: int
    identifiers: int
    reference: str


class Lives(Struct, frozen=True):
    """How long what rights leave behind is kept, in seconds."""

    tombstone: int
    profile: int
    code: int


class Desk:
    """People's rights over one store and one state folder. Belongs to one event loop."""

    def __init__(
        self,
        links: Links,
        scripts: Scripts,
        tombstones: Tombstones,
        state: Path,
        lives: Lives,
        rules: Rules,
        random: Random,
        wall: Callable[[], float],
        *,
        pseudonyms: Pseudonyms | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`random` is of cryptographic strength; `pause` sleeps."""
        self._links = links
        self._scripts = scripts
        self._tombstones = tombstones
        self._events = state / "events"
        self._audit = Audit(state, random)
        self._lives = lives
        self._rules = rules
        self._random = random
        self._wall = wall
        self._pseudonyms = pseudonyms
        self._pause = pause

    async def find(self, wanted: str) -> Everything:
        """All we hold on whom `wanted` names (see `resolve`). Raises `NotFound`."""
        person = await resolve(self._links, wanted, self._pseudonyms)
        held = await gather(self._links, person) if person is not None else None
        if held is None:
            raise NotFound("nobody is known by that name")
        return held

    async def export(self, wanted: str, names: Mapping[int, str], by: By) -> dict[str, Any]:
        """Everything held, readable, the log included. Raises `NotFound`."""
        held = await self.find(wanted)
        found = await asyncio.to_thread(
            lambda: list(islice(mentions(self._events, held.ids), MOST_EVENTS))
        )
        await self._note("export", by, counts={"events": len(found)})
        return readable(held, found, names, await self._categories(), self._wall())

    async def rectify(self, wanted: str, raw: bytes, by: By) -> str:
        """Correct what a `rectifying.patch` names. Raises `NotFound` or `BadPatch`."""
        given, held = patch(raw), await self.find(wanted)
        left = without(list(held.identifiers), given) if given.remove else []
        if given.forget:
            await self._swap(keys.activity(held.person), lambda old: without_events(old, given))
        if given.remove:
            gone = [each for each in held.identifiers if each not in left]
            await self._links.bulk(
                [("SET", keys.identifiers(held.person), _pack(left), "KEEPTTL")]
                + [("DEL", keys.identifier(*each)) for each in gone]
            )
        counts = {"events": len(given.forget), "identifiers": len(given.remove)}
        return await self._note("rectify", by, counts=counts)

    async def wish(self, wanted: str, wish: Wish, by: By) -> str:
        """Do what the person declares. Raises `NotFound`."""
        held = await self.find(wanted)
        now = int(self._wall())
        if wish.what == "object":
            await self._forget_in_log(held.ids, None)
        await self._change(held.person, lambda old: wished(old, wish, now))
        action: Action = "declare"
        if wish.what == "object":
            await self._drop_profile(held)
            action = "object"
        elif wish.what == "allow":
            # what comes from now on counts again
            await self._forget_in_log(held.ids, float(now), lower=True)
            await hold(self._links, [(held.person, held.identifiers)], self._lives.profile)
            action = "allow"
        return await self._note(action, by)

    async def silenced(self, people: Sequence[tuple[str, Profile]]) -> None:
        """Forget in the log those who objected to a company, or withdrew, or are joined with
        somebody who did. The writer tells of them before it writes their profiles, which say which
        it is; with those go records and ledger."""
        merged = await self._links.bulk([("GET", keys.merged(person)) for person, _ in people])
        ids = [[person, *formerly(raw)] for (person, _), raw in zip(people, merged, strict=True)]
        now = self._wall()
        acts: tuple[tuple[Action, bool, float | None], ...]
        acts = ("object", True, None), ("withdraw", False, now)
        for action, objects, until in acts:
            some = [
                every
                for every, (_, profile) in zip(ids, people, strict=True)
                if profile.opted_out is objects
            ]
            if some:
                await self._forget_in_log([each for every in some for each in every], until)
                await self._note(action, "company", counts={"people": len(some)})

    async def erase(self, wanted: str, by: By) -> Erased:
        """Delete all there is, and leave tombstones. Raises `NotFound`."""
        held = await self.find(wanted)
        now = int(self._wall())
        # First what keeps them away, then what is there: a crash in between erases too little, and
        # asking again completes it. Names go last, since they are how one asks.
        await self._forget_in_log(held.ids, None)
        tombs = buried(self._tombstones, held.identifiers, now, self._lives.tombstone)
        await self._links.bulk([*tombs, ("INCR", keys.ERASURES)])
        names = await self._own_names(held)
        bodies: list[Command] = [
            ("DEL", key) for person in held.ids for key in keys.everything(person)
        ]
        deleted = sum(await self._links.bulk([*bodies, *names]))
        await self._pause(GRACE_SECONDS)
        late = await self._own_names(held)
        deleted += sum(await self._links.bulk([*bodies, *late]))
        counts = {"keys": deleted, "identifiers": len(held.identifiers)}
        reference = await self._note("erase", by, counts=counts)
        return Erased(deleted, len(held.identifiers), reference)

    async def consent_seen(self, wanted: str, string: str, source: str, by: By) -> Verdict:
        """Take note of a consent string given on `source`: keep it as proof, or obey it.

        Raises `NotFound`.
        """
        held = await self.find(wanted)
        now, told = int(self._wall()), Profile(consent=string, consent_source=source)
        verdict, _ = judge(held.profile, string, source, self._rules, now)
        if verdict is Verdict.GRANTED:
            await self._change(held.person, lambda old: heard(old, told, self._rules, now))
            if held.profile.withdrawn:
                await hold(self._links, [(held.person, held.identifiers)], self._lives.profile)
            await self._note("consent", by, verdict.value)
        elif verdict is Verdict.NARROWED:
            if not held.profile.opted_out:  # else the log forgets them for good already
                await self._forget_in_log(held.ids, float(now))
            await self._change(held.person, lambda old: heard(old, told, self._rules, now))
            await self._drop_profile(held, ledger=False)
            await self._note("withdraw", by, verdict.value)
        elif verdict is Verdict.WITHDRAWN:
            await self.erase(held.person, "consent")
        return verdict

    async def new_code(self, wanted: str, by: By) -> str:
        """A one-time code that opens the person's page. Raises `NotFound`."""
        held = await self.find(wanted)
        code = "".join(self._random.choice(CODE_ALPHABET) for _ in range(CODE_CHARS))
        mark = self._tombstones.of_code(code)
        value = self._tombstones.hidden(mark, held.person)
        await self._links.bulk([("SET", keys.code(mark), value, "EX", self._lives.code)])
        await self._note("code", by)
        return "-".join(code[at : at + 4] for at in range(0, CODE_CHARS, 4))

    async def redeem(self, typed: str) -> str:
        """The person whose code this is; it is used up. Raises `NotFound`."""
        code = "".join(sign for sign in typed.upper() if sign in CODE_ALPHABET)
        mark = self._tombstones.of_code(code)
        (value,) = await self._links.bulk([("GETDEL", keys.code(mark))])
        if len(code) != CODE_CHARS or value is None:
            raise NotFound("no such code")
        held = await self.find(self._tombstones.shown(mark, value))
        return held.person

    async def _own_names(self, held: Everything) -> list[Command]:
        """Deletes the identifiers that still stand for this person, and nobody else's."""
        wanted = [keys.identifier(*each) for each in held.identifiers]
        found = await self._links.bulk([("GET", key) for key in wanted])
        ours = {person.encode() for person in held.ids}
        return [("DEL", key) for key, owner in zip(wanted, found, strict=True) if owner in ours]

    async def _drop_profile(self, held: Everything, *, ledger: bool = True) -> None:
        """Delete what was recorded of an objector beside the profile, which is `bare` by now, and
        keep that as long as tombstones."""
        gone = [keys.activity(held.person)] + ([keys.ledger(held.person)] if ledger else [])
        await self._links.bulk([("DEL", key) for key in gone])
        await hold(self._links, [(held.person, held.identifiers)], self._lives.tombstone)

    async def _forget_in_log(
        self, people: Sequence[str], until: float | None, *, lower: bool = False
    ) -> None:
        """Here at once; on other hosts when they next ask the store (`Gossip`). `lower`: even if
        they were forgotten until later."""
        forgotten = Forgotten(self._events, self._tombstones)
        noted = await asyncio.to_thread(forgotten.add, people, until, lower=lower)
        value = said(until, self._wall())
        await self._links.bulk(
            [
                ("HSET", keys.FORGOTTEN, self._tombstones.of_person(person)[0], value)
                for person in noted
            ]
        )

    async def _change(self, person: str, change: Callable[[Profile], Profile]) -> None:
        """Write the changed profile."""
        await self._swap(
            keys.profile(person), lambda raw: encode_profile(change(decode_profile(raw)))
        )

    async def _swap(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Write the changed value, unless somebody wrote in between: then change that one."""
        for _ in range(TRIES):
            (found,) = await self._links.bulk([("GET", key)])
            raw = found or b""
            if await self._scripts.run("swap", [key], [raw, change(raw), self._lives.profile]):
                return
        raise StoreUnavailable("it is written to all the time")

    async def _categories(self) -> dict[int, str]:
        """32-bit id -> name of the categories that the CRM spoke of."""
        (flat,) = await self._links.bulk([("HGETALL", keys.CATEGORIES)])
        return {int(flat[at], 16): flat[at + 1].decode() for at in range(0, len(flat), 2)}

    async def _note(
        self, action: Action, by: By, outcome: str = "done", counts: dict[str, int] | None = None
    ) -> str:
        now = self._wall()
        return await asyncio.to_thread(self._audit.write, now, action, by, outcome, counts)


def _pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)
