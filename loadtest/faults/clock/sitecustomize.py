"""How does a whole bidder come to believe in another time of day? This file shifts `time.time`.

Python imports it at its start where its folder is on PYTHONPATH: before any module could keep the
real function. LOADTEST_CLOCK names a file of 8 bytes, the seconds to add as a double, which is
mapped into memory: a change of it is a step of the clock, in all processes at once. The monotonic
clock runs on, as it does when an operating system's clock is set.
"""

import mmap
import os
import struct
import time

_real = time.time
with open(os.environ["LOADTEST_CLOCK"], "rb") as _file:
    _shift = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)


def _shifted() -> float:
    return _real() + float(struct.unpack_from("<d", _shift)[0])


time.time = _shifted
