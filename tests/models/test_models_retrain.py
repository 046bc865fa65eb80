"""Does the loop run: the real engine on a small simulated market, its log, and rows from it?"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bidder.campaigns.loading import load as load_campaigns
from bidder.exchanges.loading import load as load_exchanges
from bidder.scoring.model import Scorer
from loadtest.exchange.market import Market
from models import retrain, train
from models.dataset import Dataset
from models.retrain_market import EXCHANGE, Oracle, Trial, dense

MODELS = Path(retrain.__file__).parent
BUDGET = 0.3


@pytest.fixture
def trial(new_server) -> Trial:
    catalogue, _ = load_campaigns(
        MODELS / "market_campaigns", now=datetime.now(UTC), exchanges=frozenset({EXCHANGE})
    )
    exchange = load_exchanges(MODELS.parent / "config/exchanges", {})[EXCHANGE]
    return Trial(new_server().url, catalogue, exchange)


def market(world: str = "repetition-neutral", seed: int = 5) -> Market:
    known = dense(world)
    start = known.start.timestamp() + retrain.MORNING_SECONDS
    return Market(known, seed, people=400, hours=6.0, start=start)


def test_a_market_is_served_logged_and_made_into_rows(trial: Trial, tmp_path: Path) -> None:
    models = Scorer.load(MODELS / "demo")
    log = tmp_path / "state" / "events"
    outcome = trial.serve(market(), models, 1, BUDGET, log / "worker-0")
    assert outcome.impressions > 10
    assert 0 < outcome.spend <= BUDGET * 1.02
    state = Dataset(log, tmp_path / "dataset").update()
    table = train.load(tmp_path / "dataset")
    assert len(table) == sum(day.rows for day in state.days.values())
    assert 0 < len(table) <= outcome.impressions
    assert set(table.model) == {models.version}
    assert float(table.paid_cpm.sum() / 1000) == pytest.approx(outcome.spend, rel=0.35)


def test_the_same_market_is_served_alike_and_whoever_knows_the_truth_may_bid(trial: Trial) -> None:
    oracle = Oracle(trial.catalogue)
    first, second = (trial.serve(market(), oracle, 1, BUDGET) for _ in range(2))
    assert first == second
    assert first.expected_sales > 0
