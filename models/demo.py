"""Where do the models that ship come from? From simulated people: nothing to download.

    python -m models.demo                                      models/demo, as in the repository
    python -m models.demo --trees 200 --leaves 63 --out DIR    as large as the bench asks for

With `--trees` exactly that many trees are grown, on all features, else early stopping decides, and
the names of simulated sites and ads, which exist nowhere else, are not learnt. The same arguments
and LightGBM make the same model version.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from bidder.scoring.features import FEATURES
from models.simulate import table
from models.train import Recipe, save, train

DIRECTORY = Path(__file__).parent / "demo"


def main() -> None:
    """Simulate, train, write, and say what came out."""
    parser = argparse.ArgumentParser(prog="python -m models.demo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=DIRECTORY, metavar="DIR")
    parser.add_argument("--trees", type=int, help="exactly this many trees")
    parser.add_argument("--leaves", type=int, default=15)
    parser.add_argument("--impressions", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    recipe = Recipe(
        trees=given.trees or 200,
        patience=0 if given.trees else 15,
        leaves=given.leaves,
        learning_rate=0.08,
        rows_per_leaf=20 if given.trees else 200,
        folds=3,
        seed=given.seed,
        threads=given.threads,
        unused=() if given.trees else tuple(f.name for f in FEATURES if f.kind == "bucket"),
    )
    rows = table(given.impressions, given.seed)
    learnt = train(rows, recipe, print)
    source = f"models.demo: {len(rows)} simulated impressions, seed {given.seed}"
    about = save(learnt, given.out, rows, recipe, source=source, created=datetime.now(UTC))
    size = sum(path.stat().st_size for path in given.out.iterdir() if path.is_file())
    print(f"{given.out}: model {about.version}, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
