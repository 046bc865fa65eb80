"""How do commands travel to the store at a few microseconds each?

redis-py opens the connection (address, TLS, authentication, database); from then on a `Link` writes
packed commands and hands out the replies as they arrive, in order, without a task or a timer for
each. Measured on one core, 16 scripts of one tick: 36 us each through redis-py's pipeline, 4 here;
a MGET of 32 keys: 180 us against 33. What is rare (redirects of a Cluster) goes back to redis-py.

A link is replaced as soon as it is doubtful: closed by the other side, or silent for so long that
its replies can no longer be told from lost ones. Whoever waits on it gets `StoreUnavailable`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from bidder.store.breaker import Breaker, StoreUnavailable

Receiver: TypeAlias = Callable[[Any], None]
"""Takes one reply: bytes, int, list, None, `hiredis.ReplyError`, or `StoreUnavailable`."""
Command: TypeAlias = tuple[str | bytes | int, ...]

_CANNOT_SERVE = ("LOADING", "BUSY ", "OOM", "READONLY", "MISCONF", "MASTERDOWN", "NOREPLICAS")
"""Errors that tell of the server's state and not of the command."""

_PING = b"*1\r\n$4\r\nPING\r\n"


def pack(command: Command) -> bytes:
    """A command as the bytes to send. Raises TypeError or ValueError for words that cannot be."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # any length, not one
    return packed


def _cannot_serve(reply: Any) -> bool:
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith(_CANNOT_SERVE)


def _has_refusals(reply: Any) -> bool:
    """Whether these are replies to commands sent together, of which the server refused some."""
    return isinstance(reply, list) and any(map(_cannot_serve, reply))


def into(future: asyncio.Future[Any]) -> Receiver:
    """A receiver that makes the reply the future's result, unless who waited has gone."""

    def receive(reply: Any) -> None:
        if not future.done():
            future.set_result(reply)

    return receive


class _Session(asyncio.Protocol):
    """One open connection, from its first command to its loss."""

    def __init__(
        self, connection: AbstractConnection, breaker: Breaker, on_lost: Callable[[], None]
    ) -> None:
        self._breaker = breaker
        self._on_lost = on_lost
        self._replies = hiredis.Reader()
        self.waiting: deque[Receiver] = deque()
        self.answered = 0
        # redis-py has no public way to take over a connection that it has set up. Its handshake
        # has read all replies by now. The streams stay referenced: they complain when dropped.
        self._streams = (connection._reader, connection._writer)
        connection._reader = connection._writer = None
        assert self._streams[1] is not None
        self._transport = self._streams[1].transport
        self._stream_protocol = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def send(self, packed: bytes, receivers: Iterable[Receiver]) -> None:
        self.waiting.extend(receivers)
        self._transport.write(packed)

    def send_together(self, packed: bytes, count: int, receiver: Receiver) -> bool:
        """Send `count` commands whose replies come as one list; False if others wait already."""
        if self.waiting:
            return False
        # The parser is told that one array follows, which it gathers without any Python.
        self._replies.feed(b"*%d\r\n" % count)
        self.send(packed, (receiver,))
        return True

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        next_reply, breaker, waiting = self._replies.gets, self._breaker, self.waiting
        while waiting:
            try:
                reply = next_reply()
            except hiredis.ProtocolError as error:
                self.give_up(f"not the store's protocol: {error}")
                return
            if reply is False:  # the rest has not arrived yet
                return
            self.answered += 1
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith(_CANNOT_SERVE):
                breaker.failed()
                reply = StoreUnavailable(str(reply))
            elif breaker.failures and not _has_refusals(reply):
                breaker.succeeded()
            waiting.popleft()(reply)

    def connection_lost(self, error: Exception | None) -> None:
        self._stream_protocol.connection_lost(error)
        self.give_up(f"connection lost: {error or 'closed by the store'}")

    def give_up(self, why: str) -> None:
        """Close at once; everyone who waits gets `StoreUnavailable`."""
        self._on_lost()
        self._transport.abort()
        lost, self.waiting = self.waiting, deque()
        for receiver in lost:
            self._breaker.failed()
            receiver(StoreUnavailable(why))


