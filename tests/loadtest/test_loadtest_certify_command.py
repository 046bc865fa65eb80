"""The acceptance test's command says what is not proven, and takes no odd options."""

import asyncio

import orjson
import pytest
import typer
from typer.testing import CliRunner

from loadtest.certify import command
from loadtest.certify.command import certify
from loadtest.certify.rules import RULES
from loadtest.certify.run import Verdict

URL = "http://127.0.0.1:1/bid"


@pytest.fixture
def run(monkeypatch):
    """``run(outcomes, *arguments)`` -> the result of the command when the rules came out so."""
    app = typer.Typer()
    app.command()(certify)

    def running(outcomes, *arguments):
        async def judged(*_):
            rules = zip(RULES, outcomes, strict=False)
            return [Verdict(rule, outcome, "seen") for rule, outcome in rules]

        monkeypatch.setattr(command, "judge", judged)
        return CliRunner().invoke(app, [URL, *arguments])

    return running


@pytest.mark.parametrize(
    ("outcomes", "code", "said"),
    [
        (["pass", "pass"], 0, "accepted"),
        (["pass", "skip"], 0, "accepted; 1 optional, not done"),
        (["pass", "unproven"], 3, "accepted, 1 not proven: {1}"),
        (["FAIL", "unproven"], 1, "1 of 2 rules broken, 1 not proven: {1}"),
    ],
)
def test_what_is_not_proven_shows_in_the_summary_and_the_exit_code(run, outcomes, code, said):
    result = run(outcomes)
    names = [f"{rule.group}/{rule.name}" for rule in RULES[: len(outcomes)]]
    assert result.exit_code == code
    assert f"{URL}: {said.format(*names)}" in " ".join(result.output.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--load-requests", "0"),
        ("--load-rate", "0"),
        ("--load-rate", "nan"),
        ("--max-answer-bytes", "0"),
        ("--only", "protocol", "--only", "nothing"),
        ("--request", "/nowhere/request.json"),
    ],
)
def test_an_odd_option_is_refused(run, arguments):
    result = run(["pass"], *arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[{"id":"1"}]', "not a bid request: Expected `object`, got `array`"),
        ('{"id":"1"}', "missing required field `imp`"),
        ('{"id":"1","imp":[]}', "at `$.imp`"),
        ('{"body":"{}"}', "not a bid request: Expected `object`, got `str`"),
        ('{"imp":[{}]}\n{"imp":', "line 2: not JSON"),
        ('{"imp":[{}]}\n{"imp":5}', "line 2: not a bid request"),
        ("\n", "no request in it"),
    ],
)
def test_a_file_that_holds_no_request_is_named_with_what_is_wrong(tmp_path, content, told):
    path = tmp_path / "requests.jsonl"
    path.write_text(content)
    with pytest.raises(typer.BadParameter, match=path.name) as refused:
        command.requests_of(path)
    assert told in refused.value.message


def test_requests_may_be_recorded_ones(tmp_path):
    path = tmp_path / "requests.jsonl"
    request = {"id": "1", "imp": [{"id": "1"}]}
    path.write_bytes(orjson.dumps({"body": request}) + b"\n" + orjson.dumps(request))
    assert command.requests_of(path) == [request, request]


async def test_the_command_tells_of_a_bidder_that_is_accepted(start_bidder):
    _, url = await start_bidder()
    app = typer.Typer()
    app.command()(certify)
    result = await asyncio.to_thread(CliRunner().invoke, app, [url, "--only", "obedience"])
    assert result.exit_code == 0, result.output
    assert ": accepted" in result.output
