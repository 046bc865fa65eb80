"""How do many requests share a round trip to the store?

All calls of one tick of the event loop travel together: reads as one MGET (on a Cluster, where an
MGET may not cross slots, as one for each caller and slot), scripts as one write of EVALSHAs. Each
caller still has its own deadline, and none is hurt when another gives up.
"""

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import hiredis

from bidder.store.breaker import StoreUnavailable
from bidder.store.link import Command, Link, Receiver, pack
from bidder.store.links import Links, is_redirect, slot

LUA = Path(__file__).with_name("lua")

Values: TypeAlias = list[bytes | None]
_Future: TypeAlias = asyncio.Future[Any]


class ScriptError(Exception):
    """A script was refused or failed: a mistake in the script or its arguments."""


class _Deadlines:
    """The callers of one tick that are in a hurry: (deadline, name of the call, future) of each.

    One timer for all of them, set to the earliest deadline of those who still wait.
    """

    __slots__ = ("_on_error", "_timer", "_waiting")

    def __init__(self, waiting: list[tuple[float, str, _Future]], on_error: Callable[[str], None]):
        self._waiting = waiting
        self._on_error = on_error
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting:
            self._timer = loop.call_at(min([at for at, _, _ in self._waiting]), self._expire, loop)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        # uvloop's clock has whole milliseconds: a timer may come up to one early.
        now = loop.time() + 0.001
        for deadline, call, future in self._waiting:
            if deadline <= now and not future.done():
                self._on_error(call)
                future.set_exception(StoreUnavailable("no answer before the deadline"))
        self._waiting = [waiter for waiter in self._waiting if not waiter[2].done()]
        self.arm(loop)


class _ReadTick:
    """The reads of one tick."""

    __slots__ = ("_on_error", "callers", "deadlines", "hurried", "keys")

    def __init__(self, on_error: Callable[[str], None]) -> None:
        self._on_error = on_error
        self.keys: list[bytes] = []
        self.callers: list[tuple[_Future, int, int]] = []
        """(future, first, end): whose keys stand where."""
        self.hurried: list[tuple[float, str, _Future]] = []
        self.deadlines = _Deadlines(self.hurried, on_error)

    def receive(self, reply: Any) -> None:
        """The reply to one MGET of all keys."""
        self.deadlines.disarm()
        if isinstance(reply, list):
            for future, first, end in self.callers:
                if not future.done():
                    future.set_result(reply[first:end])
            return
        for future, _, _ in self.callers:
            if not future.done():
                self._on_error("read")
                future.set_exception(StoreUnavailable(str(reply)))


class Reader:
    """Reads keys, those of all callers of a tick together."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._loop = asyncio.get_running_loop()
        self._tick: _ReadTick | None = None

    async def get_many(self, keys: Sequence[str | bytes], deadline: float | None = None) -> Values:
        """The values of `keys`, in their order, None where there is none.

        `deadline` is a time of the event loop's clock. Raises `StoreUnavailable` when it has
        passed, when the store fails, and at once while the breaker is open.
        """
        self._links.breaker.guard()
        if not keys:
            return []
        loop = self._loop
        tick = self._tick
        if tick is None:
            tick = self._tick = _ReadTick(self._links.on_error)
            loop.call_soon(self._flush)
        future: asyncio.Future[Values] = loop.create_future()
        first = len(tick.keys)
        # Encoded here, where a key that cannot be hurts its own caller and not the whole tick.
        tick.keys += [key.encode() if isinstance(key, str) else key for key in keys]
        tick.callers.append((future, first, len(tick.keys)))
        if deadline is not None:
            tick.hurried.append((deadline, "read", future))
        return await future

    def _flush(self) -> None:
        tick, self._tick = self._tick, None
        assert tick is not None
        tick.deadlines.arm(self._loop)
        if self._links.only is not None:
            self._links.only.send(pack(("MGET", *tick.keys)), (tick.receive,))
            return
        outgoing = _Outgoing()
        for future, first, end in tick.callers:
            _Split(tick.keys[first:end], future, self._links).send(outgoing)
        outgoing.flush()


class _Outgoing:
    """Commands of one tick, gathered by the link they take."""

    __slots__ = ("_batches",)

    def __init__(self) -> None:
        self._batches: dict[Link, tuple[list[bytes], list[Receiver]]] = {}

    def add(self, link: Link, packed: bytes, receiver: Receiver) -> None:
        batch = self._batches.get(link)
        if batch is None:
            batch = self._batches[link] = ([], [])
        batch[0].append(packed)
        batch[1].append(receiver)

    def flush(self) -> None:
        for link, (packed, receivers) in self._batches.items():
            link.send(b"".join(packed), receivers)


class _Split:
    """One caller's read on a Cluster: a command for each slot, put together again."""

    __slots__ = ("_future", "_keys", "_links", "_missing", "_values")

    def __init__(
        self,
        keys: list[bytes],
        future: _Future,
        links: Links,
    ) -> None:
        self._keys = keys
        self._future = future
        self._links = links
        self._values: Values = [None] * len(keys)
        self._missing = 0

    def send(self, outgoing: _Outgoing) -> None:
        places: dict[int, list[int]] = {}
        for place, key in enumerate(self._keys):
            places.setdefault(slot(key), []).append(place)
        self._missing = len(places)
        for group in places.values():
            command: Command = ("MGET", *[self._keys[place] for place in group])
            try:
                link = self._links.to(self._keys[group[0]])
            except StoreUnavailable as error:
                self._fail(error)
                return
            outgoing.add(link, pack(command), self._receiver(command, group))

    def _receiver(self, command: Command, group: list[int]) -> Receiver:
        def receive(reply: Any) -> None:
            if self._future.done():
                return
            if isinstance(reply, list):
                for place, value in zip(group, reply, strict=True):
                    self._values[place] = value
                self._missing -= 1
                if not self._missing:
                    self._future.set_result(self._values)
            elif is_redirect(reply):
                self._links.again(command, receive)
            else:
                self._fail(reply)

        return receive

    def _fail(self, reply: object) -> None:
        self._links.on_error("read")
        self._future.set_exception(StoreUnavailable(str(reply)))


