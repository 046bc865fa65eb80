"""Can the trees run as machine code? With the extra `compiled`: lleaves, by way of LLVM.

A model of 200 trees takes 20 µs through LightGBM's C entry and 5 µs compiled; compiling takes a
minute or two, so it is done offline (`python -m models.compile`), and a model directory holds the
result under `compiled/<processor>/`. It is used only where lleaves is installed, on the processor
it was made for, and where it says what the C entry says; else the C entry goes on serving.
"""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from math import isclose
from pathlib import Path
from platform import machine
from struct import Struct as Packing
from tempfile import NamedTemporaryFile
from typing import Any

from bidder.scoring.booster import Booster

TOLERANCE = 1e-9
FOLDER = "compiled"
_ENTRY = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
"""`PYFUNCTYPE` keeps the GIL: 5 µs are too short to hand it over."""


class CompiledError(RuntimeError):
    """The compiled model cannot be used; the C entry can."""


class Compiled:
    """One compiled model. Not for use by several threads at once."""

    def __init__(self, text: bytes, cache: Path) -> None:
        """Load what `compile_to` left at `cache`. Raises `CompiledError`."""
        _check(text, cache)  # machine code that is damaged does not raise: it crashes
        self._model = _model(text, cache)  # owns the code
        address = ctypes.cast(self._model._c_entry_func, ctypes.c_void_p).value
        if address is None:
            raise CompiledError(f"{cache}: holds no entry")
        self._call = _ENTRY(address)
        columns = self._model.num_feature()
        self._row = (ctypes.c_double * columns)()
        self._row_at = ctypes.addressof(self._row)
        self._write = Packing(f"{columns}d").pack_into
        self._result = ctypes.c_double()
        self._result_at = ctypes.addressof(self._result)

    def predict(self, row: Sequence[float]) -> float:
        """As `Booster.predict`."""
        self._write(self._row, 0, *row)
        self._call(self._row_at, self._result_at, 0, 1)
        return self._result.value


def available() -> bool:
    """Is lleaves installed?"""
    return find_spec("lleaves") is not None


def place(directory: Path, role: str) -> Path:
    """Where the compiled model of a role lies, for this processor."""
    llvm = import_module("llvmlite.binding")

    return directory / FOLDER / f"{machine()}-{llvm.get_host_cpu_name()}" / f"{role}.o"


def compile_to(text: bytes, cache: Path) -> None:
    """Compile a LightGBM text model. Takes minutes."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    scratch = cache.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    _model(text, scratch)
    seal = sha256(text).hexdigest() + sha256(scratch.read_bytes()).hexdigest()
    _seal(cache).write_text(seal)
    scratch.replace(cache)


def predictor(
    booster: Booster, text: bytes, directory: Path, role: str, rows: Iterable[Sequence[float]]
) -> Callable[[Sequence[float]], float]:
    """The faster of the two that can be trusted. `rows`: on which both must agree, to 1e-9.

    Raises `CompiledError` where there is a compiled model that must not be used.
    """
    if not (directory / FOLDER).is_dir() or not available():
        return booster.predict
    cache = place(directory, role)
    if not cache.is_file():
        return booster.predict
    compiled = Compiled(text, cache)
    for row in rows:
        wanted, got = booster.predict(row), compiled.predict(row)
        if not isclose(wanted, got, rel_tol=0, abs_tol=TOLERANCE):
            raise CompiledError(f"{cache}: gives {got} where LightGBM gives {wanted}")
    return compiled.predict


def _seal(cache: Path) -> Path:
    return cache.with_suffix(".sha256")


def _check(text: bytes, cache: Path) -> None:
    """The code is whole, and made from this text."""
    try:
        seal, found = _seal(cache).read_text(), cache.read_bytes()
    except OSError as error:
        raise CompiledError(f"{cache}: cannot be opened ({error.strerror})") from None
    if seal != sha256(text).hexdigest() + sha256(found).hexdigest():
        raise CompiledError(f"{cache}: is damaged, or made from another model")


def _model(text: bytes, cache: Path) -> Any:
    lleaves = import_module("lleaves")  # 1 s and 75 MB: only where something is compiled

    with NamedTemporaryFile(suffix=".txt") as file:
        file.write(text)
        file.flush()
        model = lleaves.Model(model_file=file.name)
        # One row at a time, so that trees need no blocks. The small code model is 10 % faster, and
        # crashes on large forests.
        model.compile(cache=str(cache), fblocksize=model.num_trees(), fcodemodel="large")
    return model
