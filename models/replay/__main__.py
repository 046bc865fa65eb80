"""What would we have won? Replay logged auctions.

    python -m models.replay --auctions FILE.tsv.gz --prices FILE.json [--mode second|first]
    python -m models.replay --all DIR --json build/replay.json

Columns are found by header: click, market_price, a pctr, perhaps an episode (else 1,000 auctions
each). Whatever is tuned is tuned on the first half of the file and the histogram of prices; only
the second half counts. `--mode first` adds the surplus of shading without a budget. A picture of
clicks against budget is written beside the JSON.
"""

import argparse
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import orjson

from models.replay import logs, report
from models.replay.clicks import Outcome, outcomes
from models.replay.surplus import Surplus, surpluses

BUDGETS = tuple(Fraction(1, n) for n in (32, 16, 8, 4, 2))


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay, print, write."""
    given = _given(arguments)
    try:
        pairs = logs.pairs(given.all) if given.all else [(given.auctions, given.prices)]
        campaigns = [logs.read(*pair) for pair in pairs]
    except logs.LogError as error:
        raise SystemExit(f"{error}") from None
    found: list[Outcome] = []
    kept: list[Surplus] = []
    for campaign in campaigns:
        found += outcomes(campaign, given.budget or BUDGETS, given.mode, print)
        if given.mode == "first":
            kept += surpluses(campaign)
    result = report.summary(found, kept, given.mode)
    _show(result, kept)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    drawn = given.picture or (given.json.with_suffix(".png") if given.json else None)
    if drawn:
        report.picture(found, drawn)
        print(f"{drawn}: clicks against budget")


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.replay", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--auctions", type=Path, metavar="FILE", help="tab or comma separated")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="JSON of training prices")
    parser.add_argument("--all", type=Path, metavar="DIR", help="every campaign in a folder")
    parser.add_argument("--mode", choices=("second", "first"), default="second")
    parser.add_argument("--budget", type=_share, action="append", help="such as 1/32; repeatable")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--picture", type=Path, metavar="OUT", help="PNG; default: beside the JSON")
    given = parser.parse_args(arguments)
    if bool(given.all) == bool(given.auctions) or bool(given.auctions) != bool(given.prices):
        parser.error("give --auctions and --prices, or --all")
    return given


def _share(text: str) -> Fraction:
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 1/32") from None
    if share <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return share


def _show(result: dict[str, object], kept: Sequence[Surplus]) -> None:
    for one in kept:
        print(
            f"{one.campaign} k={one.level:g}: surplus {one.ours:.4f} of argmax; "
            f"{one.tuned} of V (tuned) {one.fractions[one.tuned]:.4f}, "
            f"best fraction in hindsight {_highest(one):.4f}"
        )
    print(f"clicks {result['clicks']}")
    print(f"pooled_ratio {result['pooled_ratio']} interval {result['interval']}")


def _highest(one: Surplus) -> float:
    return max((f for f in one.fractions.values() if not math.isnan(f)), default=math.nan)


if __name__ == "__main__":
    main()
