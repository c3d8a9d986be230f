"""An array that grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Growing:
    """An array that is appended to in amortised constant time."""

    def __init__(self, dtype: np.dtype[np.generic] | type) -> None:
        self._data = np.empty(1024, dtype)
        self.size = 0

    def append(self, values: NDArray[np.generic]) -> None:
        """Add entries at the end."""
        need = self.size + len(values)
        if need > len(self._data):
            grown = np.empty(max(need, len(self._data) * 3 // 2), self._data.dtype)
            grown[: self.size] = self._data[: self.size]
            self._data = grown
        self._data[self.size : need] = values
        self.size = need

    @property
    def view(self) -> NDArray[np.generic]:
        """The entries so far, not copied."""
        return self._data[: self.size]
