"""Does the trial of the money judge by the invoice, and would it see a budget broken?"""

from pathlib import Path

import pytest
import uvloop

from bidder.pricing.leases import Account
from loadtest import money_trial
from loadtest.money_trial import Outcome, Trial, on_a_store, plot

SMALL = Trial(workers=3, rate=40, hours=0.2, pacing="asap", kill=True, price=3_000_000, wanted=0.5)


def played(trial: Trial) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    return uvloop.run(on_a_store(trial, said.append)), said


@pytest.fixture(autouse=True)
def soon_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(money_trial, "AFTER_SECONDS", 1300)


def test_the_invoice_stays_within_the_budget(tmp_path: Path) -> None:
    outcome, said = played(SMALL)
    assert outcome.bids > outcome.wins > 100
    assert outcome.overspend == 0
    assert outcome.invoice_micros > 0.3 * outcome.budget_micros
    # Of what is lost, a hundredth of a hundredth is never heard of; the unbilled count their bid.
    assert outcome.counted_micros == pytest.approx(outcome.invoice_micros, rel=0.01)
    assert said[-1].startswith(" 90 %")
    plot(outcome, SMALL, tmp_path / "day.png")
    assert (tmp_path / "day.png").read_bytes().startswith(b"\x89PNG")


def test_books_that_never_refuse_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "can_pay", lambda account, cost, now: True)
    outcome, _ = played(SMALL)
    assert outcome.overspend > 0.5
    assert outcome.underspend == 0
