"""How does the loop wake on time? Event-loop timers are good to 1 ms; a timerfd to some 50 µs."""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress

MIN_SECONDS = 0.0002
"""Waking more often costs more than it brings: answers that come in send what is due as well."""

_CLOCK_MONOTONIC = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


def _timerfd(seconds: float) -> int | None:
    """A descriptor readable every so many seconds (timerfd_create(2)); None if not Linux."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor < 0:
        return None
    period = _Timespec(int(seconds), int(seconds % 1 * 1e9))
    if libc.timerfd_settime(descriptor, 0, ctypes.byref(_Itimerspec(period, period)), None) < 0:
        os.close(descriptor)
        return None
    return descriptor


class Ticker:
    """Calls `callback` every `seconds` (at least `MIN_SECONDS`) until closed."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._seconds = max(seconds, MIN_SECONDS)
        self._callback = callback
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor = _timerfd(self._seconds)
        if self._descriptor is None:
            self._again()
        else:
            loop.add_reader(self._descriptor, self._due)

    def _due(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._descriptor or 0, 8)
        self._callback()

    def _again(self) -> None:
        self._timer = self._loop.call_later(self._seconds, self._again)
        self._callback()

    def close(self) -> None:
        """Call no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
