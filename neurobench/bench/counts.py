"""Counts of a few cells of a large array, without the zeros of all others.

A loop of a thousand neurons answers every few milliseconds with two arrays of a million counts, nine of ten of them 0
for good: to make, sum, book and record those zeros would take longer than the loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray


class CellCounts(NDArrayOperatorsMixin):
    """Whole numbers >= 0 of the cells `flat` (ascending, row-major) of an array [rows, cols]; all others have 0.

    numpy takes it as the array that it stands for. `bits`: the cells as a mask, eight to a byte; values: one per cell.
    """

    def __init__(self, shape: tuple[int, int], flat: NDArray[Any], bits: NDArray[Any], values: NDArray[Any]) -> None:
        self.shape, self.flat, self.bits, self.values = shape, flat, bits, values

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the counts."""
        return self.values.dtype

    def sum(self) -> int:
        """All counts together."""
        return int(self.values.sum())

    def dense(self) -> NDArray[Any]:
        """The array that this stands for [rows, cols]."""
        out = np.zeros(self.shape, self.values.dtype)
        out.reshape(-1)[self.flat] = self.values
        return out

    def astype(self, dtype: Any) -> NDArray[Any]:
        """The array with another type."""
        return self.dense().astype(dtype)

    def max(self) -> int:
        """The largest count."""
        return int(self.values.max(initial=0))

    def zeros(self) -> CellCounts:
        """None yet of the same cells; there is room to add many."""
        return CellCounts(self.shape, self.flat, self.bits, np.zeros(len(self.flat), np.int64))

    def __getitem__(self, key: Any) -> Any:
        return self.dense()[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        del copy  # it is always one
        return self.dense() if dtype is None else self.dense().astype(dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **more: Any) -> Any:
        return getattr(ufunc, method)(*(one.dense() if isinstance(one, CellCounts) else one for one in inputs), **more)


Counts = NDArray[Any] | CellCounts
