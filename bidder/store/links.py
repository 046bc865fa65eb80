"""Which server has a key, and has the store come back?

`Links` is what the rest of the store stands on: one link to a single server, or one to each primary
of a Cluster; the slow way for what a Cluster redirects; and the task that pings while the breaker
is open. On a Cluster the breaker closes when every primary answers, since by default a Cluster that
lacks one serves nothing at all (``cluster-require-full-coverage``).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import ClusterError, RedisError, ResponseError

from bidder.store.breaker import Breaker, StoreUnavailable
from bidder.store.connect import Client
from bidder.store.link import Command, Link, Receiver, into, pack

_FAILURES = frozenset({hiredis.ReplyError, StoreUnavailable})
_TAKE = (
    b"*7\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
    b"$2\r\nNX\r\n$3\r\nGET\r\n$4\r\nEXAT\r\n$10\r\n%d\r\n"
)
"""SET with NX, GET and EXAT as it goes over the wire; a moment has ten digits until 2286."""
_LAST_SECOND = 9_999_999_999
_REDIRECTS = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")


def slot(key: str | bytes) -> int:
    """The slot of a Cluster, 0 to 16383, that a key belongs to."""
    return key_slot(key.encode() if isinstance(key, str) else key)


def is_redirect(reply: object) -> bool:
    """Whether a Cluster wants this command to be sent elsewhere, or again."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith(_REDIRECTS)


async def _all_at_once(link: Link, commands: Sequence[Command]) -> list[Any]:
    """The replies, or what came instead, in order."""
    return await link.ask(b"".join(map(pack, commands)), len(commands))


