"""With which numbers is intrusiveness computed? `config/intrusiveness.yaml`, value and source."""

from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from bidder.yamlfiles import Model, read


class Parameters(NamedTuple):
    """See the YAML for the formula. Weights are on the scale of log-odds, half-lives in hours."""

    base: float
    repetition: float
    repetition_half_life_hours: float
    bunching: float
    bunching_half_life_hours: float
    specificity: float
    relevance: float
    fewer_ads: float
    specificity_open: float
    specificity_audience: float
    specificity_product: float
    relevance_page_category: float
    relevance_page_keyword: float
    relevance_interest: float
    interest_half_life_hours: float
    other_language: float
    calibrated: bool = False
    """False: the sizes are assumptions, only the signs are known."""


class _Number(Model):
    value: float
    source: Annotated[str, Field(min_length=1)]
    """A paper, a survey, or the word assumption."""


class _Weight(_Number):
    """The sign is known from the research, so the other one is a mistake."""

    value: Annotated[float, Field(ge=0, le=20)]


class _Hours(_Number):
    value: Annotated[float, Field(gt=0, le=24 * 366)]


class _Share(_Number):
    value: Annotated[float, Field(ge=0, le=1)]


class _Written(Model):
    """The file."""

    calibrated: bool
    base: _Number
    repetition: _Weight
    repetition_half_life_hours: _Hours
    bunching: _Weight
    bunching_half_life_hours: _Hours
    specificity: _Weight
    relevance: _Weight
    fewer_ads: _Weight
    specificity_open: _Share
    specificity_audience: _Share
    specificity_product: _Share
    relevance_page_category: _Share
    relevance_page_keyword: _Share
    relevance_interest: _Share
    interest_half_life_hours: _Hours
    other_language: _Share


def load_parameters(path: Path) -> Parameters:
    """The parameters in the file. Raises `InvalidFile` with all that is wrong with it."""
    written = read(path, _Written).value
    numbers = {name: number.value for name, number in written if isinstance(number, _Number)}
    return Parameters(**numbers, calibrated=written.calibrated)
