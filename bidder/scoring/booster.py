"""How is one row put through a LightGBM model? By its C entry for single rows, through ctypes.

`Booster.predict` of the Python package costs three times as much per row, and importing that
package brings pandas and scikit-learn into every worker: only its shared library is opened here.
Signatures: LightGBM 4.7 C API, `LGBM_BoosterPredictForMatSingleRowFast` and its relatives.
"""

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_double, c_int, c_int64, c_void_p
from functools import cache
from importlib.util import find_spec
from math import nan
from pathlib import Path
from struct import Struct as Packing
from weakref import finalize

_NORMAL, _FLOAT64 = 0, 1
_FROM_FIRST, _ALL_TREES = 0, -1
_SINGLE_THREAD = b"num_threads=1 verbosity=-1"


class BoosterError(RuntimeError):
    """LightGBM refused; the message is its own."""


class Booster:
    """One loaded model. Not for use by several threads at once; memory goes with the object."""

    def __init__(self, text: bytes) -> None:
        """Load a model from its text form. Raises `BoosterError`.

        The text must be known to be whole (see `manifest`): LightGBM trusts what it parses.
        """
        library = _library(ctypes.CDLL)
        handle, trees = c_void_p(), c_int()
        _check(library.LGBM_BoosterLoadModelFromString(text, byref(trees), byref(handle)))
        free = finalize(self, library.LGBM_BoosterFree, handle)
        columns = c_int()
        _check(library.LGBM_BoosterGetNumFeature(handle, byref(columns)))
        self.trees = trees.value
        self.columns = columns.value
        fast = c_void_p()
        _check(
            library.LGBM_BoosterPredictForMatSingleRowFastInit(
                handle, _NORMAL, _FROM_FIRST, _ALL_TREES, _FLOAT64, self.columns,
                _SINGLE_THREAD, byref(fast),
            )
        )  # fmt: skip
        free.detach()
        finalize(self, _free, handle, fast)
        # PyDLL keeps the GIL: 10 µs are too short to hand it to another thread and wait for it.
        self._call = _library(ctypes.PyDLL).LGBM_BoosterPredictForMatSingleRowFast
        self._fast = fast
        self._row = (c_double * self.columns)()
        self._write = Packing(f"{self.columns}d").pack_into
        self._length = c_int64()
        self._result = c_double()
        self._length_at = byref(self._length)
        self._result_at = byref(self._result)

    def predict(self, row: Sequence[float]) -> float:
        """The model's output, through its link function, for a row of `columns` numbers."""
        self._write(self._row, 0, *row)
        if self._call(self._fast, self._row, self._length_at, self._result_at):
            return nan
        return self._result.value


def _free(handle: c_void_p, fast: c_void_p) -> None:
    library = _library(ctypes.CDLL)
    library.LGBM_FastConfigFree(fast)
    library.LGBM_BoosterFree(handle)


def _check(status: int) -> None:
    if status:
        raise BoosterError(_library(ctypes.CDLL).LGBM_GetLastError().decode(errors="replace"))


@cache
def _library(kind: type[ctypes.CDLL]) -> ctypes.CDLL:
    """LightGBM's shared library. `CDLL` lets other threads run: loading takes milliseconds."""
    spec = find_spec("lightgbm")
    if spec is None or spec.origin is None:
        raise BoosterError("the lightgbm package is not installed")
    package = Path(spec.origin).parent
    found = sorted(path for d in ("lib", "bin") for path in (package / d).glob("lib_lightgbm.*"))
    if not found:
        raise BoosterError(f"no lib_lightgbm in {package}")
    library = kind(str(found[0]))
    library.LGBM_GetLastError.restype = c_char_p
    library.LGBM_BoosterLoadModelFromString.argtypes = [c_char_p, c_void_p, c_void_p]
    library.LGBM_BoosterGetNumFeature.argtypes = [c_void_p, c_void_p]
    library.LGBM_BoosterPredictForMatSingleRowFastInit.argtypes = [
        c_void_p, c_int, c_int, c_int, c_int, ctypes.c_int32, c_char_p, c_void_p,
    ]  # fmt: skip
    library.LGBM_BoosterPredictForMatSingleRowFast.argtypes = [c_void_p] * 4
    library.LGBM_FastConfigFree.argtypes = [c_void_p]
    library.LGBM_BoosterFree.argtypes = [c_void_p]
    return library
