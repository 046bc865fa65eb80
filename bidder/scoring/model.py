"""How likely is a click, and how likely a sale after it?

`Scorer` holds what one model directory says: per role the rates that stand for buckets, a LightGBM
model, and its calibration.
It never changes, so a reload makes a new one and swaps the reference; requests under way keep the
old one, whose memory goes with the last of them.
"""

from collections.abc import Callable, Mapping, Sequence
from logging import getLogger
from math import isclose
from pathlib import Path
from typing import NamedTuple

from bidder.scoring import compiled, features, manifest
from bidder.scoring.booster import Booster, BoosterError
from bidder.scoring.calibration import Calibration
from bidder.scoring.encoding import Encoding, Rates
from bidder.scoring.features import Row
from bidder.scoring.manifest import Knots, Manifest, ModelError, ModelFile, Probe, Role

__all__ = ["ModelError", "Scorer"]

_TOLERANCE = 1e-9
_WITH_VIEWS: tuple[manifest.Calibrated, ...] = (*manifest.ROLES, manifest.VIEW)
_logger = getLogger(__name__)


class Part(NamedTuple):
    """What one role is made of."""

    encoding: Encoding
    predict: Callable[[Sequence[float]], float]
    """The booster's, or that of the same trees compiled."""
    calibration: Calibration


class Scorer:
    """Calibrated probabilities for rows of `features`. For one thread: the event loop's."""

    def __init__(
        self, about: Manifest, click: Part, conversion: Part, view: Calibration | None = None
    ) -> None:
        self.manifest = about
        self.version = about.version
        self.feature_version = about.features.version
        self._click, self._conversion = click, conversion
        self._encode_click = click.encoding.apply
        self._predict_click = click.predict
        self._calibrate_click = click.calibration.apply
        self._encode_conversion = conversion.encoding.apply
        self._predict_conversion = conversion.predict
        self._calibrate_conversion = conversion.calibration.apply
        self._calibrate_view = view.apply if view is not None else None

    @classmethod
    def load(cls, directory: Path) -> "Scorer":
        """The models in `directory`, checked: names, versions, checksums, and scores of probes.

        The directory may be a link that a promotion moves: it is followed once. Reads files and
        takes milliseconds: at a reload, call it in a thread. Raises `ModelError`.
        """
        directory = directory.resolve()
        about = manifest.read(directory)
        knots = manifest.read_calibration(directory, about.calibration)
        tables = manifest.read_encoding(directory, about.encoding)
        click, conversion = (
            Part(
                encoding := _encoding(directory / about.encoding.file, role, tables[role]),
                _predictor(directory, role, about, encoding),
                _calibration(directory / about.calibration.file, role, knots[role]),
            )
            for role in manifest.ROLES
        )
        view = None
        if manifest.VIEW in knots:
            view = _calibration(directory / about.calibration.file, "view", knots[manifest.VIEW])
        scorer = cls(about, click, conversion, view)
        for probe in about.probes:
            scorer._verify(directory / manifest.MANIFEST, probe)
        return scorer

    def score(self, row: Row, advertiser: str = "") -> tuple[float, float]:
        """(P(click | impression), P(conversion | click)), each in [0, 1].

        Conversions without a click are in neither: see `score_with_views`. `advertiser` is the id
        whose factor applies.
        """
        return (
            self._calibrate_click(self._predict_click(self._encode_click(row)), advertiser),
            self._calibrate_conversion(
                self._predict_conversion(self._encode_conversion(row)), advertiser
            ),
        )

    def score_with_views(self, row: Row, advertiser: str = "") -> tuple[float, float, float]:
        """As `score`, and P(sale credited to the view | impression); 0 where no model knows it."""
        told = self._predict_conversion(self._encode_conversion(row))
        view = self._calibrate_view
        return (
            self._calibrate_click(self._predict_click(self._encode_click(row)), advertiser),
            self._calibrate_conversion(told, advertiser),
            view(told, advertiser) if view is not None else 0.0,
        )

    def p_click(self, row: Row, advertiser: str = "") -> float:
        """P(click | impression) alone: half the cost, for goals that stop at the click."""
        return self._calibrate_click(self._predict_click(self._encode_click(row)), advertiser)

    def _verify(self, path: Path, probe: Probe) -> None:
        try:
            row = features.from_log(probe.row)
            known = [*manifest.ROLES] if self._calibrate_view is None else [*_WITH_VIEWS]
            expected = [probe.scores[role] for role in known]
        except (ValueError, KeyError) as error:
            raise ModelError(path, f"has a probe that cannot be used ({error})") from None
        told = self.score_with_views(row)
        for role, wanted, got in zip(known, expected, told, strict=False):
            if not isclose(wanted, got, rel_tol=0, abs_tol=_TOLERANCE):
                problem = f"the {role} model gives {got} here where training gave {wanted}"
                raise ModelError(path, problem)


def _predictor(
    directory: Path, role: Role, about: Manifest, encoding: Encoding
) -> Callable[[Sequence[float]], float]:
    """The trees of a role: compiled where that can be trusted, else by the C entry."""
    file = about.models[role]
    content = manifest.checked(directory, file)
    booster = _booster(directory, file, content)
    try:
        encoded = [encoding.apply(features.from_log(probe.row)) for probe in about.probes]
        return compiled.predictor(booster, content, directory, role, encoded)
    except ValueError:
        return booster.predict  # a probe that cannot be used: `load` says so
    except compiled.CompiledError as problem:
        _logger.warning("%s; the C entry serves", problem)
        return booster.predict


def _booster(directory: Path, file: ModelFile, content: bytes) -> Booster:
    path = directory / file.file
    # LightGBM ends its trees with this line, and may crash on a text that lacks it.
    if b"\nend of trees\n" not in content:
        raise ModelError(path, "is not a whole LightGBM model")
    try:
        booster = Booster(content)
    except BoosterError as error:
        raise ModelError(path, f"cannot be loaded ({error})") from None
    if booster.columns != len(features.NAMES):
        problem = f"takes {booster.columns} features, a row has {len(features.NAMES)}"
        raise ModelError(path, problem)
    if f"\nfeature_names={' '.join(features.NAMES)}\n".encode() not in content:
        raise ModelError(path, "was trained on columns of other names, or in another order")
    return booster


def _encoding(path: Path, role: str, tables: Mapping[str, Rates]) -> Encoding:
    try:
        return Encoding(tables)
    except ValueError as error:
        raise ModelError(path, f"has no usable tables for {role} ({error})") from None


def _calibration(path: Path, role: str, knots: Knots) -> Calibration:
    try:
        return Calibration(knots.scores, knots.rates, knots.factors)
    except ValueError as error:
        raise ModelError(path, f"has no usable calibration for {role} ({error})") from None
