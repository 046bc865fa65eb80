"""How much does a part do? Bytecodes and calls of Python functions: the same at every run.

A neighbour on the machine may double a time; it changes no count. What is done in C (trees, JSON,
ciphers) counts as one step, so this tells one version of our own code from the next, and no more.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

CALLS = 300


class Steps(NamedTuple):
    """Of one call, on average."""

    bytecodes: float
    functions: float
    """Python functions entered, generators and comprehensions with them."""


def steps(function: Callable[[], object], calls: int = CALLS) -> Steps:
    """What `function` does, once it has been called as often before: caches are warm."""
    bytecodes = functions = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal bytecodes, functions
        if event == "call":
            functions += 1
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            bytecodes += 1
        return trace

    for _ in range(calls):
        function()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for _ in range(calls):
            function()
    finally:
        sys.settrace(before)
    return Steps(bytecodes / calls, functions / calls)
