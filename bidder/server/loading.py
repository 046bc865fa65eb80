"""What does the configuration folder put into service? Everything checked before anything is used.

config/ holds bidder.yaml, exchanges/, campaigns/ and rates.yaml; the models stand where bidder.yaml
says. Any fault raises `CannotLoad` with all that was found: the old `Serving` then stays.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

from bidder.campaigns.loading import load as load_campaigns
from bidder.campaigns.rates import load_rates
from bidder.exchanges.loading import InvalidExchanges
from bidder.exchanges.loading import load as load_exchanges
from bidder.exchanges.loading import names
from bidder.scoring.model import ModelError, Scorer
from bidder.serving import Serving
from bidder.settings import Settings
from bidder.yamlfiles import InvalidFile


class CannotLoad(ValueError):
    """The configuration or the models cannot be used; the text says where and why."""


def load_serving(config: Path, settings: Settings, now: float) -> Serving:
    """All that serves, from the folder `config`. Reads files: call it in a thread while serving."""
    at = datetime.fromtimestamp(now, UTC)
    try:
        exchanges = load_exchanges(config / "exchanges", os.environ)
        known = names(config / "exchanges")
        catalogue, _ = load_campaigns(config / "campaigns", now=at, exchanges=known)
        rates = load_rates(config / "rates.yaml")
        scorer = Scorer.load(models_folder(config, settings))
    except InvalidFile as error:
        raise CannotLoad("\n".join(map(str, error.problems))) from None
    except (InvalidExchanges, ModelError, OSError) as error:
        raise CannotLoad(str(error)) from None
    return Serving(catalogue, exchanges, scorer, rates)


def models_folder(config: Path, settings: Settings) -> Path:
    """Where the models stand: beside the configuration folder, unless the path is absolute."""
    return (config.absolute().parent / settings.models).resolve()
