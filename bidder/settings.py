"""How does this installation run? `config/bidder.yaml`, with a few environment variables on top.

PORT, OPS_PORT and STATE_DIR move what two installations on one machine must not share. Secrets come
from the environment only: BIDDER_TOKEN_KEY seals tokens (64 hexadecimal digits; several, separated
by commas, while rotating: the first seals, all open), BIDDER_OPS_TOKEN guards the ops port's
changes. BIDDER_CRM_KEY hashes what the CRM calls people (as BIDDER_TOKEN_KEY: the first hashes, the
others still find). BIDDER_TOMBSTONE_KEY marks who was erased (likewise; keep the old ones of both
as long as tombstones last). BIDDER_ORDER_KEY hashes order numbers, and stays as it is. Without one
of these keys one is made and kept in the state folder.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from bidder.yamlfiles import Duration, InvalidFile, Model, Problem, read

M = TypeVar("M", bound=Model)
Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]
KEY_FILE = "token.key"
CRM_KEY_FILE = "crm.key"
TOMBSTONE_KEY_FILE = "tombstone.key"
ORDER_KEY_FILE = "order.key"


class Listen(Model):
    """Addresses we listen on."""

    host: str = "127.0.0.1"
    port: Port = 8080
    ops_host: str = "127.0.0.1"
    ops_port: Port = 8081
    edge: Literal["lean", "aiohttp"] = "lean"
    """Who speaks HTTP: our own protocol on httptools, or aiohttp, which costs more per request."""
    public_url: str = ""
    """How exchanges and browsers reach us: what notices and pixels start with."""


class Tcf(Model):
    """Who we are in the Transparency and Consent Framework."""

    vendor_id: Positive
    min_policy_version: int = 4
    policy_since: date = date(2023, 9, 30)
    disclosed_vendors_since: date = date(2026, 2, 28)
    declared: tuple[int, ...] = (1, 2, 3, 4, 7, 9, 10)
    legitimate_interest: tuple[int, ...] = ()


class Limits(Model):
    """What one worker takes on. Beyond these, requests are refused or shed."""

    body_bytes: Positive = 262_144
    inflated_bytes: Positive = 1_048_576
    header_bytes: Positive = 16_384
    connections: Positive = 10_000
    in_flight: Positive = 1_000
    loop_lag_ms: Positive = 40
    keep_alive: Duration = 75
    request_seconds: Duration = 10
    """A client that sends slower than this is cut off."""


class Store(Model):
    """Where people and money are kept."""

    url: str = "embedded"
    timeout_ms: Positive = 25
    """The longest a request waits for one answer of the store."""


class Log(Model):
    """The event log."""

    rotate_bytes: Positive = 67_108_864
    rotate_every: Duration = 3600
    keep: Duration = 90 * 86400
    no_bid_sample: Annotated[float, Field(ge=0, le=1)] = 0.01


class Retention(Model):
    """How long things about people are kept, from the last time we heard of them. 396 days are the
    13 months that the CNIL recommends."""

    profile: Duration = 396 * 86400
    ledger: Duration = 396 * 86400
    identifier: Duration = 396 * 86400
    visits: Duration = 396 * 86400
    """Visits, products seen, baskets: on the web, in the app, in a store."""
    orders: Duration = 396 * 86400
    contacts: Duration = 396 * 86400
    """Emails, SMS and pushes, and subscriptions to them."""
    match: Duration = 30 * 86400
    """What an exchange calls a person, from a user sync."""


class Rights(Model):
    """What people may ask of us, and whom they ask."""

    company: str = ""
    """Who we are on the pages `/why` and `/me`."""
    contact: str = ""
    """An email or web address of the data protection officer, shown there."""
    tombstone: Duration = 3 * 366 * 86400
    """How long an erased identifier is not imported again."""
    code: Duration = 3600
    """How long a one-time code for `/me` lasts."""
    session: Duration = 3600
    """How long `/me` stays open."""


class Settings(Model):
    """`config/bidder.yaml`."""

    listen: Listen = Listen()
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    state: str = ".state"
    models: str = "models/demo"
    """The directory of the models in service."""
    drain: Duration = 5
    """After SIGTERM, how long we keep answering while unready; all is over within 25 s."""
    answer_ms: Positive = 2
    """Kept back from the deadline for writing the answer."""
    identifiers: tuple[str, ...] = ("crm", "buyeruid", "*", "ifa")
    """Sources of identifiers in the order they are tried; `*` = any eid."""
    tcf: Tcf
    limits: Limits = Limits()
    store: Store = Store()
    log: Log = Log()
    retention: Retention = Retention()
    rights: Rights = Rights()

    @property
    def state_dir(self) -> Path:
        """The state folder, absolute."""
        return Path(self.state).absolute()

    @property
    def base_url(self) -> str:
        """What notice and pixel addresses start with, without a slash at the end."""
        given = self.listen.public_url.rstrip("/")
        return given or f"http://{self.listen.host}:{self.listen.port}"


def load(directory: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings in `directory`/bidder.yaml under the environment. Raises `InvalidFile`."""
    path = directory / "bidder.yaml"
    settings = read(path, Settings).value
    listen = settings.listen.model_copy(
        update={
            field: _port(path, environment, name, getattr(settings.listen, field))
            for field, name in (("port", "PORT"), ("ops_port", "OPS_PORT"))
        }
    )
    state = environment.get("STATE_DIR") or settings.state
    return settings.model_copy(update={"listen": listen, "state": state})


