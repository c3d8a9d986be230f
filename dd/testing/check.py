"""The promises of a method, one function each; see `check_method`."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import os
import random as python_random
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, final

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from dd.base.files import digest, dump_json
from dd.base.process import under_own_settings
from dd.data import Images, class_counts, load_images
from dd.data.graphs.graphs import Graphs
from dd.data.nodes.nodes import Nodes
from dd.errors import DDError, InputError, refuse
from dd.methods import Method, Run, Step, need_method
from dd.methods.base import DONE, Candidate
from dd.methods.steps import STREAM, each, fault_of
from dd.models import as_spec
from dd.run.distill import distill
from dd.synthetic import AnySet, CompensatedImages, SyntheticImages, layout, to_tensors
from dd.synthetic.file import SET, labels_folder
from dd.testing.made import MADE
from dd.testing.watch import watched

_BAD: Final = (0, -1, True, 1.5, "many")
"""What no budget may be."""
_STATES: Final = 8
"""States of a run from which it is gone on, at most."""


@under_own_settings
def check_method(
    method: Method, data: Images | Graphs | Nodes | None = None, *, random: bool = True, store: str | Path | None = None
) -> None:
    """Prove what a method of this library promises, of any `Method` value.

    What is proved: it is a frozen value, and `describe()` gives one that is equal to it; steps are counted, and their
    states stay as they were given; candidates have the classes, shapes, finite values and the budget that were asked
    for; it goes on from any step, and an interrupted run ends, with the same bytes; the same seed gives the same bytes
    whatever the global random state is, and another seed other samples; test data are not read; a bad budget is an
    `InputError` that names it; the global random state, torch's settings and the real data stay as they are; nothing is
    left outside its run folder and its store, as far as Python hears of it in the calling thread and by `torch.save`.

    Args:
        method: a value with little to do, such as two images a class, three iterations and small networks.
        data: real data of its kind; `None` makes some: 120 pictures 3×8×8 of three classes, 40 graphs of two,
            or a graph of 120 nodes of three.
        random: whether another seed must give other samples; `False` where it must give the same ones.
        store: folder for experts and teachers, kept for the next call; `None`: one that is removed again.

    Raises:
        AssertionError: a promise is broken; names the promise, what is expected and what was got.
        InputError: no method, or one for data of another kind.
    """
    need_method(method)
    real = _data(method, data)
    with tempfile.TemporaryDirectory(prefix="dd-check-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are words to a user on his own data
        kept = Path(folder) / "store" if store is None else Path(store)
        bench = _Bench(method, real, Path(folder), kept)
        with watched((Path(folder), kept)) as written:
            _value(bench)
            _run(bench)
            _unseen(bench)
            _seeds(bench, random)
            _interrupted(bench)
            _refusals(bench)
        left = sorted(path for path in written if os.path.lexists(path))
        if left:
            bench.broken("files", "none outside its run folder and its store", ", ".join(left[:3]))


@final
@dataclass
class _Bench:
    """A method, what it is tried on, and where."""

    method: Method
    real: Any
    folder: Path
    store: Path
    said: list[int] = dataclasses.field(default_factory=list)

    def broken(self, promise: str, expected: str, got: object) -> NoReturn:
        raise AssertionError(f"{self.method.name} breaks the promise `{promise}`: expected {expected}; got {got}.")

    def distilled(self, out: Path | None = None, **options: Any) -> AnySet:
        """The set of a run of `dd.distill`."""
        options = {"progress": False, "device": "cpu", "store": self.store, **options}
        made: AnySet = distill(self.real, options.pop("method", self.method), out=out, **options)
        return made

    def stream(self, state: Mapping[str, Tensor] | None = None, real: Any = None) -> Iterator[Step]:
        """The steps of a run by hand."""
        given: Any = self.method.distill(real or self.real, Run(store=self.store), state)
        if not isinstance(given, Iterable):
            self.broken("steps", STREAM, type(given).__name__)
        for step in each(given):
            if (fault := fault_of(step, self.method, self.real)) is not None:
                self.broken(*fault)
            yield step


def _told(step: Step) -> dict[str, Any]:
    """A step as what compares; metrics may have seconds in them."""
    sets = {f"candidate {c.name} of {c.iteration}": _set(c.set) for c in step.candidates}
    return {"iteration": step.iteration, "total": step.total, "state": _tensors(step.state), **sets}


def _value(bench: _Bench) -> None:
    """A frozen value, its name, and its description there and back."""
    method: Any = bench.method
    if not getattr(getattr(method, "__dataclass_params__", None), "frozen", False):
        bench.broken("frozen value", "a frozen dataclass", type(method).__name__)
    told: Any = method.describe()
    if not isinstance(told, dict) or told.get("name") != method.name:
        bench.broken("description", f"a dict with name {method.name!r}", repr(told)[:200])
    try:
        dump_json(told)
    except InputError as error:
        bench.broken("description", "values that JSON can hold", error)
    size = getattr(method, method.budget, None)
    if size is not None and type(size) is not int and not (method.budget == "ipc" and isinstance(size, dict)):
        bench.broken("budget", f"a whole number as `{method.budget}`, or None", repr(size))
    own = layout.told({field.name: getattr(method, field.name) for field in dataclasses.fields(method)})
    if missing := [n for n, v in own.items() if n not in told and (n, v) not in getattr(method, "unsaid", {}).items()]:
        bench.broken("description", "every field", f"none of {', '.join(missing)}")
    again = _again(method, told)
    if again != method:
        names = [f.name for f in dataclasses.fields(method) if getattr(again, f.name) != getattr(method, f.name)]
        bench.broken("description", "an equal value when made again from it", f"another {', '.join(names)}")


def _run(bench: _Bench) -> None:
    """A run by hand, and runs from its states; what lies around it stays as it is."""
    real, before = bench.real, (_randomness(), _contents(bench.real), _settings())
    steps, told = [], []
    for step in bench.stream():
        steps.append(step)
        told.append(_told(step))
    if _randomness() != before[0]:
        bench.broken("global random state", "that of torch, numpy and random as it was", "another one after a run")
    if settings := {name: value for name, value in _settings().items() if value != before[2][name]}:
        others = [f"{name} {value}" for name, value in settings.items()]
        bench.broken("global settings", "those of torch and the working folder as they were", ", ".join(others))
    if _contents(real) != before[1]:
        bench.broken("real data", "the same data after a run", "other data")
    _counted(bench, steps)
    for step in steps:
        for candidate in step.candidates:
            _candidate(bench, candidate)
    changed = [step.iteration for step, then in zip(steps, told, strict=True) if _tensors(step.state) != then["state"]]
    if changed:
        bench.broken("state", "tensors that stay as they were given", f"those of step {changed[0]} changed later")
    for earlier, later in itertools.pairwise(told):
        if not {(n, t) for n, t in earlier["state"].items() if n.startswith(DONE)} <= later["state"].items():
            bench.broken("state", f"tensors under `{DONE}` in all later states", f"others in step {later['iteration']}")
    last = len(steps) - 1
    for place in sorted({round(i * last / (_STATES - 1)) for i in range(_STATES)}):
        rest = [_told(step) for step in bench.stream(_restored(steps[place]))]
        wanted = told[place + 1 :] if place < last else told[last:]
        if rest != wanted and (rest or place < last):  # from the last state a method may give nothing
            found = next((_other(a, b) for a, b in zip(rest, wanted, strict=False) if a != b), f"{len(rest)} steps")
            expected = f"from the state of step {steps[place].iteration} the steps of an unbroken run"
            bench.broken("resume", expected, found)


def _unseen(bench: _Bench) -> None:
    """A run on the same training data with other test data: none is chosen by them."""
    if bench.real.test is None:
        return
    other = copy.copy(bench.real)
    object.__setattr__(other, "test", bench.real.train)
    whole, again = [[_told(step) for step in bench.stream(real=real)] for real in (bench.real, other)]
    if whole != again:
        bench.broken("test data", "the same sets and states, whatever they are", "other ones")


def _restored(step: Step) -> dict[str, Tensor]:
    """The state as a checkpoint gives it back."""
    return safetensors.torch.load(safetensors.torch.save({name: t.contiguous() for name, t in step.state.items()}))


def _other(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [name for name in {**wanted, **got} if got.get(name) != wanted.get(name)]
    return f"another {', '.join(names)} of step {wanted['iteration']}"


def _counted(bench: _Bench, steps: Sequence[Step]) -> None:
    counts = [step.iteration for step in steps]
    if not steps or counts != list(range(1, steps[0].total + 1)) or {s.total for s in steps} != {len(steps)}:
        totals = sorted({step.total for step in steps})
        bench.broken("steps", "iterations 1, 2, … to their total", f"{counts} of {totals}")
    if not any(step.candidates for step in steps):
        bench.broken("steps", "a candidate in one of them", "none")


def _candidate(bench: _Bench, candidate: Candidate) -> None:
    """Finite values and the budget of a set, which says whose it is."""
    small: Any = candidate.set
    if small.method.get("name") != bench.method.name:
        got = repr(small.method.get("name"))
        bench.broken("candidates", f"a set whose `method` has the name {bench.method.name!r}", got)
    for name, values in to_tensors(small)[0].items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            bench.broken("candidates", "finite values", f"NaN or infinite ones in {name!r}")
    _budget(bench, small)


def _budget(bench: _Bench, small: Any) -> None:
    field, classes = bench.method.budget, len(bench.real.classes)
    most = getattr(bench.method, field) if field else None
    if most is None:
        return
    if field != "ipc":
        held = small.nbytes[-1]  # of graphs the published bytes, of nodes the counted ones
        if held > most:
            bench.broken("budget", f"at most {most:,} bytes", f"{held:,}")
    elif isinstance(small, SyntheticImages) and small.labels.ndim == 1:
        wanted = class_counts(bench.real, most)
        if list(small.counts) != wanted:
            bench.broken(
                "budget", f"{most} images of each of {classes} classes", f"{list(small.counts)} of {len(small)}"
            )
    else:
        held = len(small.stored_images) if isinstance(small, SyntheticImages) else len(small)
        if isinstance(small, CompensatedImages):  # base images and compensators take a place each
            held = small.base.shape[:2].numel() + small.compensators.shape[:2].numel()
        if held > most * classes:
            bench.broken("budget", f"at most {most} images for each of {classes} classes", f"{held} in all")


def _seeds(bench: _Bench, random: bool) -> None:
    first = bench.distilled(bench.folder / "whole", progress=lambda *_: bench.said.append(1))
    with _other_randomness():
        again = bench.distilled()
    if _set(first) != _set(again):
        bench.broken("same seed", "the same bytes, whatever the global random state is", "other bytes")
    sets = [_tensors(to_tensors(small)[0]) for small in (first, bench.distilled(seed=1))]
    if random and sets[0] == sets[1]:
        bench.broken("another seed", "other samples", "the same ones; give random=False where that is meant")
    if not random and sets[0] != sets[1]:
        bench.broken("another seed", "the same samples, as random=False says", "other ones")


class _Stop(BaseException):
    """The end of a run from outside."""


def _interrupted(bench: _Bench) -> None:
    """A run of `dd.distill` that is stopped half way, as the first one counted its words, and called again."""
    half, said = len(bench.said) // 2 + 1, []

    def stop(*_: object) -> None:
        said.append(1)
        if len(said) == half:
            raise _Stop

    whole, stopped = bench.folder / "whole", bench.folder / "stopped"
    try:
        bench.distilled(stopped, progress=stop)
    except _Stop:
        bench.distilled(stopped)
        if _files(stopped / SET) != _files(whole / SET):
            bench.broken("resume", "the bytes of an unbroken run after `dd.distill` was stopped", "other bytes")


def _refusals(bench: _Bench) -> None:
    """A budget that is none is refused by its name."""
    method: Any = bench.method
    field = method.budget
    for bad in _BAD if field else ():
        expected = f"an InputError that names `{field}` for {field}={bad!r}"
        try:
            value = dataclasses.replace(method, **{field: bad})
            bench.distilled(method=value)
        except InputError as error:
            if field not in str(error):
                bench.broken("refusals", expected, f"InputError: {error}")
        except Exception as error:
            bench.broken("refusals", expected, f"{type(error).__name__}: {error}")
        else:
            bench.broken("refusals", expected, "a set")


# What compares


def _files(path: Path) -> dict[str, str]:
    """Digests of a set's file and of its stored labels."""
    labels = labels_folder(path)
    found = [path, *(one for one in labels.rglob("*") if one.is_file() and not one.name.startswith("."))]
    return {str(one.relative_to(path.parent)): digest(one.read_bytes()) for one in sorted(found)}


