"""How does a model directory get its machine code? With the extra `compiled`, in minutes.

    python -m models.compile DIR

The code goes into DIR/compiled, for this kind of processor; the bidder takes it at its next reload,
after it has said what the C entry says (see `bidder.scoring.compiled`).
"""

import argparse
import time
from pathlib import Path

from bidder.scoring import compiled, manifest
from bidder.scoring.model import ModelError, Scorer


def compile_models(directory: Path) -> None:
    """Compile both models of a directory. Raises `ModelError`, `CompiledError`."""
    about = Scorer.load(directory).manifest
    for role in manifest.ROLES:
        text = manifest.checked(directory.resolve(), about.models[role])
        compiled.compile_to(text, compiled.place(directory.resolve(), role))


def main() -> None:
    """Compile, and say how long it took."""
    parser = argparse.ArgumentParser(prog="python -m models.compile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("directory", type=Path, metavar="DIR")
    given = parser.parse_args()
    if not compiled.available():
        raise SystemExit("lleaves is not installed: pip install 'bidder[compiled]'")
    begun = time.monotonic()
    try:
        compile_models(given.directory)
    except (ModelError, compiled.CompiledError) as problem:
        raise SystemExit(str(problem)) from None
    print(f"{given.directory}: compiled in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
