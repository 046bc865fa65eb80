"""May this model go into service? If it is whole, judged, calibrated and no worse: switched to.

    python -m models.promote CHALLENGER --evaluation build/evaluation --root build/models

`<root>/<version>/` holds each model that served, `<root>/current` is a link to the one in service,
and `<root>/history.jsonl` says what was switched when. The settings' `models:` names the link; the
bidder sees it move, loads what it points to, and answers on. `models.rollback` goes back.
"""

import argparse
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import msgspec
from msgspec import Struct

from bidder.pricing.market import DIRECTORY as MARKET
from bidder.scoring import manifest
from bidder.scoring.model import ModelError, Scorer

CURRENT = "current"
HISTORY = "history.jsonl"
TOLERANCE = 0.1
"""Predicted over observed may be this far from 1, beyond its interval."""


class Refused(ValueError):
    """The challenger may not serve; the text says why, one reason a line."""


class Switch(Struct, frozen=True):
    """One line of the history."""

    time: str
    """ISO 8601, UTC."""
    version: str
    before: str
    """What served until then; empty for the first."""
    why: str
    """`promoted` or `rolled back`."""


def promote(challenger: Path, evaluation: Mapping[str, Any], root: Path, now: datetime) -> Switch:
    """Put a challenger into service. Raises `Refused`, `ModelError` or `OSError`; then nothing
    has changed."""
    version = Scorer.load(challenger).version
    champion = in_service(root)
    reasons = objections(evaluation, version, champion)
    if reasons:
        raise Refused("\n".join(reasons))
    target = root / version
    if not target.exists():
        scratch = root / f".{version}.new"
        rmtree(scratch, ignore_errors=True)
        root.mkdir(parents=True, exist_ok=True)
        copytree(challenger.resolve(), scratch)
        learnt = root / CURRENT / MARKET
        if learnt.is_dir() and not (scratch / MARKET).exists():
            copytree(learnt, scratch / MARKET)  # what was learnt of prices goes on serving
        scratch.replace(target)
    return switch(root, version, "promoted", now)


def objections(evaluation: Mapping[str, Any], version: str, champion: str) -> list[str]:
    """What an evaluation has against the challenger; nothing where there is no objection."""
    judged = evaluation["models"]
    if judged["challenger"] != version:
        return [f"the evaluation is of model {judged['challenger']}, not of {version}"]
    if champion and judged.get("champion") != champion:
        return [f"the evaluation is not against {champion}, which serves"]
    found = []
    for role in manifest.ROLES:
        figures = evaluation[role]["challenger"]
        if "calibration_interval" not in figures:
            found.append(f"{role}: only {figures['positives']:.0f} positive rows to judge by")
            continue
        low, high = figures["calibration_interval"]
        if low > 1 + TOLERANCE or high < 1 - TOLERANCE:
            found.append(
                f"{role}: miscalibrated, predicted over observed is {figures['calibration']:.3f} "
                f"({low:.3f} to {high:.3f})"
            )
        gap = evaluation[role].get("difference")
        if gap is not None and gap["log_loss_interval"][0] > 0:
            found.append(
                f"{role}: worse than the champion, log loss {gap['log_loss']:+.6f} "
                f"({gap['log_loss_interval'][0]:+.6f} to {gap['log_loss_interval'][1]:+.6f})"
            )
    return found


def in_service(root: Path) -> str:
    """The version that the link points to; empty if there is none."""
    try:
        return os.readlink(root / CURRENT)
    except FileNotFoundError:
        return ""


def switch(root: Path, version: str, why: str, now: datetime) -> Switch:
    """Move the link, in one step, to a model that loads. Raises `ModelError`, `OSError`."""
    Scorer.load(root / version)
    made = Switch(now.astimezone(UTC).isoformat(timespec="seconds"), version, in_service(root), why)
    scratch = root / f".{CURRENT}.new"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(version)
    scratch.replace(root / CURRENT)
    with (root / HISTORY).open("ab") as file:
        file.write(msgspec.json.encode(made) + b"\n")
    return made


def history(root: Path) -> list[Switch]:
    """What was switched, oldest first; a torn line is passed over."""
    found = []
    try:
        lines = (root / HISTORY).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            found.append(msgspec.json.decode(line, type=Switch))
        except msgspec.MsgspecError:
            continue
    return found


def main() -> None:
    """Promote, or say why not."""
    parser = argparse.ArgumentParser(prog="python -m models.promote", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("challenger", type=Path, metavar="DIR")
    parser.add_argument("--evaluation", type=Path, default=Path("build/evaluation"), metavar="DIR")
    parser.add_argument("--root", type=Path, default=Path("build/models"), metavar="DIR")
    given = parser.parse_args()
    try:
        evaluation = msgspec.json.decode((given.evaluation / "evaluation.json").read_bytes())
        made = promote(given.challenger, evaluation, given.root, datetime.now(UTC))
    except (Refused, ModelError, OSError, msgspec.MsgspecError) as problem:
        raise SystemExit(f"not promoted:\n{problem}") from None
    print(f"{given.root / CURRENT}: {made.version}, before {made.before or 'nothing'}")


if __name__ == "__main__":
    main()
