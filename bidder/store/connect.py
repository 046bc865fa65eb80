"""How do we reach the store that the settings name?

One setting: a URL, or `embedded`.

=========================================  =============================================
``redis://[user:password@]host:port/db``   one server, TCP
``rediss://...``                           the same over TLS (``?ssl_ca_certs=FILE``)
``unix:///path/to.sock``                   one server, unix socket
``redis+cluster://...``                    a Cluster (``rediss+cluster://`` over TLS)
``embedded``                               a server of our own, in the state folder
=========================================  =============================================
"""

from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bidder.store.embedded import EmbeddedStore

Client: TypeAlias = Redis | RedisCluster

_SINGLE = ("redis", "rediss", "unix")
_CLUSTER = ("redis+cluster", "rediss+cluster")


class BadStoreUrl(ValueError):
    """The setting is neither a URL we know nor `embedded`."""


def is_cluster(url: str) -> bool:
    """Whether the URL names a Cluster."""
    return urlsplit(url).scheme in _CLUSTER


def located(setting: str, state: Path) -> tuple[str, EmbeddedStore | None]:
    """The URL behind the setting, and the server that was started for it, if it says `embedded`.

    Call it in the main thread of the process that outlives all users of the store (the supervisor),
    which must `stop()` the server. Raises `BadStoreUrl` or `EmbeddedStoreError`.
    """
    if setting == "embedded":
        server = EmbeddedStore(state / "store")
        server.start()
        return server.url, server
    if urlsplit(setting).scheme not in _SINGLE + _CLUSTER:
        raise BadStoreUrl(
            f"store: {setting.split('@')[-1]!r} is not a store; expected 'embedded' or a URL with "
            f"{', '.join(f'{scheme}://' for scheme in _SINGLE + _CLUSTER)}"
        )
    return setting, None


def connect(url: str, *, timeout_seconds: float = 1.0) -> Client:
    """A client for the URL; nothing is sent yet. Values come back as bytes.

    The bid path goes through `bidder.store.link`, which opens its connections with what this client
    knows; the client itself serves the commands that are not in a hurry. Close with `aclose()`.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "decode_responses": False,
        "protocol": 2,
    }
    if is_cluster(url):
        # Each redirect teaches it one slot. Its habit of closing itself after some of them, to
        # learn them all anew, leaves connections behind (redis-py 8.1); `Links.ping` does that.
        options["reinitialize_steps"] = 0
        return RedisCluster.from_url(url.replace("+cluster", "", 1), **options)
    # No silent retries: whoever calls knows whether a second try is safe and in time.
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
