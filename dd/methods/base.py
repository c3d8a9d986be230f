"""What a method is: a frozen value whose fields are the paper's hyper-parameters, and a stream of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from dd.data import Images
from dd.errors import refuse
from dd.synthetic import SyntheticSet

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16}


def _silent(done: int, total: int, text: str) -> None:
    del done, total, text


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the machine and the run need, as opposed to what the paper says: it changes the road, not the result.

    Attributes:
        seed: of every stream of the run.
        device: where the tensors live.
        precision: `fp32`, `fp64`, or `bf16` (autocast of the network's forward; gradients are then a few per cent off).
        engine: `adjoint` (exact, constant graph memory) or `unroll` (reference).
        micro_batch: images whose second-order graph is alive at once; `None` chooses 50 on a CPU, all on a GPU.
        reuse: how many last steps keep the graph of pass 1 (see `dd.inner.adjoint`).
        store: the root of the expert stores.
        progress: called as (done, total, text).
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Literal["fp32", "fp64", "bf16"] = "fp32"
    engine: Literal["adjoint", "unroll"] = "adjoint"
    micro_batch: int | None = None
    reuse: int = 1
    store: Path = Path("store")
    progress: Callable[[int, int, str], None] = _silent

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise refuse("precision", f"one of {', '.join(PRECISIONS)}", repr(self.precision))
        if self.engine not in ("adjoint", "unroll"):
            raise refuse("engine", "`adjoint` or `unroll`", repr(self.engine))


@dataclass(frozen=True)
class Candidate:
    """A set that the run could return; `name` says which (`last`, `ema`)."""

    name: str
    iteration: int
    set: SyntheticSet


@dataclass(frozen=True)
class Step:
    """One outer iteration: `iteration` of `total` are done.

    `state` is all that is needed to go on from here; its tensors are never changed in place afterwards.
    """

    iteration: int
    total: int
    metrics: Mapping[str, float | int | str]
    state: Mapping[str, Tensor]
    candidates: tuple[Candidate, ...] = ()


@runtime_checkable
class Method(Protocol):
    """A way to distil. Frozen and keyword-only; `repr(method)` is enough to run it again.

    A method yields candidates and never scores them; the caller does, on held-out data.
    """

    @property
    def name(self) -> str:
        """Its key in `METHODS`, or the user's own name."""
        ...

    def distill(self, real: Images, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """Yield a `Step` after every iteration, from `state` on where one is given."""
        ...

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        ...
