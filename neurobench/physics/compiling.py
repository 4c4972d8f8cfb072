"""How the kernels of closed loops are compiled: in half the time, because what nobody uses is left out.

They neither make nor keep arrays, so that none need be counted (`_nrt`); what only kernels call needs no way in from
Python or C. tests/benchmarks/bench_snn.py measures the first use.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numba import njit

F = TypeVar("F")

_PLAIN: dict[str, Any] = {"_nrt": False, "no_cfunc_wrapper": True}
_INNER: dict[str, Any] = {**_PLAIN, "no_cpython_wrapper": True}


def outer(kernel: F) -> F:
    """A kernel that Python calls; its compiled code is kept on disk."""
    compiled: F = njit(cache=True, **_PLAIN)(kernel)
    return compiled


def inner(kernel: F) -> F:
    """A part of kernels, which they alone call."""
    compiled: F = njit(**_INNER)(kernel)
    return compiled


def summing(kernel: F) -> F:
    """An `inner` one whose sums may be taken in any order; all else in it happens as written."""
    compiled: F = njit(fastmath={"reassoc", "nsz"}, **_INNER)(kernel)
    return compiled
