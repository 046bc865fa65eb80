"""What can be done with the harness? The commands of ``python -m loadtest``."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import typer

COMMANDS = {
    "run": ("loadtest.load.command", "Open-loop load, and the highest rate a bidder carries."),
    "faults": ("loadtest.faults.command", "What a bidder does when things break around it."),
    "soak": ("loadtest.soak.command", "Hours of load: memory, late answers, log and counters."),
    "bench": ("loadtest.bench.command", "CPU per request of the bidder against bare aiohttp."),
    "exchange": ("loadtest.exchange.command", "A simulated exchange with people in it."),
    "certify": ("loadtest.certify.command", "An exchange's acceptance test of a bidder."),
}
"""Name -> the module with a function of that name, and a line of help."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Only the module of the command asked for is imported: each starts fast, and one that cannot be
    imported does not take the others down.
    """
    asked = list(sys.argv[1:] if arguments is None else arguments)
    app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

    @app.callback()
    def describe() -> None:
        """Load, markets and acceptance tests for the bidder."""

    for name, (module, line) in COMMANDS.items():
        if asked[:1] == [name]:
            app.command(name)(_function(module, name))
        else:
            app.command(name, help=line)(describe)
    app(args=asked, prog_name="python -m loadtest")


def _function(module: str, name: str) -> Callable[..., Any]:
    try:
        function: Callable[..., Any] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        print(f"loadtest {name} is not available: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return function


if __name__ == "__main__":
    main()
