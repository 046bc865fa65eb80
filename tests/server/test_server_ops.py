"""The ops port: readiness, reloads and who may ask for them, and the metrics page."""

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bidder import metrics
from bidder.metrics import Metrics
from bidder.server.ops import Outcome, application


class Ops:
    """What stands behind the port."""

    def __init__(self) -> None:
        self.ready = True
        self.outcome = Outcome()
        self.reloads = 0
        self.cells = Metrics()

    async def reload(self) -> Outcome:
        self.reloads += 1
        return self.outcome


@pytest.fixture
def ops() -> Ops:
    return Ops()


@pytest.fixture(params=["", "s3cret"])
async def client(ops: Ops, request: pytest.FixtureRequest) -> AsyncIterator[TestClient]:
    app = application(lambda: ops.ready, ops.reload, lambda: ops.cells, request.param)
    async with TestClient(TestServer(app)) as found:
        yield found


async def test_health_and_readiness(client: TestClient, ops: Ops) -> None:
    assert (await client.get("/-/healthy")).status == 200
    assert (await client.get("/-/ready")).status == 200
    ops.ready = False
    assert (await client.get("/-/ready")).status == 503
    assert (await client.get("/-/healthy")).status == 200


@pytest.mark.parametrize("client", [""], indirect=True)
async def test_a_reload_says_what_was_wrong(client: TestClient, ops: Ops) -> None:
    assert (await client.post("/-/reload")).status == 200
    ops.outcome = Outcome(problems=["shop.yaml:7: no", "shop.yaml:9: neither"])
    refused = await client.post("/-/reload")
    assert refused.status == 422
    assert await refused.text() == "shop.yaml:7: no\nshop.yaml:9: neither\n"
    assert (await client.get("/-/reload")).status == 405
    assert ops.reloads == 2


@pytest.mark.parametrize("client", [""], indirect=True)
async def test_a_reload_says_what_waits_for_a_start(client: TestClient, ops: Ops) -> None:
    ops.outcome = Outcome(waiting=["listen.port", "workers"])
    answer = await client.post("/-/reload")
    assert (answer.status, await answer.text()) == (
        200,
        "reloaded\nlisten.port changed: applies at the next start\n"
        "workers changed: applies at the next start\n",
    )


@pytest.mark.parametrize("client", ["s3cret"], indirect=True)
@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "s3cret", "Bearer s3cret2"])
async def test_a_token_guards_reloads_alone(client: TestClient, ops: Ops, given: str) -> None:
    headers = {"Authorization": given}
    assert (await client.post("/-/reload", headers=headers)).status == 401
    assert ops.reloads == 0
    assert (await client.get("/metrics")).status == 200
    right = await client.post("/-/reload", headers={"Authorization": "Bearer s3cret"})
    assert (right.status, ops.reloads) == (200, 1)


@pytest.mark.parametrize("client", [""], indirect=True)
async def test_the_page_has_counters_gauges_and_cumulative_buckets(
    client: TestClient, ops: Ops
) -> None:
    ops.cells.inc(metrics.REQUESTS, "demo", by=3)
    ops.cells.set(metrics.BREAKER, 0)
    for seconds in (0.0001, 0.0004, 9.0):
        ops.cells.observe(metrics.REQUEST_SECONDS, seconds, "demo")
    page = await (await client.get("/metrics")).text()
    for line in (
        'bidder_requests_total{exchange="demo"} 3.0',
        "bidder_breaker_open 0.0",
        'bidder_request_seconds_bucket{exchange="demo",le="0.00025"} 1.0',
        'bidder_request_seconds_bucket{exchange="demo",le="0.0005"} 2.0',
        'bidder_request_seconds_bucket{exchange="demo",le="1.0"} 2.0',
        'bidder_request_seconds_bucket{exchange="demo",le="+Inf"} 3.0',
        'bidder_request_seconds_count{exchange="demo"} 3.0',
    ):
        assert line in page.splitlines(), line