class Link:
    """The way to one server: opened at the first command, and again after each loss.

    A server that leaves a command unanswered for `timeout_seconds` (noticed within twice that) has
    lost the connection, and so has one that takes `connect_seconds` to be reached.
    """

    def __init__(
        self,
        new_connection: Callable[[], AbstractConnection],
        breaker: Breaker,
        timeout_seconds: float,
        connect_seconds: float,
    ) -> None:
        self._new_connection = new_connection
        self._breaker = breaker
        self._timeout = timeout_seconds
        self._connect_timeout = connect_seconds
        self._session: _Session | None = None
        self._opening: asyncio.Task[None] | None = None
        self._backlog: list[tuple[bytes, Sequence[Receiver]]] = []
        self._watch: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def send(self, packed: bytes, receivers: Sequence[Receiver]) -> None:
        """Send commands, packed one after the other; each receiver gets one reply, in order."""
        session = self._session
        if session is None:
            self._backlog.append((packed, receivers))
            if self._opening is None:
                self._opening = self._loop.create_task(self._open())
            return
        session.send(packed, receivers)
        if self._watch is None:
            self._arm(session)

    async def ask(self, packed: bytes, count: int) -> list[Any]:
        """The replies to `count` commands, packed one after the other, or what came instead.

        Where nobody else waits for this server it costs a tenth of a microsecond a reply, else one.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        replies: list[Any] = []

        def together(reply: Any) -> None:
            replies.extend(reply if isinstance(reply, list) else [reply] * count)
            if hiredis.ReplyError in set(map(type, replies)) and any(map(_cannot_serve, replies)):
                for place, each in enumerate(replies):
                    if _cannot_serve(each):
                        self._breaker.failed()
                        replies[place] = StoreUnavailable(str(each))
            if not done.done():
                done.set_result(None)

        def last(reply: Any) -> None:
            replies.append(reply)
            if not done.done():
                done.set_result(None)

        session = self._session
        if session is None or not session.send_together(packed, count, together):
            # What a list does itself costs no Python: replies come in the order of the commands.
            self.send(packed, [*[replies.append] * (count - 1), last])
        elif self._watch is None:
            self._arm(session)
        await done
        return replies

    async def close(self) -> None:
        """Give up what is under way and close."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._session is not None:
            self._session.give_up("closed")
            await asyncio.sleep(0)  # the transport closes its socket in the next tick
        self._fail_backlog("closed")

    async def ping(self) -> None:
        """Return once the server answers. Raises `StoreUnavailable`, or `hiredis.ReplyError`."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self.send(_PING, [into(answer)])
        reply = await answer
        if isinstance(reply, Exception):
            raise reply

    async def _open(self) -> None:
        connection = self._new_connection()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            connection._close()  # type: ignore[no-untyped-call]
            self._opening = None
            if not isinstance(error, RedisError | OSError):
                raise
            self._breaker.failed()
            self._fail_backlog(f"cannot connect: {error or 'no answer'}")
            return
        self._opening = None
        self._session = _Session(connection, self._breaker, self._lost)
        backlog, self._backlog = self._backlog, []
        for packed, receivers in backlog:
            self.send(packed, receivers)

    def _lost(self) -> None:
        self._session = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _fail_backlog(self, why: str) -> None:
        backlog, self._backlog = self._backlog, []
        for _, receivers in backlog:
            for receiver in receivers:
                receiver(StoreUnavailable(why))

    def _arm(self, session: _Session) -> None:
        """Look again in a while whether all that is outstanding now has been answered."""
        due = self._loop.time() + self._timeout
        expected = session.answered + len(session.waiting)
        self._watch = self._loop.call_at(due, self._look, session, expected, due)

    def _look(self, session: _Session, expected: int, due: float) -> None:
        self._watch = None
        if not session.waiting:
            return
        if session.answered >= expected:
            self._arm(session)
        elif self._loop.time() > due + self._timeout / 4:
            # This loop was stalled: replies may lie unread in the socket. Read, then look again.
            self._watch = self._loop.call_later(
                self._timeout / 4, self._look, session, expected, float("inf")
            )
        else:
            session.give_up(f"no answer in {self._timeout} s")
