"""How do we get back to the model that served before?

    python -m models.rollback --root build/models

The one that the latest promotion still in force took the place of; again for the one before it.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from bidder.scoring.model import ModelError
from models.promote import CURRENT, Switch, history, in_service, switch


class NothingBefore(ValueError):
    """No model served before the one in service."""


def rollback(root: Path, now: datetime) -> Switch:
    """Go back one promotion. Raises `NothingBefore`; `ModelError` if that model is damaged."""
    trail: list[str] = []
    for past in history(root):
        if past.why == "promoted":
            trail.append(past.before)
        elif trail:
            trail.pop()
    if not trail or not trail[-1]:
        raise NothingBefore(f"{root}: no model served before {in_service(root) or 'any'}")
    return switch(root, trail[-1], "rolled back", now)


def main() -> None:
    """Roll back and say to what."""
    parser = argparse.ArgumentParser(prog="python -m models.rollback", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--root", type=Path, default=Path("build/models"), metavar="DIR")
    given = parser.parse_args()
    try:
        made = rollback(given.root, datetime.now(UTC))
    except (NothingBefore, ModelError, OSError) as problem:
        raise SystemExit(str(problem)) from None
    print(f"{given.root / CURRENT}: {made.version}, before {made.before}")


if __name__ == "__main__":
    main()
