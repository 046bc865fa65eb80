"""How do a company's own tools carry out people's rights? ``POST /people/...`` on the ops port.

Every call wants ``Authorization: Bearer`` with BIDDER_OPS_TOKEN; without one set they do not exist.
The person stands in the body, never in the path, so that no proxy writes them down:
``{"id": "email:jo@example.com"}``. Answers are JSON, ``404`` where nobody is known by that name.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import SystemRandom
from time import time
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from bidder import settings
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.rights import BadPatch, Desk, NotFound, Wish
from bidder.crm.rights.consent import rules
from bidder.crm.rights.desk import Lives
from bidder.settings import Settings
from bidder.store.breaker import StoreUnavailable
from bidder.store.coalesce import Scripts
from bidder.store.links import Links
from bidder.tombstones import Tombstones

_NO_STORE = {"Cache-Control": "no-store"}
Act = Callable[["Asked"], Awaitable[object]]


class Asked(Struct):
    """What a call says."""

    id: str
    profile: Raw = Raw(b"{}")
    forget: Raw = Raw(b"[]")
    remove: Raw = Raw(b"[]")
    string: str = ""
    source: str = ""


def desk_of(given: Settings, links: Links, scripts: Scripts) -> Desk:
    """The desk of this installation. Raises `ValueError` on a key that is none."""
    state = given.state_dir
    return Desk(
        links,
        scripts,
        Tombstones(settings.tombstone_keys(state)),
        state,
        Lives(given.rights.tombstone, given.retention.profile, given.rights.code),
        rules(given),
        SystemRandom(),
        time,
        pseudonyms=Pseudonyms(settings.crm_keys(state)),
    )


def routes(
    desk: Desk, names: Callable[[], Mapping[int, str]], admits: Callable[[web.Request], bool]
) -> list[web.RouteDef]:
    """The calls. `names` of advertisers and ads by id; `admits`: the token is right."""

    async def rectify(asked: Asked) -> object:
        given = msgspec.json.encode(
            {"profile": asked.profile, "forget": asked.forget, "remove": asked.remove}
        )
        return {"reference": await desk.rectify(asked.id, given, "ops")}

    async def erase(asked: Asked) -> object:
        return await desk.erase(asked.id, "ops")

    async def consent(asked: Asked) -> object:
        seen = await desk.consent_seen(asked.id, asked.string, asked.source, "ops")
        return {"verdict": seen.value}

    async def object_(asked: Asked) -> object:
        return {"reference": await desk.wish(asked.id, Wish("object"), "ops")}

    async def export(asked: Asked) -> object:
        return await desk.export(asked.id, await asyncio.to_thread(names), "ops")

    async def code(asked: Asked) -> object:
        return {"code": await desk.new_code(asked.id, "ops")}

    acts: Mapping[str, Act] = {
        "export": export,
        "rectify": rectify,
        "erase": erase,
        "object": object_,
        "code": code,
        "consent": consent,
    }
    return [web.post(f"/people/{name}", _guarded(act, admits)) for name, act in acts.items()]


def _guarded(
    act: Act, admits: Callable[[web.Request], bool]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        if not admits(request):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        try:
            asked = msgspec.json.decode(await request.read(), type=Asked)
            return _json(200, await act(asked))
        except NotFound as problem:
            return _json(404, {"error": str(problem)})
        except (BadPatch, msgspec.MsgspecError) as problem:
            return _json(422, {"error": str(problem)})
        except StoreUnavailable as problem:
            return _json(503, {"error": str(problem)})

    return handle


def _json(status: int, value: Any) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(
        status=status, body=body, content_type="application/json", headers=_NO_STORE
    )
