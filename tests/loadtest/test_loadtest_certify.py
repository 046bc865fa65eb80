"""The acceptance test accepts a good bidder, and each of its rules can fail."""

import pytest

from loadtest.certify.rules import RULES, Trial
from loadtest.certify.run import judge
from loadtest.certify.samples import samples
from loadtest.certify.wire import Target

FAULTS = {
    "protocol/status": "always-500",
    "protocol/bids": "never-bids",
    "protocol/lawful": "wrong-size",
    "protocol/content-type": "wrong-type",
    "protocol/empty-204": "ignores-wseat",
    "protocol/unknown-fields": "strict",
    "protocol/encodings": "no-escapes",
    "protocol/no-content-type": "needs-type",
    "protocol/malformed": "5xx-on-malformed",
    "protocol/survives": "hangs-up-on-malformed",
    "protocol/required": "bids-on-nothing",
    "protocol/method": "any-method",
    "transport/keep-alive": "closes",
    "transport/pipelined": "wrong-id",
    "transport/fragmented": "impatient",
    "transport/chunked": "no-chunked",
    "transport/http-1.0": "no-1.0",
    "transport/slow-sender": "impatient",
    "transport/hang-up": "fragile",
    "transport/gzip-in": "no-gzip",
    "transport/gzip-out": "always-gzip",
    "transport/bad-gzip": "no-gzip",
    "transport/gzip-bomb": "5xx-on-big",
    "transport/big-body": "5xx-on-big",
    "transport/big-headers": "always-500",
    "transport/answer-size": "wordy",
    "obedience/floor": "ignores-floor",
    "obedience/currency": "ignores-cur",
    "obedience/badv": "ignores-badv",
    "obedience/bcat": "ignores-bcat",
    "obedience/secure": "insecure",
    "obedience/sizes": "wrong-size",
    "obedience/seats": "ignores-bseat",
    "obedience/private": "ignores-private",
    "obedience/deals": "deals-anyway",
    "obedience/dsa": "ignores-dsa",
    "obedience/fields": "long-crid",
    "obedience/price-macro": "no-macro",
    "notices/win": "strict-win",
    "notices/billing": "strict-billing",
    "notices/loss": "strict-loss",
    "notices/impression": "no-gif",
    "notices/click": "dead-click",
    "notices/open-redirect": "open-redirect",
    "deadlines/no-time": "5xx-without-time",
    "deadlines/late": "slow",
    "deadlines/errors": "always-500",
}


def trial_of(url: str) -> Trial:
    rates = {"EUR": 1.0, "USD": 1.08, "GBP": 0.85}
    return Trial(Target.at(url), samples(), rates, load_requests=24, load_rate=200)


async def test_good_bidder_is_accepted(start_bidder):
    _, url = await start_bidder()
    # How late answers are depends on the machine, so those rules are left to the slow bidder below.
    timed = {"deadlines/late", "deadlines/no-time"}
    names = frozenset(f"{rule.group}/{rule.name}" for rule in RULES) - timed
    verdicts = await judge(trial_of(url), names)
    assert [v for v in verdicts if v.outcome != "pass"] == []
    assert len(verdicts) == len(RULES) - len(timed)


@pytest.mark.parametrize(("name", "fault"), FAULTS.items(), ids=list(FAULTS))
async def test_rule_can_fail(start_bidder, name, fault):
    _, url = await start_bidder(fault)
    (verdict,) = await judge(trial_of(url), frozenset({name}))
    assert verdict.outcome == "FAIL", verdict
    assert verdict.detail
    assert "this test broke" not in verdict.detail
    assert verdict.rule.section


def test_every_rule_has_a_fault():
    elsewhere = {"protocol/version"}
    assert {f"{rule.group}/{rule.name}" for rule in RULES} == set(FAULTS) | elsewhere


@pytest.mark.parametrize("fault", ["wordy-400", "5xx-on-malformed"])
async def test_malformed_bodies_get_an_empty_400(start_bidder, fault):
    _, url = await start_bidder(fault)
    (verdict,) = await judge(trial_of(url), frozenset({"protocol/malformed"}))
    assert verdict.outcome == "FAIL"


async def test_no_bid_proves_nothing(start_bidder):
    _, url = await start_bidder("never-bids")
    verdicts = await judge(trial_of(url), frozenset({"notices"}))
    assert {v.outcome for v in verdicts} == {"unproven"}


async def test_nobody_there_is_a_failure_not_a_traceback(unused_tcp_port):
    verdicts = await judge(trial_of(f"http://127.0.0.1:{unused_tcp_port}/bid"))
    assert {v.outcome for v in verdicts} == {"FAIL"}