def _set(small: Any) -> tuple[dict[str, str], str]:
    """What goes into a set's file."""
    tensors, told = to_tensors(small)
    return _tensors(tensors), dump_json(told)


def _tensors(values: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{t.dtype} {list(t.shape)} {digest(t)}" for name, t in sorted(values.items())}


def _randomness() -> object:
    """The global states of torch, numpy and Python."""
    kind, keys, *rest = np.random.get_state()
    return digest(torch.get_rng_state()), (kind, np.asarray(keys).tobytes(), *rest), python_random.getstate()


def _settings() -> dict[str, object]:
    """What else of the process a method could change for those after it."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "working folder": os.getcwd(),
    }


@contextmanager
def _other_randomness() -> Iterator[None]:
    """Another global random state inside the block."""
    kept = torch.get_rng_state(), np.random.get_state(), python_random.getstate()
    torch.set_rng_state(torch.Generator().manual_seed(77).get_state())
    np.random.set_state(np.random.RandomState(77).get_state())
    python_random.setstate(python_random.Random(77).getstate())
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        python_random.setstate(kept[2])


def _contents(real: Any) -> list[str]:
    """Digests of all that a method could change in the data."""
    splits = [split for split in (real.train, real.val, real.test) if split is not None]
    if real.kind == "nodes":
        return [digest(t) for t in (real.x, real.edge_index, real.y, *(s.rows for s in splits))]
    if real.kind == "graphs":
        return [digest(getattr(split, f.name)) for split in splits for f in dataclasses.fields(split)]
    parts = [part for split in splits for part in torch.arange(len(split)).split(1000)]
    owners = [split for split in splits for _ in range(-(-len(split) // 1000))]
    pixels = [digest(split.pixels(part)) for split, part in zip(owners, parts, strict=True)]
    return [*pixels, *(digest(split.labels) for split in splits)]


def _again(value: Any, told: Any) -> Any:
    """A value like `value` with what its description says; what no description can hold stays."""
    if dataclasses.is_dataclass(value) and isinstance(told, Mapping):
        names = [field.name for field in dataclasses.fields(value) if field.init and field.name in told]
        kind: Any = type(value)
        return kind(**{name: _again(getattr(value, name), told[name]) for name in names})
    if isinstance(value, tuple | list) and isinstance(told, list | tuple):
        return type(value)(map(_again, value, told) if len(value) == len(told) else told)
    if isinstance(value, dict) and isinstance(told, Mapping):
        return {name: _again(value.get(name), inner) for name, inner in told.items()}
    if isinstance(value, str) and isinstance(told, str) and _same_model(value, told):
        return value
    if value is None or isinstance(value, bool | int | str | float | list | dict):
        return math.inf if told == "inf" and value == math.inf else told
    return value


def _same_model(one: str, other: str) -> bool:
    """Whether two texts name one network: `convnet(width=4, depth=1)` is `convnet(depth=1, width=4)`."""
    try:
        return as_spec(one) == as_spec(other)
    except DDError:
        return False


# Data


def _data(method: Method, data: Any) -> Any:
    if data is None:
        if method.kind not in MADE:
            raise refuse("data", f"given for a method for {method.kind}", "None", f"Made are {', '.join(MADE)}.")
        return MADE[method.kind]()
    if not isinstance(data, Images | Graphs | Nodes) or data.kind != method.kind:
        got = getattr(data, "kind", type(data).__name__)
        raise refuse("data", f"`dd.Images`, `dd.Graphs` or `dd.Nodes` of the method's kind {method.kind!r}", got)
    return load_images(data) if isinstance(data, Images) else data
