"""What a method is: a frozen value whose fields are the paper's hyper-parameters, and a stream of steps."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, TypeGuard, cast, get_type_hints, runtime_checkable

import torch
from torch import Tensor

from dd.base.files import dump_json
from dd.base.parts import Parts
from dd.base.process import tf32
from dd.base.progress import Progress, silent
from dd.base.shapes import check_types
from dd.errors import InputError, refuse
from dd.experts import ExpertRecipe
from dd.inner import ENGINES, EngineName
from dd.models import Model
from dd.synthetic import SyntheticSet

PRECISIONS: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp64": torch.float64,
    "bf16": torch.bfloat16,
    "hybrid": torch.float32,
    "tf32": torch.float32,
}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is computed, as far as a user says it by name, in Python and on the command line.

    Attributes:
        seed: of every random stream.
        precision: `fp32`, `fp64`, `bf16` (autocast of the network's forward; gradients are then a few per cent off),
            `hybrid` (bfloat16 only in convolutions that are linear in the tangent; needs the compiled fast path), or
            `tf32` (products and convolutions of an iteration with 10 bits of mantissa, on CUDA). Of methods that match
            trajectories or distributions; experts and evaluations have all bits.
        engine: `adjoint` (exact, constant graph memory; the fast path for a ConvNet where kernels are compiled),
            `generic` (the same without the fast path), `recorded` (as `generic`, each pass a CUDA graph that is
            replayed; on a GPU alone, where it was never run) or `unroll` (reference).
        micro_batch: images at once; `None` chooses 50 on a CPU, all on a GPU.
        reuse: how many last steps keep what pass 1 has computed; `None`: all on the fast path, on the generic
            one those that fit in a gigabyte.
        compile: fuse pointwise kernels, on a CPU by those of the library, which a C++ compiler builds in a second, on a
            GPU by `torch.compile`; `None`: where a compiler is present and the run is long enough to gain more than
            that costs, reckoned from its sizes and threads. `False` also keeps networks that choose among candidates
            off it; experts keep a road of their own.
    """

    seed: int = 0
    precision: Literal["fp32", "fp64", "bf16", "hybrid", "tf32"] = "fp32"
    engine: EngineName = "adjoint"
    micro_batch: int | None = None
    reuse: int | None = None
    compile: bool | None = None

    def request(self) -> dict[str, Any]:
        """What identifies the run; on which device, from which store and how it is watched does not."""
        road = [self.engine, self.micro_batch, self.reuse, self.compile]
        return {"seed": self.seed, "precision": self.precision, "engine": road}


