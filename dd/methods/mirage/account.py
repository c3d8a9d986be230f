"""One account of bytes that all classes draw on in turns: for patterns, and for the graphs and trees beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final


@final
class Account:
    """Bytes left, and what each class has spent.

    The class whose turn it is has spent least, relative to its weight (the first of equals); one that has nothing more
    to buy, or cannot pay, is closed, and what it leaves is the others'. So nothing remains that a class could still
    buy, and a larger budget is never spent less.

    Args:
        budget: bytes in all.
        weights: of the classes, positive: alike, or by their graphs.
    """

    def __init__(self, budget: int, weights: Sequence[float]) -> None:
        self.left = budget
        self._weights, self._spent = weights, [0] * len(weights)
        self._open = set(range(len(weights)))

    @property
    def classes(self) -> int:
        """K."""
        return len(self._spent)

    def turns(self) -> Iterator[int]:
        """The class whose turn it is, until all are closed."""
        while self._open:
            yield min(self._open, key=lambda k: (self._spent[k] / self._weights[k], k))

    def pay(self, label: int, bytes_: int) -> bool:
        """Whether the class could pay; one that cannot is closed."""
        if bytes_ > self.left:
            self.close(label)
            return False
        self.left -= bytes_
        self._spent[label] += bytes_
        return True

    def close(self, label: int) -> None:
        """End the class's turns."""
        self._open.discard(label)


def class_weights(share: str, graphs: Sequence[int]) -> list[float]:
    """Weights of the classes of an account: alike (`equal`), or their training `graphs`."""
    return [1.0] * len(graphs) if share == "equal" else [float(n) for n in graphs]