class _Script(NamedTuple):
    name: str
    source: str
    sha: str


class _Call:
    """One call of a script."""

    __slots__ = ("_future", "_link", "_links", "_packed", "_script", "_words")

    def __init__(
        self, script: _Script, words: Command, future: _Future, links: Links, link: Link
    ) -> None:
        self._script = script
        self._words = words
        self._packed = pack(("EVALSHA", script.sha, *words))
        self._future = future
        self._links = links
        self._link = link

    def send(self, outgoing: _Outgoing) -> None:
        outgoing.add(self._link, self._packed, self._receive)

    def _receive(self, reply: Any) -> None:
        if is_redirect(reply):
            self._links.again(("EVAL", self._script.source, *self._words), self._receive_last)
        elif isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            # EVAL runs it and leaves it loaded, on the very server that has the keys.
            command = ("EVAL", self._script.source, *self._words)
            self._link.send(pack(command), (self._receive_last,))
        else:
            self._receive_last(reply)

    def _receive_last(self, reply: Any) -> None:
        future = self._future
        if future.done():
            return
        if not isinstance(reply, Exception):
            future.set_result(reply)
            return
        self._links.on_error(self._script.name)
        if isinstance(reply, StoreUnavailable) or is_redirect(reply):
            future.set_exception(StoreUnavailable(str(reply)))
        else:
            future.set_exception(ScriptError(f"{self._script.name}: {reply}"))


class Scripts:
    """Runs the Lua scripts of `bidder/store/lua`, those of all callers of a tick together."""

    def __init__(self, links: Links, folder: Path = LUA) -> None:
        self._links = links
        self._loop = asyncio.get_running_loop()
        self._scripts = {path.stem: _script(path) for path in folder.glob("*.lua")}
        self._calls: list[_Call] = []
        self._hurried: list[tuple[float, str, _Future]] = []

    def run(
        self,
        name: str,
        keys: Sequence[str | bytes],
        args: Sequence[str | bytes | int],
        deadline: float | None = None,
    ) -> _Future:
        """What the script `name` returns for these keys, at least one and all of one hash tag.

        It is under way before it is awaited, so many calls at once need no task each. Bytes, int,
        list or None. Raises `ScriptError` if it fails, KeyError if there is none of the name, and
        `StoreUnavailable` as `Reader.get_many` does. After `StoreUnavailable` it may have run or
        may run yet: scripts that are called again must be idempotent.
        """
        links = self._links
        links.breaker.guard()
        link = links.to(keys[0])
        future: _Future = self._loop.create_future()
        call = _Call(self._scripts[name], (len(keys), *keys, *args), future, links, link)
        if not self._calls:
            self._loop.call_soon(self._flush)
        self._calls.append(call)
        if deadline is not None:
            self._hurried.append((deadline, name, future))
        return future

    def _flush(self) -> None:
        calls, self._calls = self._calls, []
        hurried, self._hurried = self._hurried, []
        outgoing = _Outgoing()
        for call in calls:
            call.send(outgoing)
        outgoing.flush()
        _Deadlines(hurried, self._links.on_error).arm(self._loop)


def _script(path: Path) -> _Script:
    source = path.read_text("utf-8")
    return _Script(path.stem, source, sha1(source.encode(), usedforsecurity=False).hexdigest())
