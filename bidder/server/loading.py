"""What does the configuration folder put into service? Everything checked before anything is used.

config/ holds bidder.yaml, exchanges/, campaigns/, segments/, rates.yaml and more; the models stand
where bidder.yaml says. `bidder compile`, a process of its own, runs `publish`: it checks all, and
copies what serves into a folder of its own in the state folder. Workers load only from there, so
one that is started again serves what the others serve, whatever the files say by then. Any fault
raises `CannotLoad` with all that was found, and what serves stays.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile, rmtree
from typing import NamedTuple

from bidder import settings
from bidder.campaigns import compiled
from bidder.campaigns.catalogue import Catalogue, Intrusiveness
from bidder.campaigns.loading import load as load_campaigns
from bidder.campaigns.rates import load_rates
from bidder.capping import Parameters, load_parameters
from bidder.crm.browsers import Partner
from bidder.crm.browsers import partners as load_partners
from bidder.crm.segments import names as segment_names
from bidder.exchanges.loading import InvalidExchanges, names
from bidder.exchanges.loading import load as load_exchanges
from bidder.exchanges.profile import Exchange
from bidder.money import Rates
from bidder.pricing.market import Learnt, MarketError
from bidder.pricing.market import load as load_market
from bidder.scoring.manifest import MANIFEST
from bidder.scoring.model import ModelError, Scorer
from bidder.serving import Serving
from bidder.settings import Settings
from bidder.yamlfiles import InvalidFile

PUBLISHED = "serving/current"
"""In the state folder: a link to the folder, one of those beside it, with all that serves."""
CATALOGUE = "catalogue.msgpack"
"""In such a folder: the campaigns."""
USUAL_EXP_SECONDS = 300
"""So long after the bid an impression usually comes at the latest: the rule of thumb of OpenRTB 2.6
§7.2 for banners."""
_MODELS = "models"
_SYNC = "crm/sync.yaml"
_COPIED = ("exchanges", "segments", _SYNC, "rates.yaml", "intrusiveness.yaml")


class CannotLoad(ValueError):
    """The configuration or the models cannot be used; the text says where and why."""


class Rest(NamedTuple):
    """What serves besides the campaigns."""

    exchanges: Mapping[str, Exchange]
    scorer: Scorer
    rates: Rates
    intrusion: Parameters | None
    learnt: Learnt


def check(config: Path, given: Settings, now: float) -> tuple[Catalogue, Rest]:
    """What the folder `config` would put into service. Takes seconds, and memory, for a large
    one."""
    with _telling():
        catalogue, _ = load_campaigns(
            config / "campaigns",
            now=datetime.fromtimestamp(now, UTC),
            exchanges=names(config / "exchanges"),
            segments=segment_names(config / "segments"),
        )
        return catalogue, _rest(config, models_folder(config, given), catalogue)


def publish(config: Path, given: Settings, now: float) -> None:
    """Check all and put it into service, as a whole: who follows the link once finds the old or
    the new. What served until now is kept as well, to go back to."""
    catalogue, _ = check(config, given, now)
    with _telling():
        before = in_service(given.state_dir)
        made = _next(before.parent)
        (made / CATALOGUE).write_bytes(compiled.encode(catalogue))
        settings.keep(given, made)
        for name in _COPIED:
            _copy(config / name, made / name)
        _copy(models_folder(config, given), made / _MODELS)
        _rest(made, made / _MODELS, catalogue)  # a file may have changed since it was checked
        put_into_service(made)
        for folder in made.parent.iterdir():
            if folder.name.isdigit() and folder not in (made, before):
                rmtree(folder)


def in_service(state: Path) -> Path:
    """The folder with what serves: what is in it never changes. Stays in being until something
    else was published twice."""
    return (state / PUBLISHED).resolve()


def put_into_service(folder: Path) -> None:
    """Let the link lead to this folder, in one step."""
    scratch = folder.with_name(".new")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(folder.name)
    scratch.replace(folder.with_name(Path(PUBLISHED).name))


def _next(root: Path) -> Path:
    """A new folder among those that were published."""
    root.mkdir(parents=True, exist_ok=True)
    numbers = [int(each.name) for each in root.iterdir() if each.name.isdigit()]
    made = root / str(max(numbers, default=0) + 1)
    made.mkdir()
    return made


def _copy(source: Path, target: Path) -> None:
    """A file, or a folder with all in it; nothing where there is none. Never a link: files that
    serve must not change when somebody writes into the original."""
    if source.is_dir():
        target.mkdir(parents=True)
        for each in source.iterdir():
            _copy(each, target / each.name)
    elif source.exists():
        target.parent.mkdir(exist_ok=True)
        copyfile(source, target)


def serving(folder: Path) -> Serving:
    """All that was published into this folder. While serving, call it in a thread."""
    with _telling():
        catalogue = compiled.decode((folder / CATALOGUE).read_bytes())
        return Serving(catalogue, *_rest(folder, folder / _MODELS, catalogue))


def partners(folder: Path) -> Mapping[str, Partner]:
    """The exchanges that we sync with, by name, as published into this folder."""
    with _telling():
        return load_partners(folder / _SYNC)


def hold_seconds(exchanges: Mapping[str, Exchange]) -> dict[str, int]:
    """By exchange: how long after a bid its last notice may usually come."""
    return {name: each.notice_lag_seconds + USUAL_EXP_SECONDS for name, each in exchanges.items()}


def longest_hold_seconds(exchanges: Mapping[str, Exchange]) -> int:
    """The longest of `hold_seconds`."""
    return max(hold_seconds(exchanges).values(), default=USUAL_EXP_SECONDS)


@contextmanager
def _telling() -> Iterator[None]:
    """Whatever is wrong with a file becomes `CannotLoad`."""
    try:
        yield
    except InvalidFile as error:
        raise CannotLoad("\n".join(map(str, error.problems))) from None
    except (InvalidExchanges, ModelError, MarketError, OSError, ValueError) as error:
        raise CannotLoad(str(error)) from None


def _rest(folder: Path, models: Path, catalogue: Catalogue) -> Rest:
    load_partners(folder / _SYNC)  # workers read it when they start
    return Rest(
        load_exchanges(folder / "exchanges", os.environ),
        Scorer.load(models),
        load_rates(folder / "rates.yaml"),
        _intrusion(folder, catalogue),
        load_market(models),
    )


def _intrusion(folder: Path, catalogue: Catalogue) -> Parameters | None:
    """How intrusiveness is computed; may be missing only where no campaign asks for it."""
    path = folder / "intrusiveness.yaml"
    wanted = {item.intrusiveness for item in catalogue.line_items} - {Intrusiveness()}
    return load_parameters(path) if wanted or path.exists() else None


def published(given: Settings) -> Catalogue:
    """The catalogue that the workers serve. Takes seconds for a large one."""
    return compiled.decode((given.state_dir / PUBLISHED / CATALOGUE).read_bytes())


def published_exchanges(given: Settings) -> Mapping[str, Exchange]:
    """The exchanges that the workers serve, by name."""
    with _telling():
        return load_exchanges(given.state_dir / PUBLISHED / "exchanges", os.environ)


def published_names(given: Settings) -> Mapping[int, str]:
    """What each 32-bit id of the campaigns that the workers serve is called. Takes seconds for
    many; empty before there are any."""
    try:
        return published(given).names
    except (FileNotFoundError, ValueError):
        return {}


def models_folder(config: Path, given: Settings) -> Path:
    """Where the models stand: beside the configuration folder, unless the path is absolute."""
    return (config.absolute().parent / given.models).resolve()


def models_identity(config: Path, given: Settings) -> tuple[str, int, int]:
    """What tells the models in service from others: where their manifest is, which file it is and
    when it was written; zeros where there is none."""
    path = models_folder(config, given) / MANIFEST
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), found.st_ino, found.st_mtime_ns
