"""What does the configuration folder put into service? Everything checked before anything is used.

config/ holds bidder.yaml, exchanges/, campaigns/ and rates.yaml; the models stand where bidder.yaml
says. `bidder compile`, a process of its own, runs `check` and `publish`; workers load what it
published (`serving`). Any fault raises `CannotLoad` with all that was found, and what serves stays.
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bidder.campaigns import compiled
from bidder.campaigns.catalogue import Catalogue, Intrusiveness
from bidder.campaigns.loading import load as load_campaigns
from bidder.campaigns.rates import load_rates
from bidder.capping import Parameters, load_parameters
from bidder.crm.segments import names as segment_names
from bidder.exchanges.loading import InvalidExchanges, names
from bidder.exchanges.loading import load as load_exchanges
from bidder.exchanges.profile import Exchange
from bidder.pricing.market import MarketError
from bidder.pricing.market import load as load_market
from bidder.scoring.manifest import MANIFEST
from bidder.scoring.model import ModelError, Scorer
from bidder.serving import Serving
from bidder.settings import Settings
from bidder.yamlfiles import InvalidFile

PUBLISHED = "catalogue.msgpack"
"""In the state folder: the catalogue that workers serve."""
USUAL_EXP_SECONDS = 300
"""So long after the bid an impression usually comes at the latest: the rule of thumb of OpenRTB 2.6
§7.2 for banners."""


class CannotLoad(ValueError):
    """The configuration or the models cannot be used; the text says where and why."""


def check(config: Path, settings: Settings, now: float) -> Catalogue:
    """The campaigns in the folder `config`, when all else in it can serve too. Takes seconds, and
    memory, for a large one."""
    try:
        load_exchanges(config / "exchanges", os.environ)
        catalogue, _ = load_campaigns(
            config / "campaigns",
            now=datetime.fromtimestamp(now, UTC),
            exchanges=names(config / "exchanges"),
            segments=segment_names(config / "segments"),
        )
        load_rates(config / "rates.yaml")
        _intrusion(config, catalogue)
        Scorer.load(models_folder(config, settings))
        load_market(models_folder(config, settings))
    except InvalidFile as error:
        raise CannotLoad("\n".join(map(str, error.problems))) from None
    except (InvalidExchanges, ModelError, MarketError, OSError) as error:
        raise CannotLoad(str(error)) from None
    return catalogue


def hold_seconds(exchanges: Mapping[str, Exchange]) -> dict[str, int]:
    """By exchange: how long after a bid its last notice may usually come."""
    return {name: each.notice_lag_seconds + USUAL_EXP_SECONDS for name, each in exchanges.items()}


def publish(catalogue: Catalogue, settings: Settings) -> None:
    """Lay the catalogue ready for the workers. Atomic: a reader finds the old one or the new."""
    path = settings.state_dir / PUBLISHED
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(".new")
    made.write_bytes(compiled.encode(catalogue))
    made.replace(path)


def serving(config: Path, settings: Settings, catalogue: Catalogue | None = None) -> Serving:
    """All that serves, with the published catalogue unless one is given. While serving, call it
    in a thread."""
    try:
        if catalogue is None:
            catalogue = compiled.decode((settings.state_dir / PUBLISHED).read_bytes())
        return Serving(
            catalogue,
            load_exchanges(config / "exchanges", os.environ),
            Scorer.load(models_folder(config, settings)),
            load_rates(config / "rates.yaml"),
            _intrusion(config, catalogue),
            load_market(models_folder(config, settings)),
        )
    except InvalidFile as error:
        raise CannotLoad("\n".join(map(str, error.problems))) from None
    except (InvalidExchanges, ModelError, MarketError, OSError, ValueError) as error:
        raise CannotLoad(str(error)) from None


def _intrusion(config: Path, catalogue: Catalogue) -> Parameters | None:
    """How intrusiveness is computed; may be missing only where no campaign asks for it."""
    path = config / "intrusiveness.yaml"
    wanted = {item.intrusiveness for item in catalogue.line_items} - {Intrusiveness()}
    return load_parameters(path) if wanted or path.exists() else None


def published(settings: Settings) -> Catalogue:
    """The catalogue that the workers serve. Takes seconds for a large one."""
    return compiled.decode((settings.state_dir / PUBLISHED).read_bytes())


def published_names(settings: Settings) -> Mapping[int, str]:
    """What each 32-bit id of the campaigns that the workers serve is called. Takes seconds for
    many; empty before there are any."""
    try:
        return compiled.decode((settings.state_dir / PUBLISHED).read_bytes()).names
    except (FileNotFoundError, ValueError):
        return {}


def models_folder(config: Path, settings: Settings) -> Path:
    """Where the models stand: beside the configuration folder, unless the path is absolute."""
    return (config.absolute().parent / settings.models).resolve()


def models_identity(config: Path, settings: Settings) -> tuple[str, int, int]:
    """What tells the models in service from others: where their manifest is, which file it is and
    when it was written; zeros where there is none."""
    path = models_folder(config, settings) / MANIFEST
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), found.st_ino, found.st_mtime_ns
