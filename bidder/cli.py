"""The commands. Each reads the configuration folder, does one thing, and says what it did.

Rooms are imported where a command needs them, so that `bidder check` does not wait for LightGBM.
"""

import typer

from bidder import cli_crm, cli_events, cli_money, cli_people, cli_rights, cli_serve, cli_traders

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A real-time bidder for CRM-driven display retargeting. README.md says where to begin.",
)
_DATA = "People and data"


def _group(name: str, about: str, panel: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=about)
    app.add_typer(group, name=name, rich_help_panel=panel)
    return group


cli_serve.register(app)
cli_traders.register(app)
cli_money.register(_group("budget", "What campaigns have spent.", cli_traders.PANEL))
_people = _group("people", "People in the store, and what they may ask of us.", _DATA)
cli_people.register(_people)
cli_rights.register(_people)
cli_crm.register(
    _group("crm", "What a company knows of its customers: files in, people out.", _DATA),
    _group("segments", "Who is in which segment, as `config/segments/` defines them.", _DATA),
)
cli_events.register(_group("events", "The event log.", _DATA))


def main() -> None:
    """The script `bidder`."""
    app()
