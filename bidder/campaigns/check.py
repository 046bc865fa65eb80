"""Is the configuration in this directory right? The text that ``bidder check`` prints."""

from collections.abc import Container
from datetime import datetime
from pathlib import Path

from bidder.campaigns.loading import load
from bidder.campaigns.rates import load_rates
from bidder.money import UnknownRate
from bidder.yamlfiles import InvalidFile, Problem


def run(
    config_dir: Path,
    now: datetime,
    *,
    exchanges: Container[str] | None = None,
    segments: Container[str] | None = None,
) -> tuple[str, int]:
    """(text, exit code) of checking ``campaigns/`` and ``rates.yaml`` below `config_dir`.

    One line a problem and a last line with counts; the code is 1 if any problem is an error.
    Names of `exchanges` and `segments` are checked where they are given.
    """
    problems = list[Problem]()
    loaded = ""
    try:
        catalogue, found = load(
            config_dir / "campaigns", now=now, exchanges=exchanges, segments=segments
        )
        problems += found
        loaded = ", ".join(
            [
                _count(len(catalogue.advertisers), "advertiser"),
                _count(len(catalogue.campaigns), "campaign"),
                _count(len(catalogue.line_items), "line item"),
                _count(sum(len(item.creatives) for item in catalogue.line_items), "creative"),
            ]
        )
        currencies = {advertiser.currency for advertiser in catalogue.advertisers}
    except InvalidFile as error:
        problems += error.problems
        currencies = set()
    problems += _rates(config_dir / "rates.yaml", currencies, now)
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = _count(len(problems) - errors, "warning")
    if errors:
        last = f"{_count(errors, 'error')}, {warnings}: nothing of this is applied"
    else:
        last = f"{loaded}; {warnings}"
    return "\n".join([*map(str, problems), last]), 1 if errors else 0


def _rates(path: Path, currencies: set[str], now: datetime) -> list[Problem]:
    """What is wrong with the exchange rates, or missing from them. Without a file, nothing."""
    if not path.exists():
        return []
    try:
        rates = load_rates(path)
    except InvalidFile as error:
        return list(error.problems)
    problems = []
    for currency in sorted(currencies):
        try:
            rates.factor(currency, rates.base, now.date())
        except UnknownRate as error:
            problems.append(Problem("error", path, 1, "", str(error)))
    return list(dict.fromkeys(problems))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
