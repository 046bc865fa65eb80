from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from bidder.campaigns.check import run
from bidder.campaigns.rates import load_rates
from bidder.money import UnknownRate
from bidder.yamlfiles import InvalidFile

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONFIG = Path(__file__).parents[2] / "config"
CAMPAIGN = """\
advertiser: acme
domain: acme.example
currency: PLN
timezone: Europe/Warsaw
campaigns:
  - id: one
    goal: {cpc: 1}
    line_items:
      - id: li
        bid: {max_cpm: 5}
        creatives:
          - {id: c, size: SIZE, html: "<a href='${CLICK_URL}'>hello</a>", click: "https://acme.example/"}
"""
RATES = "base: EUR\ndate: 2026-11-18\nmax_age: 7d\nper_base: {USD: 1.1, PLN: 4.25}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "campaigns").mkdir()
    (tmp_path / "campaigns" / "acme.yaml").write_text(CAMPAIGN.replace("SIZE", "300x250"))
    (tmp_path / "rates.yaml").write_text(RATES)
    return tmp_path


def test_what_is_right_is_counted(config: Path) -> None:
    assert run(config, NOW) == ("1 advertiser, 1 campaign, 1 line item, 1 creative; 0 warnings", 0)


def test_warnings_are_shown_and_pass(config: Path) -> None:
    file = config / "campaigns" / "acme.yaml"
    file.write_text(CAMPAIGN.replace("SIZE", "311x250"))
    text, code = run(config, NOW)
    first, last = text.splitlines()
    assert first.startswith(f"{file}:12: warning: campaigns[0].line_items[0].creatives[0].size: ")
    assert last == "1 advertiser, 1 campaign, 1 line item, 1 creative; 1 warning"
    assert code == 0


def test_errors_of_all_files_are_shown_and_fail(config: Path) -> None:
    (config / "campaigns" / "acme.yaml").write_text(CAMPAIGN.replace("SIZE", "0x0"))
    (config / "rates.yaml").write_text(RATES.replace("PLN", "ZLOTY"))
    text, code = run(config, NOW)
    assert text.splitlines()[-1] == "2 errors, 0 warnings: nothing of this is applied"
    assert f"{config}/campaigns/acme.yaml:12: error: " in text
    assert f"{config}/rates.yaml:4: error: per_base.ZLOTY: found 'ZLOTY', expected" in text
    assert code == 1


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (RATES.replace("PLN: 4.25", "GBP: 0.9"), "no rate for 'PLN'"),
        (RATES.replace("11-18", "11-01"), "older than 7 days"),
    ],
)
def test_rates_that_do_not_do(config: Path, rates: str, message: str) -> None:
    (config / "rates.yaml").write_text(rates)
    text, code = run(config, NOW)
    assert message in text
    assert code == 1


def test_without_a_rates_file_nothing_is_said_of_it(config: Path) -> None:
    (config / "rates.yaml").unlink()
    assert run(config, NOW)[1] == 0


def test_what_ships_is_right() -> None:
    text, code = run(CONFIG, NOW)
    assert code == 0
    assert text.endswith("; 0 warnings")


# Rates


def test_rates_convert_until_they_are_too_old(config: Path) -> None:
    rates = load_rates(config / "rates.yaml")
    assert rates.factor("USD", "EUR", date(2026, 11, 25)) == pytest.approx(1 / 1.1)
    with pytest.raises(UnknownRate):
        rates.factor("USD", "EUR", date(2026, 11, 26))


def test_the_rates_that_ship_never_get_too_old() -> None:
    rates = load_rates(CONFIG / "rates.yaml")
    assert rates.base == "EUR"
    assert len(rates.per_base) >= 12
    assert rates.factor("USD", "EUR", date(2099, 1, 1)) > 0


@pytest.mark.parametrize(
    ("old", "new", "line", "where"),
    [
        ("max_age: 7d", "max_age: 36h", 3, "max_age"),
        ("max_age: 7d", "max_age: forever", 3, "max_age"),
        ("max_age: 7d", "max_age: 0d", 3, "max_age"),
        ("USD: 1.1", "USD: 0", 4, "per_base.USD"),
        ("USD: 1.1", "EUR: 1.1", 1, ""),
        ("base: EUR", "base: eur", 1, "base"),
        ("2026-11-18", "18.11.2026", 2, "date"),
        ("date: 2026-11-18\n", "", 1, "date"),
    ],
)
def test_wrong_rates(config: Path, old: str, new: str, line: int, where: str) -> None:
    file = config / "rates.yaml"
    file.write_text(RATES.replace(old, new))
    with pytest.raises(InvalidFile) as caught:
        load_rates(file)
    (problem,) = caught.value.problems
    assert (problem.line, problem.where) == (line, where)