class Links:
    """The ways to all servers of one store, and the probing of a store that failed.

    `client` comes from `bidder.store.connect` and is closed by its owner, after `aclose()`. With
    `probe` left on, a task pings in the background while the breaker is open. Make it in a running
    event loop.
    """

    def __init__(
        self,
        client: Client,
        breaker: Breaker,
        *,
        timeout_seconds: float = 0.05,
        connect_seconds: float = 0.5,
        on_error: Callable[[str], None] = lambda call: None,
        url: str = "",
    ) -> None:
        self.url = url
        """Where the store is, for processes that open links of their own; may be empty."""
        self.breaker = breaker
        self.on_error = on_error
        """Called with the name of each call that failed: ``read`` or the name of a script."""
        self._client = client
        self._cluster = client if isinstance(client, RedisCluster) else None
        self._timeout = timeout_seconds
        self._connect_timeout = connect_seconds
        self._links: dict[str, Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.only: Link | None = None
        """The link to use for every key, unless the store is a Cluster."""
        if isinstance(client, Redis):
            self.only = self._link("", client.connection_pool.make_connection)
        breaker.on_change.append(self._changed)

    def to(self, key: str | bytes) -> Link:
        """The link to the server that has `key`. Raises `StoreUnavailable` if no server has."""
        if self.only is not None:
            return self.only
        assert self._cluster is not None
        owners = self._cluster.nodes_manager.slots_cache.get(slot(key))
        if not owners:
            raise StoreUnavailable(f"no server of the Cluster is known to have {key!r}")
        return self._to_node(owners[0])

    def every(self) -> list[Link]:
        """The links to all servers that have keys; on a Cluster after the first `ping`."""
        if self.only is not None:
            return [self.only]
        assert self._cluster is not None
        return [self._to_node(node) for node in self._cluster.get_primaries()]

    async def ping(self) -> None:
        """Return once every server answers; learns who is in the Cluster.

        Raises `StoreUnavailable`. To be awaited at start, so that the first request finds its
        connection open.
        """
        try:
            if self.only is not None:
                await self.only.ping()
                return
            assert self._cluster is not None
            async with asyncio.timeout(self._connect_timeout):
                await self._cluster.initialize()
                await self._cluster.nodes_manager.initialize()
            nodes = self._cluster.get_primaries()
            await asyncio.gather(*[self._to_node(node).ping() for node in nodes])
        except (RedisError, OSError, hiredis.ReplyError) as error:
            raise StoreUnavailable(f"no answer to PING: {error or 'timed out'}") from error

    def again(self, command: Command, receiver: Receiver) -> None:
        """Send one command of a Cluster as redis-py does, following redirects."""
        task = asyncio.get_running_loop().create_task(self._again(command, receiver))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def bulk(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands whose key is their second word, all sent at once.

        Raises `StoreUnavailable` if any is lost, `hiredis.ReplyError` if any is refused. For
        loading and showing, not for the bid path.
        """
        self.breaker.guard()
        if not commands:
            return []
        if self.only is not None:
            replies = await _all_at_once(self.only, commands)
        else:
            replies = await self._by_link(commands)
        if not _FAILURES.isdisjoint(map(type, replies)):
            for place, reply in enumerate(replies):
                if is_redirect(reply):
                    replies[place] = await self._redirected(commands[place])
                if isinstance(replies[place], Exception):
                    raise replies[place]
        return replies

    async def take(
        self, names: Sequence[bytes], values: Sequence[bytes], until: Sequence[int]
    ) -> list[bytes | None]:
        """Write each value under its key until then (seconds since the epoch) if the key is free.

        What stands there already: None = it was free and is taken now. As `bulk`, at a third of its
        price. Raises as `bulk` does.
        """
        latest = max(until, default=0)
        ends = until if latest <= _LAST_SECOND else [min(end, _LAST_SECOND) for end in until]
        if self.only is None or not names:
            return await self.bulk(
                [
                    ("SET", name, value, "NX", "GET", "EXAT", end)
                    for name, value, end in zip(names, values, ends, strict=True)
                ]
            )
        self.breaker.guard()
        packed = [
            _TAKE % (len(name), name, len(value), value, end)
            for name, value, end in zip(names, values, ends, strict=True)
        ]
        replies = await self.only.ask(b"".join(packed), len(packed))
        if not _FAILURES.isdisjoint(map(type, replies)):
            raise next(reply for reply in replies if isinstance(reply, Exception))
        return replies

    async def _by_link(self, commands: Sequence[Command]) -> list[Any]:
        places: dict[Link, list[int]] = {}
        for place, command in enumerate(commands):
            places.setdefault(self.to(cast(str | bytes, command[1])), []).append(place)
        answers = await asyncio.gather(
            *[
                _all_at_once(link, [commands[place] for place in mine])
                for link, mine in places.items()
            ]
        )
        replies: list[Any] = [None] * len(commands)
        for mine, some in zip(places.values(), answers, strict=True):
            for place, reply in zip(mine, some, strict=True):
                replies[place] = reply
        return replies

    async def _redirected(self, command: Command) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.again(command, into(answer))
        return await answer

    async def aclose(self) -> None:
        """Stop probing and close every connection; who still waits gets `StoreUnavailable`."""
        self.breaker.on_change.remove(self._changed)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in self._links.values():
            await link.close()

    def _to_node(self, node: ClusterNode) -> Link:
        link = self._links.get(node.name)
        if link is None:
            kind, options = node.connection_class, node.connection_kwargs
            link = self._link(node.name, lambda: kind(**options))
        return link

    def _link(self, name: str, new_connection: Callable[[], AbstractConnection]) -> Link:
        link = Link(new_connection, self.breaker, self._timeout, self._connect_timeout)
        self._links[name] = link
        return link

    async def _again(self, command: Command, receiver: Receiver) -> None:
        # By a name in capitals redis-py would turn the reply into what it holds it to mean; so it
        # stays what a link hands out. To servers both are the same.
        name = cast(str | bytes, command[0]).lower()
        try:
            async with asyncio.timeout(self._connect_timeout):
                reply = await self._client.execute_command(name, *command[1:])
        except ResponseError as error:
            # Refused: by the Cluster, which is the store's fault, or for what was asked.
            cluster = isinstance(error, ClusterError)
            reply = StoreUnavailable(str(error)) if cluster else hiredis.ReplyError(str(error))
        except (RedisError, OSError) as error:
            self.breaker.failed()
            reply = StoreUnavailable(f"redirected, then: {error or 'timed out'}")
        except asyncio.CancelledError:
            receiver(StoreUnavailable("closed"))
            raise
        receiver(reply)

    def _changed(self, is_open: bool) -> None:
        if is_open:
            task = asyncio.get_running_loop().create_task(self._probe())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _probe(self) -> None:
        while self.breaker.is_open:
            await asyncio.sleep(self.breaker.pause_left())
            if self.breaker.probe_due():
                try:
                    await self.ping()
                except StoreUnavailable:
                    self.breaker.probed(answered=False)
                else:
                    self.breaker.probed(answered=True)
