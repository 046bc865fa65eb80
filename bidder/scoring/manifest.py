"""May this model directory be served? Its manifest says what it holds; a mismatch is refused.

A model directory holds `manifest.json`, one LightGBM text model per role, `calibration.json` and
`encoding.json`; it may hold the same models compiled for one kind of processor.
Whatever is wrong with it is a `ModelError` that names the file and what to do. Files are read once
and checked in memory, so what is checked is what is loaded, even while the directory is replaced.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from bidder.scoring import features
from bidder.scoring.encoding import Rates

MANIFEST = "manifest.json"
CALIBRATION = "calibration.json"
ENCODING = "encoding.json"

Role = Literal["click", "conversion"]
ROLES: tuple[Role, ...] = ("click", "conversion")
"""P(click | impression) and P(conversion | click)."""
Calibrated = Literal["click", "conversion", "view"]
VIEW: Calibrated = "view"
"""P(sale credited to the view | impression): the conversion model's score, calibrated on the sales
that views were credited with. Not every model directory knows it."""
REMEDY = "make one with `python -m models.train` from logged rows, or `python -m models.demo`"


class ModelError(Exception):
    """A model directory that cannot be served: which file, what is wrong, what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}; {REMEDY} (--out DIR)")
        self.path = path
        self.problem = problem


class TrainedOn(Struct, frozen=True):
    """Which rows a model learnt from. Times are seconds since the epoch."""

    source: str
    rows: int
    first: float
    last: float


class ModelFile(Struct, frozen=True):
    """One file of the directory, and how good the model in it was on rows it had not seen."""

    file: str
    sha256: str
    metrics: dict[str, float] = {}


class FeatureSet(Struct, frozen=True):
    """What a row is: the version hash and the names in order."""

    version: str
    names: tuple[str, ...]


class Probe(Struct, frozen=True):
    """A row and what training says of it, by `Calibrated`: serving must say the same to 1e-9."""

    row: list[float | None]
    scores: dict[str, float]


class Manifest(Struct, frozen=True):
    """What stands in `manifest.json`."""

    created: str
    """ISO 8601, UTC."""
    lightgbm: str
    """The version it was trained with."""
    trained_on: TrainedOn
    features: FeatureSet
    models: dict[Role, ModelFile]
    calibration: ModelFile
    encoding: ModelFile
    settings: dict[str, float | tuple[str, ...]] = {}
    """How it was trained, the seed too."""
    importance: dict[Role, dict[str, float]] = {}
    """What each feature contributed: the gain of its splits, as a share of all."""
    probes: list[Probe] = []

    @property
    def version(self) -> str:
        """12 hexadecimal digits by which logs name these models: a hash of their content."""
        content = [self.features.version, self.calibration.sha256, self.encoding.sha256]
        content += [f"{role}:{file.sha256}" for role, file in sorted(self.models.items())]
        return sha256("\n".join(content).encode()).hexdigest()[:12]


class Knots(Struct, frozen=True):
    """One role's calibration as it stands in `calibration.json`; see `Calibration`."""

    scores: list[float]
    rates: list[float]
    factors: dict[str, float] = {}


R = TypeVar("R")
T = TypeVar("T")

_calibration_decoder = msgspec.json.Decoder(dict[Calibrated, Knots])
_encoding_decoder = msgspec.json.Decoder(dict[Role, dict[str, Rates]])
_manifest_decoder = msgspec.json.Decoder(Manifest)


def read(directory: Path) -> Manifest:
    """The manifest of a model directory. Raises `ModelError` if it cannot be served here."""
    path = directory / MANIFEST
    try:
        manifest = _manifest_decoder.decode(_bytes(path))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(path, f"cannot be read ({error})") from None
    for role in ROLES:
        if role not in manifest.models:
            raise ModelError(path, f"lists no {role} model")
    wanted = manifest.features
    if wanted.names != features.NAMES:
        raise ModelError(path, f"needs other features ({_difference(wanted.names)})")
    if wanted.version != features.VERSION:
        problem = f"needs features of version {wanted.version}, this bidder has {features.VERSION}"
        raise ModelError(path, problem)
    return manifest


def checked(directory: Path, file: ModelFile) -> bytes:
    """The content of a listed file. Raises `ModelError` if it is missing or not what is listed."""
    path = directory / file.file
    if path.parent != directory:
        raise ModelError(path, "lies outside the model directory")
    content = _bytes(path)
    if sha256(content).hexdigest() != file.sha256:
        raise ModelError(path, f"is damaged: its SHA-256 is not the one in {MANIFEST}")
    return content


def read_calibration(directory: Path, file: ModelFile) -> Mapping[Calibrated, Knots]:
    """The calibration of every role, and of views where it is known. Raises `ModelError`."""
    return _of_every_role(directory, file, _calibration_decoder, "calibration")


def read_encoding(directory: Path, file: ModelFile) -> Mapping[Role, Mapping[str, Rates]]:
    """The tables of every role, by feature. Raises `ModelError`."""
    return _of_every_role(directory, file, _encoding_decoder, "tables")


def _of_every_role(
    directory: Path, file: ModelFile, decoder: msgspec.json.Decoder[dict[R, T]], what: str
) -> dict[R, T]:
    path = directory / file.file
    try:
        found = decoder.decode(checked(directory, file))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(path, f"cannot be read ({error})") from None
    for role in ROLES:
        if role not in found:
            raise ModelError(path, f"has no {what} for {role}")
    return found


def listed(file: str, content: bytes, metrics: dict[str, float] | None = None) -> ModelFile:
    """The manifest's line for a file with this content."""
    return ModelFile(file, sha256(content).hexdigest(), metrics or {})


def write(directory: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> None:
    """Write a model directory: `contents` by file name, and last the manifest.

    A bidder that reads in the middle finds checksums that do not match, and keeps what it has.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _replace(directory / name, content)
    _replace(directory / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_bytes(content)
    scratch.replace(path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(path, f"cannot be opened ({error.strerror})") from None


def _difference(names: tuple[str, ...]) -> str:
    missing = [name for name in names if name not in features.NAMES]
    added = [name for name in features.NAMES if name not in names]
    if not missing and not added:
        return "in another order"
    parts = [f"unknown here: {', '.join(missing)}"] if missing else []
    parts += [f"not in the model: {', '.join(added)}"] if added else []
    return "; ".join(parts)