LIVE = frozenset({"models", "answer_ms", "identifiers", "log.no_bid_sample"})
"""What a reload can change; everything else stays as it was at the start."""
IN_SERVICE = "settings.json"
"""In a folder with what serves: its settings, whatever `bidder.yaml` says by now."""


def adopted(serving: Settings, wanted: Settings) -> tuple[Settings, list[str]]:
    """`serving` with what of `wanted` can change while it serves, and the names of the rest that
    differs, such as ``listen.port``."""
    differing = dict(_differing(serving.model_dump(), wanted.model_dump()))
    for name in LIVE & differing.keys():
        serving = _changed(serving, name, differing[name])
    return serving, [name for name in differing if name not in LIVE]


def _changed(given: M, name: str, value: Any) -> M:
    head, _, rest = name.partition(".")
    if rest:
        value = _changed(getattr(given, head), rest, value)
    return given.model_copy(update={head: value})


def _differing(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, old in before.items():
        name, new = prefix + key, after[key]
        if isinstance(old, dict):
            yield from _differing(old, new, f"{name}.")
        elif old != new:
            yield name, new


def keep(serving: Settings, folder: Path) -> None:
    """Lay the settings ready in `folder` for the processes that serve by them."""
    (folder / IN_SERVICE).write_text(serving.model_dump_json())


def in_service(folder: Path) -> Settings:
    """What `keep` laid ready in this folder. Raises `OSError` or `ValueError`."""
    return Settings.model_validate_json((folder / IN_SERVICE).read_bytes())


def ops_token(environment: Mapping[str, str] = os.environ) -> str:
    """What guards the ops port's changes; empty = nothing does."""
    return environment.get("BIDDER_OPS_TOKEN", "").strip()


def token_keys(state: Path, environment: Mapping[str, str] = os.environ) -> list[bytes]:
    """The master keys of tokens, the sealing one first. Makes and keeps one if none is given.

    Raises `ValueError` if one is not 64 hexadecimal digits.
    """
    return _master_keys("BIDDER_TOKEN_KEY", state / KEY_FILE, environment)


def crm_keys(state: Path, environment: Mapping[str, str] = os.environ) -> list[bytes]:
    """The keys that hash what the CRM calls people, the current one first; as `token_keys`."""
    return _master_keys("BIDDER_CRM_KEY", state / CRM_KEY_FILE, environment)


def tombstone_keys(state: Path, environment: Mapping[str, str] = os.environ) -> list[bytes]:
    """The keys that mark who was erased, the current one first; as `token_keys`."""
    return _master_keys("BIDDER_TOMBSTONE_KEY", state / TOMBSTONE_KEY_FILE, environment)


def order_key(state: Path, environment: Mapping[str, str] = os.environ) -> bytes:
    """The key that hashes order numbers: one, for all hosts and for good; else as `token_keys`."""
    key, *others = _master_keys("BIDDER_ORDER_KEY", state / ORDER_KEY_FILE, environment)
    if others:
        raise ValueError("BIDDER_ORDER_KEY is one key: it does not rotate")
    return key


ALL_KEYS = (token_keys, crm_keys, tombstone_keys, order_key)
"""What makes each key, where it is not given."""


def login_key(environment: Mapping[str, str] = os.environ) -> bytes:
    """What advertisers' servers sign logins with (BIDDER_LOGIN_KEY); empty = none are believed.

    Raises `ValueError` if it is not 64 hexadecimal digits.
    """
    given = environment.get("BIDDER_LOGIN_KEY", "")
    return _key(given, "BIDDER_LOGIN_KEY") if given else b""


def _master_keys(variable: str, path: Path, environment: Mapping[str, str]) -> list[bytes]:
    given = environment.get(variable, "")
    if given:
        return [_key(text, variable) for text in given.split(",")]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w") as file:
            file.write(secrets.token_hex(32))
    return [_key(path.read_text().strip(), str(path))]


def _key(text: str, place: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError(f"{place}: a key is 64 hexadecimal digits")
    return key


def _port(path: Path, environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name)
    if not text:
        return default
    if not text.isdigit() or int(text) > 65535:
        raise InvalidFile([Problem("error", path, 1, name, f"found {text!r}, expected a port")])
    return int(text)
