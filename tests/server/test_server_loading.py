"""What the exchanges' profiles mean for the money held."""

from bidder.exchanges.profile import Exchange
from bidder.server.loading import hold_seconds


def test_the_last_notice_comes_the_usual_exp_and_the_exchanges_lag_after_the_bid() -> None:
    exchanges = {
        "quick": Exchange(name="quick", notice_lag_seconds=0),
        "slow": Exchange(name="slow", notice_lag_seconds=3600),
    }
    assert hold_seconds(exchanges) == {"quick": 300, "slow": 3900}
