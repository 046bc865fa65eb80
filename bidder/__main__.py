"""``python -m bidder``: the same commands as the script ``bidder``."""

from bidder.cli import main

main()