@dataclass(frozen=True, kw_only=True)
class Run(RunOptions):
    """What the machine and the run need, as opposed to what the paper says: it changes the road, not the result.

    Attributes:
        seed, precision, engine, micro_batch, reuse, compile: see `RunOptions`.
        device: where the tensors live.
        store: the root of the expert stores.
        progress: called as (done, total, text).
        parts: where independent parts are shared with other processes.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    store: Path = Path("store")
    progress: Progress = silent
    parts: Parts = field(default_factory=Parts)

    def __post_init__(self) -> None:
        check_types(self)
        if self.precision not in PRECISIONS:
            raise refuse("precision", f"one of {', '.join(PRECISIONS)}", repr(self.precision))
        if self.engine not in ENGINES:
            raise refuse("engine", "`adjoint`, `generic`, `recorded` or `unroll`", repr(self.engine))
        if self.engine == "recorded":
            self._check_recorded()
        if self.precision == "hybrid" and (self.engine != "adjoint" or self.compile is False):
            way_out = "Use precision='fp32', or leave `engine` and `compile` out."
            raise refuse("precision", "`fp32` without the compiled fast path", "'hybrid'", way_out)
        if self.precision == "tf32" and self.device.type != "cuda":
            raise refuse("precision", f"`fp32` or `bf16` on {self.device.type}", "'tf32'", "It is of CUDA alone.")

    def _check_recorded(self) -> None:
        if self.device.type != "cuda":
            way_out = "Leave it out, or give device='cuda' where there is one."
            raise refuse(
                "engine", f"`adjoint`, `generic` or `unroll` on a {self.device.type.upper()}", "'recorded'", way_out
            )
        for name in ("micro_batch", "reuse"):
            if getattr(self, name) is not None:
                raise refuse(name, "None with engine='recorded'", getattr(self, name), "Leave one of them out.")

    @property
    def dtype(self) -> torch.dtype:
        """Of images and weights; `bf16` is autocast."""
        return torch.float32 if self.precision == "bf16" else PRECISIONS[self.precision]

    @property
    def products(self) -> AbstractContextManager[None]:
        """The block in which an iteration multiplies."""
        return tf32() if self.precision == "tf32" else contextlib.nullcontext()

    @property
    def autocast(self) -> torch.dtype | None:
        """What passes are cast to, if they are."""
        return torch.bfloat16 if self.precision == "bf16" else None


@dataclass(frozen=True)
class Candidate:
    """A set that the run could return; `name` says which (`last`, `ema`)."""

    name: str
    iteration: int
    set: SyntheticSet


DONE: Final = "done/"
"""Names in a state begin with it where the tensor is in all later states too, unchanged."""


@dataclass(frozen=True)
class Step:
    """One outer iteration: `iteration` of `total` are done.

    `state` is all that is needed to go on from here; its tensors are never changed in place afterwards. What is in it
    under a name that begins with `done/` stays as it is in all later states, so that a run folder writes it once.
    `preview` is what the images are so far, for people: pixels in [0, 1] or uint8 `[K, n, C, H, W]`.
    """

    iteration: int
    total: int
    metrics: Mapping[str, float | int | str]
    state: Mapping[str, Tensor]
    candidates: tuple[Candidate, ...] = ()
    preview: Tensor | None = None


@runtime_checkable
class Method(Protocol):
    """A way to distil. Frozen and keyword-only; `repr(method)` is enough to run it again.

    A method yields candidates and never scores them; the caller does, on held-out data.

    Attributes:
        kind: of the data that it is for, and of the set that it gives: `images`, `graphs` or `nodes`; a
            word of one's own is for data of one's own that says the same `kind`. Of the class, and no field.
        budget: the field that says how much it may keep: `ipc`, images a class, or `budget_bytes`; empty where nobody
            can say, since the size is fixed. Of the class, and no field.
    """

    kind: ClassVar[str]
    budget: ClassVar[str]

    @property
    def name(self) -> str:
        """Its key in `METHODS`, or the user's own name."""
        ...

    def distill(self, real: Any, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """Yield a `Step` after every iteration, from `state` on where one is given; `real` is as `kind` says.

        From the state after the last step it gives that step again, or nothing.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        ...


@runtime_checkable
class FromExperts(Protocol):
    """A method that reads expert trajectories."""

    @property
    def expert(self) -> ExpertRecipe:
        """How its experts are trained."""
        ...

    @property
    def snapshots_read(self) -> int:
        """The last snapshot of an expert that it reads; 0 where it takes no more than the recipe of its networks."""
        ...


def reads_experts(method: object) -> TypeGuard[FromExperts]:
    """Whether a run of it reads expert trajectories."""
    return isinstance(method, FromExperts) and method.snapshots_read > 0


def own_network(method: object) -> Model | None:
    """The user's own network that a method makes its sets for, where it does."""
    model = method.expert.model if isinstance(method, FromExperts) else None
    return model if isinstance(model, Model) else None


_SAYS: Final = {
    "kind": '`kind: ClassVar[str] = "images"`, "graphs" or "nodes"',
    "budget": '`budget: ClassVar[str] = "ipc"`, the field that is its budget, or "" where it has none',
}
"""How the class of a method says what the method is."""


def need_method(value: object) -> Method:
    """The method value that a user gave.

    Raises:
        InputError: something else, or a method whose class does not say its `kind` and `budget`, or says none.
    """
    got = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
    if isinstance(value, type) or not all(hasattr(value, name) for name in ("name", "distill", "describe")):
        raise refuse("method", "a name or a Method value", *_uncalled(value, got))
    if missing := [name for name in _SAYS if not hasattr(value, name)]:
        way_out = f"Write into its class: {'; '.join(_SAYS[name] for name in missing)}."
        raise refuse("method", "a Method, which says what it is", f"{got} without {' and '.join(missing)}", way_out)
    method = cast(Method, value)
    if not isinstance(method.kind, str) or not method.kind:
        raise refuse(
            "kind", f"a word, such as `images`, in the class {got[2:]}", repr(method.kind), f"Write {_SAYS['kind']}."
        )
    if not isinstance(method.budget, str) or not (method.budget == "" or hasattr(method, method.budget)):
        raise refuse(
            "budget", f"the name of a field of {got[2:]}, or empty", repr(method.budget), f"Write {_SAYS['budget']}."
        )
    return method


def _uncalled(value: Any, got: str) -> tuple[str, str]:
    """What was given in place of a method, and the way out where it would make one if it were called."""
    made = value
    if inspect.isfunction(value):
        with contextlib.suppress(NameError, TypeError):  # hints of a user's own that nobody can read
            made = get_type_hints(value).get("return")
    if not isinstance(made, type) or not hasattr(made, "distill"):
        return got, ""
    room = "dd." if value.__module__.startswith("dd.") else ""
    what = f"the class {value.__name__}" if made is value else f"the function {value.__name__}"
    return what, f"Call it: `{room}{value.__name__}({'ipc=1' if getattr(made, 'budget', '') == 'ipc' else ''})`."


def need_told(method: Method) -> Method:
    """The method, if its description can be kept with its sets and runs.

    Raises:
        InputError: `describe()` gives no dict with the method's name, or what JSON cannot hold.
    """
    told: Any = method.describe()
    if not isinstance(told, dict) or told.get("name") != method.name:
        got = f"one with name {told.get('name')!r}" if isinstance(told, dict) else f"a {type(told).__name__}"
        raise refuse("describe()", f"a dict of fields with name {method.name!r}", got)
    try:
        dump_json(told)
    except InputError as error:
        raise refuse("describe()", f"what JSON can hold, of {method.name!r}", f"something else ({error})") from error
    return method
