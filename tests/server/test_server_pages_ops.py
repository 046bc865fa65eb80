"""A company's tools reach the same rights on the ops port, with the token and not without."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bidder.crm import activity
from bidder.crm.rights import desk as rights_desk
from bidder.metrics import Metrics
from bidder.people.loading import load
from bidder.server.ops import Outcome, application, bears
from bidder.server.people_ops import desk_of, routes
from bidder.settings import Settings, Tcf
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.links import Links

Client = TestClient  # type: ignore[type-arg]  # the generic parameters say nothing here
BEARER = {"Authorization": "Bearer secret"}
JO = {"id": "buyeruid.demo:jo"}


async def ready(links: Links) -> str:
    line = {"ids": [["buyeruid.demo", "jo"], ["ifa", "aa"]], "profile": {"orders": 2}}
    await load(links, [json.dumps(line).encode()], 1_795_000_000.0, Random(9))
    (raw,) = await links.bulk([("GET", keys.identifier("ifa", "aa"))])
    return str(raw.decode())


@pytest.fixture
async def client(
    links: Links, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    monkeypatch.setattr(rights_desk, "GRACE_SECONDS", 0.0)
    async for each in serving(links, tmp_path, "secret"):
        yield each


async def serving(links: Links, state: Path, token: str) -> AsyncIterator[Client]:
    given = Settings(tcf=Tcf(vendor_id=1234), state=str(state))
    desk = desk_of(given, links, Scripts(links))
    calls = routes(desk, lambda: {}, lambda request: bears(request, token))

    async def no_reload() -> Outcome:
        return Outcome()

    app = application(lambda: True, no_reload, Metrics, token, calls)
    async with TestClient(TestServer(app)) as client:
        yield client


ACTS = ("export", "rectify", "erase", "object", "code", "consent")


@pytest.mark.parametrize("act", ACTS)
async def test_nothing_without_the_token(client: Client, links: Links, act: str) -> None:
    person = await ready(links)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
        answer = await client.post(f"/people/{act}", json=JO, headers=headers)
        assert answer.status == 401
        assert await answer.read() == b""
    assert await links.bulk([("EXISTS", keys.profile(person))]) == [1]


async def test_nothing_at_all_where_no_token_is_set(links: Links, tmp_path: Path) -> None:
    async for client in serving(links, tmp_path, ""):
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer"}):
            answer = await client.post("/people/export", json=JO, headers=headers)
            assert answer.status == 401


async def test_every_act(client: Client, links: Links) -> None:
    person = await ready(links)

    async def ask(act: str, **more: object) -> dict[str, object]:
        answer = await client.post(f"/people/{act}", json={**JO, **more}, headers=BEARER)
        assert answer.status == 200, await answer.text()
        assert answer.headers["Cache-Control"] == "no-store"
        found: dict[str, object] = await answer.json()
        return found

    assert (await ask("export"))["person"] == person
    records = activity.record(1_795_000_000, activity.Kind.VISIT, 1)
    await links.bulk([("SET", keys.activity(person), records)])
    (visit,) = (await ask("export"))["activity"]  # type: ignore[misc]
    assert (await ask("rectify", forget=[visit["time"]]))["reference"]  # type: ignore[index]
    assert (await ask("export"))["activity"] == []
    assert len(str((await ask("code"))["code"])) == 14
    assert (await ask("consent", string="nonsense", source="s.example"))["verdict"] == "invalid"
    await ask("object")
    assert (await ask("export"))["profile"] == {"opted_out": True}
    assert (await ask("erase"))["identifiers"] == 2
    answer = await client.post("/people/erase", json=JO, headers=BEARER)
    assert answer.status == 404
    assert "jo" not in (await answer.text()).split()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"id": 5}', b'{"ID": "x"}', b"\xff"])
async def test_calls_that_are_none(client: Client, body: bytes) -> None:
    answer = await client.post("/people/erase", data=body, headers=BEARER)
    assert answer.status == 422


async def test_a_correction_that_is_none(client: Client, links: Links) -> None:
    await ready(links)
    for patch in ({}, {"profile": {"orders": -1}}, {"remove": [["crm", "x"]]}):
        answer = await client.post("/people/rectify", json={**JO, **patch}, headers=BEARER)
        assert answer.status == 422
