"""Does the trial of the caps see what it should, and would it see a failure?"""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from bidder.store.connect import Client
from bidder.store.embedded import EmbeddedStore
from loadtest.cap_trial import (
    EXPIRIES,
    MOST_SLOTS,
    START,
    TICK_SECONDS,
    Speaker,
    browsing,
    main,
    most_over,
    speakers,
    trial,
)

HOUR = 3600


@pytest.fixture(scope="module")
def by_line_item() -> list[Speaker]:
    return speakers()


def test_over_is_counted_in_every_window(by_line_item: list[Speaker]) -> None:
    """The brand's creative may be seen twice in six hours, and the campaign's ads be no closer
    than two minutes."""
    basket, visit, brand, _ = by_line_item
    assert most_over([]) == 0
    assert most_over([(0.0, brand), (5 * HOUR, brand), (11.1 * HOUR, brand)]) == 0
    assert most_over([(5 * HOUR, brand), (10.9 * HOUR, brand), (0.0, brand), (1.0, brand)]) == 1
    assert most_over([(0.0, brand), (119.9, visit)]) == 1
    assert most_over([(0.0, brand), (120.0, visit)]) == 0
    assert most_over([(n * 200.0, basket) for n in range(6)]) == 3, "of three in an hour"


def test_people_come_back_and_pages_have_several_slots() -> None:
    ticks = list(browsing(2000, 50, Random(1)))
    assert sum(len(asking) for _, asking in ticks) == 2000
    assert [at for at, _ in ticks] == sorted(at for at, _ in ticks)
    assert all((at - START) % TICK_SECONDS == 0 for at, _ in ticks)
    slots = Counter(len(asking) for _, asking in ticks)
    assert set(range(1, MOST_SLOTS + 1)) <= set(slots)


async def test_nobody_is_over_with_reservations_and_many_without(
    store_server: EmbeddedStore, store: Client
) -> None:
    held = await trial(store_server.url, 1500, 40, EXPIRIES["above"], seed=1)
    assert (held.requests, held.people_over, held.late_after_expiry) == (1500, 0, 0)
    assert held.impressions > 100
    assert held.silenced > held.contended > 0
    await store.flushall()
    short = await trial(store_server.url, 1500, 40, EXPIRIES["below"], seed=1)
    assert short.late_after_expiry > 0
    await store.flushall()
    free = await trial(store_server.url, 1500, 40, EXPIRIES["off"], seed=1)
    assert not free.reservations
    assert free.people_over > 5
    assert free.max_over > 1


def test_it_writes_what_the_issue_asks_for(tmp_path: Path) -> None:
    out = tmp_path / "build" / "capping.json"
    with pytest.raises(SystemExit) as ended:
        main(["--requests", "60", "--out", str(out)])
    assert ended.value.code == 0
    runs = json.loads(out.read_text())["runs"]
    assert [run["reservations"] for run in runs] == [True, True, False]
    assert {"expiry_seconds", "requests", "impressions", "people_over", "max_over", "silenced",
            "late_after_expiry"} <= set(runs[0])  # fmt: skip
