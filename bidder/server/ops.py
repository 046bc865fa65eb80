"""What do operators ask? ``/-/healthy``, ``/-/ready``, ``POST /-/reload`` and ``/metrics``.

On a port of its own, served by the supervisor: a busy worker cannot make it look dead. Where
BIDDER_OPS_TOKEN is set, what changes something wants it as ``Authorization: Bearer TOKEN``.
"""

import hmac
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from aiohttp import web
from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from bidder.metrics import ALL, Metrics
from bidder.metrics import Metric as Declared


class Outcome(Struct, frozen=True):
    """What became of a reload. With any problem nothing of it was applied."""

    problems: Sequence[str] = ()
    waiting: Sequence[str] = ()
    """Settings that changed and apply at the next start."""


class MergedCollector(Collector):
    """All processes' cells as Prometheus families."""

    def __init__(self, cells: Callable[[], Metrics]) -> None:
        self._cells = cells

    def collect(self) -> Iterator[Metric]:
        cells = self._cells()
        for declared in ALL:
            yield _family(declared, cells)


def _family(declared: Declared, cells: Metrics) -> Metric:
    name, labels = declared.name, declared.labels
    if declared.kind == "histogram":
        histogram = HistogramMetricFamily(name, declared.help, labels=labels)
        for (owner, values), row in cells.histograms.items():
            if owner == name:
                histogram.add_metric(values, _cumulative(declared, row), sum_value=row[-1])
        return histogram
    kind = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
    family = kind(name, declared.help, labels=labels)
    for (owner, values), value in cells.values.items():
        if owner == name:
            family.add_metric(values, value)
    return family


def _cumulative(declared: Declared, row: list[float]) -> list[tuple[str, float]]:
    buckets, total = [], 0.0
    for bound, count in zip((*map(str, declared.buckets), "+Inf"), row, strict=False):
        total += count
        buckets.append((bound, total))
    return buckets


def application(
    ready: Callable[[], bool],
    reload: Callable[[], Awaitable[Outcome]],
    cells: Callable[[], Metrics],
    token: str = "",
    more: Iterable[web.RouteDef] = (),
) -> web.Application:
    """The ops port. `token` guards `reload`, unless empty. `more`: the calls of other rooms, which
    guard themselves."""
    registry = CollectorRegistry()
    registry.register(MergedCollector(cells))

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def is_ready(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if ready() else web.Response(status=503, text="no\n")

    async def reload_now(request: web.Request) -> web.Response:
        if token and not bears(request, token):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        outcome = await reload()
        if outcome.problems:
            return web.Response(status=422, text=_lines(outcome.problems))
        later = [f"{name} changed: applies at the next start" for name in outcome.waiting]
        return web.Response(text=_lines(["reloaded", *later]))

    async def metrics_page(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application()
    app.add_routes(
        [
            web.get("/-/healthy", healthy),
            web.get("/-/ready", is_ready),
            web.post("/-/reload", reload_now),
            web.get("/metrics", metrics_page),
            *more,
        ]
    )
    return app


def bears(request: web.Request, token: str) -> bool:
    """Whether the call carries the token; without one nothing does."""
    if not token:
        return False
    given = request.headers.get("Authorization", "")
    return hmac.compare_digest(given.encode(errors="replace"), f"Bearer {token}".encode())


def _lines(problems: Iterable[str]) -> str:
    return "\n".join(problems) + "\n"
